//! The proxy's server: accepts connections, records requests, and forwards them or injects a fault.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures_util::stream;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::{
    Client, Config,
    client::Body,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::{Credentials, Fault, ProxiedRequest, ProxyState};
use crate::Bed;

/// The body of a response.
type RelayBody = UnsyncBoxBody<Bytes, kube::Error>;

pub(super) struct Relay {
    acceptor: TlsAcceptor,
    administrator: Kubeconfig,
    credentials: Credentials,
    state: Arc<ProxyState>,
}

impl Relay {
    pub(super) fn new(bed: &Bed, credentials: Credentials, state: Arc<ProxyState>) -> anyhow::Result<Relay> {
        let acceptor = acceptor(&bed.pki.file("serving.crt"), &bed.pki.file("serving.key"))?;
        let administrator = Kubeconfig::read_from(bed.kubeconfig()).context("reading the kubeconfig")?;
        Ok(Relay { acceptor, administrator, credentials, state })
    }

    /// Serves until the process ends.
    pub(super) fn run(self, listener: std::net::TcpListener) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = self.client().await?;
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                let (acceptor, client) = (self.acceptor.clone(), client.clone());
                let (credentials, state) = (self.credentials, Arc::clone(&self.state));
                let mut closing = state.closing.subscribe();
                tokio::spawn(async move {
                    let served = serve(stream, acceptor, client, credentials, state);
                    tokio::select! {
                        // The client sees how its connection ends.
                        _ = served => {}
                        _ = closing.changed() => {}
                    }
                });
            }
        })
    }

    /// A client of the real API server.
    async fn client(&self) -> anyhow::Result<Client> {
        let kubeconfig = self.administrator.clone();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        if self.credentials == Credentials::AsSent {
            config.auth_info = AuthInfo::default();
        }
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }
}

fn acceptor(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>().context("the certificate")?;
    let key = PrivateKeyDer::from_pem_file(key).context("the certificate's key")?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    client: Client,
    credentials: Credentials,
    state: Arc<ProxyState>,
) -> anyhow::Result<()> {
    let fault = state.fault().as_ref().map(|(_, fault)| fault.clone());
    match fault {
        Some(Fault::NoHandshake) => std::future::pending().await,
        // Dropping the stream sends RST instead of FIN.
        Some(Fault::Reset) => stream.set_zero_linger()?,
        _ => {}
    }
    let stream = acceptor.accept(stream).await?;
    let service =
        service_fn(move |request| respond(request, client.clone(), credentials, Arc::clone(&state)));
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

/// A body that repeats a text without end.
fn endless(text: Bytes, pause: Duration) -> RelayBody {
    let frames = stream::unfold(text, move |text| async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Some((Ok::<_, kube::Error>(Frame::data(text.clone())), text))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn whole(text: String) -> RelayBody {
    Body::from(text.into_bytes()).boxed_unsync()
}

/// The response to a request; an error closes the connection.
async fn respond(
    request: Request<Incoming>,
    client: Client,
    credentials: Credentials,
    state: Arc<ProxyState>,
) -> anyhow::Result<Response<RelayBody>> {
    let authorization = request.headers().get(header::AUTHORIZATION);
    let recorded = ProxiedRequest {
        at: Instant::now(),
        method: request.method().to_string(),
        path: request.uri().to_string(),
        authorization: authorization.and_then(|value| value.to_str().ok()).map(str::to_owned),
    };
    let fault = state.fault_of(&recorded);
    state.requests().push(recorded);
    match fault {
        Some(Fault::NoResponse | Fault::NoHandshake) => std::future::pending().await,
        Some(Fault::Late(time)) => tokio::time::sleep(time).await,
        Some(Fault::Reset) => bail!(io::Error::from(io::ErrorKind::ConnectionReset)),
        Some(Fault::ErrorResponse { status, retry_after, body }) => {
            let mut response = Response::new(whole(body));
            *response.status_mut() = status.try_into()?;
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            return Ok(response);
        }
        Some(Fault::WatchBody(body)) => return Ok(Response::new(whole(body))),
        Some(Fault::Endless { text, pause }) => return Ok(Response::new(endless(text.into(), pause))),
        None => {}
    }
    let (mut head, body) = request.into_parts();
    head.headers.remove(header::HOST);
    if credentials == Credentials::Administrator {
        head.headers.remove(header::AUTHORIZATION);
    }
    let body = body.collect().await?.to_bytes();
    let mut response = client.send(Request::from_parts(head, Body::from(body))).await?;
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    Ok(response.map(BodyExt::boxed_unsync))
}
