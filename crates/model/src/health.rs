//! Whether a device can take work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The health of a device, with its reasons.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Health {
    /// The verdict.
    pub state: HealthState,
    /// The evidence; empty for a healthy device and for one whose health is not reported.
    pub reasons: Vec<HealthReason>,
}

/// The verdict on a device.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// A source reports that it works.
    Healthy,
    /// It works, with a fault that an operator should look into.
    Degraded,
    /// It cannot take work.
    Failed,
    /// No source reports it.
    Unknown,
}

impl HealthState {
    /// All states, in the order in which the state set is published.
    pub const ALL: [HealthState; 4] =
        [HealthState::Healthy, HealthState::Degraded, HealthState::Failed, HealthState::Unknown];

    /// How much the state matters among several verdicts on one device: failed most, then unknown, then degraded.
    pub fn severity(self) -> u8 {
        match self {
            HealthState::Healthy => 0,
            HealthState::Degraded => 1,
            HealthState::Unknown => 2,
            HealthState::Failed => 3,
        }
    }

    /// The value of the metric label `state`.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthState::Healthy => "healthy",
            HealthState::Degraded => "degraded",
            HealthState::Failed => "failed",
            HealthState::Unknown => "unknown",
        }
    }
}

/// The reason where a source of the verdict could not be read: what is missing is no sign of health. It applies, for every vendor,
/// where the source of a failure is undecided ([`Missing::is_undecided`](crate::Missing::is_undecided)).
pub const EVIDENCE_UNREADABLE: &str = "EvidenceUnreadable";

/// The reason where a driver is bound with which the device does not compute.
pub const OTHER_DRIVER: &str = "OtherDriver";

/// One piece of evidence.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct HealthReason {
    /// The reason in CamelCase, like the reasons of Kubernetes conditions: `DriverMissing`.
    pub code: String,
    /// A sentence for people, with what to do.
    pub message: String,
}

impl Health {
    /// No source reports it.
    pub fn unknown() -> Health {
        Health { state: HealthState::Unknown, reasons: Vec::new() }
    }

    /// A source reports that the device works.
    pub fn healthy() -> Health {
        Health { state: HealthState::Healthy, reasons: Vec::new() }
    }

    /// The device cannot take work.
    pub fn failed(code: &str, message: impl Into<String>) -> Health {
        Health {
            state: HealthState::Failed,
            reasons: vec![HealthReason { code: code.to_owned(), message: message.into() }],
        }
    }

    /// The device works, with a fault.
    pub fn degraded(code: &str, message: impl Into<String>) -> Health {
        Health { state: HealthState::Degraded, ..Health::failed(code, message) }
    }

    /// The most severe of several verdicts, with the reasons of all, each code once; healthy where there is no verdict. The reasons of
    /// a more severe state come first: the first one is that of the state.
    pub fn worst_of(verdicts: impl IntoIterator<Item = Health>) -> Health {
        let mut verdicts: Vec<Health> = verdicts.into_iter().collect();
        verdicts.sort_by_key(|verdict| std::cmp::Reverse(verdict.state.severity()));
        let state = verdicts.first().map_or(HealthState::Healthy, |worst| worst.state);
        verdicts.into_iter().fold(Health { state, reasons: Vec::new() }, |mut worst, verdict| {
            for reason in verdict.reasons {
                if worst.reasons.iter().all(|known| known.code != reason.code) {
                    worst.reasons.push(reason);
                }
            }
            worst
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_verdict_counts_and_comes_first_and_every_reason_is_kept_once() {
        let worst = Health::worst_of([
            Health::degraded("Hot", "first"),
            Health::unknown(),
            Health::degraded("Hot", "second"),
            Health::failed("Lost", "third"),
        ]);
        assert_eq!(worst.state, HealthState::Failed);
        let reasons: Vec<_> =
            worst.reasons.iter().map(|reason| (reason.code.as_str(), reason.message.as_str())).collect();
        assert_eq!(reasons, [("Lost", "third"), ("Hot", "first")]);
        let unknown = Health::worst_of([Health::unknown(), Health::degraded("Hot", "")]);
        assert_eq!(unknown.state, HealthState::Unknown);
        assert_eq!(Health::worst_of([]), Health::healthy());
    }
}
