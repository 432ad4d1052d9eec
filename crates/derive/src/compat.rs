//! Labels as the vendors' own tools spell them, for charts and schedulers that look for those keys.
//!
//! Each set is a table of rows, from which the documentation is generated as well. What a set leaves out of its vendor's
//! keys, and why, is data too ([`CompatSet::left_out`]).

mod amd;
pub mod dcgm;
mod metrics;
pub mod nvidia;

use std::{collections::BTreeMap, str::FromStr};

use afd_model::{Device, Inventory, Vendor};

pub use metrics::{CompatFamily, LeftOutFamilies};

use self::nvidia::NvidiaOptions;
use crate::{labels::LabelOptions, value::MAX_LENGTH};

/// The keys of one vendor's tools.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum CompatSet {
    /// AMD's node labeller.
    Amd,
    /// NVIDIA GPU Feature Discovery's; its keys depend on how devices are offered ([`nvidia`]).
    Nvidia,
}

/// Whether a set is published.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Switch {
    /// Keys that nobody else owns. Only a cluster knows the owners, so nothing is published without one.
    #[default]
    Auto,
    /// All keys of the set.
    On,
    /// None.
    Off,
}

/// The switch of each set; one that is not named is [`Switch::Auto`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Switches(BTreeMap<CompatSet, Switch>);

impl FromIterator<(CompatSet, Switch)> for Switches {
    /// Of two switches of one set the later one holds.
    fn from_iter<I: IntoIterator<Item = (CompatSet, Switch)>>(switches: I) -> Switches {
        Switches(switches.into_iter().collect())
    }
}

impl Switches {
    /// The switch of a set.
    pub fn of(&self, set: CompatSet) -> Switch {
        self.0.get(&set).copied().unwrap_or_default()
    }

    /// The same, with `auto` taken for `on`.
    #[must_use]
    pub fn auto_on(mut self) -> Switches {
        for set in CompatSet::ALL {
            let switch = self.0.entry(set).or_default();
            if *switch == Switch::Auto {
                *switch = Switch::On;
            }
        }
        self
    }

    /// The sets that are switched on.
    pub fn on(&self) -> impl Iterator<Item = CompatSet> {
        CompatSet::ALL.into_iter().filter(|set| self.of(*set) == Switch::On)
    }
}

/// What the admin can choose.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CompatOptions {
    /// The sets that are not on `auto`.
    pub switches: Switches,
    /// How NVIDIA's devices are offered.
    pub nvidia: NvidiaOptions,
}

/// The labels of all sets that are on. `own` says which devices count, as for our own labels.
pub fn labels(
    inventory: &Inventory,
    own: &LabelOptions,
    options: &CompatOptions,
) -> BTreeMap<String, String> {
    let sets = options.switches.on();
    sets.flat_map(|set| match set {
        CompatSet::Amd => set.labels(inventory, own),
        CompatSet::Nvidia => nvidia::labels(inventory, &options.nvidia),
    })
    .collect()
}

/// One row of a set.
#[derive(Clone, Copy, Debug)]
pub struct CompatLabel {
    /// The whole key. What stands from the first `<` on is filled in, and the row gives any number of labels then.
    pub key: &'static str,
    /// Values as they occur.
    pub examples: &'static str,
    /// What it means.
    pub meaning: &'static str,
    fill: Fill,
}

