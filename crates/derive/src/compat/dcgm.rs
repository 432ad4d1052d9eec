//! The families of dcgm-exporter 4.8, in its names, labels and units: for existing dashboards, and as the door through
//! which llm-d's endpoint picker sees how busy a device is.
//!
//! `DCGM_FI_DEV_GPU_UTIL` is told of every vendor's devices, the others of NVIDIA's. A value that is not known has no
//! sample: 0 would attract requests.

use std::collections::BTreeMap;

use afd_model::{
    Allocation, Clock, Device, Direction, Engine, ErrorDetail, ErrorKind, HandleKind, Inventory, Known,
    LinkCounter, NvidiaQuantity, Partition, Quantity, Rows, Sample, Sensor, UnitId, Vendor, VendorQuantity,
};
use prometheus::proto::MetricFamily;

use crate::{
    families::Kind,
    series::{self, Labelled},
};

const MEBIBYTE: f64 = (1_u64 << 20) as f64;

/// A family.
pub struct DcgmFamily {
    /// Its name.
    pub name: &'static str,
    /// Gauge or counter.
    pub kind: Kind,
    /// What it means, with its unit.
    pub help: &'static str,
    value: fn(&Subject<'_>) -> Option<f64>,
    /// The labels that it has besides those of all families.
    labels: fn(&Subject<'_>) -> Vec<(&'static str, String)>,
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Subject<'_>) -> Option<f64>) -> DcgmFamily {
    DcgmFamily { name, kind: Kind::Gauge, help, value, labels: |_| Vec::new() }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    value: fn(&Subject<'_>) -> Option<f64>,
) -> DcgmFamily {
    DcgmFamily { kind: Kind::Counter, ..gauge(name, help, value) }
}

const GPU_UTIL: &str = "DCGM_FI_DEV_GPU_UTIL";

/// All families, in the order of dcgm-exporter's default list.
pub const FAMILIES: [DcgmFamily; 25] = [
    gauge("DCGM_FI_DEV_SM_CLOCK", "Clock of the multiprocessors in MHz.", |s| {
        s.scaled(Quantity::ClockHertz(Clock::Compute), 1e-6)
    }),
    gauge("DCGM_FI_DEV_MEM_CLOCK", "Clock of the memory in MHz.", |s| {
        s.scaled(Quantity::ClockHertz(Clock::Memory), 1e-6)
    }),
    gauge("DCGM_FI_DEV_MEMORY_TEMP", "Temperature of the memory in degrees Celsius.", |s| {
        s.reading(Quantity::TemperatureCelsius(Sensor::Memory))
    }),
    gauge("DCGM_FI_DEV_GPU_TEMP", "Temperature of the GPU in degrees Celsius.", |s| {
        s.reading(Quantity::TemperatureCelsius(Sensor::Gpu))
    }),
    gauge("DCGM_FI_DEV_POWER_USAGE", "Power drawn in watts.", |s| s.reading(Quantity::PowerWatts)),
    counter("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "Energy used since the driver was loaded, in mJ.", |s| {
        s.scaled(Quantity::EnergyJoules, 1e3)
    }),
    counter("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "PCIe packets that were sent again.", |s| {
        s.reading(Quantity::Errors(ErrorKind::PcieReplay, ErrorDetail::Device))
    }),
    gauge(GPU_UTIL, "Share of the time in which the device was busy, 0 to 100.", |s| {
        s.scaled(Quantity::Utilization(Engine::Compute), 100.0)
    }),
    gauge("DCGM_FI_DEV_MEM_COPY_UTIL", "Share of the time in which the memory was busy, 0 to 100.", |s| {
        s.scaled(Quantity::Utilization(Engine::Memory), 100.0)
    }),
    gauge("DCGM_FI_DEV_ENC_UTIL", "Share of the time in which the encoder was busy, 0 to 100.", |s| {
        s.scaled(Quantity::Utilization(Engine::Encode), 100.0)
    }),
    gauge("DCGM_FI_DEV_DEC_UTIL", "Share of the time in which the decoder was busy, 0 to 100.", |s| {
        s.scaled(Quantity::Utilization(Engine::Decode), 100.0)
    }),
    DcgmFamily {
        labels: xid_labels,
        ..gauge("DCGM_FI_DEV_XID_ERRORS", "The last XID, 0 while there was none.", |s| {
            s.last_xid().map(|(number, _)| number)
        })
    },
    gauge("DCGM_FI_DEV_FB_FREE", "Free memory in MiB.", |s| {
        let taken = s.reading(Quantity::MemoryUsedBytes)? + s.reading(Quantity::MemoryReservedBytes)?;
        Some((s.total_bytes()? - taken) / MEBIBYTE)
    }),
    gauge("DCGM_FI_DEV_FB_USED", "Used memory in MiB.", |s| {
        s.scaled(Quantity::MemoryUsedBytes, 1.0 / MEBIBYTE)
    }),
    gauge("DCGM_FI_DEV_FB_RESERVED", "Memory in MiB that driver and firmware keep for themselves.", |s| {
        s.scaled(Quantity::MemoryReservedBytes, 1.0 / MEBIBYTE)
    }),
    counter("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "KiB over all NVLinks in both directions.", |s| {
        let link = |direction| s.reading(Quantity::LinkBytes(LinkCounter::Nvlink, direction));
        Some((link(Direction::Transmit)? + link(Direction::Receive)?) / 1024.0)
    }),
    gauge("DCGM_FI_DEV_VGPU_LICENSE_STATUS", "Whether the vGPU has a licence, 0 or 1.", |s| {
        s.reading(NvidiaQuantity::VgpuLicensed.into())
    }),
    counter("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "Rows replaced for uncorrectable errors.", |s| {
        s.reading(Quantity::RowsRemapped(Rows::Uncorrectable))
    }),
    counter("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "Rows replaced for correctable errors.", |s| {
        s.reading(Quantity::RowsRemapped(Rows::Correctable))
    }),
    gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether a row could not be replaced.", |s| {
        s.reading(Quantity::RowsRemapped(Rows::Failed))
    }),
    gauge(
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "Share of the time in which the graphics engine was busy, 0 to 1.",
        |s| s.reading(Quantity::Utilization(Engine::Graphics)),
    ),
    gauge(
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "Share of the time in which tensor cores were busy, 0 to 1.",
        |s| s.reading(Quantity::Utilization(Engine::Tensor)),
    ),
    gauge("DCGM_FI_PROF_DRAM_ACTIVE", "Share of the memory bandwidth in use, 0 to 1.", |s| {
        s.reading(Quantity::MemoryBandwidthRatio)
    }),
    gauge("DCGM_FI_PROF_PCIE_TX_BYTES", "Bytes per second from the GPU over PCIe.", |s| {
        s.reading(Quantity::PcieBytesPerSecond(Direction::Transmit))
    }),
    gauge("DCGM_FI_PROF_PCIE_RX_BYTES", "Bytes per second to the GPU over PCIe.", |s| {
        s.reading(Quantity::PcieBytesPerSecond(Direction::Receive))
    }),
];

