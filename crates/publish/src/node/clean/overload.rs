//! Pauses all calls while the API server is overloaded or does not answer.

use std::{cell::RefCell, time::Duration};

use afd_apiserver::{Backoff, CallError, MAX_BACKOFF};
use tokio::time::{Instant, sleep_until};

/// After how many pauses without a successful call nothing more is tried: a little more than five minutes.
const MAX_PAUSES: usize = 10;

/// Lets calls pass, unless the last one found the server overloaded.
#[derive(Debug, Default)]
pub(super) struct OverloadGate(RefCell<GateState>);

#[derive(Debug, Default)]
struct GateState {
    backoff: Backoff,
    until: Option<Instant>,
    pauses: usize,
}

impl OverloadGate {
    /// Waits until calls may be made; returns whether any may be made at all.
    pub(super) async fn pass(&self) -> bool {
        loop {
            let until = self.0.borrow().until.filter(|until| *until > Instant::now());
            match until {
                _ if self.is_closed() => return false,
                Some(until) => sleep_until(until).await,
                None => return true,
            }
        }
    }

    /// Pauses all calls, not longer than a minute. The calls that were made at the same time fail as well, and change nothing.
    pub(super) fn pause(&self, retry_after: Option<Duration>) {
        let state = &mut *self.0.borrow_mut();
        let now = Instant::now();
        if state.until.is_some_and(|until| until > now) {
            return;
        }
        state.pauses += 1;
        let retry_after = retry_after.map(|delay| delay.min(MAX_BACKOFF));
        let delay = state.backoff.next_delay(retry_after);
        tracing::warn!(seconds = delay.as_secs(), "the API server is overloaded or does not answer; pausing");
        state.until = Some(now + delay);
    }

    /// A call was successful.
    pub(super) fn succeeded(&self) {
        let state = &mut *self.0.borrow_mut();
        state.backoff.reset();
        state.pauses = 0;
    }

    /// Whether nothing more is tried.
    pub(super) fn is_closed(&self) -> bool {
        self.0.borrow().pauses >= MAX_PAUSES
    }
}

/// Whether a call failed because of the server or the connection, so that others would fail as well.
pub(super) fn is_overload(error: &CallError) -> bool {
    // A server that has just started may not know the keys of tokens yet.
    error.is_temporary() || has_code(error, 401)
}

/// Whether a call failed with a status code.
pub(super) fn has_code(error: &CallError, code: u16) -> bool {
    error.status().is_some_and(|status| status.code == code)
}
