//! The kubelet's responses, joined with the devices while they are read: pure.
//!
//! A response may name hundreds of thousands of ids, for instance one for each MiB of memory. So no id is kept: it becomes its device
//! or partition at once, and a container that holds many ids of a device is one [`Allocation`].

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    mem,
};

use afd_model::{Allocation, AllocationMechanism, OfferedUnit, UnitId};

use crate::{
    messages::Part,
    names::{NamedDevice, UnitNames},
    wire::WireEvent,
};

/// How many allocations are kept: 16 devices with 8 partitions each, and 8 pods that share each partition.
const MAX_ALLOCATIONS: usize = 1024;
/// How many bytes their names may have together. A vendor's exporter repeats them in each of its families.
const MAX_NAME_BYTES: usize = 128 << 10;
/// How many ids are joined. A response of [`crate::client::MAX_RESPONSE_BYTES`] could name ten times as many.
const MAX_IDS: u64 = 1 << 20;
/// Of how many ids it is known whether several containers hold them; further ones count as distinct.
const MAX_DISTINCT_IDS: usize = 1 << 14;
/// How many containers of a pod and resources of a container wait for the name that may come last, and of how many resources the
/// held ids are counted.
const MAX_WAITING: usize = MAX_ALLOCATIONS;

/// What the kubelet reports.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KubeletReport {
    /// Which container holds which device, sorted. Held devices that are not in the inventory are left out; most are of other kinds,
    /// such as NICs.
    pub allocations: BTreeSet<Allocation>,
    /// How much of an extended resource, or how many devices of a DRA driver, is held; devices that are not in the inventory count.
    pub held: BTreeMap<(AllocationMechanism, String), u64>,
    /// The pods that hold RDMA devices: namespace and name.
    pub rdma_pods: BTreeSet<(String, String)>,
    /// The healthy devices of all device plugins, held or not. None where the kubelet does not serve them, has not for
    /// [`MAX_AGE`](crate::MAX_AGE), or has just started and its plugins may not have registered yet.
    pub ready: Option<BTreeSet<OfferedUnit>>,
    /// How many ids were not read, because there are too many or they are no names.
    pub skipped: u64,
    /// Whether a device that is in no allocation is held by no pod. A kubelet that has just started does not know yet.
    pub complete: bool,
}

/// What one response says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct JoinedResponse {
    pub(crate) allocations: BTreeSet<Allocation>,
    pub(crate) held: BTreeMap<(AllocationMechanism, String), u64>,
    pub(crate) rdma_pods: BTreeSet<(String, String)>,
    pub(crate) units: BTreeSet<OfferedUnit>,
    pub(crate) skipped: u64,
    /// Of the allocations.
    name_bytes: usize,
}

impl JoinedResponse {
    /// What either says.
    pub(crate) fn merge(&mut self, other: JoinedResponse) {
        for allocation in other.allocations {
            self.insert(allocation);
        }
        for (by, count) in other.held {
            let own = self.held.entry(by).or_default();
            *own = count.max(*own);
        }
        for pod in other.rdma_pods {
            self.insert_rdma_pod(pod);
        }
    }

    /// A pod that is left out is one whose use of RDMA is not known.
    fn insert_rdma_pod(&mut self, pod: (String, String)) {
        let name_bytes = self.name_bytes.saturating_add(pod.0.len() + pod.1.len());
        let is_new = !self.rdma_pods.contains(&pod);
        if is_new && self.rdma_pods.len() < MAX_ALLOCATIONS && name_bytes <= MAX_NAME_BYTES {
            self.name_bytes = name_bytes;
            self.rdma_pods.insert(pod);
        }
    }