/// Where values or labels differ on purpose.
pub const DIFFERENCES: [(&str, &str); 6] = [
    (
        "`DCGM_FI_PROF_*` on Ampere and older",
        "absent: without DCGM only Hopper and newer tell them (NVML's GPM)",
    ),
    (
        "`DCGM_FI_DEV_GPU_UTIL` of MIG devices and of other vendors' devices",
        "told: of MIG devices by GPM, of others by their own sources; dcgm-exporter has none",
    ),
    (
        "`pod`, `namespace`, `container`",
        "always there; empty while nobody is known to hold the device. llm-d's endpoint picker would credit a sample \
         without `pod` to every endpoint",
    ),
    ("`Hostname`", "absent where no node name is given (`--node-name`)"),
    (
        "`err_msg` of `DCGM_FI_DEV_XID_ERRORS`",
        "in our words, but for `No Error` and `Unknown Error`; `err_code` is the number in both",
    ),
    (
        "`DCGM_FI_DEV_VGPU_LICENSE_STATUS` of GPUs that are no vGPU",
        "absent; dcgm-exporter says 0 of every GPU, which has no licence since it needs none",
    ),
];

/// What a sample is of.
struct Subject<'a> {
    device: &'a Device,
    partition: Option<&'a Partition>,
    sample: &'a Sample,
}

