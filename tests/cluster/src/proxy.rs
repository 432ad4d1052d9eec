//! A proxy in front of the API server, with TLS on both sides. It injects faults, and records requests with their times.

mod fault;
mod relay;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::sync::watch;

pub use fault::{Fault, FaultScope};
use relay::Relay;

use crate::{Bed, until};

/// The identity with which the proxy sends requests to the API server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Credentials {
    /// The administrator's, whatever the client sends.
    Administrator,
    /// The token that the client sends.
    AsSent,
}

/// A request that the proxy has received.
#[derive(Clone, Debug)]
pub struct ProxiedRequest {
    /// The time when its head had been read.
    pub at: Instant,
    /// Its method, `GET` or `PATCH`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
}

impl ProxiedRequest {
    /// Whether it starts a watch.
    pub fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }

    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        self.method != "GET"
    }
}

/// The proxy. It ends with the test's process.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    folder: PathBuf,
    authority: PathBuf,
    state: Arc<ProxyState>,
}

#[derive(Debug)]
struct ProxyState {
    fault: Mutex<Option<(FaultScope, Fault)>>,
    requests: Mutex<Vec<ProxiedRequest>>,
    /// Changes when all connections are to be closed.
    closing: watch::Sender<()>,
}

impl ProxyState {
    fn fault(&self) -> MutexGuard<'_, Option<(FaultScope, Fault)>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> MutexGuard<'_, Vec<ProxiedRequest>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault of a request, if it is in the scope of one.
    fn fault_of(&self, request: &ProxiedRequest) -> Option<Fault> {
        self.fault().as_ref().filter(|(scope, _)| scope.contains(request)).map(|(_, fault)| fault.clone())
    }
}

impl Proxy {
    /// Starts it in front of the API server of a bed, on a thread of its own, since a test may block.
    ///
    /// # Errors
    /// When it cannot serve.
    pub fn start(bed: &Bed, credentials: Credentials) -> anyhow::Result<Proxy> {
        let state = Arc::new(ProxyState {
            fault: Mutex::new(None),
            requests: Mutex::new(Vec::new()),
            closing: watch::Sender::new(()),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("listening")?;
        listener.set_nonblocking(true).context("listening")?;
        let address = listener.local_addr().context("listening")?;
        let relay = Relay::new(bed, credentials, Arc::clone(&state))?;
        thread::spawn(move || relay.run(listener));
        let authority = bed.pki.file("ca.crt");
        Ok(Proxy { address, folder: bed.folder().to_owned(), authority, state })
    }

    /// Writes a kubeconfig with the address of the proxy and with a user, as in a kubeconfig.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self, user: &Value) -> anyhow::Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{ "name": "bed", "cluster": {
                "server": format!("https://{}", self.address),
                "certificate-authority": self.authority,
            } }],
            "users": [{ "name": "user", "user": user }],
            "contexts": [{ "name": "proxy", "context": { "cluster": "bed", "user": "user" } }],
        });
        let path = self.folder.join(format!("proxy-{}.kubeconfig", self.address.port()));
        fs::write(&path, config.to_string()).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Injects a fault into later requests, and closes all connections, so that open ones are affected too.
    pub fn fail(&self, scope: FaultScope, fault: Fault) {
        *self.state.fault() = Some((scope, fault));
        self.close_connections();
    }

    /// Removes the fault. A request that hangs keeps hanging.
    pub fn recover(&self) {
        *self.state.fault() = None;
    }

    /// Closes all connections.
    pub fn close_connections(&self) {
        self.state.closing.send_replace(());
    }

    /// The requests since a time.
    pub fn requests_since(&self, time: Instant) -> Vec<ProxiedRequest> {
        self.state.requests().iter().filter(|request| request.at >= time).cloned().collect()
    }

    /// Waits until there has been no request for a second.
    ///
    /// # Errors
    /// When there is no such second within the timeout.
    pub async fn until_quiet(&self) -> anyhow::Result<()> {
        const QUIET: Duration = Duration::from_secs(1);
        let begun = Instant::now();
        until("there are no more requests", async || {
            let requests = self.requests_since(begun.max(Instant::now() - QUIET));
            ensure!(begun.elapsed() > QUIET && requests.is_empty(), "{requests:?}");
            Ok(())
        })
        .await
    }

    /// The number of requests for an object since a time, of which no two are closer than an interval.
    ///
    /// # Errors
    /// When two of them are closer.
    pub fn ensure_spacing(&self, object: &str, time: Instant, interval: Duration) -> anyhow::Result<usize> {
        let mut requests = self.requests_since(time);
        requests.retain(|request| request.path.starts_with(object));
        for pair in requests.windows(2) {
            let distance = pair[1].at.duration_since(pair[0].at);
            ensure!(distance >= interval, "{:?} came {distance:?} after {:?}", pair[1], pair[0]);
        }
        Ok(requests.len())
    }
}
