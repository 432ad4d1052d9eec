//! One physical accelerator, and the parts it is cut into.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DeviceId, Health, Known, LinkKind, MigInstance, Missing, NvidiaFacts, Pci, PciAddress, PcieLink, Variant,
    Vendor, VendorFacts,
};

/// One physical accelerator of any vendor: one PCI function that computes.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Device {
    /// Its identity: the PCI address.
    pub id: DeviceId,
    /// Who made it.
    pub vendor: Vendor,
    /// Which kind it is.
    pub variant: Variant,
    /// Which product it is, by this project's sourced table, else by what the driver says.
    pub product: Known<Product>,
    /// Part of a processor that shares the system's memory (a laptop's GPU, an APU). Such devices get no labels
    /// unless asked for.
    pub integrated: bool,
    /// An SR-IOV virtual function seen without its physical function, as in a virtual machine.
    pub virtual_function: bool,
    /// How it sits on PCI.
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
    /// Who told the memory.
    pub memory_source: Known<MemorySource>,
    /// What a kernel is compiled for: `9.0`, `gfx942`.
    pub compute: Known<String>,
    /// The vendor's unique name of the device.
    pub uuid: Known<String>,
    /// Serial number of the board.
    pub serial: Known<String>,
    /// How the device is cut into partitions.
    pub partitioning: Known<Partitioning>,
    /// Its partitions. Empty for a whole device.
    pub partitions: Vec<Partition>,
    /// Devices as a framework counts them, where the vendor's rule tells (TPU 7x: 2 per chip).
    pub logical_devices: Known<u32>,
    /// The fastest way from this device to the next one of the node.
    pub interconnect: Known<LinkKind>,
    /// Devices with the same value reach each other over that way (AMD: the XGMI hive).
    pub link_domain: Known<String>,
    /// Devices of different nodes with the same value share a scale-up fabric: `<cluster uuid>.<clique>`.
    pub fabric_domain: Known<String>,
    /// Whether it may take work.
    pub health: Health,
    /// Other names of it.
    pub handles: Vec<Handle>,
    /// What only NVIDIA's devices have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvidia: Option<Box<NvidiaFacts>>,
    /// What only this vendor's tools tell; absent where nothing reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_facts: Option<VendorFacts>,
}

/// A product as the vendor sells it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Marketing name: `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// The short name that people say: `H100`.
    pub model: Known<String>,
    /// Silicon generation: `hopper`, `cdna3`.
    pub architecture: Known<String>,
}

/// Who told how much memory a device has.
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
    /// The memory of the system, which the device shares.
    System,
    /// The product table: every part with this id has this much.
    ProductTable,
}

/// How a device is cut.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "scheme")]
pub enum Partitioning {
    /// Not at all, and a source said so.
    Whole,
    /// AMD accelerator partitions.
    Xcp {
        /// Compute partition mode: `SPX`, `DPX`, `TPX`, `QPX` or `CPX`.
        compute: String,
        /// Memory partition mode: `NPS1`, `NPS4`, ...
        memory: Known<String>,
    },
    /// NVIDIA Multi-Instance GPU is on.
    Mig,
    /// SR-IOV virtual functions are enabled on it.
    Sriov {
        /// How many.
        functions: u32,
    },
}

/// A part of a device that can be allocated on its own.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Partition {
    /// `<device>/<name>`.
    pub id: String,
    /// Its name within the device: `xcp3`, `vf0`, `gi3-ci0`.
    pub name: String,
    /// What it was cut by, as its vendor spells it: `1g.10gb`.
    pub profile: Known<String>,
    /// The PCI function, where the part has one of its own.
    pub function: Known<PartitionFunction>,
    /// Memory of the part in bytes.
    pub memory_bytes: Known<u64>,
    /// Compute units (AMD) or multiprocessors (NVIDIA) of the part.
    pub compute_units: Known<u32>,
    /// NUMA node.
    pub numa_node: Known<u32>,
    /// Whether it may take work, where that is told of the part itself.
    pub health: Health,
    /// Other names of it.
    pub handles: Vec<Handle>,
    /// Where it lies in its GPU and what it has of it, for a MIG device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig: Option<MigInstance>,
}

