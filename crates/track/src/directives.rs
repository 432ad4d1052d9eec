//! What an admin says by annotations: which devices to expect, and which to ignore.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use afd_model::Device;

use crate::expected::PciKind;

/// The annotation `expect`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Expect {
    /// Devices come and go by design: nothing is missing.
    Off,
    /// Numbers of devices.
    Numbers {
        /// Of all devices together.
        any: Option<u32>,
        /// Of one kind.
        kinds: BTreeMap<PciKind, u32>,
    },
}

impl Expect {
    /// Parses `off`, or a list of `any=8` and `<vendor>/<PCI id>=8`, separated by commas or spaces.
    ///
    /// # Errors
    /// What cannot be parsed, for people.
    pub(crate) fn parse(text: &str) -> Result<Expect, String> {
        if text.trim() == "off" {
            return Ok(Expect::Off);
        }
        let (mut any, mut kinds) = (None, BTreeMap::new());
        for entry in text.split([',', ' ']).filter(|entry| !entry.is_empty()) {
            let wrong =
                || format!("{entry:?} is neither `off` nor of the form `any=8` or `<vendor>/10de:2330=8`");
            let (what, count) = entry.split_once('=').ok_or_else(wrong)?;
            let count: u32 = count.parse().map_err(|_| wrong())?;
            if what == "any" {
                any = Some(count);
                continue;
            }
            let id = what.split_once('/').map_or(what, |(_, id)| id);
            kinds.insert(PciKind::parse(id).ok_or_else(wrong)?, count);
        }
        if any.is_none() && kinds.is_empty() {
            return Err("it is empty; use `off`, `any=8` or `<vendor>/10de:2330=8`".to_owned());
        }
        Ok(Expect::Numbers { any, kinds })
    }
}

/// What the admin of a release expects of its nodes, where the Node has no annotation `expect`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminExpectation(pub(crate) Expect);

impl FromStr for AdminExpectation {
    type Err = String;

    /// Parses the form of the annotation.
    fn from_str(text: &str) -> Result<AdminExpectation, String> {
        Expect::parse(text).map(AdminExpectation)
    }
}

/// The annotation `ignore`: addresses or UUIDs of devices that turn no condition.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Ignored(BTreeSet<String>);

impl Ignored {
    /// Parses a list that is separated by commas or spaces.
    pub(crate) fn parse(text: &str) -> Ignored {
        let entries = text.split([',', ' ']).filter(|entry| !entry.is_empty());
        Ignored(entries.map(str::to_lowercase).collect())
    }

    /// Whether a device is ignored.
    pub(crate) fn contains(&self, device: &Device) -> bool {
        self.contains_name(&device.id.to_string())
            || device.uuid.value().is_some_and(|uuid| self.contains_name(uuid))
    }

    /// Whether an address or UUID is ignored.
    pub(crate) fn contains_name(&self, name: &str) -> bool {
        self.0.contains(&name.to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_of_an_admin_are_parsed_and_mistakes_named() {
        assert_eq!(Expect::parse(" off "), Ok(Expect::Off));
        let kind = PciKind::parse("10de:2330").expect("it is an id");
        let kinds = BTreeMap::from([(kind, 8)]);
        assert_eq!(
            Expect::parse("nvidia/10de:2330=8"),
            Ok(Expect::Numbers { any: None, kinds: kinds.clone() })
        );
        assert_eq!(Expect::parse("any=9, 10de:2330=8"), Ok(Expect::Numbers { any: Some(9), kinds }));
        for wrong in ["", "8", "any=x", "nvidia=8", "nvidia/10de=8", "any=-1"] {
            assert!(Expect::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(Expect::parse("any=8,GPU=2").expect_err("it is wrong").contains("\"GPU=2\""));
    }

    #[test]
    fn a_device_is_ignored_by_address_or_uuid() {
        let ignored = Ignored::parse("0000:1A:00.0, GPU-1");
        assert!(ignored.contains_name("0000:1a:00.0") && ignored.contains_name("gpu-1"));
        assert!(!ignored.contains_name("0000:1b:00.0"));
    }
}
