//! One physical accelerator, and the names that others use for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DeviceId, FactSet, Health, Known, LinkKind, Partition, Partitioning, Pci, PciAddress, PcieLink,
    PeerFacts, Variant, Vendor, VendorFacts,
};

/// One physical accelerator of any vendor: one PCI function that computes.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Device {
    /// Its identity: the PCI address.
    pub id: DeviceId,
    /// Who made it.
    pub vendor: Vendor,
    /// Its kind.
    pub variant: Variant,
    /// The product, by this project's sourced table, else as the driver reports it.
    pub product: Known<Product>,
    /// Part of a processor that shares the system's memory (a laptop's GPU, an APU). Such devices get no labels
    /// unless asked for.
    pub integrated: bool,
    /// A display card that computes nothing, by the product table: it is no accelerator where another device is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub display_only: bool,
    /// An SR-IOV virtual function seen without its physical function, as in a virtual machine.
    pub virtual_function: bool,
    /// How it is attached to PCI.
    pub pci: Pci,
    /// NUMA node of its PCI slot.
    pub numa_node: Known<u32>,
    /// The kernel driver bound to it.
    pub driver: Known<String>,
    /// Version of that driver; the kernel's own release where the driver is part of the kernel.
    pub driver_version: Known<String>,
    /// Version of the compute interface that the driver supports, where there is such a thing: CUDA's, `13.0`.
    pub runtime_version: Known<String>,
    /// Version of the device's firmware (VBIOS, or the vendor's name for it).
    pub firmware_version: Known<String>,
    /// Device memory in bytes.
    pub memory_bytes: Known<u64>,
    /// Source of the memory size.
    pub memory_source: Known<MemorySource>,
    /// Compute capability or gfx target: `9.0`, `gfx942`.
    pub compute: Known<String>,
    /// UUID as the vendor assigns it.
    pub uuid: Known<String>,
    /// Serial number of the board.
    pub serial: Known<String>,
    /// Partitioning mode.
    pub partitioning: Known<Partitioning>,
    /// Its partitions; empty for an unpartitioned device.
    pub partitions: Vec<Partition>,
    /// Devices as a framework counts them, where the vendor defines that (2 for a chip with two cores).
    pub logical_devices: Known<u32>,
    /// The fastest link from this device to another one of the node.
    pub interconnect: Known<LinkKind>,
    /// How many devices of the node it is directly linked with; 0 where it reaches them over PCIe alone. A device that the vendor's
    /// library has lost is none of them.
    #[serde(default)]
    pub linked_devices: Known<u32>,
    /// Devices with the same value reach each other over that link (the XGMI hive).
    pub link_domain: Known<String>,
    /// Devices of different nodes with the same value are in one scale-up fabric: `<cluster uuid>`.
    pub fabric_domain: Known<String>,
    /// Devices of different nodes with the same value can reach each other over that fabric: `<cluster uuid>.<clique>`.
    pub fabric_partition: Known<String>,
    /// Whether it can take work.
    pub health: Health,
    /// Other names of it.
    pub handles: Vec<Handle>,
    /// How NICs and other nodes reach it; absent where nothing reads that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peering: Option<Box<PeerFacts>>,
    /// Facts that only this vendor's devices have; absent where nothing reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_facts: Option<VendorFacts>,
    /// Facts that may have another value than is said here, or one where none is said, because a source has not answered.
    #[serde(default, skip_serializing_if = "FactSet::is_empty")]
    pub undecided: FactSet,
}

/// A product as the vendor sells it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Marketing name.
    pub name: String,
    /// Short model name: `H100`.
    pub model: Known<String>,
    /// Silicon generation: `hopper`, `cdna3`.
    pub architecture: Known<String>,
}

/// Source of a device's memory size.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemorySource {
    /// The DRM driver's attribute.
    Drm,
    /// The KFD topology.
    Kfd,
    /// The size of a PCI BAR that maps the whole memory.
    PciBar,
    /// The vendor's library.
    Library,
    /// System memory, which the device shares.
    System,
    /// The product table: every device with this id has this much.
    ProductTable,
}

/// A name that others use for a device or partition.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Handle {
    /// Who uses it.
    pub kind: HandleKind,
    /// The name.
    pub value: String,
}

/// Who uses a handle.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HandleKind {
    /// The vendor's UUID.
    Uuid,
    /// The driver's unique id of the device, 16 hexadecimal digits.
    UniqueId,
    /// Minor number of the vendor's device node.
    Minor,
    /// Index in the vendor's library; it changes when devices come and go.
    Index,
    /// DRM card: `card0`.
    DrmCard,
    /// DRM render node: `renderD128`.
    DrmRender,
    /// KFD topology node number.
    KfdNode,
    /// KFD's gpu_id.
    KfdGpuId,
    /// The driver's platform device of an XCP.
    XcpDevice,
    /// An id under which a device plugin advertises it: a UUID, a PCI address or the name of a device node.
    DevicePlugin,
    /// Its name in the ResourceSlices of the vendor's DRA driver: `gpu-1-129`.
    Dra,
    /// Accel node: `accel0`.
    Accel,
    /// VFIO group number: `/dev/vfio/7`.
    VfioGroup,
    /// Position of the module in its chassis.
    Module,
}

impl Handle {
    /// A handle.
    pub fn new(kind: HandleKind, value: impl Into<String>) -> Handle {
        Handle { kind, value: value.into() }
    }
}

impl Device {
    /// A device of which only the address is known.
    pub fn bare(address: PciAddress, vendor: Vendor, variant: Variant) -> Device {
        Device {
            id: address.into(),
            vendor,
            variant,
            product: Known::default(),
            integrated: false,
            display_only: false,
            virtual_function: false,
            pci: Pci {
                address,
                vendor_id: Known::default(),
                device_id: Known::default(),
                class: Known::default(),
                revision: Known::default(),
                subsystem_vendor_id: Known::default(),
                subsystem_device_id: Known::default(),
                link: PcieLink::default(),
                max_link: PcieLink::default(),
                upstream: Vec::new(),
                removable: false,
            },
            numa_node: Known::default(),
            driver: Known::default(),
            driver_version: Known::default(),
            runtime_version: Known::default(),
            firmware_version: Known::default(),
            memory_bytes: Known::default(),
            memory_source: Known::default(),
            compute: Known::default(),
            uuid: Known::default(),
            serial: Known::default(),
            partitioning: Known::default(),
            partitions: Vec::new(),
            logical_devices: Known::default(),
            interconnect: Known::default(),
            linked_devices: Known::default(),
            link_domain: Known::default(),
            fabric_domain: Known::default(),
            fabric_partition: Known::default(),
            health: Health::unknown(),
            handles: Vec::new(),
            peering: None,
            vendor_facts: None,
            undecided: FactSet::default(),
        }
    }

    /// The first handle of a kind.
    pub fn handle(&self, kind: HandleKind) -> Option<&str> {
        self.handles.iter().find(|handle| handle.kind == kind).map(|handle| handle.value.as_str())
    }

    /// Its marketing name, if it is recognised.
    pub fn product_name(&self) -> Option<&str> {
        self.product.value().map(|product| product.name.as_str())
    }
}
