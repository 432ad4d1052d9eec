//! The names by which device plugins and DRA drivers refer to devices and partitions: a lookup, pure.
//!
//! Probes give each device and partition its names ([`HandleKind::DevicePlugin`], [`HandleKind::Dra`]). A name that two
//! units share refers to none. Nothing here knows how a vendor spells a name.

use std::collections::BTreeMap;

use afd_model::{Device, Handle, HandleKind, Inventory, UnitId, Variant, Vendor};

/// The attributes that identify a device: its UUID, its kind, and the spellings of its PCI address.
pub const IDENTIFYING_ATTRIBUTES: [&str; 6] =
    ["uuid", "type", "resource.kubernetes.io/pciBusID", "pciBusID", "pciAddr", "pciAddress"];

/// The attributes that DRA drivers publish of their devices, by driver and device name.
pub type DraAttributes<'a> = BTreeMap<(&'a str, &'a str), &'a BTreeMap<String, String>>;

/// The devices whose extended resource or DRA driver has this name, where that is known.
type OwnerLookup = fn(&str) -> Option<(Vendor, Variant)>;

/// A device by the name that its device plugin or DRA driver gives it.
#[derive(Clone, Copy, Debug)]
pub enum NamedDevice<'a> {
    /// A device of a device plugin.
    Plugin {
        /// The extended resource.
        resource: &'a str,
        /// Id of the device.
        id: &'a str,
    },
    /// A device of a DRA driver.
    Dra {
        /// The driver.
        driver: &'a str,
        /// Name of the device in the driver's ResourceSlices.
        device: &'a str,
    },
}

/// Resolves names to the devices and partitions of an inventory.
#[derive(Clone, Debug)]
pub struct UnitNames {
    owner: OwnerLookup,
    indexes: NameIndexes,
}

/// All names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct NameIndexes {
    plugin: NameIndex,
    dra: NameIndex,
    /// Names of the hardware itself: PCI addresses, UUIDs and serial numbers.
    hardware: NameIndex,
    /// By driver and name: devices of which the driver publishes attributes that identify them.
    by_attributes: BTreeMap<String, BTreeMap<String, UnitId>>,
}

/// Whether all names refer to the same. The owners of resources and drivers never change.
impl PartialEq for UnitNames {
    fn eq(&self, other: &UnitNames) -> bool {
        self.indexes == other.indexes
    }
}

impl UnitNames {
    /// The names in an inventory. `owner` gives the kind of device of an extended resource or a DRA driver; only such
    /// devices are then considered.
    pub fn new(inventory: &Inventory, attributes: &DraAttributes<'_>, owner: OwnerLookup) -> UnitNames {
        let mut indexes = NameIndexes::default();
        for device in &inventory.devices {
            let whole = UnitId::from(device.id);
            indexes.hardware.insert(&device.id.to_string(), device, whole);
            if let Some(serial) = device.serial.value() {
                indexes.hardware.insert(serial, device, whole);
            }
            indexes.insert_handles(&device.handles, device, whole);
            for partition in &device.partitions {
                let unit = UnitId::from(partition.id);
                if let Some(function) = partition.function.value() {
                    indexes.hardware.insert(&function.address.to_string(), device, unit);
                }
                indexes.insert_handles(&partition.handles, device, unit);
            }
        }
        for ((driver, name), attributes) in attributes {
            if let Some(unit) = indexes.identified(attributes, owner(driver)) {
                let names = indexes.by_attributes.entry((*driver).to_owned()).or_default();
                names.insert((*name).to_owned(), unit);
            }
        }
        UnitNames { owner, indexes }
    }

    /// The device or partition that a name refers to, if it is in the inventory.
    pub fn unit(&self, device: NamedDevice<'_>) -> Option<UnitId> {
        match device {
            NamedDevice::Plugin { resource, id } => self.plugin_unit(resource, id),
            NamedDevice::Dra { driver, device } => self.dra_unit(driver, device),
        }
    }

