//! Values: health, power, temperatures, activity, clocks, memory and links.

use afd_model::{
    AmdQuantity, Clock, Direction, Engine, ErrorDetail, ErrorKind, HealthState, LinkValue, Quantity, Sensor,
    VendorQuantity, Which,
};

use super::{amd_value, scaled};
use crate::compat::metrics::{CompatFamily, ExporterUnit, UnitSeries, compat_families, plain};

const PER_MEBIBYTE: f64 = 1.0 / (1024.0 * 1024.0);
const PER_KIBIBYTE: f64 = 1.0 / 1024.0;
const TO_MEGAHERTZ: f64 = 1e-6;
const TO_PERCENT: f64 = 100.0;
const TO_GIGA: f64 = 1e-9;

/// A series for each instance of a quantity, with its number as label.
fn instances(unit: &ExporterUnit<'_>, factor: f64, number: fn(AmdQuantity) -> Option<u32>) -> UnitSeries {
    unit.filter_readings(|quantity, value| {
        let Quantity::Vendor(VendorQuantity::Amd(quantity)) = *quantity else { return None };
        Some((vec![number(quantity)?.to_string()], value * factor))
    })
}

/// A series for each link, with its number as label.
fn links(unit: &ExporterUnit<'_>, direction: Direction) -> UnitSeries {
    unit.filter_readings(|quantity, bytes| match *quantity {
        Quantity::Link(link, LinkValue::Bytes(of)) if of == direction => {
            Some((vec![link.number.to_string()], bytes * PER_KIBIBYTE))
        }
        _ => None,
    })
}

/// The clocks in the order of `clock_index`, and their `clock_type`.
const CLOCKS: [(Clock, &str); 3] =
    [(Clock::Compute, "system"), (Clock::Memory, "memory"), (Clock::Soc, "soc")];

fn clocks(unit: &ExporterUnit<'_>, quantity: fn(Clock) -> Quantity) -> UnitSeries {
    let clock = |(index, (clock, name)): (usize, (Clock, &str))| {
        let megahertz = unit.value(quantity(clock), TO_MEGAHERTZ)?;
        Some((vec![index.to_string(), name.to_owned()], megahertz))
    };
    CLOCKS.into_iter().enumerate().filter_map(clock).collect()
}

/// Whether it is of a generation whose power the exporter publishes as the current one, and not as an average: Instinct from MI300
/// on. Older ones and Radeon cards have the average; of processors the exporter knows none.
fn reports_current_power(unit: &ExporterUnit<'_>) -> Option<bool> {
    let architecture = unit.device.product.value()?.architecture.value()?;
    (!unit.device.integrated).then_some(matches!(architecture.as_str(), "cdna3" | "cdna4"))
}

fn total_memory(unit: &ExporterUnit<'_>) -> Option<f64> {
    unit.memory_bytes().map(|bytes| bytes * PER_MEBIBYTE)
}

/// Used memory of the unit itself: that of the whole device is not that of its first partition.
fn used_memory(unit: &ExporterUnit<'_>) -> Option<f64> {
    unit.own_value(Quantity::MemoryUsedBytes, PER_MEBIBYTE)
}

fn free(unit: &ExporterUnit<'_>, total: AmdQuantity, used: AmdQuantity) -> UnitSeries {
    let value = |quantity| unit.value(AmdQuantity::into(quantity), PER_MEBIBYTE);
    plain(value(total).zip(value(used)).map(|(total, used)| total - used))
}

