//! What Kubernetes offers against the devices that are there.
//!
//! Two mechanisms hand devices out: a device plugin makes extended resources of the Node, a DRA driver publishes
//! ResourceSlices. Both are compared with the inventory, vendor by vendor. A count alone can mislead, since sharing
//! multiplies an extended resource and partitions may be offered whole or in parts: something is said to be lacking only
//! if it is in every reading of the count.

mod providers;

use std::collections::{BTreeMap, BTreeSet};

use afd_model::{
    AllocationMechanism, Device, DeviceId, HealthState, Inventory, Offers, PublishedOffers, ResourceCount,
};

use providers::{PROVIDERS, Provider};

/// The offers, compared.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Offered {
    /// Hardware and offer in numbers, sorted by resource.
    pub counts: Vec<OfferCount>,
    /// How devices are handed out: `device-plugin`, `dra`, `both` or `none`; none while it is not known.
    pub allocation: Option<&'static str>,
    /// Whether all devices that may take work are offered.
    pub verdict: Verdict,
}

/// One extended resource, or one DRA driver, in numbers.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct OfferCount {
    /// The extended resource (`nvidia.com/gpu`) or the driver (`gpu.nvidia.com`).
    pub resource: String,
    /// Which of the two it is.
    pub mechanism: AllocationMechanism,
    /// Devices and partitions that the node has of the kind; none where the plugin's settings would have to be guessed.
    pub discovered: Option<u64>,
    /// What pods may have. Sharing multiplies it.
    pub allocatable: u64,
    /// What pods hold; none while the kubelet is not asked.
    pub allocated: Option<u64>,
}

/// Whether what is there is offered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Verdict {
    /// All that may take work is offered, once.
    AsFound,
    /// It is not known what is offered.
    #[default]
    Unknown,
    /// Something is not offered; a sentence that a person can act on.
    Lacking(String),
    /// Something is offered by both mechanisms; likewise.
    Twice(String),
}

impl Offered {
    /// The same but for what pods hold, which the Node is not told.
    #[must_use]
    pub fn without_holders(&self) -> Offered {
        let mut offered = self.clone();
        for count in &mut offered.counts {
            count.allocated = None;
        }
        offered
    }
}

/// Compares. Integrated GPUs are expected to be offered only where they count.
pub fn offered(inventory: &Inventory, offers: &Offers, include_integrated: bool) -> Offered {
    let counted = |device: &&Device| include_integrated || !device.integrated;
    let devices: Vec<&Device> = inventory.devices.iter().filter(counted).collect();
    let groups: Vec<Group<'_>> =
        PROVIDERS.iter().filter_map(|provider| Group::of(provider, &devices, offers)).collect();
    let mut counts: Vec<OfferCount> = groups.iter().flat_map(Group::counts).collect();
    counts.sort();
    Offered { counts, allocation: allocation(&groups, offers), verdict: verdict(&groups) }
}

/// The devices of one vendor, and what is offered of them.
struct Group<'a> {
    provider: &'static Provider,
    devices: Vec<&'a Device>,
    offers: &'a Offers,
    /// The extended resources of the provider that its plugin has told of.
    resources: BTreeMap<&'a str, ResourceCount>,
    /// The devices that its DRA driver offers.
    published: BTreeSet<DeviceId>,
}

impl<'a> Group<'a> {
    fn of(provider: &'static Provider, devices: &[&'a Device], offers: &'a Offers) -> Option<Group<'a>> {
        let devices: Vec<&Device> = devices.iter().copied().filter(|device| provider.is_of(device)).collect();
        let resources = offers.resources.iter().flatten();
        let resources = resources
            .filter(|(name, count)| provider.makes(name) && count.capacity > 0)
            .map(|(name, count)| (name.as_str(), *count));
        let published = offers.published.iter().flat_map(|published| &published.units);
        let published = published.filter(|part| part.by == provider.driver).map(|part| part.unit.device);
        (!devices.is_empty()).then(|| Group {
            provider,
            resources: resources.collect(),
            published: published.collect(),
            devices,
            offers,
        })
    }

