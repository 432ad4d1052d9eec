//! The claim on the Node: of the agents on a machine that keep the same Node, one works, and the others wait until it ends.
//!
//! Two of them would write the Node in turns, since each takes the other's writes for its own. The kernel ends a claim with
//! its process, however that ends, so nothing has to expire. A waiting agent reads no device, loads no library and does
//! not touch the Node; it is alive and not ready.

mod socket;

use std::time::Duration;

use afd_host::{Host, LockFile};
use tokio::sync::watch;

use crate::{
    args::{NodeLock, RunArgs},
    cluster::ClusterConnection,
};
use socket::ClaimSocket;

/// The folder whose lock is the claim of an agent that is not on the host's network. Each agent sees the same one.
const LOCK_FOLDER: &str = "/sys/devices";
/// How often the lock of the folder is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(500);
/// After how long it is logged that another agent has the lock. One that ends has it for a moment.
const LOCK_LOG_DELAY: Duration = Duration::from_secs(1);

/// What the claim is made with.
#[derive(Debug)]
pub enum NodeLockKind {
    /// An abstract socket.
    Socket,
    /// A folder of the host.
    File(LockFile),
    /// Nothing: every agent works.
    Off,
}

impl NodeLockKind {
    /// The kind that an option selects.
    pub fn new(lock: NodeLock, host: &Host) -> NodeLockKind {
        match lock {
            NodeLock::Socket => NodeLockKind::Socket,
            NodeLock::Off => NodeLockKind::Off,
            NodeLock::File => match host.lock_file(LOCK_FOLDER) {
                Ok(file) => NodeLockKind::File(file),
                Err(error) => {
                    tracing::warn!(%error, "another agent on this machine would not be noticed");
                    NodeLockKind::Off
                }
            },
        }
    }
}

/// Whether this agent has the claim. It is never lost.
#[derive(Clone, Debug)]
pub struct NodeClaim(watch::Receiver<bool>);

impl NodeClaim {
    /// Claims the Node of an agent now or, in a task, as soon as it is free. An agent without a cluster keeps no Node.
    pub fn new(lock: NodeLockKind, cluster: Option<&ClusterConnection>, args: &RunArgs) -> NodeClaim {
        let (sender, receiver) = watch::channel(false);
        let (Some(cluster), Some(node)) = (cluster, &args.node_name) else {
            sender.send_replace(true);
            return NodeClaim(receiver);
        };
        let mut attempt = match lock {
            NodeLockKind::Off => ClaimAttempt::Done,
            NodeLockKind::File(file) => ClaimAttempt::File { file, waited: Duration::ZERO },
            NodeLockKind::Socket => {
                ClaimAttempt::Socket(ClaimSocket::new(&cluster.server, node, &identity(args)))
            }
        };
        // Most agents are alone and have it now.
        if attempt.is_successful() {
            sender.send_replace(true);
        }
        tokio::spawn(async move {
            while !*sender.borrow() {
                attempt.wait().await;
                if attempt.is_successful() {
                    tracing::info!("the other agent has ended; this one keeps the Node now");
                    sender.send_replace(true);
                }
            }
            attempt.hold().await;
        });
        NodeClaim(receiver)
    }

    /// Whether this agent has it.
    pub fn is_held(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until this agent has it.
    pub async fn held(&self) {
        // Without a sender, the task has panicked, which ends the agent.
        let _ = self.0.clone().wait_for(|held| *held).await;
    }
}

/// What others learn of this agent.
fn identity(args: &RunArgs) -> String {
    let release = args.managed_by.as_deref().unwrap_or("unknown");
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    format!(
        "release {release}, version {version}, listening on {}, pid {pid} in its container",
        args.http.listen
    )
}

/// An attempt to claim the Node, and what holds the claim afterwards.
enum ClaimAttempt {
    Socket(ClaimSocket),
    File { file: LockFile, waited: Duration },
    Done,
}

impl ClaimAttempt {
    /// Tries to claim the Node. Where this is not possible at all, the agent works without a claim.
    fn is_successful(&mut self) -> bool {
        let result = match self {
            ClaimAttempt::Done => Ok(true),
            ClaimAttempt::Socket(socket) => socket.try_bind().map_err(anyhow::Error::from),
            ClaimAttempt::File { file, .. } => file.try_lock().map_err(anyhow::Error::from),
        };
        result.unwrap_or_else(|error| {
            tracing::warn!(%error, "another agent on this machine would not be noticed");
            *self = ClaimAttempt::Done;
            true
        })
    }

    /// Waits until the claim may be free.
    async fn wait(&mut self) {
        match self {
            ClaimAttempt::Socket(socket) => socket.wait_for_holder().await,
            ClaimAttempt::File { waited, .. } => {
                tokio::time::sleep(LOCK_INTERVAL).await;
                *waited += LOCK_INTERVAL;
                if *waited == LOCK_LOG_DELAY {
                    tracing::warn!(
                        folder = LOCK_FOLDER,
                        "another agent on this machine holds the lock; waiting until it ends"
                    );
                }
            }
            ClaimAttempt::Done => {}
        }
    }

    /// Holds the claim until the agent ends.
    async fn hold(self) {
        match self {
            ClaimAttempt::Socket(socket) => socket.introduce().await,
            ClaimAttempt::File { .. } => std::future::pending().await,
            ClaimAttempt::Done => {}
        }
    }
}
