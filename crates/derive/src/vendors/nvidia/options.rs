//! How NVIDIA's device plugin is configured, as far as labels depend on it.

use std::collections::BTreeMap;

/// How NVIDIA's device plugin offers the devices.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::vendors) struct NvidiaOptions {
    /// How MIG devices are offered.
    pub(super) mig_strategy: MigStrategy,
    /// How devices are shared; `None` while no configuration of the plugin was read.
    pub(super) sharing: Option<Sharing>,
}

/// How MIG devices are offered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::vendors) enum MigStrategy {
    /// Not at all: their GPUs are offered instead.
    #[default]
    None,
    /// As `nvidia.com/gpu`; every GPU is partitioned alike.
    Single,
    /// As `nvidia.com/mig-<profile>`.
    Mixed,
}

/// How devices are shared, by the configuration of the device plugin.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::vendors) struct Sharing {
    /// The strategy; devices are not shared by default.
    pub(super) strategy: SharingStrategy,
    /// Whether a shared resource is renamed (`nvidia.com/gpu.shared`).
    pub(super) renamed: bool,
    /// Replicas of each resource: `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`.
    pub(super) replicas: BTreeMap<String, u32>,
}

/// The sharing strategy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::vendors) enum SharingStrategy {
    /// Devices are not shared.
    #[default]
    None,
    /// Processes take turns.
    TimeSlicing,
    /// By the Multi-Process Service.
    Mps,
}

impl SharingStrategy {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            SharingStrategy::None => "none",
            SharingStrategy::TimeSlicing => "time-slicing",
            SharingStrategy::Mps => "mps",
        }
    }
}

impl MigStrategy {
    /// The strategy as the device plugin spells it.
    pub(super) fn parse(text: &str) -> Option<MigStrategy> {
        match text {
            "none" => Some(MigStrategy::None),
            "single" => Some(MigStrategy::Single),
            "mixed" => Some(MigStrategy::Mixed),
            _ => None,
        }
    }

    pub(super) fn as_str(self) -> Option<&'static str> {
        match self {
            MigStrategy::None => None,
            MigStrategy::Single => Some("single"),
            MigStrategy::Mixed => Some("mixed"),
        }
    }
}