    fn plugin_unit(&self, resource: &str, id: &str) -> Option<UnitId> {
        let owner = (self.owner)(resource);
        let NameIndexes { plugin, hardware, .. } = &self.indexes;
        let exact = |id: &str| {
            let of_hardware = hardware.unit(id, owner);
            // A name that a plugin made up, such as `0` or `accel0`, is one only among the devices of its resource.
            let is_name = owner.is_some() || of_hardware.is_some();
            let named = if is_name { plugin.unit(id, owner) } else { None };
            named.or(of_hardware)
        };
        without_share(id).find_map(|id| {
            let has_upper_case = || id.bytes().any(|byte| byte.is_ascii_uppercase());
            exact(id).or_else(|| if has_upper_case() { exact(&id.to_ascii_lowercase()) } else { None })
        })
    }

    fn dra_unit(&self, driver: &str, name: &str) -> Option<UnitId> {
        let owner = (self.owner)(driver);
        let NameIndexes { dra, hardware, by_attributes, .. } = &self.indexes;
        let named = match owner {
            Some(_) => dra.unit(name, owner),
            None => hardware.unit(name, None),
        };
        named.or_else(|| by_attributes.get(driver)?.get(name).copied())
    }
}

impl NameIndexes {
    fn insert_handles(&mut self, handles: &[Handle], device: &Device, unit: UnitId) {
        for handle in handles {
            let index = match handle.kind {
                HandleKind::DevicePlugin => &mut self.plugin,
                HandleKind::Dra => &mut self.dra,
                HandleKind::Uuid => &mut self.hardware,
                _ => continue,
            };
            index.insert(&handle.value, device, unit);
        }
    }

    /// By the attributes that a driver publishes: the UUID, else the PCI address. A partition has the address of its
    /// device, which does not identify it.
    fn identified(
        &self,
        attributes: &BTreeMap<String, String>,
        owner: Option<(Vendor, Variant)>,
    ) -> Option<UnitId> {
        let [uuid, kind, addresses @ ..] = IDENTIFYING_ATTRIBUTES;
        let by_uuid = attributes.get(uuid).and_then(|uuid| self.hardware.unit(uuid, owner));
        let is_partition =
            attributes.get(kind).is_some_and(|kind| kind == "mig" || kind.contains("partition"));
        let by_address = || {
            let address = addresses.iter().find_map(|name| attributes.get(*name))?;
            self.hardware.unit(&address.to_ascii_lowercase(), owner)
        };
        by_uuid.or_else(|| if is_partition { None } else { by_address() })
    }
}

/// Units by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct NameIndex(BTreeMap<String, Vec<NamedUnit>>);

/// A unit, and the kind of its device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct NamedUnit {
    owner: (Vendor, Variant),
    unit: UnitId,
}

impl NameIndex {
    fn insert(&mut self, name: &str, device: &Device, unit: UnitId) {
        let named = NamedUnit { owner: (device.vendor, device.variant), unit };
        let units = self.0.entry(name.to_owned()).or_default();
        if !units.contains(&named) {
            units.push(named);
        }
    }

    /// The only unit of this name, among the devices of `owner` where that is known.
    fn unit(&self, name: &str, owner: Option<(Vendor, Variant)>) -> Option<UnitId> {
        let units = self.0.get(name)?.iter();
        let mut matching = units.filter(|named| owner.is_none_or(|owner| named.owner == owner));
        let first = matching.next()?;
        matching.next().is_none().then_some(first.unit)
    }
}

