//! A running child process, and the messages received from it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Launcher,
    protocol::{ChildMessage, ChildRequest},
};

/// How long to wait for the exit of a killed process. One that hangs within the driver may take far longer.
const KILL_GRACE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct ChildProcess {
    process: std::process::Child,
    inbox: Arc<Inbox>,
    pub(super) started_at: Instant,
    pub(super) pending: Option<PendingRequest>,
}

/// A request that has no response yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingRequest {
    pub(super) request: &'static str,
    pub(super) sent_at: Instant,
    pub(super) deadline: Duration,
}

impl PendingRequest {
    /// The time until its deadline; zero once it is over.
    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_sub(self.sent_at.elapsed())
    }
}

impl ChildProcess {
    pub(super) fn start(launcher: &Launcher, arguments: &[OsString]) -> std::io::Result<ChildProcess> {
        let mut process = Command::new(&launcher.program)
            .args(arguments)
            .envs(launcher.environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().expect("stdout is piped");
        let inbox = Arc::new(Inbox::default());
        let (receiver, wake) = (Arc::clone(&inbox), Arc::clone(&launcher.wake));
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                // A line that is no message was printed by the library.
                let Ok(message) = serde_json::from_str(&line) else { continue };
                receiver.put(message, &*wake);
            }
            receiver.close(&*wake);
        });
        Ok(ChildProcess { process, inbox, started_at: Instant::now(), pending: None })
    }

    /// Sends a request, which becomes the pending one.
    ///
    /// # Errors
    /// When the pipe is closed: the process has ended.
    pub(super) fn send(&mut self, request: &'static str, deadline: Duration) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(&ChildRequest { request: request.to_owned() })?;
        line.push(b'\n');
        // Before it is sent: the response may arrive before `wait` is called.
        self.inbox.lock().awaited = Some(request);
        self.process.stdin.as_mut().expect("stdin is piped").write_all(&line)?;
        self.pending = Some(PendingRequest { request, sent_at: Instant::now(), deadline });
        Ok(())
    }

    /// Takes a response out of the inbox, if it has arrived.
    pub(super) fn take_response(&self, request: &str) -> Option<Value> {
        self.inbox.lock().responses.remove(request)
    }

    pub(super) fn has_response(&self, request: &str) -> bool {
        self.inbox.lock().responses.contains_key(request)
    }

    pub(super) fn take_events(&self) -> Vec<Value> {
        std::mem::take(&mut self.inbox.lock().events)
    }

    /// Whether the process has closed its output.
    pub(super) fn has_ended(&self) -> bool {
        self.inbox.lock().ended
    }

    /// Waits for a response until it arrives, the process ends or the timeout is over.
    pub(super) fn wait(&self, request: &'static str, timeout: Duration) -> Option<Value> {
        let mut state = self.inbox.lock();
        state.awaited = Some(request);
        let waiting = |state: &mut InboxState| !state.ended && !state.responses.contains_key(request);
        let (mut state, _) = self
            .inbox
            .changed
            .wait_timeout_while(state, timeout, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        state.awaited = None;
        state.responses.remove(request)
    }

    /// Kills the process. Returns its exit status, or nothing if it does not exit within [`KILL_GRACE`]; it is then reaped
    /// in the background.
    pub(super) fn end(mut self) -> Option<String> {
        // A process that works exits once its input is closed; one that may hang is killed at once.
        drop(self.process.stdin.take());
        if !self.has_ended() {
            let _ = self.process.kill();
        }
        let begun = Instant::now();
        while begun.elapsed() < KILL_GRACE {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(status.to_string()),
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Err(_) => break,
            }
        }
        thread::spawn(move || self.process.wait());
        None
    }
}

/// What the process has sent and the owner has not taken yet.
#[derive(Debug, Default)]
struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct InboxState {
    responses: BTreeMap<String, Value>,
    events: Vec<Value>,
    ended: bool,
    /// The request whose response the owner waits for.
    awaited: Option<&'static str>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, message: ChildMessage, wake: &dyn Fn()) {
        let mut state = self.lock();
        let wakes = match message {
            ChildMessage::Response { response, value } => {
                let wakes = state.awaited != Some(response.as_str());
                state.responses.insert(response, value);
                wakes
            }
            ChildMessage::Event { event } => {
                state.events.push(event);
                true
            }
        };
        drop(state);
        self.changed.notify_all();
        if wakes {
            wake();
        }
    }

    fn close(&self, wake: &dyn Fn()) {
        self.lock().ended = true;
        self.changed.notify_all();
        wake();
    }
}