pub(super) const VALUES: &[CompatFamily] = compat_families! {
    Gauge "gpu_health", [], "1 if the GPU can take work, 0 if it has failed.",
        |unit| plain(match unit.device.health.state {
            HealthState::Healthy | HealthState::Degraded => Some(1.0),
            HealthState::Failed => Some(0.0),
            HealthState::Unknown => None,
        });
    Gauge "gpu_package_power", [], "Current power of the socket, W (MI300 and newer).",
        |unit| plain(unit.value(Quantity::PowerWatts, 1.0).filter(|_| reports_current_power(unit) == Some(true)));
    Gauge "gpu_average_package_power", [], "Average power of the socket, W (before MI300, and Radeon).",
        |unit| plain(unit.value(Quantity::PowerWatts, 1.0).filter(|_| reports_current_power(unit) == Some(false)));
    Gauge "gpu_power_usage", [], "Power, W.", |unit| scaled(unit, Quantity::PowerWatts, 1.0);
    Gauge "gpu_energy_consumed", [], "Energy since the driver was loaded, uJ.",
        |unit| scaled(unit, Quantity::EnergyJoules, 1e6);
    Gauge "gpu_edge_temperature", [], "Temperature at the edge of the die, degrees Celsius.",
        |unit| scaled(unit, Quantity::TemperatureCelsius(Sensor::Edge), 1.0);
    Gauge "gpu_junction_temperature", [], "Temperature of the hottest point of the die, degrees Celsius.",
        |unit| scaled(unit, Quantity::TemperatureCelsius(Sensor::Junction), 1.0);
    Gauge "gpu_memory_temperature", [], "Temperature of the memory, degrees Celsius.",
        |unit| scaled(unit, Quantity::TemperatureCelsius(Sensor::Memory), 1.0);
    Gauge "gpu_hbm_temperature", ["hbm_index"], "Temperature of one stack of memory, degrees Celsius.",
        |unit| instances(unit, 1.0, |quantity| match quantity {
            AmdQuantity::StackCelsius(stack) => Some(stack.into()),
            _ => None,
        });
    Gauge "gpu_gfx_activity", [], "Shaders busy, percent of the time.",
        |unit| scaled(unit, Quantity::Utilization(Engine::Compute), TO_PERCENT);
    Gauge "gpu_umc_activity", [], "Memory controller busy, percent of the time.",
        |unit| scaled(unit, Quantity::Utilization(Engine::Memory), TO_PERCENT);
    Gauge "gpu_gfx_busy_instantaneous", ["xcc_index"], "Shaders of one XCC busy, percent.",
        |unit| instances(unit, TO_PERCENT, |quantity| match quantity {
            AmdQuantity::Busy(Engine::Compute, index) => Some(index.into()),
            _ => None,
        });
    Gauge "gpu_vcn_busy_instantaneous", ["xcc_index"], "One video engine busy, percent.",
        |unit| instances(unit, TO_PERCENT, |quantity| match quantity {
            AmdQuantity::Busy(Engine::Media, index) => Some(index.into()),
            _ => None,
        });
    Gauge "gpu_jpeg_busy_instantaneous", ["xcc_index"], "One JPEG engine busy, percent.",
        |unit| instances(unit, TO_PERCENT, |quantity| match quantity {
            AmdQuantity::Busy(Engine::Jpeg, index) => Some(index.into()),
            _ => None,
        });
    Gauge "gpu_process_cu_occupancy", ["process_id"], "Compute units in use by a process; only with --per-process.",
        |unit| instances(unit, 1.0, |quantity| match quantity {
            AmdQuantity::ProcessComputeUnits(pid) => Some(pid),
            _ => None,
        });
    Gauge "gpu_clock", ["clock_index", "clock_type"], "Current clock, MHz.",
        |unit| clocks(unit, Quantity::ClockHertz);
    Gauge "gpu_min_clock", ["clock_index", "clock_type"], "Minimum clock, MHz.",
        |unit| clocks(unit, |clock| AmdQuantity::ClockMinHertz(clock).into());
    Gauge "gpu_max_clock", ["clock_index", "clock_type"], "Maximum clock, MHz.",
        |unit| clocks(unit, Quantity::ClockMaxHertz);
    Gauge "gpu_total_vram", [], "Memory, MiB.", |unit| plain(total_memory(unit));
    Gauge "gpu_used_vram", [], "Memory in use, MiB.", |unit| plain(used_memory(unit));
    Gauge "gpu_free_vram", [], "Memory not in use, MiB.",
        |unit| plain(total_memory(unit).zip(used_memory(unit)).map(|(total, used)| total - used));
    Gauge "gpu_total_visible_vram", [], "Memory visible to the CPUs, MiB.",
        |unit| amd_value(unit, AmdQuantity::VisibleTotalBytes, PER_MEBIBYTE);
    Gauge "gpu_used_visible_vram", [], "The same in use, MiB.",
        |unit| amd_value(unit, AmdQuantity::VisibleUsedBytes, PER_MEBIBYTE);
    Gauge "gpu_free_visible_vram", [], "The same not in use, MiB.",
        |unit| free(unit, AmdQuantity::VisibleTotalBytes, AmdQuantity::VisibleUsedBytes);
    Gauge "gpu_total_gtt", [], "System memory that the GPU can map, MiB.",
        |unit| amd_value(unit, AmdQuantity::GttTotalBytes, PER_MEBIBYTE);
    Gauge "gpu_used_gtt", [], "The same in use, MiB.", |unit| amd_value(unit, AmdQuantity::GttUsedBytes, PER_MEBIBYTE);
    Gauge "gpu_free_gtt", [], "The same not in use, MiB.",
        |unit| free(unit, AmdQuantity::GttTotalBytes, AmdQuantity::GttUsedBytes);
    Gauge "gpu_vram_max_bandwidth", [], "Maximum memory bandwidth, GB/s.",
        |unit| amd_value(unit, AmdQuantity::MemoryMaxBytesPerSecond, TO_GIGA);
    Gauge "pcie_speed", [], "Speed of the PCIe link, GT/s.",
        |unit| scaled(unit, Quantity::PcieTransfersPerSecond(Which::Current), TO_GIGA);
    Gauge "pcie_max_speed", [], "Maximum speed of the PCIe link, GT/s.",
        |unit| scaled(unit, Quantity::PcieTransfersPerSecond(Which::Max), TO_GIGA);
    Gauge "pcie_replay_count", [], "PCIe packets that were replayed.",
        |unit| scaled(unit, Quantity::Errors(ErrorKind::PcieReplay, ErrorDetail::Device), 1.0);
    Gauge "pcie_recovery_count", [], "Recoveries of the PCIe link.",
        |unit| amd_value(unit, AmdQuantity::PcieRecoveries, 1.0);
    Gauge "pcie_replay_rollover_count", [], "Rollovers of the replay counter.",
        |unit| amd_value(unit, AmdQuantity::PcieReplayRollovers, 1.0);
    Gauge "pcie_nack_sent_count", [], "NAKs sent over PCIe.",
        |unit| amd_value(unit, AmdQuantity::PcieNaksSent, 1.0);
    Gauge "pcie_nack_received_count", [], "NAKs received over PCIe.",
        |unit| amd_value(unit, AmdQuantity::PcieNaksReceived, 1.0);
    Gauge "gpu_xgmi_link_rx", ["link_index"], "Data read over one XGMI link, KB.",
        |unit| links(unit, Direction::Receive);
    Gauge "gpu_xgmi_link_tx", ["link_index"], "Data written over one XGMI link, KB.",
        |unit| links(unit, Direction::Transmit);
};
