//! `afd top`: the devices on the terminal, live: what `/` shows.
//!
//! It reads `/live` of this node's agent or, where none runs, has the probes of this program observe the host. A thread of its own
//! does that, so that neither a library nor an agent that hangs delays a key. Where the output is no terminal, it prints one table.

mod columns;
mod http;
mod plain;
mod rows;
mod screen;
mod source;
mod state;
mod terminal;

use std::{io::Write, path::Path, time::Duration};

use anyhow::Context;

pub use self::{
    http::AgentError,
    screen::draw,
    source::{SourcedReport, TopEvent},
    state::{TopKey, TopState},
    terminal::{TerminalSession, is_interactive},
};
use self::{
    http::AgentUrl,
    source::{LiveSource, OwnSource},
};
use crate::{args::TopArgs, probes::Probes, text_table::TextStyle};

/// Where an agent serves by default.
const DEFAULT_URL: &str = "http://127.0.0.1:9109";
/// The time between two observations by the own probes.
const OWN_INTERVAL: Duration = Duration::from_secs(2);

/// Shows the devices until the user ends it, or once. `probes` are constructed where no agent is asked.
///
/// # Errors
/// When the agent does not answer as one, or the terminal cannot be used.
pub fn top(
    args: &TopArgs,
    host_root: &Path,
    style: TextStyle,
    probes: impl FnOnce() -> anyhow::Result<Probes>,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let source = choose(args, host_root, probes)?;
    if args.once || !is_interactive(style) {
        let report = match source {
            LiveSource::Agent(url) => url.read()?,
            LiveSource::Own(mut own) => own.observe_twice(),
        };
        output.write_all(plain::table(&report, style).as_bytes())?;
        return Ok(());
    }
    let mut state = TopState::new(source.title(), style.color());
    let observations = source.follow(args.interval)?;
    let mut session = TerminalSession::start(output).context("using the terminal")?;
    session.run(&mut state, &observations)
}

/// The agent that was named, the one of this node, or without one the own probes.
fn choose(
    args: &TopArgs,
    host_root: &Path,
    probes: impl FnOnce() -> anyhow::Result<Probes>,
) -> anyhow::Result<LiveSource> {
    let own = || {
        let own = OwnSource::new(probes()?, args.interval.unwrap_or(OWN_INTERVAL));
        Ok(LiveSource::Own(Box::new(own)))
    };
    if args.url.is_none() && (args.local || host_root != Path::new("/")) {
        return own();
    }
    let url = AgentUrl::parse(args.url.as_deref().unwrap_or(DEFAULT_URL))?;
    match url.read() {
        // An agent that starts answers later.
        Ok(_) | Err(AgentError::Starting { .. }) => Ok(LiveSource::Agent(url)),
        Err(AgentError::Unreachable { .. }) if args.url.is_none() => own(),
        Err(error) => Err(error.into()),
    }
}
