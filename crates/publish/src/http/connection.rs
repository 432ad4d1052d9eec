//! One connection: the TLS handshake if there is one, and its requests.

use std::{
    convert::Infallible,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Site,
    access::CallerRequest,
    pages::respond,
    places::ClientNetwork,
    progress::{ConnectionProgress, ConnectionStep, REQUEST_TIMEOUT, TrackedStream},
    reject::RejectReason,
    stopped,
};

/// The buffer of a connection, and so the longest headers of a request. hyper refuses more than 100 of them.
const MAX_BUFFER_BYTES: usize = 16 * 1024;
/// A connection that is older than this is closed after its response, so that credentials and certificates are checked
/// again.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(600);

/// The connection of a client.
enum ClientStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Serves the requests of a connection until it ends; when the agent stops, only the response that is under way.
pub(super) async fn serve_connection(
    stream: TcpStream,
    peer: IpAddr,
    site: Arc<Site>,
    progress: Arc<ConnectionProgress>,
    mut stop: watch::Receiver<bool>,
) {
    let accepted_at = Instant::now();
    let stream = match site.access.tls() {
        None => ClientStream::Plain(stream),
        Some(tls) => {
            let accept = TlsAcceptor::from(tls)
                .accept_with(stream, |session| session.set_buffer_limit(Some(MAX_BUFFER_BYTES)));
            let accepted = tokio::select! {
                accepted = accept => accepted,
                () = stopped(&mut stop) => return,
            };
            match accepted {
                Ok(stream) => ClientStream::Tls(Box::new(stream)),
                Err(error) => {
                    tracing::debug!(%peer, %error, "TLS handshake failed");
                    // A client that closes the connection, as checks of a load balancer do, was not rejected.
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        site.count_rejected(RejectReason::HandshakeFailed);
                    }
                    return;
                }
            }
        }
    };
    progress.enter(ConnectionStep::Request, Instant::now());
    let has_certificate = stream.has_certificate();
    let stream = TrackedStream::new(stream, Arc::clone(&progress));
    let service = service_fn(|request| {
        let (site, progress) = (Arc::clone(&site), Arc::clone(&progress));
        async move {
            progress.enter(ConnectionStep::Deciding, Instant::now());
            if progress.take_pipelined() {
                // Others are served in between.
                tokio::task::yield_now().await;
            }
            let mut response = site.response(&request, peer, has_certificate).await;
            if accepted_at.elapsed() > MAX_CONNECTION_AGE {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            progress.enter(ConnectionStep::Response, Instant::now());
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection ended early");
        if error.is_parse() {
            site.count_rejected(RejectReason::MalformedRequest);
        } else if error.is_timeout() && progress.is_in_request() {
            // A kept connection on which no further request begins ends in the same way.
            site.count_rejected(RejectReason::SlowRequest);
        }
    }
}

impl Site {
    async fn response<B>(
        &self,
        request: &Request<B>,
        peer: IpAddr,
        has_certificate: bool,
    ) -> Response<Full<Bytes>> {
        let caller = CallerRequest {
            path: request.uri().path(),
            headers: request.headers(),
            is_loopback: peer.to_canonical().is_loopback(),
            has_certificate,
            network: ClientNetwork::of(peer),
        };
        let mut response = match self.access.audience(&caller).await {
            Ok(audience) => {
                respond(request, self.role, audience, self.pages.borrow().as_deref(), &self.health)
            }
            Err(refusal) => {
                self.count_rejected(refusal.reason());
                refusal.response()
            }
        };
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            self.count_rejected(RejectReason::MethodNotAllowed);
        }
        for (name, value) in self.access.headers() {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl ClientStream {
    /// Whether the client has presented a certificate, which rustls has then verified.
    fn has_certificate(&self) -> bool {
        match self {
            ClientStream::Plain(_) => false,
            ClientStream::Tls(stream) => stream.get_ref().1.peer_certificates().is_some(),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            ClientStream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            ClientStream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            ClientStream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            ClientStream::Plain(stream) => stream.is_write_vectored(),
            ClientStream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_flush(context),
            ClientStream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            ClientStream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
