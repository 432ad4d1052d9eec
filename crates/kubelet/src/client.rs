//! The calls of the PodResources API.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::{
    report::{self, DeviceHold, KubeletReport},
    v1::{
        AllocatableResourcesRequest, AllocatableResourcesResponse, ListPodResourcesRequest,
        ListPodResourcesResponse, pod_resources_lister_client::PodResourcesListerClient,
    },
};

const SOCKET: &str = "kubelet.sock";
/// As in the kubelet's own tests and NFD; a node with many pods needs more than gRPC's 4 MiB.
const MAX_RESPONSE_BYTES: usize = 16 << 20;
const DEADLINE: Duration = Duration::from_secs(10);
/// How long after its start a kubelet may still lack its running pods (about a second was observed).
const STARTUP_GRACE: Duration = Duration::from_secs(10);

/// Why a PodResources request failed.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The directory has no socket.
    #[error("no kubelet socket {path}; is the directory mounted, and is the kubelet running?")]
    Absent {
        /// The expected path.
        path: String,
    },
    /// Permission denied: the kubelet's directory belongs to root.
    #[error(
        "permission denied on the kubelet socket {path}: run the agent as user 0 (no capability is needed)"
    )]
    Denied {
        /// Its path.
        path: String,
    },
    /// The deadline was exceeded.
    #[error("no response from the kubelet within {} s", DEADLINE.as_secs())]
    TimedOut,
    /// The call failed.
    #[error("the kubelet responded {code:?}: {message}")]
    Failed {
        /// The gRPC code.
        code: Code,
        /// The kubelet's message.
        message: String,
    },
}

/// A client of this node's kubelet.
#[derive(Debug)]
pub struct Kubelet {
    directory: PathBuf,
    connection: Option<KubeletConnection>,
    last_holds: Vec<DeviceHold>,
}

#[derive(Debug)]
struct KubeletConnection {
    client: PodResourcesListerClient<Channel>,
    /// The socket that it uses: a kubelet that restarts creates a new file.
    socket: SocketId,
    since: Instant,
}

/// Inode and change time of a socket.
type SocketId = (u64, u64);

impl Kubelet {
    /// By the directory of its socket, `/var/lib/kubelet/pod-resources`.
    pub fn new(directory: impl Into<PathBuf>) -> Kubelet {
        Kubelet { directory: directory.into(), connection: None, last_holds: Vec::new() }
    }

    /// The current holds and allocatable devices. In the first seconds of a connection the previous holds are kept as well,
    /// because the kubelet may have restarted and lack its running pods.
    ///
    /// # Errors
    /// When a request fails; the next call opens a new connection.
    pub async fn list(&mut self) -> Result<KubeletReport, KubeletError> {
        let responses = self.request().await;
        if responses.is_err() {
            self.connection = None;
        }
        let (listed, allocatable) = responses?;
        let holds = report::holds(listed);
        let complete =
            self.connection.as_ref().is_some_and(|connection| connection.since.elapsed() >= STARTUP_GRACE);
        if complete {
            self.last_holds = holds;
        } else {
            let mut all: BTreeSet<DeviceHold> = std::mem::take(&mut self.last_holds).into_iter().collect();
            all.extend(holds);
            self.last_holds = all.into_iter().collect();
        }
        let allocatable = allocatable.filter(|_| complete).map(report::allocatable);
        Ok(KubeletReport { holds: self.last_holds.clone(), allocatable, complete })
    }

    async fn request(
        &mut self,
    ) -> Result<(ListPodResourcesResponse, Option<AllocatableResourcesResponse>), KubeletError> {
        let path = self.directory.join(SOCKET);
        let socket = socket_id(&path)?;
        if self.connection.as_ref().is_none_or(|connection| connection.socket != socket) {
            let client = connect(&path).await?;
            self.connection = Some(KubeletConnection { client, socket, since: Instant::now() });
        }
        let connection = self.connection.as_mut().expect("it was just opened");
        let listed = with_deadline(connection.client.list(ListPodResourcesRequest {})).await?;
        let allocatable = connection.client.get_allocatable_resources(AllocatableResourcesRequest {});
        match with_deadline(allocatable).await {
            Ok(allocatable) => Ok((listed, Some(allocatable))),
            Err(KubeletError::Failed { code: Code::Unimplemented, .. }) => Ok((listed, None)),
            Err(error) => Err(error),
        }
    }
}

async fn with_deadline<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, KubeletError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Err(_) => Err(KubeletError::TimedOut),
        Ok(Err(status)) => {
            Err(KubeletError::Failed { code: status.code(), message: status.message().to_owned() })
        }
        Ok(Ok(response)) => Ok(response.into_inner()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the socket is the kubelet's in our own mounts, not a file of the host root"
)]
fn socket_id(path: &Path) -> Result<SocketId, KubeletError> {
    let name = || path.display().to_string();
    let file = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => KubeletError::Denied { path: name() },
        _ => KubeletError::Absent { path: name() },
    })?;
    Ok((file.ino(), file.ctime_nsec().cast_unsigned() ^ file.ctime().cast_unsigned()))
}

async fn connect(path: &Path) -> Result<PodResourcesListerClient<Channel>, KubeletError> {
    let name = path.display().to_string();
    let failed = |error: tonic::transport::Error| {
        let denied = std::error::Error::source(&error)
            .is_some_and(|source| format!("{source:?}").contains("PermissionDenied"));
        if denied {
            KubeletError::Denied { path: name.clone() }
        } else {
            KubeletError::Failed { code: Code::Unavailable, message: error.to_string() }
        }
    };
    let endpoint = Endpoint::from_shared(format!("unix://{name}")).map_err(failed)?.connect_timeout(DEADLINE);
    let channel = endpoint.connect().await.map_err(failed)?;
    Ok(PodResourcesListerClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES))
}

#[cfg(test)]
mod tests;
