//! Labels and metrics as the vendors' own tools spell them, for charts, schedulers and dashboards that look for those names.
//!
//! Each vendor's record has one set of labels and one of metrics, as tables of rows from which the documentation is generated
//! as well. What a set leaves out of its vendor's names, and why, is data too. A set of metrics may be of every vendor's devices:
//! a platform's names (`common.rs`).

mod common;
pub mod labels;
pub mod metrics;

use std::{cmp::Ordering, collections::BTreeMap, fmt, str::FromStr};

use afd_model::{Device, Inventory};

use self::{common::COMMON_SETS, labels::LabelSet, metrics::MetricSet};
use crate::{
    decided::{DecidedKeys, MadeFamily},
    labels::LabelOptions,
    vendors::{VENDORS, VendorOptions, VendorRecord},
};

/// Names of other tools: those of one vendor, or names that a platform has for the devices of all.
#[derive(Clone, Copy)]
pub struct CompatSet(SetScope);

/// Whose devices a set is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SetScope {
    /// The label set and the metric sets of one vendor's record.
    Vendor(&'static VendorRecord),
    /// Metrics of every vendor's devices.
    Every(&'static CommonSet),
}

/// Metrics of every vendor's devices, in the names of a platform.
#[derive(Debug)]
pub(crate) struct CommonSet {
    /// Name of the set on the command line.
    pub(crate) name: &'static str,
    /// The file with its table, for the documentation.
    pub(crate) file: &'static str,
    /// Its only page.
    pub(crate) metrics: MetricSet,
}

impl SetScope {
    /// Whether a device is one of the set's.
    pub(crate) fn covers(self, device: &Device) -> bool {
        match self {
            SetScope::Vendor(record) => record.covers(device),
            SetScope::Every(_) => true,
        }
    }
}

/// Whether the labels of a set are published.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CompatSwitch {
    /// Keys that no other field manager owns. Only a cluster knows the owners, so without one nothing is published.
    #[default]
    Auto,
    /// All keys of the set. In a cluster it is the same as `Auto`: a key of another field manager is never taken over.
    On,
    /// None.
    Off,
}

/// The switch of each set; one that is not given is [`CompatSwitch::Auto`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CompatSwitches(BTreeMap<CompatSet, CompatSwitch>);

impl FromIterator<(CompatSet, CompatSwitch)> for CompatSwitches {
    /// Of two switches of one set the later one counts.
    fn from_iter<I: IntoIterator<Item = (CompatSet, CompatSwitch)>>(switches: I) -> CompatSwitches {
        CompatSwitches(switches.into_iter().collect())
    }
}

impl CompatSwitches {
    /// The switch of a set.
    pub fn switch(&self, set: CompatSet) -> CompatSwitch {
        self.0.get(&set).copied().unwrap_or_default()
    }

    /// The same, with `auto` replaced by `on`.
    #[must_use]
    pub fn auto_on(mut self) -> CompatSwitches {
        for (set, _) in CompatSet::with_labels() {
            let switch = self.0.entry(set).or_default();
            if *switch == CompatSwitch::Auto {
                *switch = CompatSwitch::On;
            }
        }
        self
    }

    /// The label sets that are switched on.
    pub fn on(&self) -> impl Iterator<Item = (CompatSet, &'static LabelSet)> {
        CompatSet::with_labels().filter(|(set, _)| self.switch(*set) == CompatSwitch::On)
    }
}

/// What the admin can choose.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CompatOptions {
    /// The sets that are not on `auto`.
    pub switches: CompatSwitches,
    /// How the vendors' plugins are configured.
    pub vendors: VendorOptions,
}

/// The labels of all sets that are switched on, as they are known now. `own` says which devices count, as for our own labels.
pub fn labels(
    inventory: &Inventory,
    own: &LabelOptions,
    options: &CompatOptions,
) -> BTreeMap<String, String> {
    families(inventory, own, options).into_iter().flat_map(|family| family.values).collect()
}

/// The labels of all sets that are switched on and that are decided, and the families that are not.
pub fn decided_labels(inventory: &Inventory, own: &LabelOptions, options: &CompatOptions) -> DecidedKeys {
    families(inventory, own, options).into_iter().collect()
}

