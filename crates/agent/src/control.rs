//! The agent's control socket: how `afd release`, `afd forget` and `afd clear` reach the agent of this node.
//!
//! A Unix socket, so that only root and the agent's own user can use it and no port is open. A connection is one request and
//! one reply, each a line of JSON: `{"release":"<probe>"}` in, `{"Ok":"a message"}` or `{"Err":"why"}` out.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream as BlockingUnixStream,
    path::Path,
    sync::mpsc,
    time::Duration,
};

use afd_model::PciAddress;
use afd_publish::node::NodeNotice;
use anyhow::{Context, bail};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, Interest},
    net::{UnixListener, UnixStream},
    sync::oneshot,
    time::timeout,
};

use crate::{
    channels::LoopWaker,
    probes::Probes,
    release::{ReleaseState, Releases},
    tracker::Tracker,
};

/// How long a request may take: the loop may be waiting for a library or for the kernel.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client waits for its reply: one request is served after the other, and the one before may take all of its time.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2 * REQUEST_TIMEOUT.as_secs() + 10);
const MAX_REQUEST_BYTES: u64 = 1024;

/// A request to the agent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlRequest {
    /// Release the driver of the vendor whose probe has this name.
    Release(String),
    /// Reacquire it.
    Reacquire(String),
    /// Expect a missing device no longer, or all that are missing.
    Forget(Option<String>),
    /// Let the errors of the device at this PCI address count no longer.
    Clear(String),
}

/// A message for the operator, or the reason of the failure.
type ControlReply = Result<String, String>;

/// A request that the loop answers.
#[derive(Debug)]
pub struct LoopRequest {
    request: ControlRequest,
    reply: oneshot::Sender<ControlReply>,
}

/// Sends requests to the loop.
#[derive(Clone, Debug)]
pub struct LoopRequests {
    sender: mpsc::Sender<LoopRequest>,
    waker: LoopWaker,
}

impl LoopRequests {
    /// A sender, and the receiver of the loop.
    pub fn new(waker: LoopWaker) -> (LoopRequests, mpsc::Receiver<LoopRequest>) {
        let (sender, receiver) = mpsc::channel();
        (LoopRequests { sender, waker }, receiver)
    }

    async fn answer(&self, request: ControlRequest) -> ControlReply {
        let (reply, answer) = oneshot::channel();
        let stopped = || "the agent is stopping".to_owned();
        self.sender.send(LoopRequest { request, reply }).map_err(|_| stopped())?;
        self.waker.wake_to_discover();
        answer.await.map_err(|_| stopped())?
    }
}

impl LoopRequest {
    /// Fulfils the request, and answers it. Returns what becomes an Event. One that has failed for its client in the meantime is
    /// dropped.
    pub fn answer(self, tracker: &mut Tracker, probes: &mut Probes) -> Option<NodeNotice> {
        if self.reply.is_closed() {
            return None;
        }
        let (reason, reply) = match &self.request {
            ControlRequest::Forget(id) => ("DevicesForgotten", forget(tracker, id.as_deref())),
            ControlRequest::Clear(device) => ("ErrorsCleared", clear(probes, device)),
            ControlRequest::Release(_) | ControlRequest::Reacquire(_) => {
                ("", Err("the loop does not answer this request".to_owned()))
            }
        };
        let note = reply.as_ref().ok().map(|message| message.trim_end().to_owned());
        // The operator may have gone.
        let _ = self.reply.send(reply);
        let note = note?;
        tracing::info!(note, "an operator's request was fulfilled");
        Some(NodeNotice { reason, note })
    }
}

fn forget(tracker: &mut Tracker, id: Option<&str>) -> ControlReply {
    let forgotten = tracker.forget(id).map_err(|how| format!("another source expects the devices; {how}"))?;
    match (forgotten.is_empty(), id) {
        (false, _) => Ok(format!("No longer expected: {}.\n", forgotten.join(", "))),
        (true, Some(id)) => Err(format!(
            "no missing device has the id {id:?}; `afd show` lists none of them, the label, \
                                         the conditions and /metrics do"
        )),
        (true, None) => Ok("No device is missing.\n".to_owned()),
    }
}

