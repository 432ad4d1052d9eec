//! Which devices are expected, and which of them are missing.
//!
//! An expectation is a number for each PCI id. UUID, serial number and address never decide whether something is missing, only
//! which known device has no partner.

use std::collections::{BTreeMap, BTreeSet};

use afd_model::{Device, DeviceId, ExpectedDevices, Fact, MissingDevice, PciId};

use crate::{directives::Expect, memory::ExpectedId, vendor::TrackedVendor};

/// A kind of device: PCI vendor id and device id.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct PciKind {
    pub(crate) vendor: PciId,
    pub(crate) device: PciId,
}

impl PciKind {
    /// The kind of a device, if the kernel reports its ids.
    pub(crate) fn of(device: &Device) -> Option<PciKind> {
        Some(PciKind { vendor: *device.pci.vendor_id.value()?, device: *device.pci.device_id.value()? })
    }

    /// Parses `10de:2330`.
    pub(crate) fn parse(text: &str) -> Option<PciKind> {
        let (vendor, device) = text.split_once(':')?;
        let id = |text: &str| u16::from_str_radix(text, 16).ok().filter(|_| text.len() == 4).map(PciId);
        Some(PciKind { vendor: id(vendor)?, device: id(device)? })
    }
}

impl std::fmt::Display for PciKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor.0, self.device.0)
    }
}

/// How many devices are expected, from the first source that says so.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Expectation {
    /// Nothing is expected.
    #[default]
    Nothing,
    /// The admin's numbers.
    Admin(Expect),
    /// A number of devices of one probe: the machine is of a cloud provider's instance type.
    InstanceType { probe: &'static str, count: u32, name: String },
    /// What was learnt of this machine.
    Learnt(BTreeMap<PciKind, u32>),
}

/// A device that is believed to be there and was not put there to be unplugged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PresentDevice<'d> {
    pub(crate) device: &'d Device,
    pub(crate) probe: &'static str,
}

/// A device that was known and is not there any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct GoneDevice {
    pub(crate) kind: PciKind,
    pub(crate) uuid: Option<String>,
    pub(crate) id: Option<DeviceId>,
    pub(crate) product: Option<String>,
}

/// Where an admin says what is expected.
const ADMIN: &str = "the annotation expect or --expect";

impl Expectation {
    /// How to expect less, where that is not learnt.
    pub(crate) fn how_to_change(&self) -> Option<String> {
        match self {
            Expectation::Nothing | Expectation::Learnt(_) => None,
            Expectation::Admin(_) => Some(format!("change {ADMIN}")),
            Expectation::InstanceType { count, name, .. } => {
                Some(format!("set the annotation expect: instance type {name} has {count} devices"))
            }
        }
    }