/// The id of a device, and without what sharing appends to it, most exact first: `::3` (time-slicing and MPS), `/vgpu2`
/// (GPU time-sharing), `-_-3` (units of memory) or `-1` (shares of a device).
fn without_share(id: &str) -> impl Iterator<Item = &str> {
    let id = id.split_once("::").map_or(id, |(id, _)| id);
    let id = id.find("/vgpu").map_or(id, |end| &id[..end]);
    let id = id.find("-_-").map_or(id, |end| &id[..end]);
    let numbered = id.rsplit_once('-').and_then(|(id, share)| {
        let is_number = !share.is_empty() && share.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some(id)
    });
    [Some(id), numbered].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use afd_model::{Partition, PartitionName, PciAddress};

    use super::*;

    const MIG_NAME: PartitionName = PartitionName::Mig { gpu_instance: 3, compute_instance: 0 };

    fn owner(name: &str) -> Option<(Vendor, Variant)> {
        match name {
            "nvidia.com/gpu" | "gpu.nvidia.com" => Some((Vendor::Nvidia, Variant::Gpu)),
            "amd.com/gpu" | "gpu.amd.com" => Some((Vendor::Amd, Variant::Gpu)),
            "gpu.intel.com/xe" => Some((Vendor::Intel, Variant::Xpu)),
            "google.com/tpu" | "tpu.google.com" => Some((Vendor::Google, Variant::Tpu)),
            _ => None,
        }
    }

    fn handles(handles: &[(HandleKind, &str)]) -> Vec<Handle> {
        handles.iter().map(|(kind, value)| Handle::new(*kind, *value)).collect()
    }

    fn device(bus: u8, vendor: Vendor, variant: Variant, names: &[(HandleKind, &str)]) -> Device {
        let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
        Device { handles: handles(names), ..Device::bare(address, vendor, variant) }
    }

    fn partition(device: &Device, name: PartitionName, names: &[(HandleKind, &str)]) -> Partition {
        Partition { handles: handles(names), ..Partition::bare(device.id, name) }
    }

    fn inventory() -> Inventory {
        use HandleKind::{DevicePlugin, Dra, Uuid};
        let nvidia_names =
            [(Uuid, "GPU-1"), (DevicePlugin, "GPU-1"), (DevicePlugin, "nvidia0"), (Dra, "gpu-0")];
        let mut nvidia = device(1, Vendor::Nvidia, Variant::Gpu, &nvidia_names);
        let mig = |compute_instance, names: &[(HandleKind, &str)]| {
            partition(&nvidia, PartitionName::Mig { gpu_instance: 4, compute_instance }, names)
        };
        nvidia.partitions = vec![
            partition(
                &nvidia,
                MIG_NAME,
                &[(Uuid, "MIG-1"), (DevicePlugin, "nvidia0/gi3"), (Dra, "gpu-0-mig-1g10gb-19-2")],
            ),
            mig(0, &[(Dra, "gpu-0-mig-1c3g40gb-9-4")]),
            mig(1, &[(Dra, "gpu-0-mig-1c3g40gb-9-4")]),
        ];
        let mut amd = device(2, Vendor::Amd, Variant::Gpu, &[]);
        amd.partitions = vec![
            partition(
                &amd,
                PartitionName::Xcp(0),
                &[(DevicePlugin, "0000:02:00.0"), (Dra, "gpu-0"), (Dra, "gpu-1-129")],
            ),
            partition(&amd, PartitionName::Xcp(1), &[(DevicePlugin, "amdgpu_xcp_1"), (Dra, "gpu-2-130")]),
        ];
        let intel = device(3, Vendor::Intel, Variant::Xpu, &[(DevicePlugin, "card9")]);
        let google_names = [
            (DevicePlugin, "7"),
            (DevicePlugin, "accel3"),
            (DevicePlugin, "0000:c0:02"),
            (Dra, "7"),
            (Dra, "accel3"),
        ];
        let google = device(4, Vendor::Google, Variant::Tpu, &google_names);
        Inventory { devices: vec![nvidia, amd, intel, google], ..Inventory::default() }
    }

    fn attributes() -> [(&'static str, BTreeMap<String, String>); 2] {
        let map = |attributes: &[(&str, &str)]| {
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let address = ("resource.kubernetes.io/pciBusID", "0000:01:00.0");
        [
            ("gpu-9", map(&[("type", "gpu"), address])),
            ("gpu-9-mig", map(&[("type", "mig"), address, ("uuid", "MIG-1")])),
        ]
    }

    fn unit(device: NamedDevice<'_>) -> Option<(u8, Option<PartitionName>)> {
        let (inventory, published) = (inventory(), attributes());
        let published =
            published.iter().map(|(name, attributes)| (("gpu.nvidia.com", *name), attributes)).collect();
        let unit = UnitNames::new(&inventory, &published, owner).unit(device)?;
        Some((unit.device.0.bus, unit.partition))
    }

    fn plugin(resource: &str, id: &str) -> Option<(u8, Option<PartitionName>)> {
        unit(NamedDevice::Plugin { resource, id })
    }

    fn dra(driver: &str, device: &str) -> Option<(u8, Option<PartitionName>)> {
        unit(NamedDevice::Dra { driver, device })
    }

    #[test]
    fn plugin_ids_refer_to_their_units_with_and_without_a_share() {
        assert_eq!(plugin("nvidia.com/gpu", "GPU-1"), Some((1, None)));
        assert_eq!(plugin("nvidia.com/gpu", "GPU-1::7"), Some((1, None)));
        assert_eq!(plugin("a resource of another name", "MIG-1"), Some((1, Some(MIG_NAME))));
        assert_eq!(plugin("aliyun.com/gpu-mem", "GPU-1-_-81558"), Some((1, None)));
        assert_eq!(plugin("nvidia.com/gpu", "nvidia0"), Some((1, None)));
        assert_eq!(plugin("nvidia.com/gpu", "nvidia0/gi3"), Some((1, Some(MIG_NAME))));
        assert_eq!(plugin("nvidia.com/gpu", "nvidia0/gi3/vgpu2"), Some((1, Some(MIG_NAME))));
        assert_eq!(plugin("amd.com/gpu", "0000:02:00.0"), Some((2, Some(PartitionName::Xcp(0)))));
        assert_eq!(plugin("amd.com/gpu", "AMDGPU_XCP_1"), Some((2, Some(PartitionName::Xcp(1)))));
        assert_eq!(plugin("gpu.intel.com/xe", "card9-3"), Some((3, None)));
        assert_eq!(plugin("unknown", "0000:03:00.0"), Some((3, None)), "by the address of the hardware");
    }

    #[test]
    fn dra_names_belong_to_the_devices_of_their_driver() {
        assert_eq!(dra("gpu.nvidia.com", "gpu-0"), Some((1, None)));
        assert_eq!(dra("gpu.amd.com", "gpu-0"), Some((2, Some(PartitionName::Xcp(0)))));
        assert_eq!(dra("gpu.nvidia.com", "gpu-0-mig-1g10gb-19-2"), Some((1, Some(MIG_NAME))));
        assert_eq!(dra("gpu.amd.com", "gpu-2-130"), Some((2, Some(PartitionName::Xcp(1)))));
        assert_eq!(dra("gpu.nvidia.com", "gpu-9"), Some((1, None)), "by its address");
        assert_eq!(dra("gpu.nvidia.com", "gpu-9-mig"), Some((1, Some(MIG_NAME))), "by its UUID");
        assert_eq!(dra("another.driver", "0000:04:00.0"), Some((4, None)), "by the address of the hardware");
    }

    #[test]
    fn a_name_that_a_plugin_made_up_is_one_only_under_its_own_resource_or_driver() {
        for id in ["7", "accel3", "0000:c0:02"] {
            assert_eq!(plugin("google.com/tpu", id), Some((4, None)), "{id}");
            for resource in ["unknown", "nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/xe"] {
                assert_eq!(plugin(resource, id), None, "{resource} {id}");
            }
        }
        for name in ["7", "accel3"] {
            assert_eq!(dra("tpu.google.com", name), Some((4, None)));
            for driver in ["unknown", "gpu.nvidia.com", "gpu.amd.com"] {
                assert_eq!(dra(driver, name), None, "{driver} {name}");
            }
        }
        assert_eq!(plugin("google.com/tpu", "gpu-0"), None, "nor another vendor's name under its resource");
    }

    #[test]
    fn a_name_of_no_unit_or_of_two_units_refers_to_none() {
        for id in ["", "GPU-2", "mlx5_0", "0", "3", "card1x", "card1-"] {
            assert_eq!(plugin("unknown", id), None, "{id}");
        }
        assert_eq!(plugin("amd.com/gpu", "GPU-1"), None, "it is another vendor's");
        assert_eq!(dra("gpu.nvidia.com", "gpu-0-mig-1g10gb-19-3"), None);
        assert_eq!(dra("gpu.nvidia.com", "gpu-0-mig-1c3g40gb-9-4"), None, "two have that name");
        assert_eq!(dra("dra.net", "eth0"), None);
    }

    #[test]
    fn a_serial_number_of_two_devices_refers_to_none() {
        let mut inventory = inventory();
        for device in &mut inventory.devices[..2] {
            device.serial = afd_model::Known::Value("SERIAL".to_owned());
        }
        let names = UnitNames::new(&inventory, &DraAttributes::new(), owner);
        let unit = |resource| names.unit(NamedDevice::Plugin { resource, id: "SERIAL" });
        assert_eq!(unit("unknown"), None);
        assert_eq!(unit("amd.com/gpu"), Some(inventory.devices[1].id.into()));
    }
}
