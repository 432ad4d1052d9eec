//! Device ids of the kubelet to devices of the inventory: pure.

use std::collections::BTreeMap;

use afd_model::{
    Allocation, AllocationMechanism, Device, Handle, HandleKind, Inventory, PciAddress, UnitId, Vendor,
};

/// A container's hold, as the kubelet tells it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Hold {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// What is held.
    pub offer: Offer,
}

/// A device as its producer calls it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Offer {
    /// A device plugin's.
    Plugin {
        /// The extended resource.
        resource: String,
        /// Id of the device.
        id: String,
    },
    /// A DRA driver's.
    Dra {
        /// The driver.
        driver: String,
        /// The claim through which it is held.
        claim: String,
        /// Name of the device in the driver's ResourceSlices.
        device: String,
    },
}

/// What a DRA driver says of its devices, by driver and name of the device.
pub type Attributes<'a> = BTreeMap<(&'a str, &'a str), &'a BTreeMap<String, String>>;

/// All names by which device plugins and DRA drivers call the devices of an inventory.
#[derive(Debug)]
pub struct Names<'a> {
    inventory: &'a Inventory,
    attributes: Attributes<'a>,
    handles: BTreeMap<String, UnitId>,
}

impl<'a> Names<'a> {
    /// Of the devices of an inventory.
    pub fn of(inventory: &'a Inventory, attributes: Attributes<'a>) -> Names<'a> {
        Names { inventory, attributes, handles: handles(inventory) }
    }

    /// The device or partition behind an offer, if it is one of the inventory.
    pub fn unit(&self, offer: &Offer) -> Option<UnitId> {
        match offer {
            Offer::Plugin { id, .. } => plugin_device(&self.handles, id),
            Offer::Dra { driver, device, .. } => dra_device(self.inventory, &self.handles, driver, device)
                .or_else(|| self.by_attributes(driver, device)),
        }
    }

    /// By what the driver says of the device: its UUID, else its PCI address. A MIG device has the address of its GPU,
    /// which is not what it is.
    fn by_attributes(&self, driver: &str, device: &str) -> Option<UnitId> {
        const ADDRESSES: [&str; 4] = ["resource.kubernetes.io/pciBusID", "pciBusID", "pciAddr", "pciAddress"];
        let attributes = self.attributes.get(&(driver, device))?;
        let by_uuid = attributes.get("uuid").and_then(|uuid| self.handles.get(uuid));
        let is_part = attributes.get("type").is_some_and(|kind| kind == "mig" || kind.contains("partition"));
        let address = || {
            let address = ADDRESSES.iter().find_map(|name| attributes.get(*name))?;
            self.handles.get(&address.to_ascii_lowercase())
        };
        by_uuid.or_else(|| if is_part { None } else { address() }).copied()
    }
}

/// The holds as allocations of known devices, sorted, and how many holds are of no device that we know (of other kinds of
/// devices, such as NICs, most of the time).
pub fn allocations(names: &Names<'_>, holds: &[Hold]) -> (Vec<Allocation>, usize) {
    let mut unknown = 0;
    let mut allocations: Vec<Allocation> = Vec::new();
    for hold in holds {
        let (resource, mechanism) = match &hold.offer {
            Offer::Plugin { resource, .. } => (resource.clone(), AllocationMechanism::DevicePlugin),
            Offer::Dra { driver, claim, .. } => (format!("{driver}/{claim}"), AllocationMechanism::Dra),
        };
        let Some(unit) = names.unit(&hold.offer) else {
            unknown += 1;
            continue;
        };
        allocations.push(Allocation {
            unit,
            namespace: hold.namespace.clone(),
            pod: hold.pod.clone(),
            container: hold.container.clone(),
            resource,
            mechanism,
        });
    }
    allocations.sort();
    allocations.dedup();
    (allocations, unknown)
}

/// All names of devices and partitions by which plugins call them.
fn handles(inventory: &Inventory) -> BTreeMap<String, UnitId> {
    let mut handles = BTreeMap::new();
    for device in &inventory.devices {
        let whole = || UnitId::from(device.id);
        handles.insert(device.id.to_string(), whole());
        for handle in &device.handles {
            if let Some(name) = spelt(handle.kind, &handle.value) {
                handles.insert(name, whole());
            }
        }
        if let Some(serial) = device.serial.value() {
            handles.insert(serial.clone(), whole());
        }
        for partition in &device.partitions {
            let part = || UnitId::from(partition.id);
            if let Some(function) = partition.function.value() {
                handles.insert(function.address.to_string(), part());
            }
            for handle in &partition.handles {
                if let Some(name) = spelt(handle.kind, &handle.value) {
                    handles.insert(name, part());
                }
            }
        }
    }
    handles
}

