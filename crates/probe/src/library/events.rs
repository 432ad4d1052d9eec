//! Events of a library: the loop that forwards them from a thread of its own, and the state of the wait as the probe knows it.

use std::{thread, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::status::{StatusCode, StatusTable};

/// How long one call waits for an event.
const WAIT_MILLISECONDS: u32 = 5000;
/// Pause after a failed wait; it doubles each time.
const INITIAL_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Forwards events without end, and why they cannot be waited for. `wait` takes the milliseconds for which it is to wait, and
/// returns no event where there was none in that time.
pub fn forward_events<T: StatusTable>(
    mut wait: impl FnMut(u32) -> Result<Option<Value>, StatusCode<T>>,
    forward: impl Fn(Value),
) -> ! {
    let mut state = ForwardedState::default();
    loop {
        let pause = match wait(WAIT_MILLISECONDS) {
            Ok(event) => {
                state.worked().into_iter().chain(event).for_each(&forward);
                Duration::ZERO
            }
            Err(code) => {
                let (message, pause) = state.failed(code.to_string());
                message.into_iter().for_each(&forward);
                pause
            }
        };
        thread::sleep(pause);
    }
}

/// What was forwarded of the wait. Only a change is: each event wakes the loop of the agent.
#[derive(Debug, Default)]
struct ForwardedState {
    failure: Option<String>,
    failures: u32,
}

impl ForwardedState {
    /// A wait failed: what is to be forwarded, and the pause until the next one.
    fn failed(&mut self, error: String) -> (Option<Value>, Duration) {
        let pause = INITIAL_PAUSE.saturating_mul(1 << self.failures.min(8)).min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let is_new = self.failure.as_ref() != Some(&error);
        let message = is_new.then(|| json!({ "error": error }));
        self.failure = Some(error);
        (message, pause)
    }

    /// A wait ended with an event, or with none in its time: what is to be forwarded before it.
    fn worked(&mut self) -> Option<Value> {
        self.failures = 0;
        self.failure.take().map(|_| json!({ "error": null }))
    }
}

/// Whether events can be waited for, by what [`forward_events`] forwards.
#[derive(Debug, Default)]
pub struct EventWait {
    error: Option<String>,
}

/// That events cannot be waited for, or can again.
#[derive(Debug, Deserialize)]
struct WaitMessage {
    error: Option<String>,
}

impl EventWait {
    /// Takes over what a message says of the wait; whether that is a change. Ignores what is no such message.
    pub fn update(&mut self, message: &Value) -> bool {
        if message.get("error").is_none() {
            return false;
        }
        let Ok(WaitMessage { error }) = WaitMessage::deserialize(message) else { return false };
        let is_changed = self.error != error;
        self.error = error;
        is_changed
    }

    /// Why events cannot be waited for, if they cannot.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_of_the_wait_are_forwarded_and_pauses_grow() {
        let mut state = ForwardedState::default();
        assert_eq!(state.worked(), None);
        let lost = || "LOST".to_owned();
        assert_eq!(state.failed(lost()), (Some(json!({ "error": "LOST" })), Duration::from_secs(5)));
        let pauses: Vec<u64> = (0..12)
            .map(|_| state.failed(lost()))
            .map(|(message, pause)| {
                assert_eq!(message, None);
                pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [10, 20, 40, 60, 60, 60, 60, 60, 60, 60, 60, 60]);
        assert_eq!(state.failed("UNKNOWN".to_owned()).0, Some(json!({ "error": "UNKNOWN" })));
        assert_eq!(state.worked(), Some(json!({ "error": null })));
        assert_eq!(state.failed(lost()), (Some(json!({ "error": "LOST" })), Duration::from_secs(5)));
    }

    #[test]
    fn the_wait_is_known_by_its_messages_alone() {
        let mut wait = EventWait::default();
        assert!(wait.update(&json!({ "error": "LOST" })));
        assert!(!wait.update(&json!({ "error": "LOST" })), "no change");
        assert!(!wait.update(&json!({ "busId": 7 })), "no message of the wait");
        assert_eq!(wait.error(), Some("LOST"));
        assert!(wait.update(&json!({ "error": null })));
        assert_eq!(wait.error(), None);
    }
}
