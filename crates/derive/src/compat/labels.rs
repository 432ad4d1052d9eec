//! Label sets: the keys of one vendor's labeller as a table of rows.

use std::collections::BTreeMap;

use afd_model::{Device, Fact, HealthState, Inventory, Missing};

use crate::{
    decided::{MadeFamily, is_undecided},
    labels::LabelOptions,
    value::{MAX_LENGTH, label_value},
    vendors::{VendorOptions, VendorRecord, is_driven},
};

/// The labels of one vendor's tool.
#[derive(Debug)]
pub struct LabelSet {
    /// The tool whose keys they are.
    pub tool: &'static str,
    /// What else the documentation says of the set.
    pub notes: &'static str,
    /// Rows, in the order of the documentation.
    pub tables: &'static [&'static [CompatLabel]],
    /// What a placeholder in a key stands for, as a regular expression; one that is not given stands for any text.
    pub placeholders: &'static [(&'static str, &'static str)],
    /// Keys of the tool that are not published.
    pub left_out: &'static [LeftOutLabel],
    /// How values or forms differ from those of the tool, and why.
    pub differences: &'static [&'static str],
}

/// One row of a label set.
#[derive(Clone, Copy, Debug)]
pub struct CompatLabel {
    /// The whole key. Text from the first `<` on is filled in, and the row gives any number of labels then.
    pub key: &'static str,
    /// Values as they occur.
    pub examples: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// The facts of the vendor's devices that its labels need.
    pub(crate) needs: &'static [Fact],
    /// Whether something else that they need could not be read now.
    pub(crate) unread: fn(&LabelScope<'_>) -> bool,
    pub(crate) fill: LabelFill,
}

/// How a row becomes labels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LabelFill {
    /// The value of a fixed key.
    One(fn(&LabelScope<'_>) -> Option<String>),
    /// The end of the key from its `<` on and the value, for each label.
    Many(fn(&LabelScope<'_>) -> Vec<(String, String)>),
}

/// What labels of a set are made from.
#[derive(Debug)]
pub(crate) struct LabelScope<'i> {
    /// The whole node.
    pub(crate) inventory: &'i Inventory,
    /// The vendor's devices that its driver is bound to.
    pub(crate) devices: Vec<&'i Device>,
    /// How the vendors' plugins are configured.
    pub(crate) options: &'i VendorOptions,
}

/// A key that a vendor's tool publishes and AFD does not.
#[derive(Clone, Copy, Debug)]
pub struct LeftOutLabel {
    /// The key as the vendor writes it.
    pub key: &'static str,
    /// Why it is left out.
    pub reason: &'static str,
}

impl LabelSet {
    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &'static CompatLabel> + use<> {
        self.tables.iter().copied().flatten()
    }

    /// The labels of a node by family, of the devices that the vendor's tools list: those that its driver is bound to. None if it
    /// has no such device.
    pub(crate) fn families(
        &self,
        record: &VendorRecord,
        inventory: &Inventory,
        own: &LabelOptions,
        options: &VendorOptions,
    ) -> Vec<MadeFamily> {
        let counts = |device: &&Device| own.include_integrated || !device.integrated;
        let present: Vec<&Device> =
            inventory.devices.iter().filter(|device| record.covers(device)).filter(counts).collect();
        // A driver that is not known now may be bound again in a moment.
        let driver_is_undecided = is_undecided(present.iter().copied(), &[Fact::Driver]);
        let listed = |device: &&Device| is_driven(device) && !device.display_only;
        let devices: Vec<&Device> = present.into_iter().filter(listed).collect();
        if devices.is_empty() && !driver_is_undecided {
            return Vec::new();
        }
        let is_empty = devices.is_empty();
        let scope = LabelScope { inventory, devices, options };
        let family = |row: &CompatLabel| MadeFamily {
            key: row.key.to_owned(),
            undecided: driver_is_undecided
                || is_undecided(scope.devices.iter().copied(), row.needs)
                || (row.unread)(&scope),
            values: if is_empty { Vec::new() } else { row.labels(&scope) },
        };
        self.rows().map(family).collect()
    }

    /// The keys without placeholders.
    pub fn keys(&self) -> Vec<&'static str> {
        self.rows().map(|row| row.key).filter(|key| !key.contains('<')).collect()
    }

    /// Regular expressions (RE2), one for each key with placeholders, that match the whole keys of its labels.
    pub fn key_patterns(&self) -> Vec<String> {
        self.rows().map(|row| row.key).filter(|key| key.contains('<')).map(|key| self.pattern(key)).collect()
    }

    fn pattern(&self, key: &str) -> String {
        let mut pattern = String::from("^");
        let mut rest = key;
        while let Some((before, (name, after))) =
            rest.split_once('<').and_then(|(before, after)| Some((before, after.split_once('>')?)))
        {
            pattern += &before.replace('.', "[.]");
            let known = self.placeholders.iter().find(|(placeholder, _)| *placeholder == name);
            pattern += known.map_or("[-A-Za-z0-9_.]+", |(_, expression)| expression);
            rest = after;
        }
        pattern + &rest.replace('.', "[.]") + "$"
    }
}

impl LabelScope<'_> {
    /// Whether a part of a fact could not be read of a device that has not failed.
    pub(crate) fn is_unread(&self, missing: impl Fn(&Device) -> Option<Missing>) -> bool {
        let present = self.devices.iter().filter(|device| device.health.state != HealthState::Failed);
        present.filter_map(|device| missing(device)).any(Missing::is_undecided)
    }
}

