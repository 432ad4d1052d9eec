//! A child process that queries a vendor's library, so that a library which hangs, crashes, leaks or keeps a driver busy
//! can be ended without ending the agent.
//!
//! The child is this program with other arguments. It reads requests from its standard input and writes responses and
//! events to its standard output, one JSON document per line: `{"request": "sample"}` in, `{"response": "sample", "value": ...}`
//! or `{"event": ...}` out. At most one request is pending. A late response is kept until the request is repeated, and wakes
//! the owner; a missed deadline kills the process. It is restarted after a back-off that doubles each time.
//!
//! Nothing of that trusts the library: what the process writes is bounded, a process that is given up is killed with all that
//! it started, and no other one is started while one of them lives.

mod inbox;
mod killed;
mod launcher;
mod lines;
mod process;
mod protocol;
mod registry;

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};

pub use inbox::DroppedMessages;
use inbox::{InboxEnd, MAX_EVENTS, shortened};
use killed::KilledProcess;
pub use launcher::{ChildNote, Launcher};
use process::ChildProcess;
pub use protocol::{ChildChannel, EventSender, ServeError};
pub use registry::ChildRegistry;

/// The back-off before the first restart.
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// A process that ran this long resets the back-off.
const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(600);
/// A process that ran this long may be replaced without a back-off when it asks for it.
const MIN_LIFE_BEFORE_RESTART: Duration = Duration::from_secs(2);
/// A process that asks to be replaced more often is restarted after a back-off, like one that fails.
const MIN_TIME_BETWEEN_REPLACEMENTS: Duration = Duration::from_secs(60);

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request is still being processed; repeat it later.
    #[error("no response yet")]
    Pending,
    /// The deadline was missed; the process was killed.
    #[error("no response to {request:?} within {} s; the process was killed", deadline.as_secs())]
    TimedOut {
        /// The name of the request.
        request: &'static str,
        /// Its deadline.
        deadline: Duration,
    },
    /// The process ended by itself.
    #[error("the process that queries the library ended ({0})")]
    Ended(String),
    /// The process was killed for what it did.
    #[error("the process that queries the library was killed: {0}")]
    Killed(String),
    /// A process that was killed, or one that it started, has not ended. No other one is started meanwhile.
    #[error("the process that queried the library was killed and has not ended ({}): it hangs in the driver", processes(.0))]
    NotEnded(Vec<u32>),
    /// The process has ended recently and is restarted after a back-off, in this time.
    #[error("the process that queries the library failed; it is restarted after a back-off")]
    BackingOff(Duration),
    /// The process could not be started.
    #[error("the process that queries the library could not be started")]
    Start(#[source] std::io::Error),
    /// The driver is released.
    #[error("the library is released until the driver has been replaced")]
    Released,
}

/// A child, running or not.
#[derive(Debug)]
pub struct Child {
    launcher: Launcher,
    arguments: Vec<OsString>,
    process: Option<ChildProcess>,
    /// The last process, until it and all that it started have ended.
    killed: Option<KilledProcess>,
    /// Events of processes that have ended.
    events: Vec<Value>,
    /// What processes that have ended sent in vain.
    dropped: DroppedMessages,
    /// The exit status of the last process.
    last_status: String,
    backoff: Duration,
    ended_at: Option<Instant>,
    starts: u64,
    restarts: u64,
    /// Whether the next start is a restart: the last process was not ended on purpose.
    is_restart: bool,
    /// When a process that asked for it was last replaced without a back-off.
    replaced_at: Option<Instant>,
    released: bool,
}

impl Launcher {
    /// A child that is started with these arguments on its first request.
    pub fn child(&self, arguments: impl IntoIterator<Item = OsString>) -> Child {
        Child {
            launcher: self.clone(),
            arguments: arguments.into_iter().collect(),
            process: None,
            killed: None,
            events: Vec::new(),
            dropped: DroppedMessages::default(),
            last_status: String::new(),
            backoff: INITIAL_BACKOFF,
            ended_at: None,
            starts: 0,
            restarts: 0,
            is_restart: false,
            replaced_at: None,
            released: false,
        }
    }
}

impl Child {
    /// The response to a request. Waits for it for the launcher's timeout at most.
    ///
    /// # Errors
    /// When there is no response (yet), or it is of another type.
    pub fn request<R: DeserializeOwned>(
        &mut self,
        request: &'static str,
        deadline: Duration,
    ) -> Result<R, RequestError> {
        let response = self.respond(request, deadline)?;
        serde_json::from_str(response.get())
            .map_err(|error| RequestError::Ended(shortened(&format!("protocol error: {error}"))))
    }

    fn respond(&mut self, request: &'static str, deadline: Duration) -> Result<Box<RawValue>, RequestError> {
        self.launcher.registry.reap_orphans();
        if self.released {
            return Err(RequestError::Released);
        }
        match self.try_request(request, deadline) {
            // It asked for it, and did not ask for it just before.
            Err(None) => self.try_request(request, deadline).map_err(|error| {
                error.unwrap_or_else(|| RequestError::Ended("it was restarted twice".to_owned()))
            }),
            result => result.map_err(|error| error.expect("a restart is handled above")),
        }
    }

