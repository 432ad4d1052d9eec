//! A process of ours that asks a vendor's library, so that a library which hangs, crashes, leaks or keeps a driver busy
//! can be ended without us.
//!
//! The same program is started with other arguments. Requests go to its standard input and answers come from its standard
//! output, one JSON document a line: `{"ask": "sample"}` there, `{"answer": "sample", "value": ...}` or
//! `{"event": ...}` back. At most one request is open. An answer that comes late is kept until it is asked for again,
//! and wakes the owner; one that does not come before its deadline costs the process its life. It is started again
//! after a rest that doubles each time.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    fs::File,
    io::{BufRead, BufReader, Write},
    os::fd::AsFd,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The rest before the first restart.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest rest between two starts.
const LONGEST_REST: Duration = Duration::from_secs(300);
/// How long a killed process may take to go. One that hangs within the driver takes longer than anybody should wait.
const LAST_WAIT: Duration = Duration::from_millis(500);
/// A process that lived this long has earned a short rest again.
const GOOD_LIFE: Duration = Duration::from_secs(600);

/// How children are started: what all of them have in common.
#[derive(Clone)]
pub struct Launcher {
    /// The program: this very one.
    pub program: PathBuf,
    /// How long to wait for an answer before going on without it.
    pub patience: Duration,
    /// Called when an answer came late, an event happened or the process ended.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launcher")
            .field("program", &self.program)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// A line to the child.
#[derive(Debug, Deserialize, Serialize)]
pub struct Request {
    /// What is asked.
    pub ask: String,
}

/// A line from the child.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// The answer to a request.
    Answer {
        /// What was asked.
        answer: String,
        /// What the library says.
        value: Value,
    },
    /// Something happened that nobody asked for.
    Event {
        /// What happened.
        event: Value,
    },
}

/// The child's side: answers the requests on standard input, one after the other, until its owner closes it. What
/// `answer` is given besides the request tells events, from any thread.
///
/// # Errors
/// When the owner is gone, or `answer` gives up.
pub fn serve<E: From<std::io::Error>>(
    mut answer: impl FnMut(&str, &Tell) -> Result<Value, E>,
) -> Result<(), E> {
    // Not through `Stdout`, whose lock belongs to the thread that writes for people.
    let output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let tell = Tell(Arc::new(Mutex::new(output)));
    for line in std::io::stdin().lock().lines() {
        // What is no request of ours deserves no answer, and its owner sees that there is none.
        let Ok(Request { ask }) = serde_json::from_str(&line?) else { continue };
        let value = answer(&ask, &tell)?;
        tell.line(&Line::Answer { answer: ask, value })?;
    }
    Ok(())
}

/// Sends lines to the owner.
#[derive(Clone)]
pub struct Tell(Arc<Mutex<File>>);

impl Tell {
    /// Tells of an event. If the owner is gone, so is this process soon.
    pub fn event(&self, event: Value) {
        let _ = self.line(&Line::Event { event });
    }

    fn line(&self, line: &Line) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(&bytes)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It is still being worked on; ask again later.
    #[error("no answer yet")]
    Pending,
    /// It did not come in time; the process was ended.
    #[error("no answer to {ask:?} within {} s; the process was ended", deadline.as_secs())]
    TimedOut {
        /// What was asked.
        ask: &'static str,
        /// The deadline.
        deadline: Duration,
    },
    /// The process ended by itself.
    #[error("the process that asks the library ended ({0})")]
    Ended(String),
    /// It ended not long ago, and is started again later.
    #[error("the process that asks the library failed; it is started again in {} s", .0.as_secs() + 1)]
    Resting(Duration),
    /// It could not be started.
    #[error("the process that asks the library could not be started")]
    Start(#[source] std::io::Error),
    /// Its owner was told to let the driver go.
    #[error("the library is released until the driver has been replaced")]
    Released,
}

/// A child, running or not.
#[derive(Debug)]
pub struct Child {
    launcher: Launcher,
    arguments: Vec<OsString>,
    running: Option<Running>,
    rest: Duration,
    rested: Option<Instant>,
    starts: u64,
    released: bool,
}

#[derive(Debug)]
struct Running {
    process: std::process::Child,
    mailbox: Arc<Mailbox>,
    begun: Instant,
    open: Option<Open>,
}

/// The request that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Open {
    ask: &'static str,
    since: Instant,
    deadline: Duration,
}

/// What came from the process and was not yet taken.
#[derive(Debug, Default)]
struct Mailbox {
    letters: Mutex<Letters>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Letters {
    answers: BTreeMap<String, Value>,
    events: Vec<Value>,
    ended: bool,
    awaited: bool,
}

impl Launcher {
    /// A child that is started with these arguments when it is first asked.
    pub fn child(&self, arguments: impl IntoIterator<Item = OsString>) -> Child {
        Child {
            launcher: self.clone(),
            arguments: arguments.into_iter().collect(),
            running: None,
            rest: FIRST_REST,
            rested: None,
            starts: 0,
            released: false,
        }
    }
}

impl Child {
    /// The answer to a request, waited for as long as the launcher's patience.
    ///
    /// # Errors
    /// When there is none (yet).
    pub fn ask(&mut self, ask: &'static str, deadline: Duration) -> Result<Value, AskError> {
        if self.released {
            return Err(AskError::Released);
        }
        self.start_if_due()?;
        let patience = self.launcher.patience;
        let running = self.running.as_mut().expect("it was just started");
        if let Some(value) = running.mailbox.lock().answers.remove(ask) {
            running.open = running.open.filter(|open| open.ask != ask);
            return Ok(value);
        }
        if running.open.is_none_or(|open| running.mailbox.lock().answers.contains_key(open.ask)) {
            // A pipe that nobody reads: the process has ended.
            if running.send(ask, deadline).is_err() {
                return Err(self.ended());
            }
        }
        // Nobody waits beyond the deadline, however patient.
        let left =
            running.open.map_or(Duration::ZERO, |open| open.deadline.saturating_sub(open.since.elapsed()));
        match running.wait(ask, patience.min(left)) {
            Some(value) => {
                running.open = None;
                Ok(value)
            }
            None if running.mailbox.lock().ended => Err(self.ended()),
            None => match running.open.filter(|open| open.since.elapsed() >= open.deadline) {
                Some(open) => {
                    self.end();
                    Err(AskError::TimedOut { ask: open.ask, deadline: open.deadline })
                }
                None => Err(AskError::Pending),
            },
        }
    }