    fn insert(&mut self, allocation: Allocation) {
        if self.allocations.contains(&allocation) {
            return;
        }
        let Allocation { namespace, pod, container, resource, unit: _, mechanism: _ } = &allocation;
        let names = [namespace, pod, container, resource].map(String::len).iter().sum::<usize>();
        let name_bytes = self.name_bytes.saturating_add(names);
        if self.allocations.len() < MAX_ALLOCATIONS && name_bytes <= MAX_NAME_BYTES {
            self.name_bytes = name_bytes;
            self.allocations.insert(allocation);
        } else {
            self.skipped = self.skipped.saturating_add(1);
        }
    }
}

/// Joins a response while it is read.
pub(crate) struct Joiner<'n> {
    names: &'n UnitNames,
    joined: JoinedResponse,
    ids: u64,
    distinct: HashSet<u64>,
    pod: String,
    namespace: String,
    container: String,
    /// Whether a container of the pod holds an RDMA device.
    has_rdma: bool,
    /// What the pod's containers hold.
    of_pod: BTreeSet<(String, ContainerHold)>,
    /// What the container holds, before its name and that of the pod are known for certain.
    of_container: BTreeSet<ContainerHold>,
    /// The extended resource of the ids that follow.
    resource: String,
    /// How many ids of it were new, and the device of the last one.
    run: IdRun,
    claim: String,
    driver: String,
    device: String,
}

/// Ids of one resource, which follow one another.
#[derive(Default)]
struct IdRun {
    new: u64,
    last: Option<UnitId>,
}

/// A device that a container holds.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct ContainerHold {
    unit: UnitId,
    mechanism: AllocationMechanism,
    resource: String,
}

