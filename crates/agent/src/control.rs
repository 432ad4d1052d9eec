//! The agent's control socket: how `afd release` reaches the agent of this node.
//!
//! A Unix socket, so that nobody but the agent's own user and root can use it, and no port is open. A connection is one
//! request and one reply, each a line of JSON: `{"release":"nvidia"}` there, `{"Ok":null}` or `{"Err":"why"}` back.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream as Stream,
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

use crate::{
    args::LibraryVendor,
    release::{Release, State},
};

/// How long the loop may take; it waits for a library and for files of the kernel.
const PATIENCE: Duration = Duration::from_secs(60);
/// No request is longer.
const LONGEST_REQUEST: u64 = 1024;

/// What somebody asks of the agent.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Let the vendor's driver go.
    Release(LibraryVendor),
    /// Take it back.
    TakeBack(LibraryVendor),
}

/// Whether it was done, or why not.
type Reply = Result<(), String>;

/// Opens the socket. One that an agent has left behind is removed.
///
/// # Errors
/// When another agent listens there, or it cannot be made.
#[expect(clippy::disallowed_methods, reason = "the socket is the agent's own, not the host's")]
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    match Stream::connect(path) {
        Ok(_) => bail!("another agent listens on {} (--control-socket)", path.display()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .with_context(|| format!("removing the socket {} of an agent before", path.display()))?,
        Err(_) => {}
    }
    let cannot = || format!("cannot listen on {} (--control-socket)", path.display());
    let listener = UnixListener::bind(path).with_context(cannot)?;
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR).with_context(cannot)?;
    Ok(listener)
}

/// Answers requests for ever, one after the other.
pub async fn serve(listener: UnixListener, release: Release) {
    loop {
        let answered = async {
            let (stream, _) = listener.accept().await?;
            timeout(PATIENCE, answer(stream, &release)).await?
        };
        if let Err(error) = answered.await {
            tracing::debug!(%error, "a request on the control socket came to nothing");
            // Out of descriptors, most likely: it would fail at once again.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn answer(stream: UnixStream, release: &Release) -> io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(input.take(LONGEST_REQUEST)).read_line(&mut line).await?;
    let reply: Reply = match serde_json::from_str(&line) {
        Ok(request) => carry_out(request, release).await,
        Err(error) => Err(format!("this agent does not know the request: {error}")),
    };
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    output.write_all(&bytes).await
}

async fn carry_out(request: Request, release: &Release) -> Reply {
    let let_go = matches!(request, Request::Release(LibraryVendor::Nvidia));
    release.ask(let_go);
    if !let_go && release.is_wished() {
        return Err(
            "the Node says that the driver is about to be replaced; it is taken back after that".to_owned()
        );
    }
    match release.settled().await {
        State::Hanging => {
            Err("the process that held the driver was killed and has not ended: it hangs within the driver"
                .to_owned())
        }
        State::Held | State::LetGo => Ok(()),
    }
}

/// Asks the agent that listens on a socket.
///
/// # Errors
/// When there is none, or it does not do what is asked.
pub fn ask(path: &Path, request: Request) -> anyhow::Result<()> {
    let stream = Stream::connect(path).with_context(|| {
        format!("no agent is to be reached at {} (afd run --control-socket)", path.display())
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    (&stream).write_all(&line).context("asking the agent")?;
    let mut reply = String::new();
    BufReader::new(&stream).read_line(&mut reply).context("waiting for the agent")?;
    match serde_json::from_str::<Reply>(&reply).context("the agent went away without a reply")? {
        Ok(()) => Ok(()),
        Err(why) => bail!(why),
    }
}
