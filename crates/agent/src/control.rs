//! The agent's control socket: how `afd release` reaches the agent of this node.
//!
//! A Unix socket, so that only root and the agent's own user can use it and no port is open. A connection is one request and
//! one reply, each a line of JSON: `{"release":"<probe>"}` in, `{"Ok":null}` or `{"Err":"why"}` out.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream as BlockingUnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use crate::release::{ReleaseState, Releases};

/// How long a request may take: the loop may be waiting for a library or for the kernel.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REQUEST_BYTES: u64 = 1024;

/// A request to the agent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlRequest {
    /// Release the driver of the vendor whose probe has this name.
    Release(String),
    /// Reacquire it.
    Reacquire(String),
}

/// Success, or the reason of the failure.
type ControlReply = Result<(), String>;

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
pub async fn serve(listener: UnixListener, releases: Releases) {
    loop {
        let served = async {
            let (stream, _) = listener.accept().await?;
            timeout(REQUEST_TIMEOUT, serve_connection(stream, &releases)).await?
        };
        if let Err(error) = served.await {
            tracing::debug!(%error, "control request failed");
            // Most likely out of file descriptors: it would fail again at once.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn serve_connection(stream: UnixStream, releases: &Releases) -> io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(input.take(MAX_REQUEST_BYTES)).read_line(&mut line).await?;
    let reply: ControlReply = match serde_json::from_str(&line) {
        Ok(ControlRequest::Release(probe)) => set_released(&probe, true, releases).await,
        Ok(ControlRequest::Reacquire(probe)) => set_released(&probe, false, releases).await,
        Err(error) => Err(format!("unknown request: {error}")),
    };
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    output.write_all(&bytes).await
}

async fn set_released(probe: &str, released: bool, releases: &Releases) -> ControlReply {
    releases.request(probe, released);
    if !released && releases.is_requested(probe) {
        return Err(
            "labels of the Node announce that the driver is about to be replaced; it is reacquired after that"
                .to_owned(),
        );
    }
    match releases.settled(probe).await {
        None => Err(format!("this agent loads no library of {probe:?}")),
        Some(ReleaseState::Hanging) => {
            Err("the process that held the driver was killed and has not ended: it hangs in the driver"
                .to_owned())
        }
        Some(ReleaseState::Held | ReleaseState::Released) => Ok(()),
    }
}

/// Sends a request to the agent that listens on a socket, and waits until it is fulfilled.
///
/// # Errors
/// When no agent listens, or it does not fulfil the request.
pub fn send(path: &Path, request: &ControlRequest) -> anyhow::Result<()> {
    let stream = BlockingUnixStream::connect(path)
        .with_context(|| format!("no agent is reachable at {} (afd run --control-socket)", path.display()))?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    (&stream).write_all(&line).context("sending the request to the agent")?;
    let mut reply = String::new();
    BufReader::new(&stream).read_line(&mut reply).context("waiting for the agent's reply")?;
    match serde_json::from_str::<ControlReply>(&reply).context("the agent ended without a reply")? {
        Ok(()) => Ok(()),
        Err(why) => bail!(why),
    }
}
