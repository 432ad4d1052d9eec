//! What a node's accelerators are, as plain data.
//!
//! Probes fill these types, `Inventory::assemble` merges them, `afd-derive` turns them into labels and metric families.
//! Nothing here opens a file, parses a vendor's format or keeps time.
//! The JSON of `afd show --output json` is the serialised [`Inventory`]; its schema is generated from these types.

mod allocation;
mod device;
mod health;
mod host;
mod inventory;
mod known;
mod link;
mod nic;
mod offer;
mod partition;
mod pci;
mod problem;
mod sample;
mod vendor;
mod vendors;

pub use allocation::{Allocation, AllocationMechanism};
pub use device::{Device, Handle, HandleKind, MemorySource, Product};
pub use health::{Health, HealthReason, HealthState};
pub use host::HostFacts;
pub use inventory::{Findings, Inventory, NumaNode, Scanned};
pub use known::{Known, Missing};
pub use link::{Link, LinkKind};
pub use nic::{LinkLayer, Nic, NicPort, NicProtocol, PortState};
pub use offer::{OfferedUnit, Offers, PublishedOffers, ResourceCount};
pub use partition::{
    Partition, PartitionFunction, PartitionId, PartitionName, PartitionNameError, Partitioning, UnitId,
    XcpComputeMode, XcpMemoryMode,
};
pub use pci::{DeviceId, Pci, PciAddress, PciAddressError, PciClass, PciId, PcieLink};
pub use problem::Problem;
pub use sample::{
    Clock, Direction, Engine, ErrorDetail, ErrorKind, LinkCounter, PageState, Quantity, Reading, Rows,
    Sample, Sampling, Sensor, ThrottleCause, Which,
};
pub use vendor::{Variant, Vendor};
pub use vendors::*;
