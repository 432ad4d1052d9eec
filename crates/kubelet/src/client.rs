//! The calls of the PodResources API.

use std::{
    hash::{DefaultHasher, Hasher},
    mem,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::{
    grpc,
    messages::{ALLOCATABLE, PODS, Part},
    names::UnitNames,
    report::{JoinedResponse, Joiner, KubeletReport},
    wire::{MessageShape, WireError, WireReader},
};

const LIST: &str = "/v1.PodResourcesLister/List";
const GET_ALLOCATABLE: &str = "/v1.PodResourcesLister/GetAllocatableResources";
const SOCKET: &str = "kubelet.sock";
/// Four times as much as the kubelet's own tests and NFD accept. Only time limits it, since a response is read in pieces.
pub(crate) const MAX_RESPONSE_BYTES: u64 = 64 << 20;
/// How long after its start a kubelet may still lack its running pods (about a second was observed).
const STARTUP_GRACE: Duration = Duration::from_secs(10);
/// What the kubelet has said expires when it has not responded for this long.
pub const MAX_AGE: Duration = Duration::from_secs(60);

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
    /// A deadline was exceeded.
    #[error("the kubelet did not respond within {} s", grpc::STEP_DEADLINE.as_secs())]
    TimedOut,
    /// The response is larger than any kubelet's.
    #[error("the kubelet's response has {length} bytes; at most {MAX_RESPONSE_BYTES} are read")]
    TooLarge {
        /// How many bytes it has.
        length: u64,
    },
    /// The response is no message of the API.
    #[error("the kubelet's response cannot be read: {0}")]
    Malformed(String),
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
    /// What the responses were last joined with.
    names: Option<Arc<UnitNames>>,
    held: KnownResponse,
    allocatable: KnownResponse,
    /// When the kubelet last said what is allocatable.
    allocatable_at: Option<Instant>,
    /// Why it did not say so at the last request.
    allocatable_error: Option<KubeletError>,
    /// What was last reported as held.
    reported: JoinedResponse,
}

#[derive(Debug)]
struct KubeletConnection {
    /// None after a failure: the next request opens another one.
    channel: Option<Channel>,
    /// The socket that it uses: a kubelet that restarts creates a new file.
    socket: SocketId,
    /// When the kubelet first responded through this socket; none if it has not.
    since: Option<Instant>,
}

impl From<WireError> for KubeletError {
    fn from(error: WireError) -> KubeletError {
        KubeletError::Malformed(error.to_string())
    }
}

/// Inode and change time of a socket.
type SocketId = (u64, u64);

/// The last response to a call, joined, and a digest of its bytes.
type KnownResponse = Option<(u64, JoinedResponse)>;

impl Kubelet {
    /// By the directory of its socket, `/var/lib/kubelet/pod-resources`.
    pub fn new(directory: impl Into<PathBuf>) -> Kubelet {
        Kubelet {
            directory: directory.into(),
            connection: None,
            names: None,
            held: None,
            allocatable: None,
            allocatable_at: None,
            allocatable_error: None,
            reported: JoinedResponse::default(),
        }
    }

