//! What a child process has sent: the messages that the owner has not taken yet, and the counts of those that it never will.
//!
//! A library can write whatever it likes to the pipes of its process. An answer is kept if it was asked for, an event while
//! there is room, and everything else is dropped and counted. A process that sends too much of that is given up.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, value::RawValue};

use super::protocol::ChildMessage;

/// The events that wait for the owner, at most; later ones are dropped.
pub(super) const MAX_EVENTS: usize = 256;
/// The longest event. Those of vendor libraries are a few numbers.
const MAX_EVENT_BYTES: usize = 1 << 10;
/// The values of a message, at most: a short line can stand for much memory, `[0,0,0,...` for 32 bytes per value.
const MAX_VALUES: usize = 100_000;
/// What a process may write between two answers without a use for it.
const MAX_DROPPED_BYTES: usize = 16 << 20;
/// The bytes that a line costs besides its own: an empty one takes time, too.
const LINE_COST: usize = 64;
/// What a process may write to the log per minute. One message of the loader must fit.
const LOG_BYTES_PER_MINUTE: usize = 16 << 10;
/// The longest line of the log, and the longest text of a problem.
const MAX_TEXT_BYTES: usize = 1 << 10;

/// Messages of a process that were dropped, by kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DroppedMessages {
    /// Lines that are no message, stand for too many values, or report the confinement again.
    pub output: u64,
    /// Responses that were not requested.
    pub responses: u64,
    /// Events for which there was no room.
    pub events: u64,
    /// Lines for the log beyond its limits.
    pub log: u64,
}

impl DroppedMessages {
    /// The counts with the names of their kinds.
    pub fn by_kind(self) -> [(&'static str, u64); 4] {
        [("output", self.output), ("response", self.responses), ("event", self.events), ("log", self.log)]
    }

    /// Adds the counts of another process.
    pub fn add(&mut self, other: DroppedMessages) {
        self.output += other.output;
        self.responses += other.responses;
        self.events += other.events;
        self.log += other.log;
    }
}

/// What the process has sent and the owner has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct InboxState {
    responses: BTreeMap<&'static str, Box<RawValue>>,
    /// The request that was sent and not answered.
    requested: Option<&'static str>,
    /// The request whose response the owner waits for.
    awaited: Option<&'static str>,
    events: Vec<Value>,
    dropped: DroppedMessages,
    dropped_bytes: usize,
    log: LogBudget,
    /// Whether the process has reported what confines it. It does so before it loads the library; all later reports are the
    /// library's.
    is_confined: bool,
    ended: Option<InboxEnd>,
}

/// Why no more messages come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum InboxEnd {
    /// The process closed its output.
    Closed,
    /// The process asks to be replaced by another one.
    Restart(String),
    /// The process has to be killed, for this reason.
    GivenUp(String),
}

/// What of a line the owner has to do.
#[derive(Debug, PartialEq)]
pub(super) enum LineEffect {
    /// Nothing.
    None,
    /// Wake up: a response arrived that it does not wait for.
    Wake,
    /// Wake up: an event arrived.
    WakeForEvent,
    /// Log this line of the process.
    Log(String),
    /// Log what confines the process.
    Confined(String),
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a line of standard output.
    pub(super) fn put_line(&self, line: &[u8]) -> LineEffect {
        let message = parse(line);
        let mut state = self.lock();
        let effect = match message {
            Some(ChildMessage::Response { response, value }) => state.put_response(&response, value, line),
            Some(ChildMessage::Event { event }) => state.put_event(event, line),
            Some(ChildMessage::Confined { confined }) if !state.is_confined => {
                state.is_confined = true;
                LineEffect::Confined(shortened(&confined))
            }
            Some(ChildMessage::Restart { restart }) => {
                state.ended.get_or_insert(InboxEnd::Restart(shortened(&restart)));
                LineEffect::Wake
            }
            Some(ChildMessage::Confined { .. }) | None => {
                state.dropped.output += 1;
                state.drop_bytes(line.len());
                LineEffect::None
            }
        };
        drop(state);
        self.changed.notify_all();
        effect
    }

    /// Takes in a line of standard error; returns it if it is to be logged.
    pub(super) fn put_log_line(&self, line: &[u8]) -> LineEffect {
        let mut state = self.lock();
        if state.log.admits(line.len(), Instant::now()) {
            let line = &line[..line.len().min(MAX_TEXT_BYTES)];
            return LineEffect::Log(String::from_utf8_lossy(line).into_owned());
        }
        state.dropped.log += 1;
        state.drop_bytes(line.len());
        LineEffect::None
    }

