//! The calls.

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
    join::{Hold, Offer},
    v1::{
        AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices, ListPodResourcesRequest,
        ListPodResourcesResponse, pod_resources_lister_client::PodResourcesListerClient,
    },
};

const SOCKET: &str = "kubelet.sock";
/// As the kubelet's own tests and NFD have it; a node with many pods needs more than gRPC's 4 MiB.
const MOST_BYTES: usize = 16 << 20;
const DEADLINE: Duration = Duration::from_secs(10);
/// How long after its start a kubelet may still be without the pods that run on (about a second was seen).
const YOUNG: Duration = Duration::from_secs(10);

/// Why the kubelet did not answer.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// There is no socket in the folder.
    #[error("no kubelet socket {path}; is the folder mounted, and is the kubelet running?")]
    Absent {
        /// Where it should be.
        path: String,
    },
    /// It may not be used: the kubelet's folder is the superuser's.
    #[error(
        "the kubelet socket {path} may not be used: the agent has to run as user 0 (no capability is needed)"
    )]
    Denied {
        /// Where it is.
        path: String,
    },
    /// It did not answer in time.
    #[error("the kubelet did not answer within {} s", DEADLINE.as_secs())]
    Slow,
    /// The call failed.
    #[error("the kubelet answered {code:?}: {message}")]
    Failed {
        /// gRPC's code.
        code: Code,
        /// The kubelet's words.
        message: String,
    },
}

/// What the kubelet says, and whether it can be believed in full.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// All holds, sorted.
    pub holds: Vec<Hold>,
    /// The devices that device plugins hold ready, be they held or not, sorted; none where the kubelet does not tell, or has
    /// just started and its plugins may not have come back yet.
    pub ready: Option<Vec<Offer>>,
    /// Whether a device that is not in `holds` is held by nobody. A kubelet that has just started does not know yet.
    pub complete: bool,
}

/// The kubelet of this node.
#[derive(Debug)]
pub struct Kubelet {
    folder: PathBuf,
    connection: Option<Connection>,
    last: Vec<Hold>,
}

#[derive(Debug)]
struct Connection {
    client: PodResourcesListerClient<Channel>,
    /// Which socket it leads to: a kubelet that restarts makes a new file.
    socket: (u64, u64),
    since: Instant,
}

impl Kubelet {
    /// By the folder of its socket, `/var/lib/kubelet/pod-resources`.
    pub fn new(folder: impl Into<PathBuf>) -> Kubelet {
        Kubelet { folder: folder.into(), connection: None, last: Vec::new() }
    }

    /// Who holds what now. In the first seconds of a connection the holds of before are kept beside the new ones, since
    /// the kubelet may have restarted and not know its running pods yet.
    ///
    /// # Errors
    /// When the kubelet cannot be asked; the next call connects anew.
    pub async fn list(&mut self) -> Result<Answer, KubeletError> {
        let answer = self.ask().await;
        if answer.is_err() {
            self.connection = None;
        }
        let (listed, allocatable) = answer?;
        let holds = holds(listed);
        let complete = self.connection.as_ref().is_some_and(|connection| connection.since.elapsed() >= YOUNG);
        if complete {
            self.last = holds;
        } else {
            let mut all: BTreeSet<Hold> = std::mem::take(&mut self.last).into_iter().collect();
            all.extend(holds);
            self.last = all.into_iter().collect();
        }
        let ready = allocatable.filter(|_| complete).map(ready);
        Ok(Answer { holds: self.last.clone(), ready, complete })
    }

    async fn ask(
        &mut self,
    ) -> Result<(ListPodResourcesResponse, Option<AllocatableResourcesResponse>), KubeletError> {
        let path = self.folder.join(SOCKET);
        let socket = socket(&path)?;
        if self.connection.as_ref().is_none_or(|connection| connection.socket != socket) {
            self.connection =
                Some(Connection { client: connect(&path).await?, socket, since: Instant::now() });
        }
        let connection = self.connection.as_mut().expect("it was just made");
        let listed = in_time(connection.client.list(ListPodResourcesRequest {})).await?;
        let allocatable = connection.client.get_allocatable_resources(AllocatableResourcesRequest {});
        match in_time(allocatable).await {
            Ok(allocatable) => Ok((listed, Some(allocatable))),
            Err(KubeletError::Failed { code: Code::Unimplemented, .. }) => Ok((listed, None)),
            Err(error) => Err(error),
        }
    }
}

async fn in_time<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, KubeletError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Err(_) => Err(KubeletError::Slow),
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
fn socket(path: &Path) -> Result<(u64, u64), KubeletError> {
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
    Ok(PodResourcesListerClient::new(channel).max_decoding_message_size(MOST_BYTES))
}

/// Every healthy device of every plugin.
fn ready(response: AllocatableResourcesResponse) -> Vec<Offer> {
    let offers: BTreeSet<Offer> = response.devices.into_iter().flat_map(plugin_offers).collect();
    offers.into_iter().collect()
}

fn plugin_offers(devices: ContainerDevices) -> impl Iterator<Item = Offer> {
    let resource = devices.resource_name;
    devices.device_ids.into_iter().map(move |id| Offer::Plugin { resource: resource.clone(), id })
}

/// Every device of every container. One resource may come in several entries, one for each NUMA node.
fn holds(response: ListPodResourcesResponse) -> Vec<Hold> {
    let mut holds = BTreeSet::new();
    for pod in response.pod_resources {
        for container in pod.containers {
            let hold = |offer| Hold {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                container: container.name.clone(),
                offer,
            };
            holds.extend(container.devices.into_iter().flat_map(plugin_offers).map(hold));
            for dynamic in &container.dynamic_resources {
                for resource in &dynamic.claim_resources {
                    holds.insert(hold(Offer::Dra {
                        driver: resource.driver_name.clone(),
                        claim: dynamic.claim_name.clone(),
                        device: resource.device_name.clone(),
                    }));
                }
            }
        }
    }
    holds.into_iter().collect()
}

#[cfg(test)]
mod tests;