impl Subject<'_> {
    fn reading(&self, quantity: Quantity) -> Option<f64> {
        self.sample.readings.iter().find(|reading| reading.quantity == quantity).map(|reading| reading.value)
    }

    fn scaled(&self, quantity: Quantity, factor: f64) -> Option<f64> {
        // Rounded to a millionth: a factor such as 0.01 is no binary number.
        self.reading(quantity).map(|value| (value * factor * 1e6).round() / 1e6)
    }

    /// The last XID and its meaning.
    fn last_xid(&self) -> Option<(f64, &'static str)> {
        self.sample.readings.iter().find_map(|reading| match reading.quantity {
            Quantity::Vendor(VendorQuantity::Nvidia(NvidiaQuantity::LastXid { meaning })) => {
                Some((reading.value, meaning))
            }
            _ => None,
        })
    }

    fn total_bytes(&self) -> Option<f64> {
        let bytes = self.partition.map_or(self.device.memory_bytes, |partition| partition.memory_bytes);
        bytes.into_value().map(|bytes| bytes as f64)
    }

    fn labels(&self, index: usize, node: Option<&str>) -> Vec<(&'static str, String)> {
        let device = self.device;
        let text = |fact: &Known<String>| fact.value().cloned().unwrap_or_default();
        let mut labels = vec![
            ("gpu", device.handle(HandleKind::Index).map_or_else(|| index.to_string(), str::to_owned)),
            ("UUID", text(&device.uuid)),
            ("pci_bus_id", bus_id(device)),
            ("device", name(device)),
            ("modelName", device.product_name().unwrap_or_default().to_owned()),
        ];
        if let Some(partition) = self.partition {
            labels.push(("GPU_I_PROFILE", text(&partition.profile)));
            let instance =
                partition.mig.map_or_else(|| partition.name.to_string(), |mig| mig.gpu_instance.to_string());
            labels.push(("GPU_I_ID", instance));
        }
        if let Some(node) = node {
            labels.push(("Hostname", node.to_owned()));
        }
        if let Known::Value(version) = &device.driver_version
            && device.vendor == Vendor::Nvidia
        {
            labels.push(("DCGM_FI_DRIVER_VERSION", version.clone()));
        }
        labels
    }
}

/// The number and what it means.
fn xid_labels(subject: &Subject<'_>) -> Vec<(&'static str, String)> {
    let Some((number, meaning)) = subject.last_xid() else { return Vec::new() };
    let meaning = match meaning {
        _ if number == 0.0 => "No Error",
        "" => "Unknown Error",
        meaning => meaning,
    };
    vec![("err_code", number.to_string()), ("err_msg", meaning.to_owned())]
}

const HOLDER_LABELS: [&str; 3] = ["pod", "namespace", "container"];

/// Who holds what a sample is of, or nobody. A whole device that is held through its partitions is nobody's.
fn holders<'a>(allocations: &'a [Allocation], subject: &Subject<'_>) -> Vec<[&'a str; 3]> {
    let unit =
        subject.partition.map_or_else(|| subject.device.id.into(), |partition| UnitId::from(partition.id));
    let held = |allocation: &&Allocation| allocation.unit == unit;
    let mut holders: Vec<[&str; 3]> = allocations
        .iter()
        .filter(held)
        .map(|allocation| [allocation.pod.as_str(), &allocation.namespace, &allocation.container])
        .collect();
    holders.sort_unstable();
    holders.dedup();
    if holders.is_empty() { vec![[""; 3]] } else { holders }
}

/// `00000000:1B:00.0`, as NVML writes it.
fn bus_id(device: &Device) -> String {
    let address = device.id.0;
    format!("{:08X}:{:02X}:{:02X}.{:X}", address.domain, address.bus, address.device, address.function)
}

/// `nvidia0`, or another vendor's name of the device node.
fn name(device: &Device) -> String {
    let minor = device.handle(HandleKind::Minor).map(|minor| format!("nvidia{minor}"));
    let other = [HandleKind::Accel, HandleKind::DrmRender].into_iter().find_map(|kind| device.handle(kind));
    minor.or_else(|| other.map(str::to_owned)).unwrap_or_default()
}

/// The families of a node that is called `node`, each with at least one sample: one for each container that holds the device,
/// or one with an empty `pod`.
pub fn families(
    inventory: &Inventory,
    samples: &[Sample],
    allocations: &[Allocation],
    node: Option<&str>,
) -> Vec<MetricFamily> {
    let mut values: BTreeMap<usize, Vec<Labelled>> = BTreeMap::new();
    for (index, device) in inventory.devices.iter().enumerate() {
        for sample in samples.iter().filter(|sample| sample.unit.device == device.id) {
            let partition = sample
                .unit
                .partition
                .and_then(|name| device.partitions.iter().find(|partition| partition.name == name));
            if sample.unit.partition.is_some() != partition.is_some() {
                // A partition that is gone since it was sampled.
                continue;
            }
            let subject = Subject { device, partition, sample };
            let labels = subject.labels(index, node);
            let holders = holders(allocations, &subject);
            for (place, family) in FAMILIES.iter().enumerate() {
                let told = device.vendor == Vendor::Nvidia || family.name == GPU_UTIL;
                if let Some(value) = (family.value)(&subject).filter(|_| told) {
                    let own = (family.labels)(&subject);
                    let held = holders.iter().map(|holder| {
                        let holder = HOLDER_LABELS.into_iter().zip(holder.map(str::to_owned));
                        (labels.iter().chain(&own).cloned().chain(holder).collect(), value)
                    });
                    values.entry(place).or_default().extend(held);
                }
            }
        }
    }
    let families = values.into_iter().map(|(place, values)| {
        let family = &FAMILIES[place];
        series::family(family.name, family.help, family.kind, values)
    });
    families.collect()
}

#[cfg(test)]
mod tests;