    /// Bytes that belong to no line were dropped.
    pub(super) fn drop_log_bytes(&self, bytes: usize) {
        let mut state = self.lock();
        state.dropped.log += 1;
        state.drop_bytes(bytes);
    }

    /// Notes why no more messages come. The first reason stays.
    pub(super) fn end(&self, end: InboxEnd) {
        self.lock().ended.get_or_insert(end);
        self.changed.notify_all();
    }

    /// Why no more messages come, if none do.
    pub(super) fn ended(&self) -> Option<InboxEnd> {
        self.lock().ended.clone()
    }

    /// Whether the process was given up.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(self.lock().ended, Some(InboxEnd::GivenUp(_)))
    }

    /// A request is about to be sent. Before it is: the response may arrive before the owner waits.
    pub(super) fn requests(&self, request: &'static str) {
        let mut state = self.lock();
        (state.requested, state.awaited) = (Some(request), Some(request));
    }

    /// Takes a response, if it has arrived.
    pub(super) fn take_response(&self, request: &str) -> Option<Box<RawValue>> {
        self.lock().responses.remove(request)
    }

    pub(super) fn has_response(&self, request: &str) -> bool {
        self.lock().responses.contains_key(request)
    }

    /// Waits for a response until it arrives, the process ends or the timeout is over.
    pub(super) fn wait(&self, request: &'static str, timeout: Duration) -> Option<Box<RawValue>> {
        let mut state = self.lock();
        state.awaited = Some(request);
        let waiting =
            |state: &mut InboxState| state.ended.is_none() && !state.responses.contains_key(request);
        let (mut state, _) =
            self.changed.wait_timeout_while(state, timeout, waiting).unwrap_or_else(PoisonError::into_inner);
        state.awaited = None;
        state.responses.remove(request)
    }

    pub(super) fn take_events(&self) -> Vec<Value> {
        std::mem::take(&mut self.lock().events)
    }

    pub(super) fn dropped(&self) -> DroppedMessages {
        self.lock().dropped
    }
}

impl InboxState {
    fn put_response(&mut self, response: &str, value: Box<RawValue>, line: &[u8]) -> LineEffect {
        let Some(request) = self.requested.take_if(|requested| *requested == response) else {
            self.dropped.responses += 1;
            self.drop_bytes(line.len());
            return LineEffect::None;
        };
        self.dropped_bytes = 0;
        self.responses.insert(request, value);
        if self.awaited == Some(request) { LineEffect::None } else { LineEffect::Wake }
    }

    fn put_event(&mut self, event: Value, line: &[u8]) -> LineEffect {
        if self.events.len() < MAX_EVENTS && line.len() <= MAX_EVENT_BYTES {
            self.events.push(event);
            return LineEffect::WakeForEvent;
        }
        self.dropped.events += 1;
        self.drop_bytes(line.len());
        LineEffect::None
    }

    fn drop_bytes(&mut self, bytes: usize) {
        self.dropped_bytes += bytes + LINE_COST;
        if self.dropped_bytes > MAX_DROPPED_BYTES {
            let mebibytes = MAX_DROPPED_BYTES >> 20;
            let reason = format!("it wrote more than {mebibytes} MiB that was not asked for");
            self.ended.get_or_insert(InboxEnd::GivenUp(reason));
        }
    }
}

/// The beginning of a text, as much as a log or a problem needs of it.
pub(super) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

/// The message of a line, if it is one.
fn parse(line: &[u8]) -> Option<ChildMessage> {
    let values = line.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    (values <= MAX_VALUES).then(|| serde_json::from_slice(line).ok()).flatten()
}

/// What may still be logged.
#[derive(Debug, Default)]
struct LogBudget {
    minute: Option<Instant>,
    bytes: usize,
}

impl LogBudget {
    fn admits(&mut self, bytes: usize, now: Instant) -> bool {
        if self.minute.is_none_or(|begun| now.duration_since(begun) >= Duration::from_secs(60)) {
            *self = LogBudget { minute: Some(now), bytes: 0 };
        }
        self.bytes += bytes.min(MAX_TEXT_BYTES) + 1;
        self.bytes <= LOG_BYTES_PER_MINUTE
    }
}

#[cfg(test)]
mod tests;