    /// Those that may take work.
    fn expected(&self) -> Vec<&'a Device> {
        let able = |device: &&Device| device.health.state != HealthState::Failed;
        self.devices.iter().copied().filter(able).collect()
    }

    fn counts(&self) -> Vec<OfferCount> {
        let held = |mechanism, name: &str| {
            let held = self.offers.held.as_ref()?;
            Some(held.get(&(mechanism, name.to_owned())).copied().unwrap_or_default())
        };
        let names: Vec<&str> = self.resources.keys().copied().collect();
        let plugin = self.resources.iter().map(|(name, count)| {
            let readings = self.provider.readings(name, &self.devices, &names);
            let told = readings.iter().copied().find(|units| *units == count.capacity);
            OfferCount {
                resource: (*name).to_owned(),
                mechanism: AllocationMechanism::DevicePlugin,
                discovered: told.or_else(|| (readings.len() == 1).then(|| readings[0])),
                allocatable: count.allocatable,
                allocated: held(AllocationMechanism::DevicePlugin, name),
            }
        });
        let driver = self.provider.driver;
        let dra = self.complete().map(|published| OfferCount {
            resource: driver.to_owned(),
            mechanism: AllocationMechanism::Dra,
            discovered: Some(self.devices.iter().map(|device| units(device)).sum()),
            allocatable: published.units.iter().filter(|part| part.by == driver).count() as u64,
            allocated: held(AllocationMechanism::Dra, driver),
        });
        plugin.chain(dra).collect()
    }

    /// What the driver publishes, if there is such a driver and all of it is there.
    fn complete(&self) -> Option<&'a PublishedOffers> {
        let published = self.offers.published.as_ref()?;
        let driver = self.provider.driver;
        (published.drivers.contains(driver) && !published.incomplete.contains(driver)).then_some(published)
    }

    /// Whether it is known what the DRA driver publishes, be it nothing.
    fn slices_are_known(&self) -> bool {
        self.offers
            .published
            .as_ref()
            .is_some_and(|published| !published.incomplete.contains(self.provider.driver))
    }

    fn verdict(&self) -> Verdict {
        match (self.resources.is_empty(), self.published.is_empty()) {
            (true, true) => self.nothing_offered(),
            (false, true) => self.plugin_verdict(),
            (true, false) => self.driver_verdict(),
            (false, false) => self.both_verdict(),
        }
    }

    fn nothing_offered(&self) -> Verdict {
        if self.offers.resources.is_none() || !self.slices_are_known() {
            return Verdict::Unknown;
        }
        let expected = self.expected().len();
        if expected == 0 {
            return Verdict::AsFound;
        }
        let (vendor, driver) = (self.provider.vendor.as_str(), self.provider.driver);
        Verdict::Lacking(if self.complete().is_some() {
            format!(
                "the DRA driver {driver} publishes none of {expected} devices; look at its log on this node"
            )
        } else {
            format!(
                "no device plugin and no DRA driver offers the {expected} devices of {vendor}; install one, or look \
                 whether its pod runs on this node"
            )
        })
    }

    fn plugin_verdict(&self) -> Verdict {
        let (expected, names) = (self.expected(), self.resources.keys().copied().collect::<Vec<_>>());
        let mut lacking = Vec::new();
        for (name, count) in &self.resources {
            let fewest =
                |devices: &[&Device]| self.provider.readings(name, devices, &names).into_iter().min();
            let (Some(found), Some(able)) = (fewest(&self.devices), fewest(&expected)) else { continue };
            // A plugin that shares tells of every device the same number of times.
            let shares = match found {
                1.. if count.capacity > found && count.capacity.is_multiple_of(found) => {
                    count.capacity / found
                }
                _ => 1,
            };
            let offered = count.allocatable / shares;
            if offered < able {
                lacking.push(format!(
                    "{able} devices may take work and {offered} are allocatable as {name}{}; look at the log of the \
                     device plugin on this node",
                    self.not_ready(name, &expected)
                ));
            }
        }
        if lacking.is_empty() { Verdict::AsFound } else { Verdict::Lacking(lacking.join("; ")) }
    }

    /// Which devices the plugin does not hold ready, where the kubelet tells.
    fn not_ready(&self, resource: &str, expected: &[&Device]) -> String {
        let Some(ready) = &self.offers.ready else { return String::new() };
        let held: BTreeSet<DeviceId> =
            ready.iter().filter(|part| part.by == resource).map(|part| part.unit.device).collect();
        let lacking: Vec<String> = expected
            .iter()
            .map(|device| device.id)
            .filter(|id| !held.contains(id))
            .map(|id| id.to_string())
            .collect();
        if lacking.is_empty() { String::new() } else { format!(" (not {})", lacking.join(", ")) }
    }

    fn driver_verdict(&self) -> Verdict {
        let driver = self.provider.driver;
        if !self.slices_are_known() {
            return Verdict::Unknown;
        }
        let lacking: Vec<String> = self
            .expected()
            .into_iter()
            .filter(|device| !self.published.contains(&device.id))
            .map(|device| device.id.to_string())
            .collect();
        if lacking.is_empty() {
            return Verdict::AsFound;
        }
        Verdict::Lacking(format!(
            "the DRA driver {driver} does not publish {}, or has tainted it; look at its log on this node",
            lacking.join(", ")
        ))
    }

    fn both_verdict(&self) -> Verdict {
        let driver = self.provider.driver;
        let names = self.resources.keys().copied().collect::<Vec<_>>().join(", ");
        let twice = |which: String| {
            Verdict::Twice(format!(
                "{which} offered both as {names} by a device plugin and by the DRA driver {driver}, so that two pods may be \
                 given one device; let one of the two offer it"
            ))
        };
        let expected = self.expected();
        if let Some(ready) = &self.offers.ready {
            let ready: BTreeSet<DeviceId> = ready
                .iter()
                .filter(|part| self.resources.contains_key(part.by.as_str()))
                .map(|part| part.unit.device)
                .collect();
            let both: Vec<String> = ready.intersection(&self.published).map(ToString::to_string).collect();
            if !both.is_empty() {
                return twice(format!("{} {}", both.join(", "), if both.len() == 1 { "is" } else { "are" }));
            }
            let lacking: Vec<String> = expected
                .iter()
                .map(|device| device.id)
                .filter(|id| !ready.contains(id) && !self.published.contains(id))
                .map(|id| id.to_string())
                .collect();
            return match lacking.is_empty() {
                true => Verdict::AsFound,
                false => Verdict::Lacking(format!(
                    "neither the device plugin of {names} nor the DRA driver {driver} offers {}; look at their logs on \
                     this node",
                    lacking.join(", ")
                )),
            };
        }
        // Counts alone: they can be told apart only where nothing is cut.
        let whole = self.devices.iter().all(|device| device.partitions.is_empty());
        let capacity: u64 = self.resources.values().map(|count| count.capacity).sum();
        let left = (self.devices.len() - self.published.len()) as u64;
        if whole && capacity > left {
            return twice(format!("of {} devices some are", self.devices.len()));
        }
        Verdict::AsFound
    }
}

