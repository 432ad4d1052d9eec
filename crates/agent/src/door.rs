//! What the door needs besides the other pages: which pods hold devices that are gone, and which pods serve with a device that
//! another pod holds.

use std::collections::{BTreeMap, BTreeSet};

use afd_derive::{
    compat::metrics::{DoorFault, FaultyDevice},
    vendors,
};
use afd_model::{
    Allocation, Device, DeviceId, Handle, HandleKind, Inventory, Known, MissingDevice, PciAddress,
    PodNetworks, UnitId,
};
use afd_track::ConfirmedFault;

/// The devices as they were last seen. A kubelet names a device that is gone, or that its driver has lost, as it did before.
#[derive(Debug, Default)]
pub struct LastSeen(BTreeMap<DeviceId, Device>);

/// A device under the names that it had.
#[derive(Clone, Debug)]
pub struct FormerDevice {
    /// Where it is gone, the id of the missing device: `missing-1`.
    pub missing: Option<String>,
    /// As it was last seen.
    pub device: Device,
}

/// Of addresses that no device has: domains have 16 bits, or 32 bits that a driver counts up from 0x10000.
const NO_DOMAIN: u32 = u32::MAX;

impl LastSeen {
    /// Takes in the devices that are there, and returns those whose names the inventory lacks, as far as they are known.
    pub fn update(&mut self, inventory: &Inventory) -> Vec<FormerDevice> {
        let mut former = Vec::new();
        for device in &inventory.devices {
            match self.0.get(&device.id) {
                Some(seen) if !has_names(device) && has_names(seen) && may_be_the_same(seen, device) => {
                    former.push(FormerDevice { missing: None, device: seen.clone() });
                }
                _ => drop(self.0.insert(device.id, device.clone())),
            }
        }
        let missing = inventory.missing.iter().enumerate();
        former.extend(missing.filter_map(|(number, missing)| {
            let is_there = |id: &DeviceId| inventory.devices.iter().any(|device| device.id == *id);
            let seen = missing.last_id.filter(|id| !is_there(id)).and_then(|id| self.0.get(&id)).cloned();
            let device = seen.or_else(|| by_uuid(missing, number))?;
            Some(FormerDevice { missing: Some(missing.id.clone()), device })
        }));
        former
    }
}

/// Whether anything but its address names a device.
fn has_names(device: &Device) -> bool {
    let is_name = |handle: &Handle| {
        matches!(handle.kind, HandleKind::Uuid | HandleKind::DevicePlugin | HandleKind::Dra)
    };
    device.handles.iter().any(is_name)
}

/// Whether nothing shows that a device was replaced by another one.
fn may_be_the_same(seen: &Device, now: &Device) -> bool {
    let uuids = seen.uuid.value().zip(now.uuid.value());
    seen.pci.device_id == now.pci.device_id && uuids.is_none_or(|(seen, now)| seen == now)
}

/// A device that an earlier agent has seen, of which the Node remembers the UUID.
fn by_uuid(missing: &MissingDevice, number: usize) -> Option<Device> {
    let (record, uuid) = (vendors::by_probe(&missing.probe)?, missing.uuid.as_ref()?);
    let address = PciAddress { domain: NO_DOMAIN, bus: u8::try_from(number).ok()?, device: 0, function: 0 };
    let handles = [HandleKind::Uuid, HandleKind::DevicePlugin].map(|kind| Handle::new(kind, uuid.as_str()));
    let bare = Device::bare(address, record.vendor, record.variant);
    Some(Device { uuid: Known::Value(uuid.clone()), handles: handles.into(), ..bare })
}

/// The faults for the door, with the holders of devices that are gone.
pub fn faults(
    confirmed: &[ConfirmedFault],
    inventory: &Inventory,
    held_of_gone: &[(String, Allocation)],
) -> Vec<DoorFault> {
    let of_device = |fault: &ConfirmedFault| {
        let present = inventory.devices.iter().find(|device| device.id.to_string() == fault.device);
        let missing = || {
            let device = inventory.missing.iter().find(|missing| missing.id == fault.device)?.clone();
            let holders = held_of_gone.iter().filter(|(id, _)| *id == device.id);
            Some(FaultyDevice::Missing { holders: holders.map(|(_, held)| held.clone()).collect(), device })
        };
        let device = present.map(|device| FaultyDevice::Present(device.id)).or_else(missing)?;
        Some(DoorFault { device, reason: fault.reason.clone() })
    };
    confirmed.iter().filter_map(of_device).collect()
}

/// The allocations with those of pods that serve with a device which another pod holds, after it. Both pods must name each other as
/// partners and be of one namespace, and the one that serves must name the device: a tenant can credit its own pods alone, with
/// devices alone that one of them holds.
pub fn with_partners(allocations: &[Allocation], pods: &PodNetworks, devices: &[Device]) -> Vec<Allocation> {
    let mut credited: BTreeSet<Allocation> = allocations.iter().cloned().collect();
    for held in allocations {
        let of_namespace = |pod: &str| pods.get(&(held.namespace.clone(), pod.to_owned()));
        let Some(partner) = of_namespace(&held.pod).and_then(|holder| holder.partner.as_deref()) else {
            continue;
        };
        let Some(pod) = of_namespace(partner) else { continue };
        let is_mutual = pod.partner.as_deref() == Some(held.pod.as_str()) && partner != held.pod;
        let uuids = uuids(devices, held.unit);
        if is_mutual && uuids.iter().any(|uuid| pod.used_devices.contains(*uuid)) {
            credited.insert(Allocation { pod: partner.to_owned(), container: String::new(), ..held.clone() });
        }
    }
    credited.into_iter().collect()
}

/// The UUIDs of a device or partition.
fn uuids(devices: &[Device], unit: UnitId) -> Vec<&str> {
    let Some(device) = devices.iter().find(|device| device.id == unit.device) else { return Vec::new() };
    let handles = match unit.partition {
        None => &device.handles,
        Some(name) => match device.partitions.iter().find(|partition| partition.name == name) {
            Some(partition) => &partition.handles,
            None => return Vec::new(),
        },
    };
    let of_device = device.uuid.value().map(String::as_str).filter(|_| unit.partition.is_none());
    let handles = handles.iter().filter(|handle| handle.kind == HandleKind::Uuid);
    of_device.into_iter().chain(handles.map(|handle| handle.value.as_str())).collect()
}

#[cfg(test)]
mod tests;
