//! What a rule can read: the view of an inventory as one object, `node`. Its fields are an API, as labels are.
//!
//! Each field is one row of a table with its type, its meaning and the source of its value; the documentation and the check of
//! expressions use the same rows. A field whose value is not known is absent.
//!
//! As the labels do, `node` and `node.devices` describe the primary product.

mod fields;

use std::{collections::HashMap, sync::Arc};

use afd_model::{
    Device, HealthState, Inventory, Nic, NicPort, NicProtocol, Partition, Partitioning, PciAddress,
    PortState, XcpComputeMode,
};
use cel::{Value, objects::Key};

use crate::{
    labels::primary_product,
    vendors::{can_compute, driver_is_undecided, has_compute_driver, obstacle},
};

/// The type of a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FieldKind {
    /// A boolean.
    Bool,
    /// A whole number.
    Number,
    /// A string.
    String,
    /// A record.
    One(ViewRecord),
    /// A list of records.
    Many(ViewRecord),
}

/// A record of the view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ViewRecord {
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
pub struct ViewField {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: FieldKind,
    /// What it means.
    pub meaning: &'static str,
}

impl ViewRecord {
    /// All records, in the order of the documentation.
    pub const ALL: [ViewRecord; 5] =
        [ViewRecord::Node, ViewRecord::Device, ViewRecord::Partition, ViewRecord::Port, ViewRecord::Host];

    /// What it is called in errors.
    pub fn name(self) -> &'static str {
        match self {
            ViewRecord::Node => "a node",
            ViewRecord::Device => "a device",
            ViewRecord::Partition => "a partition",
            ViewRecord::Port => "a port",
            ViewRecord::Host => "a host",
        }
    }

    /// Its fields.
    pub fn fields(self) -> Vec<ViewField> {
        match self {
            ViewRecord::Node => fields::NODE.iter().map(|row| row.field).collect(),
            ViewRecord::Device => fields::DEVICE.iter().map(|row| row.field).collect(),
            ViewRecord::Partition => fields::PARTITION.iter().map(|row| row.field).collect(),
            ViewRecord::Port => fields::PORT.iter().map(|row| row.field).collect(),
            ViewRecord::Host => fields::HOST.iter().map(|row| row.field).collect(),
        }
    }

    /// The field of a name.
    pub fn field(self, name: &str) -> Option<ViewField> {
        self.fields().into_iter().find(|field| field.name == name)
    }
}

/// The view of a node, as the value of `node`.
pub(super) fn of_inventory(inventory: &Inventory, include_integrated: bool) -> Value {
    let (devices, homogeneous) = primary_product(inventory, include_integrated).unwrap_or_default();
    let node = NodeView { inventory, devices, homogeneous };
    record(fields::NODE.iter().map(|row| (row.field, (row.value)(&node))))
}

fn record(fields: impl Iterator<Item = (ViewField, Option<Value>)>) -> Value {
    let known = fields.filter_map(|(field, value)| Some((Key::from(field.name), value?)));
    Value::from(known.collect::<HashMap<Key, Value>>())
}

/// What the fields of a node are made from.
struct NodeView<'i> {
    inventory: &'i Inventory,
    /// Of the primary product; none if there is no accelerator.
    devices: Vec<&'i Device>,
    homogeneous: bool,
}

/// What the fields of a device are made from.
struct DeviceView<'i> {
    device: &'i Device,
    nics: &'i [Nic],
}

/// What the fields of a port are made from.
struct PortView<'i> {
    nic: &'i Nic,
    port: &'i NicPort,
}

