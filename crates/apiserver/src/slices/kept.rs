//! The slices of a node that are kept, within a bound of their sum, and what they publish together. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    PublishedDevice, PublishedDevices,
    wire::{MAX_TEXT, ResourceSlice, SliceDevice, SliceDevices, SliceSpec},
};

/// A node has a few for each driver. More than this are an error, so that no watch can fill the memory.
pub(super) const MAX_SLICES: usize = 512;
/// What all slices may take together: three thousand devices.
const MAX_BYTES: usize = 4 << 20;
/// What a slice and a device take beside their texts, roughly, with what is published of them: most is the map of attributes.
const SLICE_BYTES: usize = 256;
const DEVICE_BYTES: usize = 1024;

/// Slices by name.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptSlices {
    slices: BTreeMap<String, SliceSpec>,
    bytes: usize,
    /// The slices whose devices were left out because there was no room.
    left_out: BTreeSet<String>,
}

impl KeptSlices {
    /// Adds or replaces a slice. Where there is no room for its devices, they are left out, and their pool is incomplete.
    pub(super) fn insert(&mut self, slice: ResourceSlice) {
        let (name, mut spec) = (slice.name(), slice.into_spec());
        self.remove(&name);
        if [&name, &spec.driver, &spec.pool.name].iter().any(|name| name.len() > MAX_TEXT) {
            return;
        }
        if self.bytes.saturating_add(bytes(&name, &spec)) > MAX_BYTES {
            let SliceDevices { read, skipped } = &spec.devices;
            let skipped = skipped.saturating_add(u64::try_from(read.len()).unwrap_or(u64::MAX));
            spec.devices = SliceDevices { read: Vec::new(), skipped };
            self.left_out.insert(name.clone());
        }
        self.bytes = self.bytes.saturating_add(bytes(&name, &spec));
        self.slices.insert(name, spec);
    }

    /// Removes a slice.
    pub(super) fn remove(&mut self, name: &str) {
        self.left_out.remove(name);
        if let Some(spec) = self.slices.remove(name) {
            self.bytes = self.bytes.saturating_sub(bytes(name, &spec));
        }
    }

    /// What is kept takes this much.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a list may have devices that were left out, now that less is kept than `before`.
    pub(super) fn has_more_room(&self, before: usize) -> bool {
        self.bytes < before && !self.left_out.is_empty()
    }

    /// Whether there are more slices than any node has.
    pub(super) fn are_too_many(&self) -> bool {
        self.slices.len() > MAX_SLICES
    }

    /// How many devices are left out.
    pub(super) fn skipped(&self) -> u64 {
        self.slices.values().fold(0, |sum, spec| sum.saturating_add(spec.devices.skipped))
    }

    /// What the slices publish together: of each pool the newest generation, if all of its slices and devices are here.
    pub(super) fn published(&self) -> PublishedDevices {
        let mut pools: BTreeMap<(&str, &str), Vec<&SliceSpec>> = BTreeMap::new();
        for spec in self.slices.values() {
            pools.entry((&spec.driver, &spec.pool.name)).or_default().push(spec);
        }
        let mut published = PublishedDevices { skipped: self.skipped(), ..PublishedDevices::default() };
        for ((driver, pool), specs) in pools {
            let newest = specs.iter().map(|spec| spec.pool.generation).max().unwrap_or_default();
            let specs: Vec<_> = specs.into_iter().filter(|spec| spec.pool.generation == newest).collect();
            let expected = specs.iter().map(|spec| spec.pool.resource_slice_count).max().unwrap_or_default();
            let is_complete = specs.iter().all(|spec| spec.devices.skipped == 0);
            if !is_complete || i64::try_from(specs.len()) != Ok(expected) {
                published.incomplete.insert(driver.to_owned());
                continue;
            }
            published.drivers.insert(driver.to_owned());
            let devices = specs.iter().flat_map(|spec| &spec.devices.read);
            published.devices.extend(devices.map(|device| of_pool(device, driver, pool, newest)));
        }
        published.devices.sort();
        published
    }
}

fn of_pool(device: &SliceDevice, driver: &str, pool: &str, generation: i64) -> PublishedDevice {
    let SliceDevice { name, attributes, is_tainted } = device;
    PublishedDevice {
        driver: driver.to_owned(),
        pool: pool.to_owned(),
        generation,
        name: name.clone(),
        attributes: Arc::clone(attributes),
        allocatable: !is_tainted,
    }
}

