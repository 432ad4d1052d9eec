//! Work on a vendor's driver or devices that is not a fault.

use serde::{Deserialize, Serialize};

/// Why a vendor's devices cannot take work although nothing is wrong with them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MaintenanceKind {
    /// The driver is replaced.
    DriverUpgrade,
    /// The devices are reconfigured, their partitions for example.
    Reconfiguring,
    /// No driver is bound, and it may still be installed.
    DriverInstalling,
}

impl MaintenanceKind {
    /// The reason in conditions.
    pub fn reason(self) -> &'static str {
        match self {
            MaintenanceKind::DriverUpgrade => "DriverUpgrade",
            MaintenanceKind::Reconfiguring => "Reconfiguring",
            MaintenanceKind::DriverInstalling => "DriverInstalling",
        }
    }
}
