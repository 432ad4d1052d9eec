//! How a cluster announces work on a vendor's driver or devices.

use afd_model::{MaintenanceKind, NodeFacts};

use super::matches;

/// Something on the Node that announces that the vendor's driver or devices are about to be worked on.
#[derive(Debug)]
pub struct MaintenanceSignal {
    /// Where it is.
    pub place: SignalPlace,
    /// The key; one that ends in `*` stands for all that begin so.
    pub key: &'static str,
    /// The values that announce it.
    pub values: SignalValues,
    /// What it announces.
    pub kind: MaintenanceKind,
}

/// Where a signal is on the Node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignalPlace {
    /// A label.
    Label,
    /// A taint.
    Taint,
}

/// Which values of a label or taint are a signal.
#[derive(Clone, Copy, Debug)]
pub enum SignalValues {
    /// Any value.
    Any,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Each that contains this.
    Containing(&'static str),
}

impl MaintenanceSignal {
    pub(super) fn is_set(&self, node: &NodeFacts) -> bool {
        let entries = match self.place {
            SignalPlace::Label => &node.labels,
            SignalPlace::Taint => &node.taints,
        };
        entries.iter().any(|(key, value)| matches(self.key, key) && self.values.contain(value))
    }
}

impl SignalValues {
    fn contain(self, value: &str) -> bool {
        match self {
            SignalValues::Any => true,
            SignalValues::OneOf(values) => values.contains(&value),
            SignalValues::Containing(part) => value.contains(part),
        }
    }
}