impl<'n> Joiner<'n> {
    pub(crate) fn new(names: &'n UnitNames) -> Joiner<'n> {
        Joiner {
            names,
            joined: JoinedResponse::default(),
            ids: 0,
            distinct: HashSet::new(),
            pod: String::new(),
            namespace: String::new(),
            container: String::new(),
            has_rdma: false,
            of_pod: BTreeSet::new(),
            of_container: BTreeSet::new(),
            resource: String::new(),
            run: IdRun::default(),
            claim: String::new(),
            driver: String::new(),
            device: String::new(),
        }
    }

    pub(crate) fn finish(self) -> JoinedResponse {
        self.joined
    }

    /// Takes in what was read.
    pub(crate) fn take(&mut self, event: WireEvent<'_, Part>) {
        match event {
            WireEvent::Text(part, Some(text)) => self.take_text(part, text),
            WireEvent::Text(_, None) => self.skip(1),
            WireEvent::End(part) => self.end(part),
            WireEvent::Begin(_) => {}
        }
    }

    fn take_text(&mut self, part: Part, text: &str) {
        let place = match part {
            Part::PodName => &mut self.pod,
            Part::Namespace => &mut self.namespace,
            Part::ContainerName => &mut self.container,
            Part::Resource => &mut self.resource,
            Part::ClaimName => &mut self.claim,
            Part::Driver => &mut self.driver,
            Part::DraDevice => &mut self.device,
            Part::AllocatableId | Part::HeldId => return self.plugin_device(part, text),
            _ => return,
        };
        text.clone_into(place);
    }

    /// An id of a device plugin. Its resource comes first: every encoder writes fields by their tags.
    fn plugin_device(&mut self, part: Part, id: &str) {
        if !self.admit() {
            return;
        }
        let resource = mem::take(&mut self.resource);
        let unit = self.names.unit(NamedDevice::Plugin { resource: &resource, id });
        self.has_rdma |= part == Part::HeldId && AllocationMechanism::DevicePlugin.is_rdma(&resource);
        if part == Part::HeldId && self.is_new(AllocationMechanism::DevicePlugin, &resource, id) {
            self.run.new = self.run.new.saturating_add(1);
        }
        // Most ids are further ones of the same device.
        if unit.is_some() && unit != self.run.last {
            self.run.last = unit;
            match part {
                Part::HeldId => self.hold(unit, AllocationMechanism::DevicePlugin, &resource),
                _ => self.offer(&resource, unit),
            }
        }
        self.resource = resource;
    }

    fn end_devices(&mut self) {
        let IdRun { new, last: _ } = mem::take(&mut self.run);
        let resource = mem::take(&mut self.resource);
        self.count(AllocationMechanism::DevicePlugin, resource, new);
    }

    fn offer(&mut self, resource: &str, unit: Option<UnitId>) {
        let Some(unit) = unit else { return };
        let offered = OfferedUnit { by: resource.to_owned(), unit };
        if self.joined.units.len() < MAX_ALLOCATIONS || self.joined.units.contains(&offered) {
            self.joined.units.insert(offered);
        } else {
            self.skip(1);
        }
    }

    /// A device of a DRA driver, at the end of its message.
    fn dra_device(&mut self) {
        let (driver, device) = (mem::take(&mut self.driver), mem::take(&mut self.device));
        if self.admit() {
            let unit = self.names.unit(NamedDevice::Dra { driver: &driver, device: &device });
            let resource = format!("{driver}/{}", self.claim);
            self.hold(unit, AllocationMechanism::Dra, &resource);
            self.has_rdma |= AllocationMechanism::Dra.is_rdma(&driver);
            let new = u64::from(self.is_new(AllocationMechanism::Dra, &driver, &device));
            self.count(AllocationMechanism::Dra, driver, new);
        }
    }

    fn hold(&mut self, unit: Option<UnitId>, mechanism: AllocationMechanism, resource: &str) {
        let Some(unit) = unit else { return };
        let hold = ContainerHold { unit, mechanism, resource: resource.to_owned() };
        if self.of_container.len() < MAX_WAITING {
            self.of_container.insert(hold);
        } else {
            self.skip(1);
        }
    }

    /// Whether no other container holds an id.
    fn is_new(&mut self, mechanism: AllocationMechanism, by: &str, id: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (mechanism, by, id).hash(&mut hasher);
        let hash = hasher.finish();
        if self.distinct.len() < MAX_DISTINCT_IDS {
            self.distinct.insert(hash)
        } else {
            !self.distinct.contains(&hash)
        }
    }

    /// Counts held ids.
    fn count(&mut self, mechanism: AllocationMechanism, by: String, new: u64) {
        let key = (mechanism, by);
        if new == 0 {
            return;
        }
        if self.joined.held.len() < MAX_WAITING || self.joined.held.contains_key(&key) {
            let count = self.joined.held.entry(key).or_default();
            *count = count.saturating_add(new);
        } else {
            self.skip(new);
        }
    }

    /// Whether another id is read.
    fn admit(&mut self) -> bool {
        self.ids = self.ids.saturating_add(1);
        let admitted = self.ids <= MAX_IDS;
        if !admitted {
            self.skip(1);
        }
        admitted
    }

    fn skip(&mut self, count: u64) {
        self.joined.skipped = self.joined.skipped.saturating_add(count);
    }

    fn end(&mut self, part: Part) {
        match part {
            Part::Devices => self.end_devices(),
            Part::ClaimResource => self.dra_device(),
            Part::Claim => self.claim.clear(),
            Part::Container => {
                let container = mem::take(&mut self.container);
                for hold in mem::take(&mut self.of_container) {
                    if self.of_pod.len() < MAX_WAITING {
                        self.of_pod.insert((container.clone(), hold));
                    } else {
                        self.skip(1);
                    }
                }
            }
            Part::Pod => self.end_pod(),
            _ => {}
        }
    }

    fn end_pod(&mut self) {
        let (namespace, pod) = (mem::take(&mut self.namespace), mem::take(&mut self.pod));
        if mem::take(&mut self.has_rdma) {
            self.joined.insert_rdma_pod((namespace.clone(), pod.clone()));
        }
        for (container, hold) in mem::take(&mut self.of_pod) {
            self.joined.insert(Allocation {
                unit: hold.unit,
                namespace: namespace.clone(),
                pod: pod.clone(),
                container,
                resource: hold.resource,
                mechanism: hold.mechanism,
            });
        }
    }
}

#[cfg(test)]
mod tests;
