//! What a rule can ask: the view of an inventory as one object, `node`. Its fields are an API, as labels are.
//!
//! Each field stands in one table with its kind, its meaning and where its value comes from; the documentation and the
//! check of expressions are made from the same rows. A field whose value is not known is absent.
//!
//! As the labels do, `node` and `node.devices` tell of the primary product: the one with most devices.

mod fields;

use std::{collections::HashMap, sync::Arc};

use afd_model::{
    Device, HealthState, Inventory, Nic, NicPort, NicProtocol, Partition, Partitioning, PciAddress,
    PortState, XcpComputeMode,
};
use cel::{Value, objects::Key};

use crate::labels::primary_product;

/// What a field of the view is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Yes or no.
    Bool,
    /// A whole number.
    Number,
    /// A text.
    Text,
    /// Another part of the view.
    One(Record),
    /// A list of parts.
    Many(Record),
}

/// A part of the view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record {
    /// `node`.
    Node,
    /// An element of `node.devices`.
    Device,
    /// An element of a device's `partitions`.
    Partition,
    /// An element of `node.ports`.
    Port,
    /// `node.host`.
    Host,
}

/// A field of the view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it means.
    pub meaning: &'static str,
}

impl Record {
    /// All parts, in the order of the documentation.
    pub const ALL: [Record; 5] =
        [Record::Node, Record::Device, Record::Partition, Record::Port, Record::Host];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Record::Node => "a node",
            Record::Device => "a device",
            Record::Partition => "a partition",
            Record::Port => "a port",
            Record::Host => "a host",
        }
    }

    /// Its fields.
    pub fn fields(self) -> Vec<Field> {
        match self {
            Record::Node => fields::NODE.iter().map(|row| row.field).collect(),
            Record::Device => fields::DEVICE.iter().map(|row| row.field).collect(),
            Record::Partition => fields::PARTITION.iter().map(|row| row.field).collect(),
            Record::Port => fields::PORT.iter().map(|row| row.field).collect(),
            Record::Host => fields::HOST.iter().map(|row| row.field).collect(),
        }
    }

    /// The field of a name.
    pub fn field(self, name: &str) -> Option<Field> {
        self.fields().into_iter().find(|field| field.name == name)
    }
}

/// The view of a node, as the value of `node`.
pub(super) fn of(inventory: &Inventory, include_integrated: bool) -> Value {
    let (devices, homogeneous) = primary_product(inventory, include_integrated).unwrap_or_default();
    let node = Node { inventory, devices, homogeneous };
    record(fields::NODE.iter().map(|row| (row.field, (row.value)(&node))))
}

fn record(fields: impl Iterator<Item = (Field, Option<Value>)>) -> Value {
    let known = fields.filter_map(|(field, value)| Some((Key::from(field.name), value?)));
    Value::from(known.collect::<HashMap<Key, Value>>())
}

/// A node of which fields are told.
struct Node<'i> {
    inventory: &'i Inventory,
    /// Of the primary product; none if there is no accelerator.
    devices: Vec<&'i Device>,
    homogeneous: bool,
}

/// A device of which fields are told.
struct DeviceOf<'i> {
    device: &'i Device,
    nics: &'i [Nic],
}

/// A port of which fields are told.
struct PortOf<'i> {
    nic: &'i Nic,
    port: &'i NicPort,
}

