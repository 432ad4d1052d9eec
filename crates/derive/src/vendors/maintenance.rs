//! How a cluster announces that a vendor's driver is about to be replaced.

use super::matches;

/// A label of the Node that announces that the vendor's driver is about to be replaced.
#[derive(Debug)]
pub struct MaintenanceSignal {
    /// The key; one that ends in `*` stands for all that begin so.
    pub key: &'static str,
    /// The values that announce it.
    pub values: &'static [&'static str],
}

impl MaintenanceSignal {
    pub(super) fn is_set(&self, key: &str, value: &str) -> bool {
        matches(self.key, key) && self.values.contains(&value)
    }
}
