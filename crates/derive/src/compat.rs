//! Labels and metrics in the spelling of the vendors' own tools, so that what selects on them goes on working.
//!
//! A set is a table of its own. It follows the tool's documented keys and value formats, never its defects; each
//! difference is a row of the set's list of differences, from which the documentation is made.

pub mod dcgm;
pub mod nvidia;

use std::collections::BTreeMap;

use afd_model::Inventory;

use crate::compat::nvidia::NvidiaOptions;

/// A vendor's set of labels.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CompatSet {
    /// NVIDIA GPU Feature Discovery's.
    Nvidia,
}

/// Whether a set is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Switch {
    /// Keys that nobody else owns; who owns a key is known in a cluster only.
    #[default]
    Auto,
    /// All keys.
    On,
    /// None.
    Off,
}

/// What the admin can choose.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CompatOptions {
    /// The sets that are not on `auto`.
    pub switches: BTreeMap<CompatSet, Switch>,
    /// How NVIDIA's devices are offered.
    pub nvidia: NvidiaOptions,
}

impl CompatSet {
    /// All sets.
    pub const ALL: [CompatSet; 1] = [CompatSet::Nvidia];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            CompatSet::Nvidia => "nvidia",
        }
    }
}

/// The labels of all sets that are on.
pub fn labels(inventory: &Inventory, options: &CompatOptions) -> BTreeMap<String, String> {
    let on = |set: &CompatSet| options.switches.get(set) == Some(&Switch::On);
    let sets = CompatSet::ALL.into_iter().filter(on);
    sets.flat_map(|set| match set {
        CompatSet::Nvidia => nvidia::labels(inventory, &options.nvidia),
    })
    .collect()
}
