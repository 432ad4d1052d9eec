//! The protocol between the agent and a child process: JSON documents, one per line.

use std::{
    fs::File,
    io::{BufRead, Write},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line to the child.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ChildRequest {
    /// The name of the request.
    pub request: String,
}

/// A line from the child.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum ChildMessage {
    /// The response to a request.
    Response {
        /// The name of the request.
        response: String,
        /// What the library reports.
        value: Value,
    },
    /// An event, sent without a request.
    Event {
        /// The event.
        event: Value,
    },
}

/// The child's side: responds to the requests on standard input, one after the other, until the agent closes it. `respond` gets
/// the name of the request and a sender of events that works from any thread.
///
/// # Errors
/// When the agent has ended, or `respond` fails.
pub fn serve<E: From<std::io::Error>>(
    mut respond: impl FnMut(&str, &EventSender) -> Result<Value, E>,
) -> Result<(), E> {
    // Not through `Stdout`, whose lock may be held by a thread that prints.
    let output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let sender = EventSender(Arc::new(Mutex::new(output)));
    for line in std::io::stdin().lock().lines() {
        // An invalid request gets no response; the agent's deadline covers that.
        let Ok(ChildRequest { request }) = serde_json::from_str(&line?) else { continue };
        let value = respond(&request, &sender)?;
        sender.send_line(&ChildMessage::Response { response: request, value })?;
    }
    Ok(())
}

/// Sends events to the agent.
#[derive(Clone)]
pub struct EventSender(Arc<Mutex<File>>);

impl EventSender {
    /// Sends an event. A failure is ignored: it means that the agent has ended, which ends this process too.
    pub fn send(&self, event: Value) {
        let _ = self.send_line(&ChildMessage::Event { event });
    }

    fn send_line(&self, line: &ChildMessage) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(&bytes)
    }
}
