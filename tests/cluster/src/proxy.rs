//! A proxy before the API server that fails on request, with TLS on both sides. What it is asked is noted with its time.

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

pub use fault::{Fault, Of};
use relay::Relay;

use crate::{Bed, until};

/// As whom the API server is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Credentials {
    /// As the administrator, whatever the client sends.
    Administrator,
    /// With the token that the client sends.
    AsSent,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When its head had been read.
    pub at: Instant,
    /// Its method, `GET` or `PATCH`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
}

impl Asked {
    /// Whether it begins a watch.
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
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fault: Mutex<Option<(Of, Fault)>>,
    asked: Mutex<Vec<Asked>>,
    /// Told to all connections that are to be closed.
    cut: watch::Sender<()>,
}

impl Shared {
    fn fault(&self) -> MutexGuard<'_, Option<(Of, Fault)>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a request is to suffer, none where `None` and the request itself is meant.
    fn fault_of(&self, asked: &Asked) -> Option<Fault> {
        self.fault().as_ref().filter(|(of, _)| of.meets(asked)).map(|(_, fault)| fault.clone())
    }
}

impl Proxy {
    /// Starts it before the API server of a bed, on a thread of its own: a test may block.
    ///
    /// # Errors
    /// When it cannot serve.
    pub fn start(bed: &Bed, credentials: Credentials) -> anyhow::Result<Proxy> {
        let shared = Arc::new(Shared {
            fault: Mutex::new(None),
            asked: Mutex::new(Vec::new()),
            cut: watch::Sender::new(()),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("listening")?;
        listener.set_nonblocking(true).context("listening")?;
        let address = listener.local_addr().context("listening")?;
        let relay = Relay::new(bed, credentials, Arc::clone(&shared))?;
        thread::spawn(move || relay.run(listener));
        let authority = bed.pki.file("ca.crt");
        Ok(Proxy { address, folder: bed.folder().to_owned(), authority, shared })
    }

    /// Writes a kubeconfig that leads to the proxy, with a user's credentials as they stand in a kubeconfig.
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

    /// From now on requests suffer a fault. Connections that are open end, so that nobody goes on as before.
    pub fn fail(&self, of: Of, fault: Fault) {
        *self.shared.fault() = Some((of, fault));
        self.cut();
    }

    /// From now on all is well. A request that hangs goes on hanging.
    pub fn heal(&self) {
        *self.shared.fault() = None;
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.shared.cut.send_replace(());
    }

    /// What came since a time.
    pub fn asked_since(&self, time: Instant) -> Vec<Asked> {
        self.shared.asked().iter().filter(|asked| asked.at >= time).cloned().collect()
    }

    /// Waits until nothing has been asked for a second.
    ///
    /// # Errors
    /// When there is no end of it.
    pub async fn until_quiet(&self) -> anyhow::Result<()> {
        const QUIET: Duration = Duration::from_secs(1);
        let begun = Instant::now();
        until("nothing is asked any more", async || {
            let asked = self.asked_since(begun.max(Instant::now() - QUIET));
            ensure!(begun.elapsed() > QUIET && asked.is_empty(), "{asked:?}");
            Ok(())
        })
        .await
    }

    /// Fails where two requests for an object since a time came within a rest of each other; returns how many came.
    ///
    /// # Errors
    /// When they did.
    pub fn ensure_rests(&self, object: &str, time: Instant, rest: Duration) -> anyhow::Result<usize> {
        let mut asked = self.asked_since(time);
        asked.retain(|asked| asked.path.starts_with(object));
        for pair in asked.windows(2) {
            let apart = pair[1].at.duration_since(pair[0].at);
            ensure!(apart >= rest, "{:?} came {apart:?} after {:?}", pair[1], pair[0]);
        }
        Ok(asked.len())
    }
}
