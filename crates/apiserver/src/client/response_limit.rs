//! Bounds the memory that a response can take, whatever the server sends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use hyper::body::{Body, Bytes, Frame};
use tower::{BoxError, Layer, Service};

use super::{ApiRequest, ApiResponse};

/// Bounds the bodies of responses.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseLimitLayer {
    pub(super) max_bytes: usize,
}

impl<S> Layer<S> for ResponseLimitLayer {
    type Service = ResponseLimit<S>;

    fn layer(&self, inner: S) -> ResponseLimit<S> {
        ResponseLimit { inner, max_bytes: self.max_bytes }
    }
}

/// A service whose responses are bounded.
#[derive(Clone, Debug)]
pub(super) struct ResponseLimit<S> {
    inner: S,
    max_bytes: usize,
}

impl<S> Service<ApiRequest> for ResponseLimit<S>
where
    S: Service<ApiRequest, Response = ApiResponse, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = ApiResponse;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<ApiResponse, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: ApiRequest) -> Self::Future {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let max_bytes = self.max_bytes;
        let bounded = move |response: ApiResponse| {
            // The events of a watch are lines. The response of a watch that is refused is one object.
            let by_line = is_watch && response.status().is_success();
            response.map(|inner| -> Box<kube::client::DynBody> {
                Box::new(BoundedBody { inner, max_bytes, bytes: 0, by_line })
            })
        };
        self.inner.call(request).map_ok(bounded).boxed()
    }
}

/// A body that fails once it, or one of its lines, is too long.
struct BoundedBody {
    inner: Box<kube::client::DynBody>,
    max_bytes: usize,
    /// The bytes so far, or those since the last line break.
    bytes: usize,
    by_line: bool,
}

/// A response is too long.
#[derive(Debug, thiserror::Error)]
#[error("the response is longer than {max_bytes} bytes")]
pub(crate) struct ResponseTooLong {
    max_bytes: usize,
}

impl BoundedBody {
    /// Counts data. Returns whether it is still within the limit.
    fn count(&mut self, data: &[u8]) -> bool {
        let line_break = data.iter().rposition(|byte| *byte == b'\n').filter(|_| self.by_line);
        self.bytes = match line_break {
            Some(at) => data.len() - at - 1,
            None => self.bytes.saturating_add(data.len()),
        };
        self.bytes <= self.max_bytes
    }
}

impl Body for BoundedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.count(data)
        {
            return Poll::Ready(Some(Err(ResponseTooLong { max_bytes: self.max_bytes }.into())));
        }
        Poll::Ready(frame)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// How many of the frames can be read.
    async fn readable(frames: &'static [&'static str], max_bytes: usize, by_line: bool) -> usize {
        let frames =
            frames.iter().map(|data| Ok::<_, BoxError>(Frame::data(Bytes::from_static(data.as_bytes()))));
        let inner: Box<kube::client::DynBody> = Box::new(StreamBody::new(futures_util::stream::iter(frames)));
        let mut body = BoundedBody { inner, max_bytes, bytes: 0, by_line };
        let mut count = 0;
        while let Some(Ok(_)) = body.frame().await {
            count += 1;
        }
        count
    }

    #[tokio::test]
    async fn a_response_is_bounded_as_a_whole_and_a_watch_by_the_line() {
        const FRAMES: &[&str] = &["123\n", "1234", "5\n1", "2345", "6789"];
        assert_eq!(readable(FRAMES, 20, false).await, 5);
        assert_eq!(readable(FRAMES, 10, false).await, 2);
        assert_eq!(readable(FRAMES, 9, true).await, 5, "the last line has nine bytes");
        assert_eq!(readable(FRAMES, 8, true).await, 4);
    }
}