    /// The response to a request; no error if the process is to be replaced at once.
    fn try_request(
        &mut self,
        request: &'static str,
        deadline: Duration,
    ) -> Result<Box<RawValue>, Option<RequestError>> {
        self.start_if_due()?;
        let process = self.process.as_mut().expect("it was just started");
        if let Some(value) = process.inbox().take_response(request) {
            process.pending = process.pending.filter(|pending| pending.request != request);
            return Ok(value);
        }
        if let Some(reason) = process.excess(&self.launcher.registry, self.launcher.max_resident_bytes) {
            self.end();
            return Err(Some(RequestError::Killed(reason)));
        }
        if process.pending.is_none_or(|pending| process.inbox().has_response(pending.request))
            && process.send(request, deadline).is_err()
        {
            return Err(self.ended());
        }
        // Never beyond the deadline, however long the timeout.
        let remaining = process.pending.map_or(Duration::ZERO, |pending| pending.remaining());
        match process.inbox().wait(request, self.launcher.timeout.min(remaining)) {
            Some(value) => {
                process.pending = None;
                Ok(value)
            }
            None if process.has_ended() => Err(self.ended()),
            None => match process.pending.filter(|pending| pending.remaining().is_zero()) {
                Some(pending) => {
                    self.end();
                    let (request, deadline) = (pending.request, pending.deadline);
                    Err(Some(RequestError::TimedOut { request, deadline }))
                }
                None => Err(Some(RequestError::Pending)),
            },
        }
    }

    /// The events since the last call.
    pub fn events(&mut self) -> Vec<Value> {
        self.collect_events();
        std::mem::take(&mut self.events)
    }

    fn collect_events(&mut self) {
        let new = self.process.as_ref().map(|process| process.inbox().take_events()).unwrap_or_default();
        let room = MAX_EVENTS.saturating_sub(self.events.len());
        self.dropped.events += new.len().saturating_sub(room) as u64;
        self.events.extend(new.into_iter().take(room));
    }

    /// What was dropped of all that its processes have sent.
    pub fn dropped(&self) -> DroppedMessages {
        let mut dropped = self.dropped;
        if let Some(process) = &self.process {
            dropped.add(process.inbox().dropped());
        }
        dropped
    }

    /// How often a process was started.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// Whether a process runs.
    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.has_ended())
    }

    /// How often the process was restarted after it failed.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Ends the process on purpose. The next request starts another one, without a back-off, with these arguments.
    pub fn stop(&mut self, next: Vec<OsString>) {
        self.end_on_purpose();
        self.arguments = next;
    }

    fn end_on_purpose(&mut self) -> Option<InboxEnd> {
        let end = self.end();
        (self.ended_at, self.backoff, self.is_restart) = (None, INITIAL_BACKOFF, false);
        end
    }

    /// Ends the process until [`Child::reacquire`], so that it keeps no handle to the driver open. Returns the processes that
    /// have not ended: a killed process that hangs within the driver has not.
    pub fn release(&mut self) -> Vec<u32> {
        self.released = true;
        self.end_on_purpose();
        self.living()
    }

    /// Allows the process to be started again.
    pub fn reacquire(&mut self) {
        self.released = false;
    }

    /// Processes that were killed and have not ended.
    fn living(&mut self) -> Vec<u32> {
        let living = self.killed.as_mut().map(KilledProcess::living).unwrap_or_default();
        if living.is_empty() {
            self.killed = None;
        }
        living
    }

    fn start_if_due(&mut self) -> Result<(), RequestError> {
        if self.process.is_some() {
            return Ok(());
        }
        let living = self.living();
        if !living.is_empty() {
            return Err(RequestError::NotEnded(living));
        }
        if let Some(remaining) = self.ended_at.and_then(|ended| self.backoff.checked_sub(ended.elapsed())) {
            return Err(RequestError::BackingOff(remaining));
        }
        let started = ChildProcess::start(&self.launcher, &self.arguments);
        self.starts += 1;
        self.restarts += u64::from(std::mem::replace(&mut self.is_restart, true));
        self.process = Some(started.map_err(|error| {
            self.back_off(Duration::ZERO);
            RequestError::Start(error)
        })?);
        Ok(())
    }

    /// The error for a process from which no more messages come; none if it is to be replaced at once.
    fn ended(&mut self) -> Option<RequestError> {
        let ran_for = self.process.as_ref().map_or(Duration::ZERO, |process| process.started_at.elapsed());
        let end = self.end();
        let is_rare = self.replaced_at.is_none_or(|last| last.elapsed() >= MIN_TIME_BETWEEN_REPLACEMENTS);
        if matches!(end, Some(InboxEnd::Restart(_))) && ran_for >= MIN_LIFE_BEFORE_RESTART && is_rare {
            self.replaced_at = Some(Instant::now());
            self.end_on_purpose();
            return None;
        }
        let living = self.living();
        Some(match end {
            _ if !living.is_empty() => RequestError::NotEnded(living),
            Some(InboxEnd::GivenUp(reason)) => RequestError::Killed(reason),
            Some(InboxEnd::Restart(reason)) => RequestError::Ended(reason),
            _ => RequestError::Ended(self.last_status.clone()),
        })
    }

    /// Ends the process and backs off; why it sent no more messages, if it did not.
    fn end(&mut self) -> Option<InboxEnd> {
        self.collect_events();
        let process = self.process.take()?;
        self.back_off(process.started_at.elapsed());
        let (end, dropped, killed) = process.end(&self.launcher);
        self.dropped.add(dropped);
        killed.status().unwrap_or("unknown").clone_into(&mut self.last_status);
        self.killed = Some(killed);
        end
    }

    fn back_off(&mut self, ran_for: Duration) {
        self.backoff = match self.ended_at {
            Some(_) if ran_for < BACKOFF_RESET_AFTER => (self.backoff * 2).min(MAX_BACKOFF),
            _ => INITIAL_BACKOFF,
        };
        self.ended_at = Some(Instant::now());
    }
}

/// `process 7`, `processes 7, 8`.
fn processes(pids: &[u32]) -> String {
    let list: Vec<String> = pids.iter().map(u32::to_string).collect();
    format!("{} {}", if pids.len() == 1 { "process" } else { "processes" }, list.join(", "))
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
pub(crate) use tests::run_registered;

#[cfg(test)]
mod tests;