    /// The events since the last call.
    pub fn events(&mut self) -> Vec<Value> {
        self.running
            .as_ref()
            .map(|running| std::mem::take(&mut running.mailbox.lock().events))
            .unwrap_or_default()
    }

    /// How often it was started after it had ended.
    pub fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    /// Ends the process, so that it holds nothing of the driver, until it is taken back; whether it has ended. One that hangs
    /// within the driver does not, although it was killed.
    pub fn release(&mut self) -> bool {
        self.released = true;
        let ended = self.running.is_none() || self.end().is_some();
        self.rested = None;
        self.rest = FIRST_REST;
        ended
    }

    /// Lets the process be started again.
    pub fn take_back(&mut self) {
        self.released = false;
    }

    fn start_if_due(&mut self) -> Result<(), AskError> {
        if self.running.is_some() {
            return Ok(());
        }
        if let Some(left) = self.rested.and_then(|ended| self.rest.checked_sub(ended.elapsed())) {
            return Err(AskError::Resting(left));
        }
        let started = Running::start(&self.launcher, &self.arguments);
        self.starts += 1;
        self.running = Some(started.map_err(|error| {
            self.rest_longer(Duration::ZERO);
            AskError::Start(error)
        })?);
        Ok(())
    }

    /// The process ended by itself: why.
    fn ended(&mut self) -> AskError {
        match self.end() {
            Some(status) => AskError::Ended(status),
            None => AskError::Ended("unknown".to_owned()),
        }
    }

    /// Ends the process if it has not ended, and rests.
    fn end(&mut self) -> Option<String> {
        let mut running = self.running.take()?;
        self.rest_longer(running.begun.elapsed());
        let status = running.end();
        if status.is_none() {
            let mut process = running.process;
            thread::spawn(move || process.wait());
        }
        status
    }

    fn rest_longer(&mut self, lived: Duration) {
        self.rest = match self.rested {
            Some(_) if lived < GOOD_LIFE => (self.rest * 2).min(LONGEST_REST),
            _ => FIRST_REST,
        };
        self.rested = Some(Instant::now());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

impl Running {
    fn start(launcher: &Launcher, arguments: &[OsString]) -> std::io::Result<Running> {
        let mut process = Command::new(&launcher.program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().expect("it was asked for");
        let mailbox = Arc::new(Mailbox::default());
        let (inbox, wake) = (Arc::clone(&mailbox), Arc::clone(&launcher.wake));
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                // What is no line of ours was printed by the library.
                let Ok(line) = serde_json::from_str(&line) else { continue };
                inbox.put(line, &*wake);
            }
            inbox.close(&*wake);
        });
        Ok(Running { process, mailbox, begun: Instant::now(), open: None })
    }

    fn send(&mut self, ask: &'static str, deadline: Duration) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(&Request { ask: ask.to_owned() })?;
        line.push(b'\n');
        // Before it is sent: the answer may be there before anybody waits for it.
        self.mailbox.lock().awaited = true;
        self.process.stdin.as_mut().expect("it was asked for").write_all(&line)?;
        self.open = Some(Open { ask, since: Instant::now(), deadline });
        Ok(())
    }

    fn wait(&self, ask: &str, patience: Duration) -> Option<Value> {
        let mut letters = self.mailbox.lock();
        letters.awaited = true;
        let waiting = |letters: &mut Letters| !letters.ended && !letters.answers.contains_key(ask);
        let (mut letters, _) = self
            .mailbox
            .arrived
            .wait_timeout_while(letters, patience, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        letters.awaited = false;
        letters.answers.remove(ask)
    }

    /// Kills the process and tells how it ended.
    fn end(&mut self) -> Option<String> {
        // Once its input is closed, a process that is well ends by itself, but nobody waits for one that is not.
        drop(self.process.stdin.take());
        let ended = self.mailbox.lock().ended;
        if !ended {
            let _ = self.process.kill();
        }
        let begun = Instant::now();
        while begun.elapsed() < LAST_WAIT {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(status.to_string()),
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Err(_) => return None,
            }
        }
        None
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: Line, wake: &dyn Fn()) {
        let mut letters = self.lock();
        let woken = match line {
            Line::Answer { answer, value } => {
                letters.answers.insert(answer, value);
                !letters.awaited
            }
            Line::Event { event } => {
                letters.events.push(event);
                true
            }
        };
        drop(letters);
        self.arrived.notify_all();
        if woken {
            wake();
        }
    }

    fn close(&self, wake: &dyn Fn()) {
        self.lock().ended = true;
        self.arrived.notify_all();
        wake();
    }
}

#[cfg(test)]
mod tests;
