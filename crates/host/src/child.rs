//! A child process that queries a vendor's library, so that a library which hangs, crashes, leaks or keeps a driver busy
//! can be ended without ending the agent.
//!
//! The child is this program with other arguments. It reads requests from its standard input and writes responses and
//! events to its standard output, one JSON document per line: `{"request": "sample"}` in, `{"response": "sample", "value": ...}`
//! or `{"event": ...}` out. At most one request is pending. A late response is kept until the request is repeated, and wakes
//! the owner; a missed deadline kills the process. It is restarted after a back-off that doubles each time.

mod process;
mod protocol;

use std::{
    ffi::OsString,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;

use process::ChildProcess;
pub use protocol::{EventSender, serve};

/// The back-off before the first restart.
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// A process that ran this long resets the back-off.
const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(600);

/// Starts children: what all of them have in common.
#[derive(Clone)]
pub struct Launcher {
    /// The path of this program.
    pub program: PathBuf,
    /// Variables that are added to the environment.
    pub environment: &'static [(&'static str, &'static str)],
    /// How long a request waits for its response before it returns [`RequestError::Pending`].
    pub timeout: Duration,
    /// Called when a late response or an event arrives, and when the process ends.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launcher")
            .field("program", &self.program)
            .field("environment", &self.environment)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

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
    backoff: Duration,
    ended_at: Option<Instant>,
    starts: u64,
    released: bool,
}

impl Launcher {
    /// A child that is started with these arguments on its first request.
    pub fn child(&self, arguments: impl IntoIterator<Item = OsString>) -> Child {
        Child {
            launcher: self.clone(),
            arguments: arguments.into_iter().collect(),
            process: None,
            backoff: INITIAL_BACKOFF,
            ended_at: None,
            starts: 0,
            released: false,
        }
    }
}

impl Child {
    /// The response to a request. Waits for it for the launcher's timeout at most.
    ///
    /// # Errors
    /// When there is no response (yet).
    pub fn request(&mut self, request: &'static str, deadline: Duration) -> Result<Value, RequestError> {
        if self.released {
            return Err(RequestError::Released);
        }
        self.start_if_due()?;
        let process = self.process.as_mut().expect("it was just started");
        if let Some(value) = process.take_response(request) {
            process.pending = process.pending.filter(|pending| pending.request != request);
            return Ok(value);
        }
        if process.pending.is_none_or(|pending| process.has_response(pending.request))
            && process.send(request, deadline).is_err()
        {
            return Err(self.ended());
        }
        // Never beyond the deadline, however long the timeout.
        let remaining = process.pending.map_or(Duration::ZERO, |pending| pending.remaining());
        match process.wait(request, self.launcher.timeout.min(remaining)) {
            Some(value) => {
                process.pending = None;
                Ok(value)
            }
            None if process.has_ended() => Err(self.ended()),
            None => match process.pending.filter(|pending| pending.remaining().is_zero()) {
                Some(pending) => {
                    self.end();
                    Err(RequestError::TimedOut { request: pending.request, deadline: pending.deadline })
                }
                None => Err(RequestError::Pending),
            },
        }
    }

    /// The events since the last call.
    pub fn events(&mut self) -> Vec<Value> {
        self.process.as_ref().map(ChildProcess::take_events).unwrap_or_default()
    }

    /// How often a process was started.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// Whether a process runs.
    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.has_ended())
    }

    /// How often the process was restarted.
    pub fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    /// Ends the process until [`Child::reacquire`], so that it keeps no handle to the driver open. Returns whether it has
    /// ended: a killed process that hangs within the driver has not.
    pub fn release(&mut self) -> bool {
        self.released = true;
        let ended = self.process.is_none() || self.end().is_some();
        self.ended_at = None;
        self.backoff = INITIAL_BACKOFF;
        ended
    }

    /// Allows the process to be started again.
    pub fn reacquire(&mut self) {
        self.released = false;
    }

    fn start_if_due(&mut self) -> Result<(), RequestError> {
        if self.process.is_some() {
            return Ok(());
        }
        if let Some(remaining) = self.ended_at.and_then(|ended| self.backoff.checked_sub(ended.elapsed())) {
            return Err(RequestError::BackingOff(remaining));
        }
        let started = ChildProcess::start(&self.launcher, &self.arguments);
        self.starts += 1;
        self.process = Some(started.map_err(|error| {
            self.back_off(Duration::ZERO);
            RequestError::Start(error)
        })?);
        Ok(())
    }

    /// The error for a process that ended by itself.
    fn ended(&mut self) -> RequestError {
        RequestError::Ended(self.end().unwrap_or_else(|| "unknown".to_owned()))
    }

    /// Ends the process and backs off; its exit status, if it has exited.
    fn end(&mut self) -> Option<String> {
        let process = self.process.take()?;
        self.back_off(process.started_at.elapsed());
        process.end()
    }

    fn back_off(&mut self, ran_for: Duration) {
        self.backoff = match self.ended_at {
            Some(_) if ran_for < BACKOFF_RESET_AFTER => (self.backoff * 2).min(MAX_BACKOFF),
            _ => INITIAL_BACKOFF,
        };
        self.ended_at = Some(Instant::now());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
