//! The families of dcgm-exporter 4.8, in its names, labels and units: for existing dashboards, and for llm-d's endpoint picker,
//! which reads from them how busy a device is.
//!
//! `DCGM_FI_DEV_GPU_UTIL` and `DCGM_FI_PROF_GR_ENGINE_ACTIVE` are published for the devices of every vendor, the other families for
//! NVIDIA's only. An unknown value has no sample: the endpoint picker would route requests to a device at 0.

use afd_model::{
    Clock, Device, Direction, Engine, ErrorDetail, ErrorKind, Known, LinkCounter, NvidiaQuantity, Quantity,
    Rows, Sensor,
};

use super::NVIDIA;
use crate::{
    compat::metrics::{
        CompatFamily, ExporterUnit, HolderLabel, MetricSet, SeriesOrder, SeriesSource, SharedUnits,
        UnitLabel, UnitSeries, compat_families, plain, sampled_units,
    },
    families::MetricKind,
    vendors::of_device,
};

pub(super) const METRICS: MetricSet = MetricSet {
    exporter: "dcgm-exporter",
    page: "dcgm",
    always_served: true,
    notes: "The page has the default list of dcgm-exporter 4.8. `GPU_I_PROFILE` and `GPU_I_ID` are labels of MIG devices.",
    units: sampled_units,
    unit_labels: &[
        UnitLabel { name: "gpu", value: |unit| Some(unit.number.to_string()) },
        UnitLabel { name: "UUID", value: |unit| Some(text(&unit.device.uuid)) },
        UnitLabel { name: "pci_bus_id", value: |unit| Some(bus_id(unit.device)) },
        UnitLabel { name: "device", value: |unit| Some(device_node(unit.device)) },
        UnitLabel {
            name: "modelName",
            value: |unit| Some(unit.device.product_name().unwrap_or_default().to_owned()),
        },
        UnitLabel { name: "GPU_I_PROFILE", value: |unit| Some(text(&unit.partition?.profile)) },
        UnitLabel { name: "GPU_I_ID", value: gpu_instance },
        UnitLabel { name: "Hostname", value: |unit| unit.node.map(str::to_owned) },
        UnitLabel { name: "DCGM_FI_DRIVER_VERSION", value: driver_version },
    ],
    holder_labels: &[
        HolderLabel { name: "pod", value: |allocation| &allocation.pod },
        HolderLabel { name: "namespace", value: |allocation| &allocation.namespace },
        HolderLabel { name: "container", value: |allocation| &allocation.container },
    ],
    tables: &[BEFORE_UTILIZATION, &[GPU_UTIL], AFTER_UTILIZATION, &[GR_ENGINE_ACTIVE], PROFILING],
    sharing: SharedUnits::SeriesEach,
    order: SeriesOrder::ByUnit,
    left_out: &[],
    differences: &[
        "`DCGM_FI_PROF_*` of NVIDIA's GPUs are absent on Ampere and older: without DCGM only Hopper and newer report them (GPM of NVML).",
        "`DCGM_FI_DEV_GPU_UTIL` is published for MIG devices (from GPM) and for other vendors' devices (from their own sources); \
         dcgm-exporter has neither. `DCGM_FI_PROF_GR_ENGINE_ACTIVE` of other vendors' devices is the same share, from 0 to 1.",
        "The port for endpoint pickers (`--dcgm-listen`) has these two families alone. There, and nowhere else, a device with a \
         confirmed fault that a pod holds has `DCGM_FI_DEV_GPU_UTIL` 100, with the label `afd_synthetic` (`--door-failed`).",
        "`pod`, `namespace` and `container` are always there, and empty while no container is known to hold the device. llm-d's \
         endpoint picker would count a sample without `pod` for every endpoint.",
        "Compute instances of one GPU instance have one series, as the GPU instance has in dcgm-exporter, unless `GPU_I_PROFILE` or \
         the pod that holds each distinguishes them.",
        "`gpu` of other vendors' devices, and of a GPU that NVML does not list, is a number that no GPU has.",
        "`Hostname` is absent where no node name is given (`--node-name`).",
        "`err_msg` of `DCGM_FI_DEV_XID_ERRORS` is our wording, except `No Error` and `Unknown Error`; `err_code` is the number in \
         both.",
        "`DCGM_FI_DEV_VGPU_LICENSE_STATUS` is absent for a GPU that is no vGPU, which needs no licence; dcgm-exporter writes 0.",
    ],
};

