//! The protocol between the agent and a child process: JSON documents, one per line.

use std::{
    fs::File,
    io::{BufRead, Write},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, value::RawValue};

/// A line to the child.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ChildRequest {
    /// The name of the request.
    pub request: String,
}

/// A line from the child.
#[derive(Debug, Deserialize, Serialize)]
#[serde(try_from = "ChildLine", untagged)]
pub(super) enum ChildMessage {
    /// The response to a request.
    Response {
        /// The name of the request.
        response: String,
        /// What the library reports, as JSON text: it is large.
        value: Box<RawValue>,
    },
    /// An event, sent without a request.
    Event {
        /// The event.
        event: Value,
    },
    /// What confines the process, sent once before the library is loaded.
    Confined {
        /// For the log.
        confined: String,
    },
    /// The process cannot go on, and another one can: it is replaced without a back-off.
    Restart {
        /// Why.
        restart: String,
    },
}

/// A line from the child, of whatever kind: a derived untagged enum cannot keep the text of a part.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ChildLine {
    response: Option<String>,
    #[serde(deserialize_with = "present")]
    value: Option<Box<RawValue>>,
    #[serde(deserialize_with = "present")]
    event: Option<Value>,
    confined: Option<String>,
    restart: Option<String>,
}

/// A present field, even if it is null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl TryFrom<ChildLine> for ChildMessage {
    type Error = &'static str;

    fn try_from(line: ChildLine) -> Result<ChildMessage, &'static str> {
        Ok(match line {
            ChildLine { response: Some(response), value: Some(value), .. } => {
                ChildMessage::Response { response, value }
            }
            ChildLine { event: Some(event), .. } => ChildMessage::Event { event },
            ChildLine { confined: Some(confined), .. } => ChildMessage::Confined { confined },
            ChildLine { restart: Some(restart), .. } => ChildMessage::Restart { restart },
            _ => return Err("no message"),
        })
    }
}

/// The child's side of the pipes. Standard output is claimed before the library is loaded: what it prints goes to standard error
/// from then on and cannot be mistaken for a message.
#[derive(Clone)]
pub struct ChildChannel {
    output: Arc<Mutex<File>>,
}

/// Why a response is not sent.
#[derive(Debug)]
pub enum ServeError<E> {
    /// The process ends with this error.
    Failed(E),
    /// The process asks to be replaced, for this reason.
    Restart(String),
}

impl<E> From<E> for ServeError<E> {
    fn from(error: E) -> ServeError<E> {
        ServeError::Failed(error)
    }
}

impl ChildChannel {
    /// Claims standard output.
    ///
    /// # Errors
    /// When it is closed.
    pub fn claim() -> std::io::Result<ChildChannel> {
        let output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
        rustix::stdio::dup2_stdout(std::io::stderr())?;
        Ok(ChildChannel { output: Arc::new(Mutex::new(output)) })
    }

    /// Reports what confines this process.
    ///
    /// # Errors
    /// When the agent has ended.
    pub fn report_confinement(&self, confined: String) -> std::io::Result<()> {
        self.send_line(&ChildMessage::Confined { confined })
    }

    /// Responds to the requests on standard input, one after the other, until the agent closes it. `respond` gets the name of the
    /// request and a sender of events that works from any thread; `responded` gets the name after the response was sent.
    ///
    /// # Errors
    /// When the agent has ended, or `respond` fails.
    pub fn serve<E: From<std::io::Error>>(
        &self,
        mut respond: impl FnMut(&str, &EventSender) -> Result<Box<RawValue>, ServeError<E>>,
        mut responded: impl FnMut(&str),
    ) -> Result<(), E> {
        let sender = EventSender(self.clone());
        for line in std::io::stdin().lock().lines() {
            // An invalid request gets no response; the agent's deadline covers that.
            let Ok(ChildRequest { request }) = serde_json::from_str(&line?) else { continue };
            match respond(&request, &sender) {
                Ok(value) => {
                    self.send_line(&ChildMessage::Response { response: request.clone(), value })?;
                    responded(&request);
                }
                Err(ServeError::Failed(error)) => return Err(error),
                Err(ServeError::Restart(restart)) => {
                    return Ok(self.send_line(&ChildMessage::Restart { restart })?);
                }
            }
        }
        Ok(())
    }

    fn send_line(&self, line: &ChildMessage) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(&bytes)
    }
}

/// Sends events to the agent.
#[derive(Clone)]
pub struct EventSender(ChildChannel);

impl EventSender {
    /// Sends an event. A failure is ignored: it means that the agent has ended, which ends this process too.
    pub fn send(&self, event: Value) {
        let _ = self.0.send_line(&ChildMessage::Event { event });
    }
}
