//! What the cluster tells of this node's devices: who holds them, and what is offered of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use afd_apiserver::slices::{NodeSlices, PublishedDevices};
use afd_derive::offer::{self, OfferCount, Offered};
use afd_kubelet::{Answer, Attributes, Hold, Names, Offer};
use afd_model::{Allocation, AllocationMechanism, DeviceId, Inventory, OfferedUnit, Offers, PublishedOffers};
use afd_publish::node::ExtendedResources;
use tokio::sync::watch;

/// For how long an offer must have shrunk before the Node says so: a kubelet or a plugin that is started anew offers
/// nothing for some seconds.
const SHRUNK_FOR: Duration = Duration::from_secs(30);

/// What those who ask the cluster have heard last.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The extended resources of the Node, from the API server.
    pub resources: watch::Receiver<Option<ExtendedResources>>,
    /// The devices that the Node told of before this agent, from the API server.
    pub before: watch::Receiver<Option<BTreeSet<DeviceId>>>,
    /// The ResourceSlices of the node, from the API server.
    pub slices: watch::Receiver<NodeSlices>,
    /// What the kubelet said.
    pub kubelet: watch::Receiver<Option<Answer>>,
}

/// The same, joined with the inventory.
#[derive(Debug)]
pub struct Told {
    /// Who holds the devices.
    pub allocations: Vec<Allocation>,
    /// What is offered of them, for metrics.
    pub counts: Vec<OfferCount>,
    offers: Offers,
    /// Whether the API server was asked for all of it.
    asked: bool,
}

impl Heard {
    /// Joins what was heard with an inventory.
    pub fn join(&self, inventory: &Inventory, include_integrated: bool) -> Told {
        let (resources, slices, kubelet) =
            (self.resources.borrow(), self.slices.borrow(), self.kubelet.borrow());
        let published = match &*slices {
            NodeSlices::Known(published) => Some(published),
            NodeSlices::Pending | NodeSlices::Unavailable => None,
        };
        let names = Names::of(inventory, published.map(attributes).unwrap_or_default());
        let holds = kubelet.as_ref().map(|answer| answer.holds.as_slice());
        let (allocations, _) = afd_kubelet::allocations(&names, holds.unwrap_or_default());
        let ready = kubelet.as_ref().and_then(|answer| answer.ready.as_ref());
        let offers = Offers {
            resources: resources.clone(),
            ready: ready.map(|ready| ready.iter().filter_map(|offer| part(&names, offer)).collect()),
            published: published.map(|published| published_offers(&names, published)),
            held: holds.map(held),
        };
        let counts = offer::offered(inventory, &offers, include_integrated).counts;
        let asked = resources.is_some() && *slices != NodeSlices::Pending;
        Told { allocations, counts, offers, asked }
    }
}

fn attributes(published: &PublishedDevices) -> Attributes<'_> {
    let devices = published.devices.iter();
    devices.map(|device| ((device.driver.as_str(), device.name.as_str()), &device.attributes)).collect()
}

/// The part of the inventory that is offered, if it is one.
fn part(names: &Names<'_>, offer: &Offer) -> Option<OfferedUnit> {
    let by = match offer {
        Offer::Plugin { resource, .. } => resource,
        Offer::Dra { driver, .. } => driver,
    };
    Some(OfferedUnit { by: by.clone(), unit: names.unit(offer)? })
}

fn published_offers(names: &Names<'_>, published: &PublishedDevices) -> PublishedOffers {
    let allocatable = published.devices.iter().filter(|device| device.allocatable);
    let offers = allocatable.map(|device| Offer::Dra {
        driver: device.driver.clone(),
        claim: String::new(),
        device: device.name.clone(),
    });
    PublishedOffers {
        units: offers.filter_map(|offer| part(names, &offer)).collect(),
        drivers: published.drivers.clone(),
        incomplete: published.incomplete.clone(),
    }
}

/// How many devices of each resource and driver are held. Two containers may hold one.
fn held(holds: &[Hold]) -> BTreeMap<(AllocationMechanism, String), u64> {
    let distinct: BTreeSet<_> = holds
        .iter()
        .map(|hold| match &hold.offer {
            Offer::Plugin { resource, id } => (AllocationMechanism::DevicePlugin, resource, id),
            Offer::Dra { driver, device, .. } => (AllocationMechanism::Dra, driver, device),
        })
        .collect();
    let mut held = BTreeMap::new();
    for (mechanism, by, _) in distinct {
        *held.entry((mechanism, by.clone())).or_default() += 1;
    }
    held
}

