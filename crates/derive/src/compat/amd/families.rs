//! The families of AMD's device metrics exporter (`pkg/amdgpu/gpuagent` and `docs/configuration/metricslist.md` of
//! ROCm/device-metrics-exporter).

macro_rules! families {
    ($($name:expr, [$($label:literal),*], $help:expr, $tell:expr;)*) => {
        &[$(CompatFamily {
            name: $name,
            labels: &[$($label),*],
            help: $help,
            tell: Tell::Unit($tell),
        }),*]
    };
}

mod counters;

use afd_model::{
    AmdQuantity, Clock, Direction, Engine, ErrorDetail, ErrorKind, HealthState, Quantity, Sensor,
    VendorQuantity, Which,
};

use crate::compat::metrics::{CompatFamily, Series, Tell, Unit};

pub(in crate::compat) const TABLES: [&[CompatFamily]; 3] = [VALUES, counters::ERRORS, counters::VIOLATIONS];

const MEBIBYTE: f64 = 1.0 / (1024.0 * 1024.0);
const KILOBYTE: f64 = 1.0 / 1024.0;
const MEGAHERTZ: f64 = 1e-6;
const PERCENT: f64 = 100.0;
const GIGA: f64 = 1e-9;

/// A series without labels of its own.
fn plain(value: Option<f64>) -> Series {
    value.map(|value| (Vec::new(), value)).into_iter().collect()
}

fn told(unit: &Unit<'_>, quantity: Quantity, factor: f64) -> Series {
    plain(unit.value(quantity, factor))
}

fn extra(unit: &Unit<'_>, quantity: AmdQuantity, factor: f64) -> Series {
    told(unit, quantity.into(), factor)
}

/// A series for each instance of a quantity, with its number as label.
fn instances(unit: &Unit<'_>, factor: f64, number: fn(AmdQuantity) -> Option<u32>) -> Series {
    unit.each(|quantity, value| {
        let Quantity::Vendor(VendorQuantity::Amd(quantity)) = *quantity else { return None };
        Some((vec![number(quantity)?.to_string()], value * factor))
    })
}

/// The clocks in the order of `clock_index`, and their `clock_type`.
const CLOCKS: [(Clock, &str); 3] =
    [(Clock::Compute, "system"), (Clock::Memory, "memory"), (Clock::Soc, "soc")];

fn clocks(unit: &Unit<'_>, quantity: fn(Clock) -> Quantity) -> Series {
    let clock = |(index, (clock, name)): (usize, (Clock, &str))| {
        let megahertz = unit.value(quantity(clock), MEGAHERTZ)?;
        Some((vec![index.to_string(), name.to_owned()], megahertz))
    };
    CLOCKS.into_iter().enumerate().filter_map(clock).collect()
}

/// Whether it is of the generations of which the exporter tells the power of the socket as it is now.
fn tells_current_power(unit: &Unit<'_>) -> Option<bool> {
    match unit.device.product.value()?.architecture.value()?.as_str() {
        "cdna3" | "cdna4" => Some(true),
        "cdna" | "cdna2" => Some(false),
        _ => None,
    }
}

fn total_memory(unit: &Unit<'_>) -> Option<f64> {
    let memory = unit.partition.map_or(unit.device.memory_bytes, |part| part.memory_bytes);
    memory.value().map(|bytes| *bytes as f64 * MEBIBYTE)
}

/// Used memory of the unit itself: that of the whole device says nothing of its first partition.
fn used_memory(unit: &Unit<'_>) -> Option<f64> {
    unit.own_value(Quantity::MemoryUsedBytes, MEBIBYTE)
}

fn free(unit: &Unit<'_>, total: AmdQuantity, used: AmdQuantity) -> Series {
    let value = |quantity| unit.value(AmdQuantity::into(quantity), MEBIBYTE);
    plain(value(total).zip(value(used)).map(|(total, used)| total - used))
}

