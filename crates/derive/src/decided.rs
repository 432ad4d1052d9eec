//! Keys with their values, and the families of keys that are not decided.
//!
//! A label is decided by *family*: all keys that one rule can make. `product.*` is one family. A family declares the facts
//! that it needs, and is undecided while one of them is undecided of a device that it is made from. A device that has failed
//! leaves nothing undecided beside others: its source may never answer again, and theirs decide.

use std::collections::{BTreeMap, BTreeSet};

use afd_model::{Decision, Device, Fact, HealthState, Missing, Partitioning};

/// Labels or annotations: what is decided, and what is not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DecidedKeys {
    /// Keys with their values. A key that is neither here nor of an undecided family is decided to be absent.
    pub values: BTreeMap<String, String>,
    /// Families whose keys stay as they are.
    pub undecided: KeyFamilies,
}

/// Families of keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyFamilies {
    keys: BTreeSet<String>,
    prefixes: BTreeSet<String>,
    patterns: BTreeSet<KeyPattern>,
}

/// Keys with placeholders: the fixed parts before, between and after them.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct KeyPattern {
    before: String,
    between: Vec<String>,
    after: String,
}

impl KeyFamilies {
    /// Adds the family of one fixed key.
    pub fn insert_key(&mut self, key: impl Into<String>) {
        self.keys.insert(key.into());
    }

    /// Adds the family of all keys that begin so.
    pub fn insert_prefix(&mut self, prefix: impl Into<String>) {
        self.prefixes.insert(prefix.into());
    }

    /// Adds the family of a row: one fixed key, or all keys in which a text stands for each `<placeholder>`. A placeholder at
    /// the end makes it a family with a prefix.
    pub fn insert_row(&mut self, key: &str) {
        let mut parts = key.split('<');
        let before = parts.next().unwrap_or_default().to_owned();
        let mut fixed: Vec<String> =
            parts.map(|part| part.split_once('>').map_or("", |(_, fixed)| fixed).to_owned()).collect();
        match fixed.pop() {
            None => self.insert_key(before),
            Some(after) if after.is_empty() && fixed.is_empty() => self.insert_prefix(before),
            Some(after) => drop(self.patterns.insert(KeyPattern { before, between: fixed, after })),
        }
    }

    /// Whether a key is of one of the families.
    pub fn contains(&self, key: &str) -> bool {
        self.keys.contains(key)
            || self.prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()))
            || self.patterns.iter().any(|pattern| pattern.matches(key))
    }

    /// Whether there is no family.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty() && self.patterns.is_empty()
    }
}

impl KeyPattern {
    fn matches(&self, key: &str) -> bool {
        let Some(rest) = key.strip_prefix(&self.before) else { return false };
        let Some(mut rest) = rest.strip_suffix(&self.after) else { return false };
        for fixed in &self.between {
            let Some((_, following)) = rest.split_once(fixed) else { return false };
            rest = following;
        }
        true
    }
}

/// One family of keys as the rules make it now.
#[derive(Debug)]
pub(crate) struct MadeFamily {
    /// The key of its row, with our prefix and with `<placeholders>`.
    pub(crate) key: String,
    /// Whether a source that could change its values has not answered.
    pub(crate) undecided: bool,
    /// Its keys with their values, as far as they are known.
    pub(crate) values: Vec<(String, String)>,
}

impl FromIterator<MadeFamily> for DecidedKeys {
    /// An undecided family gives no value.
    fn from_iter<I: IntoIterator<Item = MadeFamily>>(families: I) -> DecidedKeys {
        let mut keys = DecidedKeys::default();
        for family in families {
            if family.undecided {
                keys.undecided.insert_row(&family.key);
            } else {
                keys.values.extend(family.values);
            }
        }
        keys
    }
}

/// Whether one of the facts is undecided of one of the devices that have not failed, or of any where all have.
pub(crate) fn is_undecided<'d>(devices: impl IntoIterator<Item = &'d Device>, needs: &[Fact]) -> bool {
    let devices: Vec<&Device> = devices.into_iter().collect();
    let all_failed = devices.iter().all(|device| has_failed(device));
    devices.into_iter().filter(|device| all_failed || !has_failed(device)).any(|device| {
        device.undecided.contains_any(needs)
            || needs.contains(&Fact::Partitioning) && partitions_are_unread(device)
    })
}

