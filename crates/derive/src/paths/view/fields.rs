//! The rows of the view.

use afd_model::{Inventory, Missing, Partition};
use cel::Value;

use super::{
    DeviceOf, Field, Kind, Node, PortOf, Record, failed, healthy, number, pcie_root, text, usable, whole,
};

/// A field, and its value if it is known.
pub(super) struct Row<F> {
    pub(super) field: Field,
    pub(super) value: F,
}

/// How the value of a field is had from what it is a field of.
type OfNode = fn(&Node<'_>) -> Option<Value>;
type OfDevice = fn(&DeviceOf<'_>) -> Option<Value>;
type OfPartition = fn(&Partition) -> Option<Value>;
type OfPort = fn(&PortOf<'_>) -> Option<Value>;
type OfHost = fn(&Inventory) -> Option<Value>;

const fn row<F: Copy>(name: &'static str, kind: Kind, meaning: &'static str, value: F) -> Row<F> {
    Row { field: Field { name, kind, meaning }, value }
}

pub(super) const NODE: &[Row<OfNode>] = &[
    row("count", Kind::Number, "accelerators of the primary product", |node| number(node.devices.len())),
    row("failed", Kind::Number, "of those, how many are known to have failed", |node| {
        number(node.count(|device| Some(failed(device)))?)
    }),
    row("healthy", Kind::Number, "how many may take work; absent while no source tells of one", |node| {
        number(node.count(healthy)?)
    }),
    row(
        "usable",
        Kind::Number,
        "how many can be given to a pod as a whole: not cut into partitions and not known to have failed",
        |node| number(node.count(usable)?),
    ),
    row("homogeneous", Kind::Bool, "whether the node has no other product", |node| {
        (!node.devices.is_empty()).then_some(Value::Bool(node.homogeneous))
    }),
    row("vendor", Kind::Text, "`nvidia`, `amd`, `intel`, `google`", |node| {
        text(node.agreed(|device| Some(device.vendor.as_str()))?)
    }),
    row("variant", Kind::Text, "`gpu`, `xpu`, `hpu`, `tpu`", |node| {
        text(node.agreed(|device| Some(device.variant.as_str()))?)
    }),
    row("product", Kind::Text, "marketing name", |node| text(node.agreed(|device| device.product_name())?)),
    row("model", Kind::Text, "short name: `H100`, `MI300X`, `v6e`", |node| {
        text(node.agreed(|device| device.product.value()?.model.value())?)
    }),
    row("architecture", Kind::Text, "silicon generation: `hopper`, `cdna3`", |node| {
        text(node.agreed(|device| device.product.value()?.architecture.value())?)
    }),
    row("compute", Kind::Text, "what a kernel is compiled for: `9.0`, `gfx942`", |node| {
        text(node.agreed(|device| device.compute.value())?)
    }),
    row("memory_bytes", Kind::Number, "memory of one device, where all have the same", |node| {
        number(*node.agreed(|device| device.memory_bytes.value())?)
    }),
    row("driver_version", Kind::Text, "version of the kernel driver", |node| {
        text(node.agreed(|device| device.driver_version.value())?)
    }),
    row("runtime_version", Kind::Text, "CUDA version that the driver supports", |node| {
        text(node.agreed(|device| device.runtime_version.value())?)
    }),
    row(
        "interconnect",
        Kind::Text,
        "fastest link from device to device: `nvlink`, `xgmi`, `ici`, `roce`, `xelink`, `pcie`",
        |node| text(node.devices.iter().filter_map(|device| device.interconnect.value()).max()?.as_str()),
    ),
    row("fabric_domain", Kind::Text, "nodes with the same value are in one scale-up fabric", |node| {
        text(node.agreed(|device| device.fabric_domain.value())?)
    }),
    row(
        "fabric_partition",
        Kind::Text,
        "nodes with the same value can reach each other over that fabric",
        |node| text(node.agreed(|device| device.fabric_partition.value())?),
    ),
    row(
        "in_fabric",
        Kind::Bool,
        "whether all devices are in one scale-up fabric with those of other nodes",
        in_fabric,
    ),
    row(
        "rdma",
        Kind::Text,
        "what the active RDMA ports speak: `infiniband`, `roce`, `efa`, or `none`",
        |node| text(crate::rdma::protocol(node.inventory)?),
    ),
    row("devices", Kind::Many(Record::Device), "the devices of the primary product", |node| {
        Some(node.devices())
    }),
    row(
        "ports",
        Kind::Many(Record::Port),
        "the RDMA ports of the node's NICs, those of accelerators aside",
        |node| Some(node.ports()),
    ),
    row("host", Kind::One(Record::Host), "the host", |node| Some(node.host())),
];

fn in_fabric(node: &Node<'_>) -> Option<Value> {
    if node.agreed(|device| device.fabric_partition.value()).is_some() {
        return Some(Value::Bool(true));
    }
    let none = |missing: Option<Missing>| missing == Some(Missing::NotAvailable);
    (!node.devices.is_empty() && node.asked().all(|device| none(device.fabric_partition.missing())))
        .then_some(Value::Bool(false))
}

pub(super) const DEVICE: &[Row<OfDevice>] = &[
    row("id", Kind::Text, "PCI address", |of| text(of.device.id.to_string())),
    row("product", Kind::Text, "marketing name", |of| text(of.device.product_name()?)),
    row("model", Kind::Text, "short name", |of| text(of.device.product.value()?.model.value()?)),
    row("architecture", Kind::Text, "silicon generation", |of| {
        text(of.device.product.value()?.architecture.value()?)
    }),
    row("compute", Kind::Text, "what a kernel is compiled for", |of| text(of.device.compute.value()?)),
    row("memory_bytes", Kind::Number, "memory", |of| number(*of.device.memory_bytes.value()?)),
    row("driver", Kind::Text, "the kernel driver bound to it", |of| text(of.device.driver.value()?)),
    row("driver_version", Kind::Text, "its version", |of| text(of.device.driver_version.value()?)),
    row("firmware_version", Kind::Text, "version of the firmware", |of| {
        text(of.device.firmware_version.value()?)
    }),
    row("numa_node", Kind::Number, "NUMA node", |of| number(*of.device.numa_node.value()?)),
    row("virtual_function", Kind::Bool, "whether it is an SR-IOV function without its physical one", |of| {
        Some(Value::Bool(of.device.virtual_function))
    }),
    row("failed", Kind::Bool, "whether it is known to have failed", |of| {
        Some(Value::Bool(failed(of.device)))
    }),
    row("healthy", Kind::Bool, "whether it may take work; absent while no source tells", |of| {
        healthy(of.device).map(Value::Bool)
    }),
    row("whole", Kind::Bool, "whether it is not cut into partitions", |of| whole(of.device).map(Value::Bool)),
    row("partitions", Kind::Many(Record::Partition), "its partitions", |of| Some(of.partitions())),
    row("interconnect", Kind::Text, "fastest link to another device of the node", |of| {
        text(of.device.interconnect.value()?.as_str())
    }),
    row("link_domain", Kind::Text, "devices with the same value reach each other over it", |of| {
        text(of.device.link_domain.value()?)
    }),
    row(
        "pcie_root",
        Kind::Text,
        "PCIe root complex, as `resource.kubernetes.io/pcieRoot`: `pci0000:97`",
        |of| text(pcie_root(&of.device.pci.upstream)?),
    ),
    row("near_ports", Kind::Number, "active RDMA ports on the same PCIe root", |of| number(of.near_ports()?)),
];

pub(super) const PARTITION: &[Row<OfPartition>] = &[
    row("name", Kind::Text, "name within the device", |part| text(part.name)),
    row("profile", Kind::Text, "what it was cut by: `1g.10gb`", |part| text(part.profile.value()?)),
    row("memory_bytes", Kind::Number, "memory", |part| number(*part.memory_bytes.value()?)),
];

pub(super) const PORT: &[Row<OfPort>] = &[
    row("nic", Kind::Text, "the kernel's name of the NIC: `mlx5_0`", |of| text(&of.nic.name)),
    row("number", Kind::Number, "number of the port, from 1", |of| number(of.port.number)),
    row("active", Kind::Bool, "whether InfiniBand, RoCE or EFA can flow", |of| of.active().map(Value::Bool)),
    row("link_layer", Kind::Text, "`infiniband`, `ethernet`", |of| {
        text(of.port.link_layer.value()?.as_str())
    }),
    row("protocol", Kind::Text, "`infiniband`, `roce`, `efa`, `other`", |of| {
        text(of.port.protocol.value()?.as_str())
    }),
    row("rate_bits_per_second", Kind::Number, "signalling rate in one direction", |of| {
        number(*of.port.rate_bits_per_second.value()?)
    }),
    row("driver", Kind::Text, "kernel driver of the NIC", |of| text(of.nic.driver.value()?)),
    row("firmware_version", Kind::Text, "version of its firmware", |of| {
        text(of.nic.firmware_version.value()?)
    }),
    row("numa_node", Kind::Number, "NUMA node", |of| number(*of.nic.numa_node.value()?)),
    row("virtual_function", Kind::Bool, "whether the NIC is a virtual function", |of| {
        Some(Value::Bool(of.nic.virtual_function))
    }),
    row("pcie_root", Kind::Text, "PCIe root complex", |of| text(pcie_root(&of.nic.upstream)?)),
];

pub(super) const HOST: &[Row<OfHost>] = &[
    row("memory_bytes", Kind::Number, "memory of the host: all of it, not what is free", |inventory| {
        number(*inventory.host.memory_bytes.value()?)
    }),
    row("rdma_device_files", Kind::Number, "files `/dev/infiniband/uverbs<N>`", |inventory| {
        number(*inventory.host.rdma_device_files.value()?)
    }),
    row("kernel_release", Kind::Text, "`uname -r`", |inventory| text(inventory.kernel_release.value()?)),
    row("machine", Kind::Text, "what machine it is, by its firmware", |inventory| {
        text(inventory.machine.value()?)
    }),
    row("numa_nodes", Kind::Number, "NUMA nodes", |inventory| {
        if inventory.numa_nodes.is_empty() { None } else { number(inventory.numa_nodes.len()) }
    }),
];