const BYTES_PER_MEBIBYTE: f64 = (1_u64 << 20) as f64;

/// The families in the order of dcgm-exporter's default list, up to the utilization.
const BEFORE_UTILIZATION: &[CompatFamily] = compat_families! {
    Gauge "DCGM_FI_DEV_SM_CLOCK", [], "Clock of the multiprocessors in MHz.",
        |unit| scaled(unit, Quantity::ClockHertz(Clock::Compute), 1e-6);
    Gauge "DCGM_FI_DEV_MEM_CLOCK", [], "Clock of the memory in MHz.",
        |unit| scaled(unit, Quantity::ClockHertz(Clock::Memory), 1e-6);
    Gauge "DCGM_FI_DEV_MEMORY_TEMP", [], "Temperature of the memory in degrees Celsius.",
        |unit| value(unit, Quantity::TemperatureCelsius(Sensor::Memory));
    Gauge "DCGM_FI_DEV_GPU_TEMP", [], "Temperature of the GPU in degrees Celsius.",
        |unit| value(unit, Quantity::TemperatureCelsius(Sensor::Gpu));
    Gauge "DCGM_FI_DEV_POWER_USAGE", [], "Power drawn in watts.", |unit| value(unit, Quantity::PowerWatts);
    Counter "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", [], "Energy used since the driver was loaded, in mJ.",
        |unit| scaled(unit, Quantity::EnergyJoules, 1e3);
    Counter "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", [], "PCIe packets that were replayed.",
        |unit| value(unit, Quantity::Errors(ErrorKind::PcieReplay, ErrorDetail::Device));
};

/// The family that llm-d's endpoint picker reads.
const GPU_UTIL: CompatFamily = CompatFamily {
    name: "DCGM_FI_DEV_GPU_UTIL",
    kind: MetricKind::Gauge,
    labels: &[],
    help: "Share of the time in which the device was busy, 0 to 100.",
    every_vendor: true,
    source: SeriesSource::Unit(|unit| scaled(unit, Quantity::Utilization(Engine::Compute), 100.0)),
};

const AFTER_UTILIZATION: &[CompatFamily] = compat_families! {
    Gauge "DCGM_FI_DEV_MEM_COPY_UTIL", [], "Share of the time in which the memory was busy, 0 to 100.",
        |unit| scaled(unit, Quantity::Utilization(Engine::Memory), 100.0);
    Gauge "DCGM_FI_DEV_ENC_UTIL", [], "Share of the time in which the encoder was busy, 0 to 100.",
        |unit| scaled(unit, Quantity::Utilization(Engine::Encode), 100.0);
    Gauge "DCGM_FI_DEV_DEC_UTIL", [], "Share of the time in which the decoder was busy, 0 to 100.",
        |unit| scaled(unit, Quantity::Utilization(Engine::Decode), 100.0);
    Gauge "DCGM_FI_DEV_XID_ERRORS", ["err_code", "err_msg"], "The last XID, 0 while there was none.", last_xid;
    Gauge "DCGM_FI_DEV_FB_FREE", [], "Free memory in MiB.", free_memory;
    Gauge "DCGM_FI_DEV_FB_USED", [], "Used memory in MiB.",
        |unit| scaled(unit, Quantity::MemoryUsedBytes, 1.0 / BYTES_PER_MEBIBYTE);
    Gauge "DCGM_FI_DEV_FB_RESERVED", [], "Memory reserved by driver and firmware in MiB.",
        |unit| scaled(unit, Quantity::MemoryReservedBytes, 1.0 / BYTES_PER_MEBIBYTE);
    Counter "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", [], "KiB over all NVLinks in both directions.", nvlink_traffic;
    Gauge "DCGM_FI_DEV_VGPU_LICENSE_STATUS", [], "1 if the vGPU is licensed, else 0.",
        |unit| value(unit, NvidiaQuantity::VgpuLicensed.into());
    Counter "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", [], "Rows remapped for uncorrectable errors.",
        |unit| value(unit, Quantity::RowsRemapped(Rows::Uncorrectable));
    Counter "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", [], "Rows remapped for correctable errors.",
        |unit| value(unit, Quantity::RowsRemapped(Rows::Correctable));
    Gauge "DCGM_FI_DEV_ROW_REMAP_FAILURE", [], "1 if a row could not be remapped.",
        |unit| value(unit, Quantity::RowsRemapped(Rows::Failed));
};

