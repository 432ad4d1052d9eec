//! RDMA ports of the node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Known, PciAddress, PciId};

/// An RDMA device of `/sys/class/infiniband`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Nic {
    /// The kernel's name, e.g. `mlx5_0`.
    pub name: String,
    /// The PCI function behind it.
    pub pci_address: Known<PciAddress>,
    /// PCI vendor id.
    pub vendor_id: Known<PciId>,
    /// PCI device id.
    pub device_id: Known<PciId>,
    /// Name of vendor and product by the public PCI id list.
    pub product: Known<String>,
    /// Kernel driver, e.g. `mlx5_core`.
    pub driver: Known<String>,
    /// Firmware version.
    pub firmware_version: Known<String>,
    /// NUMA node.
    pub numa_node: Known<u32>,
    /// The bridges between the root complex and the NIC, root port first.
    pub upstream: Vec<PciAddress>,
    /// Whether it is a virtual function.
    pub virtual_function: bool,
    /// Whether the ports belong to an accelerator itself rather than to a NIC of the node.
    pub of_accelerator: bool,
    /// Its ports.
    pub ports: Vec<NicPort>,
}

/// A port of an RDMA device.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct NicPort {
    /// Port number, from 1.
    pub number: u32,
    /// Logical state.
    pub state: Known<PortState>,
    /// Link layer.
    pub link_layer: Known<LinkLayer>,
    /// RDMA protocol.
    pub protocol: Known<NicProtocol>,
    /// Signalling rate, bits per second in one direction.
    pub rate_bits_per_second: Known<u64>,
}

/// Logical state of a port (`ports/N/state`).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PortState {
    /// Traffic can flow.
    Active,
    /// The link is being set up.
    Init,
    /// Armed: waiting for the first data.
    Armed,
    /// Active, with the physical link lost briefly.
    ActiveDefer,
    /// No link.
    Down,
}

impl PortState {
    /// The spelling in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            PortState::Active => "active",
            PortState::Init => "init",
            PortState::Armed => "armed",
            PortState::ActiveDefer => "active_defer",
            PortState::Down => "down",
        }
    }
}

/// Link layer of a port (`ports/N/link_layer`).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkLayer {
    /// InfiniBand.
    Infiniband,
    /// Ethernet.
    Ethernet,
}

impl LinkLayer {
    /// The value of the metric label `link_layer`.
    pub fn as_str(self) -> &'static str {
        match self {
            LinkLayer::Infiniband => "infiniband",
            LinkLayer::Ethernet => "ethernet",
        }
    }
}

/// RDMA protocol of a port, in the order in which the label `rdma` prefers them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NicProtocol {
    /// InfiniBand.
    Infiniband,
    /// AWS Elastic Fabric Adapter.
    Efa,
    /// RDMA over Converged Ethernet.
    Roce,
    /// Another one (iWARP, Omni-Path, usNIC).
    Other,
}

impl NicProtocol {
    /// The value of the label `rdma`.
    pub fn as_str(self) -> &'static str {
        match self {
            NicProtocol::Infiniband => "infiniband",
            NicProtocol::Efa => "efa",
            NicProtocol::Roce => "roce",
            NicProtocol::Other => "other",
        }
    }
}