/// How plugins spell a handle, for the kinds that they use. Positions and numbers alone name nothing.
fn spelt(kind: HandleKind, value: &str) -> Option<String> {
    match kind {
        HandleKind::Uuid
        | HandleKind::UniqueId
        | HandleKind::DevicePlugin
        | HandleKind::DrmCard
        | HandleKind::XcpDevice
        | HandleKind::Accel => Some(value.to_owned()),
        _ => None,
    }
}

/// A plugin's id: a UUID, an address, a name of the driver; with what sharing appends to it (`::3` of NVIDIA's time-slicing
/// and MPS, `/vgpu2` of GKE's, `-1` of Intel's shares and Google's TPUs).
fn plugin_device(handles: &BTreeMap<String, UnitId>, id: &str) -> Option<UnitId> {
    let unshared = id.split_once("::").map_or(id, |(id, _)| id);
    let unshared = unshared.find("/vgpu").map_or(unshared, |place| &unshared[..place]);
    let lower = unshared.to_ascii_lowercase();
    let exact = handles.get(unshared).or_else(|| handles.get(&lower));
    let shared = || {
        unshared.rsplit_once('-').and_then(|(id, share)| {
            share.bytes().all(|byte| byte.is_ascii_digit()).then(|| handles.get(id))?
        })
    };
    exact.or_else(shared).copied()
}

/// A DRA device by its name in the driver's slices (`reference` of each driver: NVIDIA's `gpu-<minor>` and
/// `gpu-<minor>-mig-<profile>-<profile id>-<start>`, AMD's `gpu-<card>-<render>`, Intel's `<address with dashes>-0x<id>`).
fn dra_device(
    inventory: &Inventory,
    handles: &BTreeMap<String, UnitId>,
    driver: &str,
    name: &str,
) -> Option<UnitId> {
    let whole = |device: &Device| UnitId::from(device.id);
    let with = |kind: HandleKind, value: &str| {
        inventory
            .devices
            .iter()
            .find(|device| device.handles.iter().any(|h| h.kind == kind && h.value == value))
    };
    match driver {
        "gpu.nvidia.com" => {
            let minor = name.strip_prefix("gpu-")?;
            // A GPU whose library is silent has its minor number from the kernel, and no name made of it.
            with(HandleKind::Minor, minor).map(whole).or_else(|| part_by_dra_name(inventory, name))
        }
        "gpu.amd.com" => {
            let (card, render) = name.strip_prefix("gpu-")?.split_once('-')?;
            let by_card = handles.get(&format!("card{card}")).copied();
            by_card.or_else(|| with(HandleKind::DrmRender, &format!("renderD{render}")).map(whole))
        }
        "gpu.intel.com" | "gaudi.intel.com" => {
            let address = address_with_dashes(name)?;
            handles.get(&address.to_string()).copied()
        }
        _ => handles.get(name).copied(),
    }
}

/// The partition that its vendor's DRA driver calls by a name, if it is the only such one.
fn part_by_dra_name(inventory: &Inventory, name: &str) -> Option<UnitId> {
    let named = |handles: &[Handle]| handles.iter().any(|h| h.kind == HandleKind::Dra && h.value == name);
    let mut parts = inventory
        .devices
        .iter()
        .filter(|device| device.vendor == Vendor::Nvidia)
        .flat_map(|device| device.partitions.iter().map(move |partition| (device, partition)))
        .filter(|(_, partition)| named(&partition.handles));
    let (_, partition) = parts.next()?;
    parts.next().is_none().then(|| partition.id.into())
}

/// `0000-03-00-0-0x56a0`.
fn address_with_dashes(name: &str) -> Option<PciAddress> {
    let mut parts = name.splitn(5, '-');
    let (domain, bus, device, function) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    format!("{domain}:{bus}:{device}.{function}").parse().ok()
}

#[cfg(test)]
mod tests {
    use afd_model::{Partition, PartitionName, Variant};

    use super::*;

