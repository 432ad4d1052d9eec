//! The kubelet's holds to allocations of the inventory's devices: pure.

use afd_model::{Allocation, AllocationMechanism};

use crate::{
    names::UnitNames,
    report::{DeviceHold, DeviceReference},
};

/// The holds as allocations, sorted. Holds on devices that are not in the inventory are left out; most are of other kinds,
/// such as NICs.
pub fn allocations(names: &UnitNames<'_>, holds: &[DeviceHold]) -> Vec<Allocation> {
    let mut allocations: Vec<Allocation> = holds.iter().filter_map(|hold| allocation(names, hold)).collect();
    allocations.sort();
    allocations.dedup();
    allocations
}

fn allocation(names: &UnitNames<'_>, hold: &DeviceHold) -> Option<Allocation> {
    let unit = names.unit(&hold.device)?;
    let (resource, mechanism) = match &hold.device {
        DeviceReference::Plugin { resource, .. } => (resource.clone(), AllocationMechanism::DevicePlugin),
        DeviceReference::Dra { driver, claim, .. } => (format!("{driver}/{claim}"), AllocationMechanism::Dra),
    };
    Some(Allocation {
        unit,
        namespace: hold.namespace.clone(),
        pod: hold.pod.clone(),
        container: hold.container.clone(),
        resource,
        mechanism,
    })
}

#[cfg(test)]
mod tests {
    use afd_model::{Device, Inventory, PciAddress, Variant, Vendor};

    use super::*;
    use crate::DraAttributes;

    #[test]
    fn holds_on_known_devices_become_sorted_allocations() {
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let devices = vec![Device::bare(address, Vendor::Amd, Variant::Gpu)];
        let inventory = Inventory { devices, ..Inventory::default() };
        let hold = |pod: &str, id: &str| DeviceHold {
            namespace: "ns".into(),
            pod: pod.into(),
            container: "c".into(),
            device: DeviceReference::Plugin { resource: "amd.com/gpu".into(), id: id.into() },
        };
        let names = UnitNames::new(&inventory, DraAttributes::new(), &|_| None);
        let holds = [
            hold("b", "0000:01:00.0"),
            hold("a", "0000:01:00.0"),
            hold("b", "0000:01:00.0"),
            hold("c", "mlx5_0"),
        ];
        let pods: Vec<String> =
            allocations(&names, &holds).into_iter().map(|allocation| allocation.pod).collect();
        assert_eq!(pods, ["a", "b"]);
    }
}