/// A device, or the partitions that it is cut into.
fn units(device: &Device) -> u64 {
    device.partitions.len().max(1) as u64
}

fn allocation(groups: &[Group<'_>], offers: &Offers) -> Option<&'static str> {
    let resources_are_known = offers.resources.is_some();
    let plugin = groups.iter().any(|group| !group.resources.is_empty());
    let dra = groups.iter().any(|group| !group.published.is_empty());
    let slices_are_known = groups.iter().all(Group::slices_are_known);
    match (plugin, dra) {
        _ if groups.is_empty() => None,
        (true, true) => Some("both"),
        (true, false) => slices_are_known.then_some("device-plugin"),
        (false, true) => resources_are_known.then_some("dra"),
        (false, false) => (resources_are_known && slices_are_known).then_some("none"),
    }
}

/// What lacks goes before what is not known, and that before what is offered twice.
fn verdict(groups: &[Group<'_>]) -> Verdict {
    let (mut lacking, mut twice, mut unknown) = (Vec::new(), Vec::new(), false);
    for group in groups {
        match group.verdict() {
            Verdict::AsFound => {}
            Verdict::Unknown => unknown = true,
            Verdict::Lacking(what) => lacking.push(what),
            Verdict::Twice(what) => twice.push(what),
        }
    }
    match (lacking.is_empty(), unknown, twice.is_empty()) {
        (false, ..) => Verdict::Lacking(lacking.join("; ")),
        (true, true, _) => Verdict::Unknown,
        (true, false, false) => Verdict::Twice(twice.join("; ")),
        (true, false, true) => Verdict::AsFound,
    }
}

#[cfg(test)]
mod tests;
