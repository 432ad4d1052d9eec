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
}