/// Holds an offer back that has shrunk, until it has been smaller for a while.
#[derive(Debug, Default)]
pub struct SteadyOffers {
    told: Option<Offers>,
    shrunk_since: Option<Instant>,
}

impl SteadyOffers {
    /// What the Node may be told now; none before the API server was asked.
    pub fn look(
        &mut self,
        told: &Told,
        inventory: &Inventory,
        include_integrated: bool,
        now: Instant,
    ) -> Option<Offered> {
        if !told.asked {
            return None;
        }
        if self.told.as_ref().is_some_and(|last| has_shrunk(last, &told.offers)) {
            let since = *self.shrunk_since.get_or_insert(now);
            if now.duration_since(since) < SHRUNK_FOR {
                let last = self.told.as_ref()?;
                return Some(offer::offered(inventory, last, include_integrated));
            }
        }
        self.shrunk_since = None;
        self.told = Some(told.offers.clone());
        Some(offer::offered(inventory, &told.offers, include_integrated))
    }
}

/// Whether less of anything is offered than before.
fn has_shrunk(before: &Offers, now: &Offers) -> bool {
    let less_resources = before.resources.iter().flatten().any(|(name, before)| {
        let now = now.resources.as_ref().and_then(|now| now.get(name)).copied().unwrap_or_default();
        now.capacity < before.capacity || now.allocatable < before.allocatable
    });
    let parts = |offers: &Offers| {
        offers.published.as_ref().map(|published| published.units.clone()).unwrap_or_default()
    };
    less_resources || !parts(before).is_subset(&parts(now))
}

#[cfg(test)]
mod tests {
    use afd_model::{Device, PciAddress, ResourceCount, Variant, Vendor};

    use super::*;

    const GPU: &str = "amd.com/gpu";

    fn told(count: u64) -> Told {
        let count = ResourceCount { capacity: count, allocatable: count };
        let offers = Offers {
            resources: Some(BTreeMap::from([(GPU.to_owned(), count)])),
            published: Some(PublishedOffers::default()),
            ..Offers::default()
        };
        Told { allocations: Vec::new(), counts: Vec::new(), offers, asked: true }
    }

    #[test]
    fn an_offer_that_shrinks_is_believed_after_a_while_and_one_that_grows_at_once() {
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let inventory = Inventory {
            devices: vec![Device::bare(address, Vendor::Amd, Variant::Gpu)],
            ..Inventory::default()
        };
        let (mut steady, start) = (SteadyOffers::default(), Instant::now());
        let mut at = |seconds, count| {
            let offered = steady.look(&told(count), &inventory, false, start + Duration::from_secs(seconds));
            offered.and_then(|offered| offered.allocation)
        };
        assert_eq!(at(0, 0), Some("none"));
        assert_eq!(at(1, 1), Some("device-plugin"));
        assert_eq!(at(10, 0), Some("device-plugin"), "the kubelet may have been started anew");
        assert_eq!(at(20, 1), Some("device-plugin"));
        assert_eq!(at(30, 0), Some("device-plugin"));
        assert_eq!(at(59, 0), Some("device-plugin"));
        assert_eq!(at(60, 0), Some("none"));
    }

    #[test]
    fn nothing_is_told_before_all_was_asked() {
        let not_asked = Told { asked: false, ..told(1) };
        assert_eq!(
            SteadyOffers::default().look(&not_asked, &Inventory::default(), false, Instant::now()),
            None
        );
    }

    #[test]
    fn a_device_that_two_containers_hold_is_held_once() {
        let hold = |container: &str, id: &str| Hold {
            namespace: "ns".to_owned(),
            pod: "pod".to_owned(),
            container: container.to_owned(),
            offer: Offer::Plugin { resource: GPU.to_owned(), id: id.to_owned() },
        };
        let held = held(&[hold("a", "1"), hold("b", "1"), hold("b", "2")]);
        assert_eq!(held[&(AllocationMechanism::DevicePlugin, GPU.to_owned())], 2);
    }
}