/// The family by which OpenCost bills. Other vendors' sources do not distinguish the graphics engine from the others that compute.
const GR_ENGINE_ACTIVE: CompatFamily = CompatFamily {
    name: "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    kind: MetricKind::Gauge,
    labels: &[],
    help: "Share of the time in which the graphics engine was busy, 0 to 1; of other vendors' devices, the share in which they were busy.",
    every_vendor: true,
    source: SeriesSource::Unit(|unit| {
        let engine = if NVIDIA.covers(unit.device) { Engine::Graphics } else { Engine::Compute };
        value(unit, Quantity::Utilization(engine))
    }),
};

const PROFILING: &[CompatFamily] = compat_families! {
    Gauge "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", [], "Share of the time in which tensor cores were busy, 0 to 1.",
        |unit| value(unit, Quantity::Utilization(Engine::Tensor));
    Gauge "DCGM_FI_PROF_DRAM_ACTIVE", [], "Share of the memory bandwidth in use, 0 to 1.",
        |unit| value(unit, Quantity::MemoryBandwidthRatio);
    Gauge "DCGM_FI_PROF_PCIE_TX_BYTES", [], "Bytes per second from the GPU over PCIe.",
        |unit| value(unit, Quantity::PcieBytesPerSecond(Direction::Transmit));
    Gauge "DCGM_FI_PROF_PCIE_RX_BYTES", [], "Bytes per second to the GPU over PCIe.",
        |unit| value(unit, Quantity::PcieBytesPerSecond(Direction::Receive));
};

fn value(unit: &ExporterUnit<'_>, quantity: Quantity) -> UnitSeries {
    plain(unit.value(quantity, 1.0))
}

fn scaled(unit: &ExporterUnit<'_>, quantity: Quantity, factor: f64) -> UnitSeries {
    // Rounded to a millionth: a factor such as 0.01 is no binary number.
    plain(unit.value(quantity, factor).map(|value| (value * 1e6).round() / 1e6))
}

fn free_memory(unit: &ExporterUnit<'_>) -> UnitSeries {
    let bytes = |quantity| unit.value(quantity, 1.0);
    let taken = bytes(Quantity::MemoryUsedBytes)
        .zip(bytes(Quantity::MemoryReservedBytes))
        .map(|(used, reserved)| used + reserved);
    plain(unit.memory_bytes().zip(taken).map(|(total, taken)| (total - taken) / BYTES_PER_MEBIBYTE))
}

fn nvlink_traffic(unit: &ExporterUnit<'_>) -> UnitSeries {
    let bytes = |direction| unit.value(Quantity::LinkBytes(LinkCounter::Nvlink, direction), 1.0);
    let both = bytes(Direction::Transmit).zip(bytes(Direction::Receive));
    plain(both.map(|(transmitted, received)| (transmitted + received) / 1024.0))
}

/// The number as the value and as `err_code`, and its meaning as `err_msg`.
fn last_xid(unit: &ExporterUnit<'_>) -> UnitSeries {
    unit.filter_readings(|quantity, number| {
        let Quantity::LastXid { meaning } = *quantity else { return None };
        let message = match meaning {
            _ if number == 0.0 => "No Error",
            "" => "Unknown Error",
            meaning => meaning,
        };
        Some((vec![number.to_string(), message.to_owned()], number))
    })
}

fn text(fact: &Known<String>) -> String {
    fact.value().cloned().unwrap_or_default()
}

/// `00000000:1B:00.0`, as NVML writes it.
fn bus_id(device: &Device) -> String {
    let address = device.id.0;
    format!("{:08X}:{:02X}:{:02X}.{:X}", address.domain, address.bus, address.device, address.function)
}

fn device_node(device: &Device) -> String {
    of_device(device).and_then(|record| (record.device_node)(device)).unwrap_or_default()
}

fn gpu_instance(unit: &ExporterUnit<'_>) -> Option<String> {
    let partition = unit.partition?;
    Some(partition.mig.map_or_else(|| partition.name.to_string(), |mig| mig.gpu_instance.to_string()))
}

fn driver_version(unit: &ExporterUnit<'_>) -> Option<String> {
    unit.device.driver_version.value().filter(|_| NVIDIA.covers(unit.device)).cloned()
}

#[cfg(test)]
mod tests;