const NODES: CompatFamily = CompatFamily {
    name: "gpu_nodes_total",
    labels: &[],
    help: "Number of GPUs, or of partitions where they are cut.",
    tell: Tell::Node(|units| units.len() as f64),
};

const VALUES: &[CompatFamily] = &{
    const REST: &[CompatFamily] = families! {
        "gpu_health", [], "1 if the GPU may take work, 0 if it has failed.",
            |unit| plain(match unit.device.health.state {
                HealthState::Healthy | HealthState::Degraded => Some(1.0),
                HealthState::Failed => Some(0.0),
                HealthState::Unknown => None,
            });
        "gpu_package_power", [], "Power of the socket now, W (MI300 and newer).",
            |unit| plain(unit.value(Quantity::PowerWatts, 1.0).filter(|_| tells_current_power(unit) == Some(true)));
        "gpu_average_package_power", [], "Average power of the socket, W (before MI300).",
            |unit| plain(unit.value(Quantity::PowerWatts, 1.0).filter(|_| tells_current_power(unit) == Some(false)));
        "gpu_power_usage", [], "Power, W.", |unit| told(unit, Quantity::PowerWatts, 1.0);
        "gpu_energy_consumed", [], "Energy since the driver was loaded, uJ.",
            |unit| told(unit, Quantity::EnergyJoules, 1e6);
        "gpu_edge_temperature", [], "Temperature at the edge of the die, degrees Celsius.",
            |unit| told(unit, Quantity::TemperatureCelsius(Sensor::Edge), 1.0);
        "gpu_junction_temperature", [], "Temperature of the hottest point of the die, degrees Celsius.",
            |unit| told(unit, Quantity::TemperatureCelsius(Sensor::Junction), 1.0);
        "gpu_memory_temperature", [], "Temperature of the memory, degrees Celsius.",
            |unit| told(unit, Quantity::TemperatureCelsius(Sensor::Memory), 1.0);
        "gpu_hbm_temperature", ["hbm_index"], "Temperature of one stack of memory, degrees Celsius.",
            |unit| instances(unit, 1.0, |quantity| match quantity {
                AmdQuantity::StackCelsius(stack) => Some(stack.into()),
                _ => None,
            });
        "gpu_gfx_activity", [], "Shaders busy, percent of the time.",
            |unit| told(unit, Quantity::Utilization(Engine::Compute), PERCENT);
        "gpu_umc_activity", [], "Memory controller busy, percent of the time.",
            |unit| told(unit, Quantity::Utilization(Engine::Memory), PERCENT);
        "gpu_gfx_busy_instantaneous", ["xcc_index"], "Shaders of one XCC busy, percent.",
            |unit| instances(unit, PERCENT, |quantity| match quantity {
                AmdQuantity::Busy(Engine::Compute, index) => Some(index.into()),
                _ => None,
            });
        "gpu_vcn_busy_instantaneous", ["xcc_index"], "One video engine busy, percent.",
            |unit| instances(unit, PERCENT, |quantity| match quantity {
                AmdQuantity::Busy(Engine::Media, index) => Some(index.into()),
                _ => None,
            });
        "gpu_jpeg_busy_instantaneous", ["xcc_index"], "One JPEG engine busy, percent.",
            |unit| instances(unit, PERCENT, |quantity| match quantity {
                AmdQuantity::Busy(Engine::Jpeg, index) => Some(index.into()),
                _ => None,
            });
        "gpu_process_cu_occupancy", ["process_id"], "Compute units that a process keeps busy; only with --per-process.",
            |unit| instances(unit, 1.0, |quantity| match quantity {
                AmdQuantity::ProcessComputeUnits(pid) => Some(pid),
                _ => None,
            });
        "gpu_clock", ["clock_index", "clock_type"], "Clock now, MHz.",
            |unit| clocks(unit, Quantity::ClockHertz);
        "gpu_min_clock", ["clock_index", "clock_type"], "Lowest clock, MHz.",
            |unit| clocks(unit, |clock| AmdQuantity::ClockMinHertz(clock).into());
        "gpu_max_clock", ["clock_index", "clock_type"], "Highest clock, MHz.",
            |unit| clocks(unit, Quantity::ClockMaxHertz);
        "gpu_total_vram", [], "Memory, MiB.", |unit| plain(total_memory(unit));
        "gpu_used_vram", [], "Memory in use, MiB.", |unit| plain(used_memory(unit));
        "gpu_free_vram", [], "Memory not in use, MiB.",
            |unit| plain(total_memory(unit).zip(used_memory(unit)).map(|(total, used)| total - used));
        "gpu_total_visible_vram", [], "Memory that processors see, MiB.",
            |unit| extra(unit, AmdQuantity::VisibleTotalBytes, MEBIBYTE);
        "gpu_used_visible_vram", [], "The same in use, MiB.",
            |unit| extra(unit, AmdQuantity::VisibleUsedBytes, MEBIBYTE);
        "gpu_free_visible_vram", [], "The same not in use, MiB.",
            |unit| free(unit, AmdQuantity::VisibleTotalBytes, AmdQuantity::VisibleUsedBytes);
        "gpu_total_gtt", [], "System memory that the GPU may map, MiB.",
            |unit| extra(unit, AmdQuantity::GttTotalBytes, MEBIBYTE);
        "gpu_used_gtt", [], "The same in use, MiB.", |unit| extra(unit, AmdQuantity::GttUsedBytes, MEBIBYTE);
        "gpu_free_gtt", [], "The same not in use, MiB.",
            |unit| free(unit, AmdQuantity::GttTotalBytes, AmdQuantity::GttUsedBytes);
        "gpu_vram_max_bandwidth", [], "Greatest bandwidth of the memory, GB/s.",
            |unit| extra(unit, AmdQuantity::MemoryMaxBytesPerSecond, GIGA);
        "pcie_speed", [], "Speed of the PCIe link, GT/s.",
            |unit| told(unit, Quantity::PcieTransfersPerSecond(Which::Current), GIGA);
        "pcie_max_speed", [], "Greatest speed of the PCIe link, GT/s.",
            |unit| told(unit, Quantity::PcieTransfersPerSecond(Which::Max), GIGA);
        "pcie_replay_count", [], "PCIe packets sent again.",
            |unit| told(unit, Quantity::Errors(ErrorKind::PcieReplay, ErrorDetail::Device), 1.0);
        "pcie_recovery_count", [], "Times that the PCIe link went to recovery.",
            |unit| extra(unit, AmdQuantity::PcieRecoveries, 1.0);
        "pcie_replay_rollover_count", [], "Times that the counter of replays began anew.",
            |unit| extra(unit, AmdQuantity::PcieReplayRollovers, 1.0);
        "pcie_nack_sent_count", [], "PCIe packets refused to the other end.",
            |unit| extra(unit, AmdQuantity::PcieNaksSent, 1.0);
        "pcie_nack_received_count", [], "PCIe packets that the other end refused.",
            |unit| extra(unit, AmdQuantity::PcieNaksReceived, 1.0);
        "gpu_xgmi_link_rx", ["link_index"], "Data read over one XGMI link, KB.",
            |unit| instances(unit, KILOBYTE, |quantity| match quantity {
                AmdQuantity::LinkBytes(link, Direction::Receive) => Some(link.into()),
                _ => None,
            });
        "gpu_xgmi_link_tx", ["link_index"], "Data written over one XGMI link, KB.",
            |unit| instances(unit, KILOBYTE, |quantity| match quantity {
                AmdQuantity::LinkBytes(link, Direction::Transmit) => Some(link.into()),
                _ => None,
            });
    };
    let mut all = [NODES; REST.len() + 1];
    let mut index = 0;
    while index < REST.len() {
        all[index + 1] = REST[index];
        index += 1;
    }
    all
};
