//! Whether a device may take work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The health of a device, with what was seen.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Health {
    /// The verdict.
    pub state: HealthState,
    /// What led to it; empty for a healthy device and for one of which nobody tells.
    pub reasons: Vec<HealthReason>,
}

/// The verdict on a device.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// A source said that it works.
    Healthy,
    /// It works, with a fault that somebody should look into.
    Degraded,
    /// It cannot take work.
    Failed,
    /// No source tells.
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

/// One thing that was seen.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct HealthReason {
    /// A word in CamelCase, as Kubernetes' condition reasons are: `DriverMissing`.
    pub code: String,
    /// A sentence for people, with what to do.
    pub message: String,
}

impl Health {
    /// Nobody tells.
    pub fn unknown() -> Health {
        Health { state: HealthState::Unknown, reasons: Vec::new() }
    }

    /// A source said that the device works.
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