impl CompatLabel {
    fn labels(&self, scope: &LabelScope<'_>) -> Vec<(String, String)> {
        match self.fill {
            LabelFill::One(value) => {
                value(scope).map(|value| (self.key.to_owned(), value)).into_iter().collect()
            }
            LabelFill::Many(values) => values(scope)
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

/// The maximum length of the filled-in part of a key, so that Kubernetes accepts the key.
pub(crate) const fn room(key: &str) -> usize {
    let bytes = key.as_bytes();
    let (mut name, mut index) = (0, 0);
    while index < bytes.len() && bytes[index] != b'<' {
        name = if bytes[index] == b'/' { 0 } else { name + 1 };
        index += 1;
    }
    MAX_LENGTH - name
}

/// The value that all have in common, if there is one.
pub(crate) fn agreed(values: &[String]) -> Option<String> {
    let (first, others) = values.split_first()?;
    others.iter().all(|value| value == first).then(|| first.clone())
}

/// How many have each value, with the value as the end of a key of at most `room` characters.
pub(crate) fn counts(values: &[String], room: usize) -> Vec<(String, String)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for value in values.iter().filter_map(|value| label_value(value, room)) {
        *counts.entry(value).or_default() += 1;
    }
    counts.into_iter().map(|(value, count)| (value, count.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::compat::CompatSet;

    #[test]
    fn keys_are_unique_and_leave_room_for_what_is_filled_in() {
        for (_, set) in CompatSet::with_labels() {
            let mut keys = BTreeSet::new();
            for row in set.rows() {
                assert!(keys.insert(row.key), "{} is there twice", row.key);
                assert_eq!(matches!(row.fill, LabelFill::Many(_)), row.key.contains('<'), "{}", row.key);
                assert!(room(row.key) > 20, "{}", row.key);
            }
            assert!(set.left_out.iter().all(|left_out| !keys.contains(left_out.key)));
        }
    }

    #[test]
    fn a_pattern_matches_the_keys_of_its_row() {
        let set = LabelSet {
            tool: "",
            notes: "",
            tables: &[],
            placeholders: &[("resource", "(gpu|mig-[0-9a-z.-]+)")],
            left_out: &[],
            differences: &[],
        };
        assert_eq!(set.pattern("a.com/<resource>.count"), "^a[.]com/(gpu|mig-[0-9a-z.-]+)[.]count$");
        assert_eq!(
            set.pattern("a.com/fw.<name>.v.<version>"),
            "^a[.]com/fw[.][-A-Za-z0-9_.]+[.]v[.][-A-Za-z0-9_.]+$"
        );
    }
}
