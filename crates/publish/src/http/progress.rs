//! What a connection is doing and since when, as its task reports it and the listener reads it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reject::RejectReason;

/// A TLS handshake takes at most this long.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// So do the headers of a request, and a connection without a request is closed after this time.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes no byte of its response for this long is disconnected.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A response takes at most this long, however steadily it is read.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The step that a connection is at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ConnectionStep {
    Handshake,
    /// Waits for a request, a new or a kept one.
    Request,
    /// The response is being decided: credentials are being checked.
    Deciding,
    /// It is being sent.
    Response,
}

#[derive(Clone, Copy, Debug)]
struct StepState {
    step: ConnectionStep,
    since: Instant,
    stalled_since: Option<Instant>,
    /// Whether bytes arrived since the last request.
    has_read: bool,
}

/// Progress of one connection.
#[derive(Debug)]
pub(super) struct ConnectionProgress(Mutex<StepState>);

impl ConnectionProgress {
    pub(super) fn new(step: ConnectionStep, now: Instant) -> ConnectionProgress {
        ConnectionProgress(Mutex::new(StepState { step, since: now, stalled_since: None, has_read: false }))
    }

    fn state(&self) -> MutexGuard<'_, StepState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the connection is at its step. Deciding and sending a response are one.
    pub(super) fn since(&self) -> Instant {
        self.state().since
    }

    /// Enters a step.
    pub(super) fn enter(&self, step: ConnectionStep, now: Instant) {
        let mut state = self.state();
        if step != ConnectionStep::Response {
            state.since = now;
        }
        state.step = step;
    }

    /// Whether a request arrived together with the one before: its client does not wait for responses.
    pub(super) fn take_pipelined(&self) -> bool {
        !std::mem::take(&mut self.state().has_read)
    }

    /// Whether a request has begun to arrive and is not complete.
    pub(super) fn is_in_request(&self) -> bool {
        let state = *self.state();
        state.step == ConnectionStep::Request && state.has_read
    }

    /// Why the connection must end now, if it must.
    pub(super) fn overdue(&self, now: Instant) -> Option<RejectReason> {
        let state = *self.state();
        let is_over = |since: Instant, limit| now.saturating_duration_since(since) > limit;
        if state.stalled_since.is_some_and(|since| is_over(since, STALL_TIMEOUT)) {
            return Some(RejectReason::Stalled);
        }
        let (limit, reason) = match state.step {
            ConnectionStep::Handshake => (HANDSHAKE_TIMEOUT, RejectReason::SlowHandshake),
            // The HTTP server ends these itself, with a response.
            ConnectionStep::Request => (REQUEST_TIMEOUT + Duration::from_secs(2), RejectReason::SlowRequest),
            ConnectionStep::Deciding | ConnectionStep::Response => {
                (RESPONSE_TIMEOUT, RejectReason::SlowResponse)
            }
        };
        is_over(state.since, limit).then_some(reason)
    }

    /// Takes in the result of a write or flush.
    fn wrote<T>(&self, result: &Poll<io::Result<T>>) {
        let mut state = self.state();
        match result {
            Poll::Pending => _ = state.stalled_since.get_or_insert_with(Instant::now),
            Poll::Ready(_) => state.stalled_since = None,
        }
    }

    /// Everything was handed to the kernel: the response, if there was one, is complete.
    fn flushed(&self) {
        let mut state = self.state();
        if state.step == ConnectionStep::Response {
            state.step = ConnectionStep::Request;
            state.since = Instant::now();
        }
    }
}

/// A stream that reports its progress.
#[derive(Debug)]
pub(super) struct TrackedStream<S> {
    stream: S,
    progress: Arc<ConnectionProgress>,
}

impl<S> TrackedStream<S> {
    pub(super) fn new(stream: S, progress: Arc<ConnectionProgress>) -> TrackedStream<S> {
        TrackedStream { stream, progress }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.progress.state().has_read = true;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TrackedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.progress.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.progress.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.progress.wrote(&flushed);
        ready!(flushed)?;
        self.progress.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.progress.wrote(&ended);
        ended
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_step_has_a_deadline() {
        use ConnectionStep::{Deciding, Handshake, Request, Response};
        let start = Instant::now();
        let steps = [
            (Handshake, 10, RejectReason::SlowHandshake),
            (Request, 12, RejectReason::SlowRequest),
            (Deciding, 30, RejectReason::SlowResponse),
            (Response, 30, RejectReason::SlowResponse),
        ];
        for (step, seconds, reason) in steps {
            let progress = ConnectionProgress::new(step, start);
            assert_eq!(progress.overdue(start + seconds * SECOND), None, "{step:?}");
            assert_eq!(progress.overdue(start + (seconds + 1) * SECOND), Some(reason), "{step:?}");
        }
    }

    #[test]
    fn the_time_of_a_response_includes_its_decision() {
        let start = Instant::now();
        let progress = ConnectionProgress::new(ConnectionStep::Request, start);
        progress.enter(ConnectionStep::Deciding, start + SECOND);
        progress.enter(ConnectionStep::Response, start + 20 * SECOND);
        assert_eq!(progress.overdue(start + 32 * SECOND), Some(RejectReason::SlowResponse));
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_stalls_and_one_that_reads_does_not() {
        let (mut client, server) = tokio::io::duplex(16);
        let progress = Arc::new(ConnectionProgress::new(ConnectionStep::Deciding, Instant::now()));
        progress.enter(ConnectionStep::Response, Instant::now());
        let mut stream = TrackedStream::new(server, Arc::clone(&progress));
        let mut response = Box::pin(async move {
            stream.write_all(&[7; 64]).await?;
            stream.flush().await
        });
        let is_sent = tokio::time::timeout(Duration::from_millis(10), response.as_mut()).await;
        assert!(is_sent.is_err(), "the client has read nothing");
        assert_eq!(progress.overdue(Instant::now() + 6 * SECOND), Some(RejectReason::Stalled));
        tokio::spawn(async move { tokio::io::copy(&mut client, &mut tokio::io::sink()).await });
        response.await.expect("the client reads");
        assert_eq!(progress.overdue(Instant::now() + 6 * SECOND), None, "the response is complete");
    }
}