    fn inventory() -> Inventory {
        let device = |bus: u8, vendor, handles: &[(HandleKind, &str)]| Device {
            handles: handles.iter().map(|(kind, value)| Handle::new(*kind, *value)).collect(),
            ..Device::bare(PciAddress { domain: 0, bus, device: 0, function: 0 }, vendor, Variant::Gpu)
        };
        let mut nvidia = device(
            1,
            Vendor::Nvidia,
            &[(HandleKind::Uuid, "GPU-1"), (HandleKind::Minor, "0"), (HandleKind::DevicePlugin, "nvidia0")],
        );
        let mig = |name: &str, handles: &[(HandleKind, &str)]| Partition {
            handles: handles.iter().map(|(kind, value)| Handle::new(*kind, *value)).collect(),
            ..Partition::bare(nvidia.id, name.parse().expect("it names a partition"))
        };
        nvidia.partitions = vec![
            mig(
                "gi3-ci0",
                &[
                    (HandleKind::Uuid, "MIG-1"),
                    (HandleKind::DevicePlugin, "nvidia0/gi3"),
                    (HandleKind::Dra, "gpu-0-mig-1g10gb-19-2"),
                ],
            ),
            mig("gi4-ci0", &[(HandleKind::Dra, "gpu-0-mig-1c3g40gb-9-4")]),
            mig("gi4-ci1", &[(HandleKind::Dra, "gpu-0-mig-1c3g40gb-9-4")]),
        ];
        let mut amd =
            device(2, Vendor::Amd, &[(HandleKind::DrmCard, "card1"), (HandleKind::DrmRender, "renderD129")]);
        amd.partitions = vec![Partition {
            handles: vec![
                Handle::new(HandleKind::XcpDevice, "amdgpu_xcp_1"),
                Handle::new(HandleKind::DrmCard, "card2"),
            ],
            ..Partition::bare(amd.id, PartitionName::Xcp(1))
        }];
        let intel = device(3, Vendor::Intel, &[(HandleKind::DrmCard, "card9")]);
        Inventory { devices: vec![nvidia, amd, intel], ..Inventory::default() }
    }

    fn target(offer: Offer) -> Option<(u8, Option<String>)> {
        let hold = Hold { namespace: "ns".into(), pod: "pod".into(), container: "c".into(), offer };
        let (inventory, says) = (inventory(), attributes());
        let says = says.iter().map(|(name, attributes)| (("gpu.nvidia.com", *name), attributes)).collect();
        let (allocations, unknown) = allocations(&Names::of(&inventory, says), &[hold]);
        assert_eq!(allocations.len() + unknown, 1);
        allocations.into_iter().next().map(|allocation| {
            let unit = allocation.unit;
            (unit.device.0.bus, unit.partition.map(|partition| partition.to_string()))
        })
    }

    fn attributes() -> [(&'static str, BTreeMap<String, String>); 2] {
        let of = |attributes: &[(&str, &str)]| {
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let address = ("resource.kubernetes.io/pciBusID", "0000:01:00.0");
        [
            ("gpu-9", of(&[("type", "gpu"), address])),
            ("gpu-9-mig", of(&[("type", "mig"), address, ("uuid", "MIG-1")])),
        ]
    }

    fn plugin(id: &str) -> Option<(u8, Option<String>)> {
        target(Offer::Plugin { resource: "r".into(), id: id.into() })
    }

    fn dra(driver: &str, device: &str) -> Option<(u8, Option<String>)> {
        target(Offer::Dra { driver: driver.into(), claim: "claim".into(), device: device.into() })
    }

    #[test]
    fn ids_of_every_producer_lead_to_their_devices() {
        let part = |bus, name: &str| Some((bus, Some(name.to_owned())));
        assert_eq!(plugin("GPU-1"), Some((1, None)));
        assert_eq!(plugin("GPU-1::7"), Some((1, None)));
        assert_eq!(plugin("MIG-1"), part(1, "gi3-ci0"));
        assert_eq!(plugin("nvidia0"), Some((1, None)));
        assert_eq!(plugin("nvidia0/gi3"), part(1, "gi3-ci0"));
        assert_eq!(plugin("nvidia0/gi3/vgpu2"), part(1, "gi3-ci0"));
        assert_eq!(plugin("0000:02:00.0"), Some((2, None)));
        assert_eq!(plugin("amdgpu_xcp_1"), part(2, "xcp1"));
        assert_eq!(plugin("card9-3"), Some((3, None)));
        assert_eq!(dra("gpu.nvidia.com", "gpu-0"), Some((1, None)));
        assert_eq!(dra("gpu.nvidia.com", "gpu-0-mig-1g10gb-19-2"), part(1, "gi3-ci0"));
        assert_eq!(dra("gpu.amd.com", "gpu-1-129"), Some((2, None)));
        assert_eq!(dra("gpu.amd.com", "gpu-2-130"), part(2, "xcp1"));
        assert_eq!(dra("gpu.nvidia.com", "gpu-9"), Some((1, None)), "by its address");
        assert_eq!(dra("gpu.nvidia.com", "gpu-9-mig"), part(1, "gi3-ci0"), "by its UUID");
        assert_eq!(dra("gpu.intel.com", "0000-03-00-0-0x56a0"), Some((3, None)));
    }

    #[test]
    fn what_is_no_device_of_ours_is_counted_and_never_guessed() {
        for id in ["", "GPU-2", "mlx5_0", "0", "3", "card1x"] {
            assert_eq!(plugin(id), None, "{id}");
        }
        assert_eq!(dra("gpu.nvidia.com", "gpu-0-mig-1g10gb-19-3"), None);
        assert_eq!(dra("gpu.nvidia.com", "gpu-0-mig-1c3g40gb-9-4"), None, "two have that name");
        assert_eq!(dra("dra.net", "eth0"), None);
    }
}
