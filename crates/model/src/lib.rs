//! What a node's accelerators are, as plain data.
//!
//! Probes fill these types, `Inventory::assemble` joins them, `afd-derive` turns them into labels and metric
//! families. Nothing here opens a file, knows a vendor's formats or keeps time, so nothing here can fail.
//! The JSON of `afd show --output json` is the serialised [`Inventory`]; its schema is generated from these types.

mod allocation;
mod amd_quantity;
mod device;
mod health;
mod host;
mod inventory;
mod known;
mod link;
mod nic;
mod nvidia;
mod offer;
mod pci;
mod problem;
mod sample;
mod vendor;
mod vendor_facts;
pub mod xid;

pub use allocation::{Allocation, AllocationMechanism};
pub use amd_quantity::{AmdQuantity, HostLimitCause};
pub use device::{
    Device, Handle, HandleKind, MemorySource, Partition, PartitionFunction, Partitioning, Product,
};
pub use health::{Health, HealthReason, HealthState};
pub use host::HostFacts;
pub use inventory::{Findings, Inventory, LookedAt, NumaNode};
pub use known::{Known, Missing};
pub use link::{Link, LinkKind};
pub use nic::{LinkLayer, Nic, NicPort, NicProtocol, PortState};
pub use nvidia::{MigInstance, NvidiaFacts, VgpuGuest};
pub use offer::{OfferedPart, Offers, PublishedOffers, ResourceCount};
pub use pci::{DeviceId, Pci, PciAddress, PciAddressError, PciClass, PciId, PcieLink};
pub use problem::Problem;
pub use sample::{
    Clock, Direction, Engine, ErrorKind, LinkCounter, PageState, Quantity, Reading, Rows, Sample, Sampling,
    Sensor, ThrottleCause, Which,
};
pub use vendor::{Variant, Vendor};
pub use vendor_facts::{AmdFacts, BlockFirmware, VendorFacts};