fn clear(probes: &mut Probes, device: &str) -> ControlReply {
    let address: PciAddress =
        device.parse().map_err(|_| format!("{device:?} is no PCI address such as 0000:1a:00.0"))?;
    Ok(match probes.clear_incidents(address.into()) {
        true => format!("The errors of {address} no longer count.\n"),
        false => format!("No error counts against {address}.\n"),
    })
}

/// Creates the socket. One that an agent has left behind is replaced.
///
/// # Errors
/// When another agent listens on it, or it cannot be created.
#[expect(clippy::disallowed_methods, reason = "the socket is the agent's own, not the host's")]
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    match BlockingUnixStream::connect(path) {
        Ok(_) => bail!("another agent listens on {} (--control-socket)", path.display()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .with_context(|| format!("cannot remove the socket {} of an earlier agent", path.display()))?,
        Err(_) => {}
    }
    let cannot_listen = || format!("cannot listen on {} (--control-socket)", path.display());
    let listener = UnixListener::bind(path).with_context(cannot_listen)?;
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR).with_context(cannot_listen)?;
    Ok(listener)
}

/// Serves requests forever, one after the other.
pub async fn serve(listener: UnixListener, releases: Releases, requests: LoopRequests) {
    loop {
        let served = async {
            let (stream, _) = listener.accept().await?;
            timeout(REQUEST_TIMEOUT, serve_connection(stream, &releases, &requests)).await?
        };
        if let Err(error) = served.await {
            tracing::debug!(%error, "control request failed");
            // Most likely out of file descriptors: it would fail again at once.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn serve_connection(
    stream: UnixStream,
    releases: &Releases,
    requests: &LoopRequests,
) -> io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(input.take(MAX_REQUEST_BYTES)).read_line(&mut line).await?;
    // The client may have given up while others were served.
    if output.ready(Interest::WRITABLE).await?.is_write_closed() {
        return Err(ErrorKind::BrokenPipe.into());
    }
    let mut release = None;
    let reply: ControlReply = match serde_json::from_str(&line) {
        Ok(ControlRequest::Release(probe)) => {
            release = Some(UnconfirmedRelease::request(releases, &probe));
            settled(&probe, releases).await
        }
        Ok(ControlRequest::Reacquire(probe)) => reacquire(&probe, releases).await,
        Ok(request) => requests.answer(request).await,
        Err(error) => Err(format!("unknown request: {error}")),
    };
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    output.write_all(&bytes).await?;
    if let Some(release) = release {
        release.confirm();
    }
    Ok(())
}

/// A release that is undone unless its client gets the reply: for the operator the command has failed.
struct UnconfirmedRelease<'r> {
    releases: &'r Releases,
    probe: String,
    /// Whether there is anything to be undone: an earlier request stays.
    is_open: bool,
}

impl UnconfirmedRelease<'_> {
    fn request<'r>(releases: &'r Releases, probe: &str) -> UnconfirmedRelease<'r> {
        let is_open = releases.request(probe, true);
        UnconfirmedRelease { releases, probe: probe.to_owned(), is_open }
    }

    fn confirm(mut self) {
        self.is_open = false;
    }
}

impl Drop for UnconfirmedRelease<'_> {
    fn drop(&mut self) {
        if self.is_open {
            tracing::warn!(probe = self.probe, "no client waits for the release of a driver; it is undone");
            self.releases.request(&self.probe, false);
        }
    }
}

async fn reacquire(probe: &str, releases: &Releases) -> ControlReply {
    releases.request(probe, false);
    if releases.is_requested(probe) {
        return Err(
            "labels of the Node announce that the driver is about to be replaced; it is reacquired after that"
                .to_owned(),
        );
    }
    settled(probe, releases).await
}

/// The reply once the state of a driver is as requested.
async fn settled(probe: &str, releases: &Releases) -> ControlReply {
    match releases.settled(probe).await {
        None => Err(format!("this agent loads no library of {probe:?}")),
        Some(ReleaseState::Hanging(living)) => Err(format!(
            "the process that held the driver was killed and has not ended: it hangs in the driver (processes still alive: {living:?})"
        )),
        Some(ReleaseState::Held | ReleaseState::Released) => Ok(String::new()),
    }
}

