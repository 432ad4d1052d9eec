//! When metadata or conditions that could not be written are tried again. Each by itself, so that neither waits for the other.

use std::time::Duration;

use afd_apiserver::{Backoff, CallError};
use tokio::time::Instant;

/// A refusal usually lasts: it is a policy of the cluster. So what was refused is tried less often than what failed.
const REFUSAL_FACTOR: u32 = 5;

/// The state of one part of the Node. `K` is the set of its keys.
#[derive(Debug, Default)]
pub(super) struct PartRetry<K> {
    backoff: Backoff,
    /// When the next attempt may be made; none after a success.
    at: Option<Instant>,
    /// What the API server refused, while it accepted the rest. Nothing if the whole write failed.
    held: K,
    none: K,
    /// How often something was refused.
    turn: usize,
}

impl<K: Clone + Default + PartialEq> PartRetry<K> {
    /// The keys that are left as they are for now.
    pub(super) fn held(&self, now: Instant) -> &K {
        if self.at.is_some_and(|at| at > now) { &self.held } else { &self.none }
    }

    /// How long until another attempt, if the last one failed.
    pub(super) fn delay(&self, now: Instant) -> Option<Duration> {
        Some(self.at?.saturating_duration_since(now))
    }

    /// What was refused with the last attempt, and how often something was.
    pub(super) fn refused_before(&self) -> (&K, usize) {
        (&self.held, self.turn)
    }

    /// Whether the time of another attempt has come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// Whether nothing at all may be written for now.
    pub(super) fn is_blocked(&self, now: Instant) -> bool {
        self.held == K::default() && self.at.is_some_and(|at| at > now)
    }

    /// Everything was written.
    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
        (self.at, self.held) = (None, K::default());
    }

    /// The write failed as a whole. Returns the delay.
    pub(super) fn failed(&mut self, error: &CallError, now: Instant) -> Duration {
        let delay = self.backoff.next_delay(error.retry_after);
        (self.at, self.held) = (Some(now + delay), K::default());
        delay
    }

    /// All but `refused` was written.
    pub(super) fn refused(&mut self, refused: K, now: Instant) {
        if self.at.is_none_or(|at| at <= now) {
            self.at = Some(now + self.backoff.next_delay(None) * REFUSAL_FACTOR);
            self.turn = self.turn.wrapping_add(1);
        }
        self.held = refused;
    }
}