impl<'i> NodeView<'i> {
    /// The devices whose common facts count: those that have not failed and can compute, where there are such. A GPU that fell off
    /// the bus, or belongs to virtual machines, reports nothing.
    fn considered(&self) -> impl Iterator<Item = &'i Device> {
        let counts = |device: &Device| !has_failed(device) && can_compute(device);
        let any = self.devices.iter().any(|device| counts(device));
        self.devices.iter().copied().filter(move |device| !any || counts(device))
    }

    /// The fact in which all of them agree; `None` if it is unknown for one.
    fn agreed<T: PartialEq>(&self, fact: impl Fn(&'i Device) -> Option<T>) -> Option<T> {
        let mut values = self.considered().map(fact);
        let first = values.next()??;
        values.all(|value| value.as_ref() == Some(&first)).then_some(first)
    }

    /// The number of devices that fulfil a condition; `None` if it is unknown for one.
    fn count(&self, condition: impl Fn(&Device) -> Option<bool>) -> Option<usize> {
        self.devices.iter().map(|device| condition(device).map(usize::from)).sum()
    }

    /// The number of devices that are known to fulfil a condition. Where that is unknown for others it is a lower bound; `None` if it is
    /// unknown for one and known of none.
    fn at_least(&self, condition: impl Fn(&Device) -> Option<bool>) -> Option<usize> {
        let known = self.devices.iter().filter(|device| condition(device) == Some(true)).count();
        if known > 0 { Some(known) } else { self.count(condition) }
    }

    fn devices(&self) -> Value {
        let nics = &self.inventory.nics;
        list(self.devices.iter().map(|device| {
            let view = DeviceView { device, nics };
            record(fields::DEVICE.iter().map(|row| (row.field, (row.value)(&view))))
        }))
    }

    fn ports(&self) -> Value {
        list(
            ports(&self.inventory.nics)
                .map(|port| record(fields::PORT.iter().map(|row| (row.field, (row.value)(&port))))),
        )
    }

    fn host(&self) -> Value {
        record(fields::HOST.iter().map(|row| (row.field, (row.value)(self.inventory))))
    }
}

/// The ports of the node's own NICs.
fn ports(nics: &[Nic]) -> impl Iterator<Item = PortView<'_>> {
    let own = nics.iter().filter(|nic| !nic.of_accelerator);
    own.flat_map(|nic| nic.ports.iter().map(move |port| PortView { nic, port }))
}

impl PortView<'_> {
    /// Whether it is active, with a protocol that llm-d's transports support.
    fn active(&self) -> Option<bool> {
        let state = *self.port.state.value()? == PortState::Active;
        Some(state && *self.port.protocol.value()? != NicProtocol::Other)
    }
}

impl DeviceView<'_> {
    fn partitions(&self) -> Value {
        list(self.device.partitions.iter().map(|partition: &Partition| {
            record(fields::PARTITION.iter().map(|row| (row.field, (row.value)(partition))))
        }))
    }

    /// The number of active ports on the same PCIe root; `None` if the root of the device or of an active port is not known.
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

fn has_failed(device: &Device) -> bool {
    device.health.state == HealthState::Failed
}

fn is_healthy(device: &Device) -> Option<bool> {
    match device.health.state {
        HealthState::Healthy | HealthState::Degraded => Some(true),
        HealthState::Failed => Some(false),
        HealthState::Unknown => None,
    }
}

/// Whether the device is not partitioned.
fn is_whole(device: &Device) -> Option<bool> {
    Some(match device.partitioning.value()? {
        Partitioning::Whole => true,
        Partitioning::Xcp { compute, .. } => *compute == XcpComputeMode::Spx,
        Partitioning::Mig => false,
        Partitioning::Sriov { functions } => *functions == 0,
    })
}

/// Whether a driver is bound with which devices of the vendor compute.
fn is_bound_to_compute(device: &Device) -> Option<bool> {
    (!driver_is_undecided(device)).then(|| has_compute_driver(device))
}

/// Whether programs can use the device, as far as its driver and its settings say.
fn is_computing(device: &Device) -> Option<bool> {
    (!driver_is_undecided(device)).then(|| obstacle(device).is_none())
}

/// Whether the device can be allocated as a whole, as far as is known: one that has failed or cannot compute cannot.
fn is_usable(device: &Device) -> Option<bool> {
    if has_failed(device) || obstacle(device).is_some() { Some(false) } else { is_whole(device) }
}

fn string(text: impl Into<String>) -> Option<Value> {
    Some(Value::String(Arc::new(text.into())))
}

fn number(number: impl TryInto<i64>) -> Option<Value> {
    number.try_into().ok().map(Value::Int)
}

fn list(elements: impl Iterator<Item = Value>) -> Value {
    Value::List(Arc::new(elements.collect()))
}