/// What a slice takes, roughly.
fn bytes(name: &str, spec: &SliceSpec) -> usize {
    let of_device = |device: &SliceDevice| {
        let attributes = device.attributes.iter().map(|(name, text)| name.len() + text.len());
        DEVICE_BYTES + device.name.len() + attributes.sum::<usize>()
    };
    let devices: usize = spec.devices.read.iter().map(of_device).sum();
    SLICE_BYTES + name.len() + spec.driver.len() + spec.pool.name.len() + devices
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    const DRIVER: &str = "gpu.nvidia.com";

    fn slice_of(driver: &str, name: &str, pool: Value, devices: Value) -> ResourceSlice {
        let spec = json!({ "driver": driver, "nodeName": "n", "pool": pool, "devices": devices });
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("it is a slice")
    }

    fn slice(name: &str, pool: Value, devices: Value) -> ResourceSlice {
        slice_of(DRIVER, name, pool, devices)
    }

    fn kept(slices: impl IntoIterator<Item = ResourceSlice>) -> KeptSlices {
        slices.into_iter().fold(KeptSlices::default(), |mut kept, slice| {
            kept.insert(slice);
            kept
        })
    }

    fn names(published: &PublishedDevices) -> Vec<&str> {
        published.devices.iter().map(|device| &device.name[..]).collect()
    }

    #[test]
    fn only_the_newest_complete_generation_of_a_pool_counts() {
        let pool =
            |generation, count| json!({ "name": "n", "generation": generation, "resourceSliceCount": count });
        let old = slice("old", pool(1, 1), json!([{ "name": "gpu-9" }]));
        let first = slice("a", pool(2, 2), json!([{ "name": "gpu-0" }]));
        let second = slice("b", pool(2, 2), json!([{ "name": "gpu-1" }]));
        assert_eq!(names(&kept([old.clone(), first.clone(), second]).published()), ["gpu-0", "gpu-1"]);
        let incomplete = kept([old, first]).published();
        assert_eq!(incomplete.incomplete, BTreeSet::from([DRIVER.to_owned()]));
        assert!(incomplete.devices.is_empty() && incomplete.drivers.is_empty());
    }

    #[test]
    fn a_driver_without_a_device_is_known() {
        let pool = json!({ "name": "n", "generation": 1, "resourceSliceCount": 1 });
        let published = kept([slice("a", pool, Value::Null)]).published();
        assert_eq!(published.drivers, BTreeSet::from([DRIVER.to_owned()]));
    }

    const SLICES: usize = 64;

    /// As large as the API allows.
    fn largest(number: usize) -> ResourceSlice {
        let attributes =
            json!({ "uuid": { "string": "x".repeat(64) }, "pciBusID": { "string": "y".repeat(64) } });
        let device = |device: usize| json!({ "name": format!("{device:063}"), "attributes": attributes });
        let pool = json!({ "name": format!("{number:0253}"), "resourceSliceCount": 1 });
        let devices: Vec<_> = (0..128).map(device).collect();
        slice_of("many.example.com", &format!("{number:0253}"), pool, json!(devices))
    }

    #[test]
    fn what_is_kept_of_many_slices_is_bounded_in_sum() {
        let pool = json!({ "name": "n", "generation": 1, "resourceSliceCount": 1 });
        let first = slice("first", pool, json!([{ "name": "gpu-0" }]));
        let mut kept = kept([first].into_iter().chain((0..SLICES).map(largest)));
        assert!(!kept.are_too_many() && kept.bytes <= MAX_BYTES + SLICES * 4 * MAX_TEXT, "{}", kept.bytes);
        let published = kept.published();
        assert!(published.devices.len() > 1000, "some are kept: {}", published.devices.len());
        assert_eq!(published.skipped + published.devices.len() as u64, 128 * SLICES as u64 + 1);
        assert_eq!(published.incomplete, BTreeSet::from(["many.example.com".to_owned()]));
        assert!(published.devices.iter().any(|device| device.driver == DRIVER), "of other drivers as well");

        let full = kept.bytes();
        let emptied = slice_of("many.example.com", &format!("{:0253}", 0), json!({ "name": "p" }), json!([]));
        let mut shrunk = kept.clone();
        shrunk.insert(emptied);
        assert!(shrunk.has_more_room(full), "a slice that shrinks makes room as one that is deleted does");
        assert!(!kept.has_more_room(full), "nothing was freed");

        let again = |kept: &mut KeptSlices| {
            (0..SLICES).map(largest).for_each(|slice| kept.insert(slice));
            kept.bytes
        };
        let bytes = again(&mut kept);
        assert_eq!(again(&mut kept), bytes, "a slice that is replaced counts once");
        for number in 0..SLICES {
            kept.remove(&format!("{number:0253}"));
        }
        kept.remove("first");
        assert_eq!((kept.bytes, kept.skipped()), (0, 0));
        kept.insert(largest(1));
        assert_eq!(kept.published().devices.len(), 128, "there is room again");
    }

    #[test]
    fn a_slice_whose_names_are_none_is_not_kept() {
        let pool = json!({ "name": "x".repeat(MAX_TEXT + 1), "resourceSliceCount": 1 });
        assert_eq!(kept([slice("a", pool, Value::Null)]).bytes, 0);
    }
}