    /// The devices that are expected and not there: for each kind `max(0, expected - present)`.
    pub(crate) fn missing(
        &self,
        present: &[PresentDevice<'_>],
        gone: &[GoneDevice],
        vendors: &[TrackedVendor],
    ) -> Vec<MissingDevice> {
        let advice = self.how_to_change().unwrap_or_else(|| "run `afd forget`".to_owned());
        let source = match self {
            Expectation::Admin(_) => ADMIN,
            _ => "what was here before",
        };
        let mut list = MissingList { gone: gone.to_vec(), missing: Vec::new(), advice, present, vendors };
        match self {
            Expectation::Nothing | Expectation::Admin(Expect::Off) => {}
            Expectation::Admin(Expect::Numbers { any, kinds }) => {
                for (kind, count) in kinds {
                    list.add_kind(*kind, *count, source);
                }
                if let Some(total) = any {
                    let known = present.len() + list.missing.len();
                    let probe = present.first().map_or("", |present| present.probe);
                    list.add(probe, None, (*total as usize).saturating_sub(known), source);
                }
            }
            Expectation::InstanceType { probe, count, name } => {
                let there = present.iter().filter(|present| present.probe == *probe).count();
                list.add(
                    probe,
                    None,
                    (*count as usize).saturating_sub(there),
                    &format!("instance type {name}"),
                );
            }
            Expectation::Learnt(kinds) => {
                for (kind, count) in kinds {
                    list.add_kind(*kind, *count, source);
                }
            }
        }
        list.missing
    }

    /// The numbers that are expected.
    pub(crate) fn numbers(
        &self,
        present: &[PresentDevice<'_>],
        vendors: &[TrackedVendor],
    ) -> Vec<ExpectedDevices> {
        let of_kind = |(kind, count): (&PciKind, &u32)| ExpectedDevices {
            probe: probe_of(*kind, present, vendors).to_owned(),
            id: Some((kind.vendor, kind.device)),
            count: u64::from(*count),
        };
        let of_probe = |probe: &str, count: u32| ExpectedDevices {
            probe: probe.to_owned(),
            id: None,
            count: u64::from(count),
        };
        match self {
            Expectation::Nothing | Expectation::Admin(Expect::Off) => Vec::new(),
            Expectation::Admin(Expect::Numbers { any, kinds }) => {
                let probe = present.first().map_or("", |present| present.probe);
                let any = any.filter(|_| kinds.is_empty()).map(|count| of_probe(probe, count));
                kinds.iter().map(of_kind).chain(any).collect()
            }
            Expectation::InstanceType { probe, count, .. } => vec![of_probe(probe, *count)],
            Expectation::Learnt(kinds) => kinds.iter().map(of_kind).collect(),
        }
    }
}

/// The probe that finds devices of a kind: that of a device of the same PCI vendor, else the first one with that vendor.
fn probe_of(kind: PciKind, present: &[PresentDevice<'_>], vendors: &[TrackedVendor]) -> &'static str {
    let same_vendor = |present: &&PresentDevice<'_>| {
        PciKind::of(present.device).is_some_and(|own| own.vendor == kind.vendor)
    };
    let owns = |vendor: &&TrackedVendor| vendor.pci_vendors.contains(&kind.vendor.0);
    let present = present.iter().find(same_vendor).map(|present| present.probe);
    present.or_else(|| vendors.iter().find(owns).map(|vendor| vendor.probe)).unwrap_or("")
}

struct MissingList<'a> {
    gone: Vec<GoneDevice>,
    missing: Vec<MissingDevice>,
    /// What to do where it was removed on purpose.
    advice: String,
    present: &'a [PresentDevice<'a>],
    vendors: &'a [TrackedVendor],
}

/// How many devices can be missing: more than any machine has. The number that is expected is from an annotation.
const MAX_MISSING: usize = 256;

impl MissingList<'_> {
    fn add_kind(&mut self, kind: PciKind, count: u32, source: &str) {
        let there = self.present.iter().filter(|present| PciKind::of(present.device) == Some(kind)).count();
        let probe = probe_of(kind, self.present, self.vendors);
        self.add(probe, Some(kind), (count as usize).saturating_sub(there), source);
    }

    fn add(&mut self, probe: &str, kind: Option<PciKind>, count: usize, source: &str) {
        for _ in 0..count.min(MAX_MISSING.saturating_sub(self.missing.len())) {
            let position = self.gone.iter().position(|gone| kind.is_none_or(|kind| gone.kind == kind));
            let gone = position.map(|position| self.gone.remove(position));
            let place = gone.as_ref().and_then(|gone| gone.id).map(|id| format!("; it was at {id}"));
            let what = kind.map_or_else(|| "a device".to_owned(), |kind| format!("a device {kind}"));
            let kind = gone.as_ref().map(|gone| gone.kind).or(kind);
            self.missing.push(MissingDevice {
                id: format!("missing-{}", self.missing.len() + 1),
                probe: probe.to_owned(),
                vendor_id: kind.map(|kind| kind.vendor),
                device_id: kind.map(|kind| kind.device),
                product: gone.as_ref().and_then(|gone| gone.product.clone()),
                uuid: gone.as_ref().and_then(|gone| gone.uuid.clone()),
                last_id: gone.as_ref().and_then(|gone| gone.id),
                message: format!(
                    "{what} is expected by {source} and not on the PCI bus{}; see the kernel log, reseat or replace it, or, \
                     if it was removed on purpose, {}",
                    place.unwrap_or_default(),
                    self.advice
                ),
            });
        }
    }
}