/// How a row becomes labels.
#[derive(Clone, Copy, Debug)]
enum Fill {
    /// The value of a key that stands as it is.
    One(fn(&Scope<'_>) -> Option<String>),
    /// What the key ends in from its `<` on, and the value, for each label.
    Many(fn(&Scope<'_>) -> Vec<(String, String)>),
}

/// What labels of a set are made from: the devices that it is about, at least one.
struct Scope<'i> {
    devices: Vec<&'i Device>,
}

/// A key that a vendor's tools publish and we do not.
#[derive(Clone, Copy, Debug)]
pub struct LeftOut {
    /// The key as the vendor writes it.
    pub key: &'static str,
    /// Why it is left out.
    pub reason: &'static str,
}

impl CompatSet {
    /// All sets.
    pub const ALL: [CompatSet; 2] = [CompatSet::Amd, CompatSet::Nvidia];
    /// Those whose labels and families are rows of [`CompatSet::rows`] and `metric_rows`. NVIDIA's have tables of their own.
    pub const TABLES: [CompatSet; 1] = [CompatSet::Amd];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            CompatSet::Amd => "amd",
            CompatSet::Nvidia => "nvidia",
        }
    }

    /// Whose keys they are.
    pub fn tool(self) -> &'static str {
        match self {
            CompatSet::Amd => "AMD's node labeller (ROCm/k8s-device-plugin)",
            CompatSet::Nvidia => "NVIDIA GPU Feature Discovery",
        }
    }

    /// Its rows, in the order of the documentation.
    pub fn rows(self) -> impl Iterator<Item = &'static CompatLabel> {
        let tables: &[&[CompatLabel]] = match self {
            CompatSet::Amd => &amd::TABLES,
            CompatSet::Nvidia => &[],
        };
        tables.iter().copied().flatten()
    }

    /// Keys of the vendor's tools that are not published.
    pub fn left_out(self) -> &'static [LeftOut] {
        match self {
            CompatSet::Amd => &amd::LEFT_OUT,
            CompatSet::Nvidia => &[],
        }
    }

    /// Where a value or a form is not as the vendor's tools have it, and why.
    pub fn differences(self) -> &'static [&'static str] {
        match self {
            CompatSet::Amd => &amd::DIFFERENCES,
            CompatSet::Nvidia => &[],
        }
    }

    /// The labels of the set's rows; none if the node has no device that it is about.
    fn labels(self, inventory: &Inventory, options: &LabelOptions) -> BTreeMap<String, String> {
        let counted = |device: &&Device| options.include_integrated || !device.integrated;
        let devices: Vec<&Device> =
            inventory.devices.iter().filter(|device| self.is_about(device)).filter(counted).collect();
        if devices.is_empty() {
            return BTreeMap::new();
        }
        let scope = Scope { devices };
        self.rows().flat_map(|row| row.labels(&scope)).collect()
    }

    fn is_about(self, device: &Device) -> bool {
        match self {
            CompatSet::Amd => device.vendor == Vendor::Amd,
            CompatSet::Nvidia => device.vendor == Vendor::Nvidia,
        }
    }
}

impl FromStr for CompatSet {
    type Err = String;

    fn from_str(text: &str) -> Result<CompatSet, String> {
        let names = CompatSet::ALL.map(CompatSet::as_str).join(", ");
        CompatSet::ALL
            .into_iter()
            .find(|set| set.as_str() == text)
            .ok_or_else(|| format!("there is no set {text:?}; the sets are: {names}"))
    }
}

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Switch, String> {
        match text {
            "auto" => Ok(Switch::Auto),
            "on" => Ok(Switch::On),
            "off" => Ok(Switch::Off),
            _ => Err(format!("a set is switched auto, on or off, not {text:?}")),
        }
    }
}

impl CompatLabel {
    fn labels(&self, scope: &Scope<'_>) -> Vec<(String, String)> {
        match self.fill {
            Fill::One(value) => value(scope).map(|value| (self.key.to_owned(), value)).into_iter().collect(),
            Fill::Many(values) => values(scope)
                .into_iter()
                .map(|(end, value)| (format!("{}{end}", fixed_part(self.key)), value))
                .collect(),
        }
    }
}

/// The part of a row's key that is not filled in.
fn fixed_part(key: &str) -> &str {
    key.split('<').next().unwrap_or(key)
}

/// How long the filled-in part of a key may be, so that Kubernetes takes the key.
const fn room(key: &str) -> usize {
    let bytes = key.as_bytes();
    let (mut name, mut index) = (0, 0);
    while index < bytes.len() && bytes[index] != b'<' {
        name = if bytes[index] == b'/' { 0 } else { name + 1 };
        index += 1;
    }
    MAX_LENGTH - name
}

#[cfg(test)]
mod tests;
