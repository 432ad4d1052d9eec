//! The rows of the view.

use afd_model::{Device, Inventory, Missing, NumaNode, Partition};
use cel::Value;

use crate::vendors::obstacle;

use super::{
    DeviceView, FieldKind, NodeView, PortView, ViewField, ViewRecord, has_failed, is_bound_to_compute,
    is_computing, is_healthy, is_usable, is_whole, number, pcie_root, string,
};

/// A field and its value, if that is known.
pub(super) struct ViewRow<F> {
    pub(super) field: ViewField,
    pub(super) value: F,
}

/// The value of a field of a record.
type NodeValue = fn(&NodeView<'_>) -> Option<Value>;
type DeviceValue = fn(&DeviceView<'_>) -> Option<Value>;
type PartitionValue = fn(&Partition) -> Option<Value>;
type PortValue = fn(&PortView<'_>) -> Option<Value>;
type HostValue = fn(&Inventory) -> Option<Value>;

const fn row<F: Copy>(name: &'static str, kind: FieldKind, meaning: &'static str, value: F) -> ViewRow<F> {
    ViewRow { field: ViewField { name, kind, meaning }, value }
}

pub(super) const NODE: &[ViewRow<NodeValue>] = &[
    row("count", FieldKind::Number, "accelerators of the primary product", |node| number(node.devices.len())),
    row("failed", FieldKind::Number, "number of those that are known to have failed", |node| {
        number(node.count(|device| Some(has_failed(device)))?)
    }),
    row(
        "healthy",
        FieldKind::Number,
        "number of those that are healthy or degraded; absent while the health of one is unknown",
        |node| number(node.count(is_healthy)?),
    ),
    row(
        "driven",
        FieldKind::Number,
        "number of those that are known to be bound to a driver with which devices of the vendor compute; absent if none is, and the driver of one could not be read",
        |node| number(node.at_least(is_bound_to_compute)?),
    ),
    row(
        "computing",
        FieldKind::Number,
        "number of those that programs are known to be able to use: `driven`, no display cards, and not set so that they compute nothing on this node; absent as `driven` is",
        |node| number(node.at_least(is_computing)?),
    ),
    row("obstacle", FieldKind::String, "why the first of the others cannot compute", |node| {
        string(node.devices.iter().copied().find_map(obstacle)?)
    }),
    row(
        "usable",
        FieldKind::Number,
        "number of those that can be allocated as a whole: `computing`, not partitioned and not known to have failed",
        |node| number(node.count(is_usable)?),
    ),
    row("homogeneous", FieldKind::Bool, "whether no other product of the node can compute", |node| {
        (!node.devices.is_empty()).then_some(Value::Bool(node.homogeneous))
    }),
    row("vendor", FieldKind::String, "vendor, as in the label `vendor`", |node| {
        string(node.agreed(|device| Some(device.vendor.as_str()))?)
    }),
    row("variant", FieldKind::String, "kind of accelerator, as in the label `variant`", |node| {
        string(node.agreed(|device| Some(device.variant.as_str()))?)
    }),
    row("product", FieldKind::String, "marketing name", |node| {
        string(node.agreed(|device| device.product_name())?)
    }),
    row("model", FieldKind::String, "short model name: `H100`, `MI300X`, `v6e`", |node| {
        string(node.agreed(|device| device.product.value()?.model.value())?)
    }),
    row("architecture", FieldKind::String, "silicon generation: `hopper`, `cdna3`", |node| {
        string(node.agreed(|device| device.product.value()?.architecture.value())?)
    }),
    row("compute", FieldKind::String, "compute capability or gfx target: `9.0`, `gfx942`", |node| {
        string(node.agreed(|device| device.compute.value())?)
    }),
    row("memory_bytes", FieldKind::Number, "memory of one device, if all have the same", |node| {
        number(*node.agreed(|device| device.memory_bytes.value())?)
    }),
    row("driver_version", FieldKind::String, "version of the kernel driver", |node| {
        string(node.agreed(|device| device.driver_version.value())?)
    }),
    row("runtime_version", FieldKind::String, "CUDA version that the driver supports", |node| {
        string(node.agreed(|device| device.runtime_version.value())?)
    }),
    row(
        "library_version",
        FieldKind::String,
        "version of the vendor's library on the host, by the name of its file",
        |node| string(node.agreed(|device| device.peering.as_ref()?.library_version.value())?),
    ),
    row(
        "direct_access",
        FieldKind::Bool,
        "whether NICs can reach the memory of the devices: by a module (peermem), or as a dma-buf",
        |node| node.agreed(|device| device.peering.as_ref()?.direct_access().into_value()).map(Value::Bool),
    ),
    row("gdr_copy", FieldKind::Bool, "whether the module of GDRCopy is loaded", |node| {
        node.agreed(|device| device.peering.as_ref()?.gdr_copy.into_value()).map(Value::Bool)
    }),
    row(
        "peer_mapping",
        FieldKind::Bool,
        "whether pods without privileges may map the doorbells of NICs into the devices (IBGDA)",
        |node| node.agreed(|device| device.peering.as_ref()?.peer_mapping.into_value()).map(Value::Bool),
    ),
    row(
        "import_channels",
        FieldKind::Number,
        "channels by which memory of other nodes in the same fabric is imported (IMEX)",
        |node| number(node.agreed(|device| device.peering.as_ref()?.import_channels.into_value())?),
    ),
    row(
        "interconnect",
        FieldKind::String,
        "fastest device-to-device link: `nvlink`, `xgmi`, `ici`, `roce`, `xelink`, `pcie`",
        |node| string(node.devices.iter().filter_map(|device| device.interconnect.value()).max()?.as_str()),
    ),
    row("fabric_domain", FieldKind::String, "nodes with the same value are in one scale-up fabric", |node| {
        string(node.agreed(|device| device.fabric_domain.value())?)
    }),
    row(
        "fabric_partition",
        FieldKind::String,
        "nodes with the same value can reach each other over that fabric",
        |node| string(node.agreed(|device| device.fabric_partition.value())?),
    ),
    row(
        "in_fabric",
        FieldKind::Bool,
        "whether all devices are in one scale-up fabric with devices of other nodes",
        in_fabric,
    ),
    row(
        "part_of_slice",
        FieldKind::Bool,
        "whether the devices are a part of a slice that other hosts have parts of, too",
        |node| node.agreed(Device::is_part_of_slice).map(Value::Bool),
    ),
    row(
        "rdma",
        FieldKind::String,
        "protocol of the active RDMA ports: `infiniband`, `roce`, `efa`, or `none`",
        |node| string(crate::rdma::protocol(node.inventory)?),
    ),
    row("devices", FieldKind::Many(ViewRecord::Device), "the devices of the primary product", |node| {
        Some(node.devices())
    }),
    row(
        "ports",
        FieldKind::Many(ViewRecord::Port),
        "the RDMA ports of the node's NICs; ports of accelerators do not count",
        |node| Some(node.ports()),
    ),
    row("host", FieldKind::One(ViewRecord::Host), "the host", |node| Some(node.host())),
];

/// The number of CPUs in lists of the kernel: `0-31,64-95`.
fn cpus(nodes: &[NumaNode]) -> Option<u64> {
    if nodes.is_empty() {
        return None;
    }
    let in_range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    let mut lists = nodes.iter().map(|node| node.cpus.value());
    lists.try_fold(0_u64, |sum, list| {
        let mut ranges = list?.split(',').filter(|range| !range.trim().is_empty());
        ranges.try_fold(sum, |sum, range| sum.checked_add(in_range(range)?))
    })
}

/// The cores of the host.
fn cores(inventory: &Inventory) -> Option<Value> {
    let threads = inventory.host.threads_per_core.into_value()?;
    number(cpus(&inventory.numa_nodes)?.checked_div(threads.into())?)
}

fn in_fabric(node: &NodeView<'_>) -> Option<Value> {
    if node.agreed(|device| device.fabric_partition.value()).is_some() {
        return Some(Value::Bool(true));
    }
    let is_none = |missing: Option<Missing>| missing == Some(Missing::NotAvailable);
    (!node.devices.is_empty() && node.considered().all(|device| is_none(device.fabric_partition.missing())))
        .then_some(Value::Bool(false))
}

pub(super) const DEVICE: &[ViewRow<DeviceValue>] = &[
    row("id", FieldKind::String, "PCI address", |view| string(view.device.id.to_string())),
    row("product", FieldKind::String, "marketing name", |view| string(view.device.product_name()?)),
    row("model", FieldKind::String, "short model name", |view| {
        string(view.device.product.value()?.model.value()?)
    }),
    row("architecture", FieldKind::String, "silicon generation", |view| {
        string(view.device.product.value()?.architecture.value()?)
    }),
    row("compute", FieldKind::String, "compute capability or gfx target", |view| {
        string(view.device.compute.value()?)
    }),
    row("memory_bytes", FieldKind::Number, "memory", |view| number(*view.device.memory_bytes.value()?)),
    row("driver", FieldKind::String, "the kernel driver bound to it", |view| {
        string(view.device.driver.value()?)
    }),
    row("driver_version", FieldKind::String, "its version", |view| {
        string(view.device.driver_version.value()?)
    }),
    row("firmware_version", FieldKind::String, "version of the firmware", |view| {
        string(view.device.firmware_version.value()?)
    }),
    row("numa_node", FieldKind::Number, "NUMA node", |view| number(*view.device.numa_node.value()?)),
    row(
        "virtual_function",
        FieldKind::Bool,
        "whether it is an SR-IOV virtual function without its physical function",
        |view| Some(Value::Bool(view.device.virtual_function)),
    ),
    row("failed", FieldKind::Bool, "whether it is known to have failed", |view| {
        Some(Value::Bool(has_failed(view.device)))
    }),
    row(
        "healthy",
        FieldKind::Bool,
        "whether it is healthy or degraded; absent while its health is unknown",
        |view| is_healthy(view.device).map(Value::Bool),
    ),
    row("whole", FieldKind::Bool, "whether it is not partitioned", |view| {
        is_whole(view.device).map(Value::Bool)
    }),
    row("partitions", FieldKind::Many(ViewRecord::Partition), "its partitions", |view| {
        Some(view.partitions())
    }),
    row("interconnect", FieldKind::String, "fastest link to another device of the node", |view| {
        string(view.device.interconnect.value()?.as_str())
    }),
    row(
        "link_domain",
        FieldKind::String,
        "devices with the same value can reach each other over that link",
        |view| string(view.device.link_domain.value()?),
    ),
    row(
        "pcie_root",
        FieldKind::String,
        "PCIe root complex, as `resource.kubernetes.io/pcieRoot`: `pci0000:97`",
        |view| string(pcie_root(&view.device.pci.upstream)?),
    ),
    row("near_ports", FieldKind::Number, "active RDMA ports on the same PCIe root", |view| {
        number(view.near_ports()?)
    }),
];

pub(super) const PARTITION: &[ViewRow<PartitionValue>] = &[
    row("name", FieldKind::String, "name within the device", |partition| string(partition.name)),
    row("profile", FieldKind::String, "profile: `1g.10gb`", |partition| string(partition.profile.value()?)),
    row("memory_bytes", FieldKind::Number, "memory", |partition| number(*partition.memory_bytes.value()?)),
];

pub(super) const PORT: &[ViewRow<PortValue>] = &[
    row("nic", FieldKind::String, "name of the NIC: `mlx5_0`", |view| string(&view.nic.name)),
    row("number", FieldKind::Number, "port number, from 1", |view| number(view.port.number)),
    row("active", FieldKind::Bool, "whether it is active, with InfiniBand, RoCE or EFA", |view| {
        view.active().map(Value::Bool)
    }),
    row("link_layer", FieldKind::String, "`infiniband`, `ethernet`", |view| {
        string(view.port.link_layer.value()?.as_str())
    }),
    row("protocol", FieldKind::String, "`infiniband`, `roce`, `efa`, `other`", |view| {
        string(view.port.protocol.value()?.as_str())
    }),
    row("rate_bits_per_second", FieldKind::Number, "signalling rate in one direction", |view| {
        number(*view.port.rate_bits_per_second.value()?)
    }),
    row("driver", FieldKind::String, "kernel driver of the NIC", |view| string(view.nic.driver.value()?)),
    row("firmware_version", FieldKind::String, "version of its firmware", |view| {
        string(view.nic.firmware_version.value()?)
    }),
    row("numa_node", FieldKind::Number, "NUMA node", |view| number(*view.nic.numa_node.value()?)),
    row("virtual_function", FieldKind::Bool, "whether the NIC is a virtual function", |view| {
        Some(Value::Bool(view.nic.virtual_function))
    }),
    row("pcie_root", FieldKind::String, "PCIe root complex", |view| string(pcie_root(&view.nic.upstream)?)),
];

pub(super) const HOST: &[ViewRow<HostValue>] = &[
    row("memory_bytes", FieldKind::Number, "memory of the host: all of it, not what is free", |inventory| {
        number(*inventory.host.memory_bytes.value()?)
    }),
    row("rdma_device_files", FieldKind::Number, "number of files `/dev/infiniband/uverbs<N>`", |inventory| {
        number(*inventory.host.rdma_device_files.value()?)
    }),
    row("cpus", FieldKind::Number, "number of logical CPUs: threads of cores", |inventory| {
        number(cpus(&inventory.numa_nodes)?)
    }),
    row(
        "cores",
        FieldKind::Number,
        "number of CPU cores; absent if it is not known how many CPUs a core is",
        cores,
    ),
    row("hugepages_bytes", FieldKind::Number, "memory that is set aside as huge pages", |inventory| {
        number(*inventory.host.hugepages_bytes.value()?)
    }),
    row(
        "local_nvme_bytes",
        FieldKind::Number,
        "size of all local NVMe disks together: all of it, not what is free",
        |inventory| number(*inventory.host.local_nvme_bytes.value()?),
    ),
    row(
        "locked_memory_bytes",
        FieldKind::Number,
        "memory that a container may lock, by the limit of the runtime (memlock); the largest number is no limit",
        |inventory| {
            let bytes = *inventory.host.locked_memory_bytes.value()?;
            number(i64::try_from(bytes).unwrap_or(i64::MAX))
        },
    ),
    row(
        "rdma_carries_traffic",
        FieldKind::Bool,
        "whether RDMA ports carry traffic while pods that hold RDMA devices keep their accelerators busy; only the agent knows it",
        |inventory| inventory.host.rdma_carries_traffic.into_value().map(Value::Bool),
    ),
    row("os", FieldKind::String, "the distribution, as `ID` of `/etc/os-release`: `ubuntu`", |inventory| {
        string(&inventory.host.os.value()?.id)
    }),
    row("kernel_release", FieldKind::String, "`uname -r`", |inventory| {
        string(inventory.kernel_release.value()?)
    }),
    row("machine", FieldKind::String, "model of the machine, from its firmware", |inventory| {
        string(inventory.machine.value()?)
    }),
    row("numa_nodes", FieldKind::Number, "number of NUMA nodes", |inventory| {
        if inventory.numa_nodes.is_empty() { None } else { number(inventory.numa_nodes.len()) }
    }),
];