/// What was learnt of a machine: how many devices of each kind it has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Learnt {
    pub(crate) kinds: BTreeMap<PciKind, LearntKind>,
}

/// What was learnt of one kind of device.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct LearntKind {
    /// How many there are; 0 before they were there for long enough.
    pub(crate) count: u32,
    /// Their marketing name, as it was last read.
    pub(crate) product: Option<String>,
    /// Their UUIDs, where a source reports any.
    pub(crate) handles: Vec<String>,
}

impl Learnt {
    /// Raises the expectation to what has been there for long enough: `is_settled` says so of a device. A vendor's total that is
    /// reached with other kinds is a refitted machine, of which only what is there counts; returns whether that happened.
    pub(crate) fn learn(
        &mut self,
        present: &[PresentDevice<'_>],
        is_settled: impl Fn(&PresentDevice<'_>) -> bool,
    ) -> bool {
        let now = counts(present);
        for kind in now.keys() {
            self.kinds.entry(*kind).or_default();
        }
        self.remember_names(present);
        let vendors: BTreeSet<PciId> = now.keys().map(|kind| kind.vendor).collect();
        let mut is_refitted = false;
        for vendor in vendors {
            let of_vendor = |present: &&PresentDevice<'_>| {
                PciKind::of(present.device).is_some_and(|kind| kind.vendor == vendor)
            };
            if present.iter().filter(of_vendor).all(&is_settled) {
                is_refitted |= self.learn_vendor(vendor, &now);
            }
        }
        is_refitted
    }

    fn learn_vendor(&mut self, vendor: PciId, now: &BTreeMap<PciKind, u32>) -> bool {
        let there = |kind: &PciKind| now.get(kind).copied().unwrap_or_default();
        let learnt = self.kinds.iter().filter(|(kind, _)| kind.vendor == vendor);
        // The counts are from an annotation, which others can write.
        let expected: u64 = learnt.clone().map(|(_, learnt)| u64::from(learnt.count)).sum();
        let lacks = learnt.clone().any(|(kind, learnt)| there(kind) < learnt.count);
        let own = now.iter().filter(|(kind, _)| kind.vendor == vendor);
        let total: u64 = own.map(|(_, count)| u64::from(*count)).sum();
        let is_refitted = lacks && total >= expected;
        for (kind, learnt) in self.kinds.iter_mut().filter(|(kind, _)| kind.vendor == vendor) {
            learnt.count = if is_refitted { there(kind) } else { learnt.count.max(there(kind)) };
        }
        self.kinds.retain(|kind, learnt| learnt.count > 0 || now.contains_key(kind));
        is_refitted
    }

    /// Keeps the UUIDs of the devices, and the marketing name on which those agree whose name is decided. What devices had that
    /// are gone stays as long as something is missing.
    fn remember_names(&mut self, present: &[PresentDevice<'_>]) {
        for (kind, learnt) in &mut self.kinds {
            let of_kind = present.iter().map(|present| present.device);
            let of_kind = of_kind.filter(|device| PciKind::of(device) == Some(*kind));
            let uuids: Vec<String> =
                of_kind.clone().filter_map(|device| device.uuid.value().cloned()).collect();
            if uuids.len() >= learnt.handles.len() || uuids.len() >= learnt.count as usize {
                learnt.handles = uuids;
            }
            let decided = of_kind.filter(|device| !device.undecided.contains(Fact::Product));
            let mut products = decided.filter_map(Device::product_name);
            if let Some(product) = products.next() {
                learnt.product = products.all(|other| other == product).then(|| product.to_owned());
            }
        }
    }

    /// Gives a missing device of a learnt kind the name of its product, if it has none.
    pub(crate) fn name(&self, missing: &mut MissingDevice) {
        let kind =
            missing.vendor_id.zip(missing.device_id).map(|(vendor, device)| PciKind { vendor, device });
        if let (None, Some(kind)) = (&missing.product, kind) {
            missing.product = self.kinds.get(&kind).and_then(|learnt| learnt.product.clone());
        }
    }

    /// Whether there are as many devices of each kind as were ever seen.
    pub(crate) fn is_complete(&self, present: &[PresentDevice<'_>]) -> bool {
        let now = counts(present);
        self.kinds.iter().all(|(kind, learnt)| {
            // A kind that is known was seen, be it for too short a time to be learnt.
            let seen = (learnt.count as usize).max(learnt.handles.len()).max(1);
            now.get(kind).is_some_and(|count| *count as usize >= seen)
        })
    }

    /// The numbers that were learnt.
    pub(crate) fn expectation(&self) -> Expectation {
        let kinds: BTreeMap<PciKind, u32> =
            self.kinds.iter().map(|(kind, learnt)| (*kind, learnt.count)).filter(|(_, n)| *n > 0).collect();
        if kinds.is_empty() { Expectation::Nothing } else { Expectation::Learnt(kinds) }
    }

    /// The names of devices of a kind that are not among those that are there.
    pub(crate) fn gone(&self, present: &[PresentDevice<'_>]) -> Vec<GoneDevice> {
        let is_there =
            |uuid: &String| present.iter().any(|present| present.device.uuid.value() == Some(uuid));
        let of_kind = |(kind, learnt): (&PciKind, &LearntKind)| {
            let gone = learnt.handles.iter().filter(|uuid| !is_there(uuid));
            let gone = gone.map(|uuid| GoneDevice {
                kind: *kind,
                uuid: Some(uuid.clone()),
                id: None,
                product: None,
            });
            gone.collect::<Vec<_>>()
        };
        self.kinds.iter().flat_map(of_kind).collect()
    }

    /// Expects one device of a kind less.
    pub(crate) fn forget(&mut self, kind: PciKind, uuid: Option<&str>) {
        if let Some(learnt) = self.kinds.get_mut(&kind) {
            learnt.count = learnt.count.saturating_sub(1);
            learnt.handles.retain(|handle| Some(handle.as_str()) != uuid);
            if learnt.count == 0 && learnt.handles.is_empty() {
                self.kinds.remove(&kind);
            }
        }
    }

    /// For the annotation.
    pub(crate) fn to_ids(&self) -> Vec<ExpectedId> {
        let entry = |(kind, learnt): (&PciKind, &LearntKind)| ExpectedId {
            id: kind.to_string(),
            n: learnt.count,
            product: learnt.product.clone(),
            handles: learnt.handles.clone(),
        };
        self.kinds.iter().map(entry).collect()
    }

    /// From the annotation. An id that cannot be parsed is ignored.
    pub(crate) fn from_ids(ids: &[ExpectedId]) -> Learnt {
        let entry = |id: &ExpectedId| {
            let (product, handles) = (id.product.clone(), id.handles.clone());
            Some((PciKind::parse(&id.id)?, LearntKind { count: id.n, product, handles }))
        };
        Learnt { kinds: ids.iter().filter_map(entry).collect() }
    }
}

/// How many devices of each kind there are.
pub(crate) fn counts(present: &[PresentDevice<'_>]) -> BTreeMap<PciKind, u32> {
    let mut counts = BTreeMap::new();
    for kind in present.iter().filter_map(|present| PciKind::of(present.device)) {
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