fn families(inventory: &Inventory, own: &LabelOptions, options: &CompatOptions) -> Vec<MadeFamily> {
    let sets = options.switches.on().filter_map(|(set, labels)| Some((set.record()?, labels)));
    sets.flat_map(|(record, labels)| labels.families(record, inventory, own, &options.vendors)).collect()
}

impl CompatSet {
    /// The sets that have labels or metrics.
    pub fn all() -> impl Iterator<Item = CompatSet> {
        let is_set = |record: &&VendorRecord| record.labels.is_some() || record.metrics.is_some();
        let vendors = VENDORS.into_iter().filter(is_set).map(SetScope::Vendor);
        vendors.chain(COMMON_SETS.iter().map(SetScope::Every)).map(CompatSet)
    }

    /// The sets that have labels.
    pub fn with_labels() -> impl Iterator<Item = (CompatSet, &'static LabelSet)> {
        CompatSet::all().filter_map(|set| Some((set, set.record()?.labels.as_ref()?)))
    }

    /// The sets that have metrics, once for each page.
    pub fn with_metrics() -> impl Iterator<Item = (CompatSet, &'static MetricSet)> {
        CompatSet::all().flat_map(|set| set.pages().map(move |page| (set, page)))
    }

    /// The pages of its metrics.
    pub fn pages(self) -> impl Iterator<Item = &'static MetricSet> {
        let (first, further) = match self.0 {
            SetScope::Vendor(record) => (record.metrics.as_ref(), record.further_metrics),
            SetScope::Every(common) => (Some(&common.metrics), &[][..]),
        };
        first.into_iter().chain(further)
    }

    /// Its name on the command line: that of the vendor's probe, or of the platform.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            SetScope::Vendor(record) => record.probe,
            SetScope::Every(common) => common.name,
        }
    }

    /// The vendor's record that it is a part of; none of a set of every vendor's devices.
    pub fn record(self) -> Option<&'static VendorRecord> {
        match self.0 {
            SetScope::Vendor(record) => Some(record),
            SetScope::Every(_) => None,
        }
    }

    /// The file with the table of its metrics.
    pub(crate) fn metrics_file(self) -> String {
        match self.0 {
            SetScope::Vendor(record) => format!("crates/derive/src/vendors/{}/metrics.rs", record.probe),
            SetScope::Every(common) => common.file.to_owned(),
        }
    }
}

impl fmt::Debug for CompatSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CompatSet").field(&self.as_str()).finish()
    }
}

impl PartialEq for CompatSet {
    fn eq(&self, other: &CompatSet) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for CompatSet {}

impl PartialOrd for CompatSet {
    fn partial_cmp(&self, other: &CompatSet) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CompatSet {
    fn cmp(&self, other: &CompatSet) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl FromStr for CompatSet {
    type Err = String;

    fn from_str(text: &str) -> Result<CompatSet, String> {
        CompatSet::all().find(|set| set.as_str() == text).ok_or_else(|| {
            let names: Vec<&str> = CompatSet::all().map(CompatSet::as_str).collect();
            format!("there is no set {text:?}; the sets are: {}", names.join(", "))
        })
    }
}

impl FromStr for CompatSwitch {
    type Err = String;

    fn from_str(text: &str) -> Result<CompatSwitch, String> {
        match text {
            "auto" => Ok(CompatSwitch::Auto),
            "on" => Ok(CompatSwitch::On),
            "off" => Ok(CompatSwitch::Off),
            _ => Err(format!("a set is switched auto, on or off, not {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_switches_the_later_one_counts_and_the_default_is_auto() {
        let (set, _) = CompatSet::with_labels().next().expect("there is a set");
        let switches = CompatSwitches::from_iter([(set, CompatSwitch::On), (set, CompatSwitch::Off)]);
        assert_eq!(switches.switch(set), CompatSwitch::Off);
        assert_eq!(CompatSwitches::default().switch(set), CompatSwitch::Auto);
        assert_eq!(CompatSwitches::default().on().count(), 0);
        assert!("no-such-set".parse::<CompatSet>().is_err());
        assert_eq!(set.as_str().parse(), Ok(set));
    }
}