/// Whether a device is known to have failed.
pub(crate) fn has_failed(device: &Device) -> bool {
    device.health.state == HealthState::Failed
}

/// Whether a part of the partitioning could not be read, though the rest of it is known.
fn partitions_are_unread(device: &Device) -> bool {
    let of_mode = match device.partitioning.value() {
        Some(Partitioning::Xcp { memory, .. }) => memory.missing(),
        _ => None,
    };
    let of_partitions = device.partitions.iter().flat_map(|partition| {
        [partition.profile.missing(), partition.memory_bytes.missing(), partition.compute_units.missing()]
    });
    of_partitions.chain([of_mode]).flatten().any(Missing::is_undecided)
}

impl DecidedKeys {
    /// Adds a fixed key.
    pub fn insert(&mut self, key: impl Into<String>, value: Decision<String>) {
        match value {
            Decision::Undecided => self.undecided.insert_key(key),
            Decision::Absent => {}
            Decision::Decided(value) => drop(self.values.insert(key.into(), value)),
        }
    }

    /// Adds the keys and families of others.
    pub fn extend(&mut self, others: DecidedKeys) {
        self.values.extend(others.values);
        self.undecided.keys.extend(others.undecided.keys);
        self.undecided.prefixes.extend(others.undecided.prefixes);
        self.undecided.patterns.extend(others.undecided.patterns);
    }
}

impl From<BTreeMap<String, String>> for DecidedKeys {
    fn from(values: BTreeMap<String, String>) -> DecidedKeys {
        DecidedKeys { values, undecided: KeyFamilies::default() }
    }
}

#[cfg(test)]
mod tests {
    use afd_model::{Known, XcpComputeMode};

    use super::*;

    #[test]
    fn a_family_is_a_key_or_all_keys_with_a_beginning() {
        let mut families = KeyFamilies::default();
        assert!(families.is_empty());
        families.insert_key("p/memory-mib");
        families.insert_prefix("p/product.");
        assert!(families.contains("p/memory-mib") && families.contains("p/product.X"));
        assert!(!families.contains("p/memory-mib2") && !families.contains("p/product"));
    }

    #[test]
    fn a_row_with_placeholders_is_the_family_of_its_own_keys_alone() {
        let mut families = KeyFamilies::default();
        families.insert_row("a.com/<resource>.memory");
        families.insert_row("a.com/fw.<name>.v.<version>");
        families.insert_row("p/product.<product>");
        families.insert_row("p/count");
        for key in
            ["a.com/gpu.memory", "a.com/mig-1g.10gb.memory", "a.com/fw.vce.v.7", "p/product.X", "p/count"]
        {
            assert!(families.contains(key), "{key}");
        }
        for key in ["a.com/gpu.count", "a.com/driver", "b.com/gpu.memory", "a.com/fw.vce.w.7", "p/counts"] {
            assert!(!families.contains(key), "{key}");
        }
    }

    #[test]
    fn a_device_that_has_failed_leaves_nothing_undecided_beside_others() {
        let mut device = crate::vendors::bare_device(1);
        device.undecided.insert(Fact::Memory);
        assert!(is_undecided([&device], &[Fact::Memory]) && !is_undecided([&device], &[Fact::Compute]));
        device.health.state = HealthState::Failed;
        let other = crate::vendors::bare_device(2);
        assert!(!is_undecided([&device, &other], &[Fact::Memory]));
        assert!(is_undecided([&device, &device], &[Fact::Memory]), "no other device shows what they have");
    }

    #[test]
    fn an_unread_part_of_the_partitioning_leaves_it_undecided() {
        let mut device = crate::vendors::bare_device(1);
        let in_mode = |memory| Known::Value(Partitioning::Xcp { compute: XcpComputeMode::Cpx, memory });
        device.partitioning = in_mode(Missing::NotExposed.into());
        assert!(!is_undecided([&device], &[Fact::Partitioning]));
        device.partitioning = in_mode(Missing::Unreadable.into());
        assert!(is_undecided([&device], &[Fact::Partitioning]) && !is_undecided([&device], &[Fact::Memory]));
    }
}