/// Sends a request to the agent that listens on a socket, and waits until it is fulfilled; returns its message.
///
/// # Errors
/// When no agent listens, or it does not fulfil the request.
pub fn send(path: &Path, request: &ControlRequest) -> anyhow::Result<String> {
    let stream = BlockingUnixStream::connect(path)
        .with_context(|| format!("no agent is reachable at {} (afd run --control-socket)", path.display()))?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    (&stream).write_all(&line).context("sending the request to the agent")?;
    let mut reply = String::new();
    BufReader::new(&stream).read_line(&mut reply).context("waiting for the agent's reply")?;
    match serde_json::from_str::<ControlReply>(&reply).context("the agent ended without a reply")? {
        Ok(message) => Ok(message),
        Err(why) => bail!(why),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use afd_derive::vendors::VENDORS;
    use afd_host::{
        child::{ChildRegistry, Launcher},
        testing::TestHost,
    };
    use afd_track::TrackOptions;

    use super::*;
    use crate::probes::ProbeOptions;

    /// The requests of a loop that answers none, and the release of whose driver takes forever.
    struct StuckLoop {
        releases: Releases,
        requests: LoopRequests,
        received: mpsc::Receiver<LoopRequest>,
        probe: &'static str,
    }

    impl StuckLoop {
        fn new() -> StuckLoop {
            let record = VENDORS.iter().find(|record| record.library.is_some());
            let (requests, received) = LoopRequests::new(LoopWaker::new().0);
            let releases = Releases::new(Arc::new(|| ()));
            StuckLoop { releases, requests, received, probe: record.expect("a vendor has a library").probe }
        }

        /// Serves one connection, as long as a request may take.
        async fn serve(&self, stream: UnixStream) {
            let served = serve_connection(stream, &self.releases, &self.requests);
            assert!(!matches!(timeout(REQUEST_TIMEOUT, served).await, Ok(Ok(()))), "it is answered");
        }
    }

    async fn sent(request: &ControlRequest) -> (UnixStream, UnixStream) {
        let (mut client, server) = UnixStream::pair().expect("sockets can be created");
        let line = serde_json::to_string(request).expect("it can be encoded") + "\n";
        client.write_all(line.as_bytes()).await.expect("it can be sent");
        (client, server)
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_that_was_not_answered_in_time_is_undone_unless_it_was_requested_before() {
        let stuck = StuckLoop::new();
        let request = ControlRequest::Release(stuck.probe.to_owned());
        let (_client, server) = sent(&request).await;
        let requested = async {
            tokio::time::sleep(REQUEST_TIMEOUT / 2).await;
            assert!(stuck.releases.is_requested(stuck.probe));
        };
        tokio::join!(stuck.serve(server), requested);
        assert!(!stuck.releases.is_requested(stuck.probe));

        stuck.releases.request(stuck.probe, true);
        let (_client, server) = sent(&request).await;
        stuck.serve(server).await;
        assert!(stuck.releases.is_requested(stuck.probe), "an earlier request stays");
    }

    #[tokio::test(start_paused = true)]
    async fn the_request_of_a_client_that_has_gone_is_not_fulfilled() {
        let stuck = StuckLoop::new();
        for request in [ControlRequest::Release(stuck.probe.to_owned()), ControlRequest::Forget(None)] {
            let (client, server) = sent(&request).await;
            drop(client);
            stuck.serve(server).await;
        }
        assert!(!stuck.releases.is_requested(stuck.probe) && stuck.received.try_recv().is_err());

        // Its time is over while the loop is busy.
        let (_client, server) = sent(&ControlRequest::Forget(None)).await;
        stuck.serve(server).await;
        let host = TestHost::new();
        let launcher = Launcher::new("/nothing".into(), REQUEST_TIMEOUT, ChildRegistry::adopting_orphans());
        let options = ProbeOptions { no_libraries: true, ..ProbeOptions::default() };
        let mut tracker = Tracker::new(&host.open(), TrackOptions::default(), None);
        let mut probes = Probes::new(host.open(), &options, &launcher);
        let request = stuck.received.try_recv().expect("the loop has got it");
        assert!(request.answer(&mut tracker, &mut probes).is_none());
    }
}