    /// The current allocations and allocatable devices, by their names. In the first seconds of a socket the previous
    /// allocations are kept as well, because the kubelet may have restarted and lack its running pods. While the request for the
    /// allocatable devices alone fails, the last ones are reported until they expire ([`MAX_AGE`]).
    ///
    /// # Errors
    /// When the allocations cannot be requested; the next call opens a new connection.
    pub async fn list(&mut self, names: &Arc<UnitNames>) -> Result<KubeletReport, KubeletError> {
        if self.names.as_ref().is_none_or(|known| !Arc::ptr_eq(known, names)) {
            self.names = Some(Arc::clone(names));
            (self.held, self.allocatable) = (None, None);
        }
        let responses = self.request(names).await;
        // An error that the kubelet responds with needs no other connection.
        let is_silent = matches!(self.allocatable_error, Some(KubeletError::TimedOut));
        if let Some(connection) = self.connection.as_mut().filter(|_| responses.is_err() || is_silent) {
            connection.channel = None;
        }
        responses?;
        let since = self.connection.as_ref().and_then(|connection| connection.since);
        let complete = since.is_some_and(|since| since.elapsed() >= STARTUP_GRACE);
        let (_, mut held) = self.held.clone().unwrap_or_default();
        if !complete {
            held.merge(mem::take(&mut self.reported));
        }
        self.reported = held.clone();
        let is_current = self.allocatable_at.is_some_and(|at| at.elapsed() < MAX_AGE);
        let allocatable = self.allocatable.as_ref().filter(|_| is_current);
        let skipped = allocatable.map_or(0, |(_, allocatable)| allocatable.skipped);
        Ok(KubeletReport {
            allocations: held.allocations,
            held: held.held,
            rdma_pods: held.rdma_pods,
            ready: allocatable.filter(|_| complete).map(|(_, allocatable)| allocatable.units.clone()),
            skipped: held.skipped.saturating_add(skipped),
            complete,
        })
    }

    /// Why the kubelet did not say at the last request what is allocatable, if it says so at all.
    pub fn allocatable_error(&self) -> Option<&KubeletError> {
        self.allocatable_error.as_ref()
    }

    /// Brings both responses up to date, the second as far as the kubelet responds.
    async fn request(&mut self, names: &UnitNames) -> Result<(), KubeletError> {
        self.allocatable_error = None;
        let path = self.directory.join(SOCKET);
        let socket = socket_id(&path)?;
        self.connection = self.connection.take().filter(|connection| connection.socket == socket);
        let known = self.connection.as_ref().and_then(|connection| connection.channel.clone());
        let mut channel = match known {
            Some(channel) => channel,
            None => connect(&path).await?,
        };
        let first = || KubeletConnection { channel: None, socket, since: None };
        let connection = self.connection.get_or_insert_with(first);
        connection.channel = Some(channel.clone());
        refresh(&mut channel, LIST, &PODS, names, &mut self.held).await?;
        connection.since.get_or_insert_with(Instant::now);
        match refresh(&mut channel, GET_ALLOCATABLE, &ALLOCATABLE, names, &mut self.allocatable).await {
            Ok(()) => self.allocatable_at = Some(Instant::now()),
            Err(KubeletError::Failed { code: Code::Unimplemented, .. }) => self.allocatable_at = None,
            Err(error) => self.allocatable_error = Some(error),
        }
        Ok(())
    }
}

/// Brings a response up to date. One with the same bytes as the last is read but not joined again. One with other bytes is
/// requested a second time, so that its bytes need not be kept.
async fn refresh(
    channel: &mut Channel,
    path: &'static str,
    shape: &'static MessageShape<Part>,
    names: &UnitNames,
    known: &mut KnownResponse,
) -> Result<(), KubeletError> {
    if let Some((digest, _)) = known {
        let mut response = grpc::call(channel, path).await?;
        let mut hasher = DefaultHasher::new();
        while let Some(bytes) = response.next().await? {
            hasher.write(&bytes);
        }
        if hasher.finish() == *digest {
            return Ok(());
        }
    }
    let mut response = grpc::call(channel, path).await?;
    let mut hasher = DefaultHasher::new();
    let mut joiner = Joiner::new(names);
    let mut reader = WireReader::new(shape, response.length);
    reader.read(&[], &mut |event| joiner.take(event))?;
    while let Some(bytes) = response.next().await? {
        hasher.write(&bytes);
        reader.read(&bytes, &mut |event| joiner.take(event))?;
    }
    if !reader.is_complete() {
        return Err(KubeletError::Malformed("it ends before its message".to_owned()));
    }
    *known = Some((hasher.finish(), joiner.finish()));
    Ok(())
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

async fn connect(path: &Path) -> Result<Channel, KubeletError> {
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
    let endpoint = Endpoint::from_shared(format!("unix://{name}")).map_err(failed)?;
    endpoint.connect_timeout(grpc::STEP_DEADLINE).connect().await.map_err(failed)
}

#[cfg(test)]
mod tests;