/// The PCI function of a partition.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionFunction {
    /// Its address.
    pub address: PciAddress,
    /// The driver bound to it.
    pub driver: Known<String>,
}

/// A name that others use for a device or partition.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Handle {
    /// Whose name it is.
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
    /// AMD's unique id, 16 hexadecimal digits.
    UniqueId,
    /// Minor number of the vendor's device node (`/dev/nvidia0`).
    Minor,
    /// Position in the order of the vendor's library; it can change when devices come and go.
    Index,
    /// GKE's name of a device or MIG instance: `nvidia0`, `nvidia0/gi3`.
    Gke,
    /// DRM card: `card0`.
    DrmCard,
    /// DRM render node: `renderD128`.
    DrmRender,
    /// KFD topology node number.
    KfdNode,
    /// KFD's gpu_id.
    KfdGpuId,
    /// AMD's platform device of a partition: `amdgpu_xcp_3`.
    XcpDevice,
    /// The id under which the vendor's device plugin hands it out: `0000:05:00.0`, `amdgpu_xcp_3`.
    DevicePlugin,
    /// The name that it has in the slices of the vendor's DRA driver: `gpu-1-129`.
    Dra,
    /// Accel node: `accel0`.
    Accel,
    /// VFIO group number: `/dev/vfio/7`.
    VfioGroup,
    /// What functions on one board share.
    Board,
    /// Position of the module in its chassis (Gaudi's module id).
    Module,
}

impl Handle {
    /// A handle.
    pub fn new(kind: HandleKind, value: impl Into<String>) -> Handle {
        Handle { kind, value: value.into() }
    }
}

impl Partition {
    /// A partition of which only the name is known.
    pub fn bare(device: DeviceId, name: impl Into<String>) -> Partition {
        let (name, unknown) = (name.into(), Missing::NotExposed);
        Partition {
            id: format!("{device}/{name}"),
            name,
            profile: unknown.into(),
            function: unknown.into(),
            memory_bytes: unknown.into(),
            compute_units: unknown.into(),
            numa_node: unknown.into(),
            health: Health::unknown(),
            handles: Vec::new(),
            mig: None,
        }
    }
}

impl Device {
    /// A device of which only the address is known.
    pub fn bare(address: PciAddress, vendor: Vendor, variant: Variant) -> Device {
        let unknown = Missing::NotExposed;
        let no_link = PcieLink { transfers_per_second: unknown.into(), width: unknown.into() };
        Device {
            id: address.into(),
            vendor,
            variant,
            product: unknown.into(),
            integrated: false,
            virtual_function: false,
            pci: Pci {
                address,
                vendor_id: unknown.into(),
                device_id: unknown.into(),
                class: unknown.into(),
                revision: unknown.into(),
                subsystem_vendor_id: unknown.into(),
                subsystem_device_id: unknown.into(),
                link: no_link,
                max_link: no_link,
                upstream: Vec::new(),
            },
            numa_node: unknown.into(),
            driver: unknown.into(),
            driver_version: unknown.into(),
            runtime_version: unknown.into(),
            firmware_version: unknown.into(),
            memory_bytes: unknown.into(),
            memory_source: unknown.into(),
            compute: unknown.into(),
            uuid: unknown.into(),
            serial: unknown.into(),
            partitioning: unknown.into(),
            partitions: Vec::new(),
            logical_devices: unknown.into(),
            interconnect: unknown.into(),
            link_domain: unknown.into(),
            fabric_domain: unknown.into(),
            health: Health::unknown(),
            handles: Vec::new(),
            nvidia: None,
            vendor_facts: None,
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