impl<'i> Node<'i> {
    /// The devices that are asked what they have in common: those that have not failed, unless all have. A GPU that fell off
    /// the bus tells nothing any more.
    fn asked(&self) -> impl Iterator<Item = &'i Device> {
        let all_failed = self.devices.iter().all(|device| failed(device));
        self.devices.iter().copied().filter(move |device| all_failed || !failed(device))
    }

    /// The value that all of them tell alike; none if one does not tell it.
    fn agreed<T: PartialEq>(&self, tell: impl Fn(&'i Device) -> Option<T>) -> Option<T> {
        let mut told = self.asked().map(tell);
        let first = told.next()??;
        told.all(|value| value.as_ref() == Some(&first)).then_some(first)
    }

    /// How many devices there are of which `tell` says yes; none if one of them does not tell.
    fn count(&self, tell: impl Fn(&Device) -> Option<bool>) -> Option<usize> {
        self.devices.iter().map(|device| tell(device).map(usize::from)).sum()
    }

    fn devices(&self) -> Value {
        let nics = &self.inventory.nics;
        list(self.devices.iter().map(|device| {
            let of = DeviceOf { device, nics };
            record(fields::DEVICE.iter().map(|row| (row.field, (row.value)(&of))))
        }))
    }

    fn ports(&self) -> Value {
        list(
            ports(&self.inventory.nics)
                .map(|of| record(fields::PORT.iter().map(|row| (row.field, (row.value)(&of))))),
        )
    }

    fn host(&self) -> Value {
        record(fields::HOST.iter().map(|row| (row.field, (row.value)(self.inventory))))
    }
}

/// The ports of the node's own NICs.
fn ports(nics: &[Nic]) -> impl Iterator<Item = PortOf<'_>> {
    let own = nics.iter().filter(|nic| !nic.of_accelerator);
    own.flat_map(|nic| nic.ports.iter().map(move |port| PortOf { nic, port }))
}

impl PortOf<'_> {
    /// Whether RDMA can flow: active, and of a protocol that llm-d's transports speak.
    fn active(&self) -> Option<bool> {
        let state = *self.port.state.value()? == PortState::Active;
        Some(state && *self.port.protocol.value()? != NicProtocol::Other)
    }
}

impl DeviceOf<'_> {
    fn partitions(&self) -> Value {
        list(self.device.partitions.iter().map(|partition: &Partition| {
            record(fields::PARTITION.iter().map(|row| (row.field, (row.value)(partition))))
        }))
    }

    /// Active ports on the same PCIe root; none if the place of the device or of one active port is not known.
    fn near_ports(&self) -> Option<usize> {
        let own = pcie_root(&self.device.pci.upstream)?;
        let mut near = 0;
        for port in ports(self.nics) {
            if port.active()? && pcie_root(&port.nic.upstream)? == own {
                near += 1;
            }
        }
        Some(near)
    }
}

/// The root complex above a function, as `resource.kubernetes.io/pcieRoot` spells it: `pci0000:97`.
fn pcie_root(upstream: &[PciAddress]) -> Option<String> {
    upstream.first().map(|root_port| format!("pci{:04x}:{:02x}", root_port.domain, root_port.bus))
}

fn failed(device: &Device) -> bool {
    device.health.state == HealthState::Failed
}

fn healthy(device: &Device) -> Option<bool> {
    match device.health.state {
        HealthState::Healthy | HealthState::Degraded => Some(true),
        HealthState::Failed => Some(false),
        HealthState::Unknown => None,
    }
}

/// Whether the device is not cut into partitions.
fn whole(device: &Device) -> Option<bool> {
    Some(match device.partitioning.value()? {
        Partitioning::Whole => true,
        Partitioning::Xcp { compute, .. } => *compute == XcpComputeMode::Spx,
        Partitioning::Mig => false,
        Partitioning::Sriov { functions } => *functions == 0,
    })
}

/// Whether the device can be given to a pod as a whole, so far as is told: a device that failed cannot.
fn usable(device: &Device) -> Option<bool> {
    if failed(device) { Some(false) } else { whole(device) }
}

fn text(text: impl Into<String>) -> Option<Value> {
    Some(Value::String(Arc::new(text.into())))
}

fn number(number: impl TryInto<i64>) -> Option<Value> {
    number.try_into().ok().map(Value::Int)
}

fn list(elements: impl Iterator<Item = Value>) -> Value {
    Value::List(Arc::new(elements.collect()))
}
