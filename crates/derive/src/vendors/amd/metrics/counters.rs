//! Error counters of the blocks, and counters of cycles in which the GPU was throttled.

use afd_model::{
    AmdQuantity, ErrorDetail, ErrorKind, HostLimitCause, Quantity, ThrottleCause, VendorQuantity,
};

use super::{amd_value, scaled};
use crate::compat::metrics::{CompatFamily, ExporterUnit, UnitSeries, compat_families};

const TO_PERCENT: f64 = 100.0;

fn errors(unit: &ExporterUnit<'_>, kind: ErrorKind, block: &'static str) -> UnitSeries {
    scaled(unit, Quantity::Errors(kind, ErrorDetail::Block(block)), 1.0)
}

fn all_errors(unit: &ExporterUnit<'_>, kind: ErrorKind) -> UnitSeries {
    amd_value(unit, AmdQuantity::AllErrors(kind), 1.0)
}

macro_rules! errors {
    ($($name:literal, $block:literal;)*) => {
        compat_families! {
            Gauge "gpu_ecc_correct_total", [], "Correctable errors of all blocks.",
                |unit| all_errors(unit, ErrorKind::EccCorrectable);
            Gauge "gpu_ecc_uncorrect_total", [], "Uncorrectable errors of all blocks.",
                |unit| all_errors(unit, ErrorKind::EccUncorrectable);
            Gauge "gpu_ecc_deferred_total", [], "Deferred errors of all blocks.",
                |unit| all_errors(unit, ErrorKind::EccDeferred);
            $(
                Gauge concat!("gpu_ecc_correct_", $name), [], concat!("Correctable errors of ", $block, "."),
                    |unit| errors(unit, ErrorKind::EccCorrectable, $block);
                Gauge concat!("gpu_ecc_uncorrect_", $name), [], concat!("Uncorrectable errors of ", $block, "."),
                    |unit| errors(unit, ErrorKind::EccUncorrectable, $block);
                Gauge concat!("gpu_ecc_deferred_", $name), [], concat!("Deferred errors of ", $block, "."),
                    |unit| errors(unit, ErrorKind::EccDeferred, $block);
            )*
        }
    };
}

pub(super) const ERRORS: &[CompatFamily] = errors! {
    "sdma", "sdma"; "gfx", "gfx"; "mmhub", "mmhub"; "athub", "athub"; "bif", "pcie_bif"; "hdp", "hdp";
    "xgmi_wafl", "xgmi_wafl"; "df", "df"; "smn", "smn"; "sem", "sem"; "mp0", "mp0"; "mp1", "mp1"; "fuse", "fuse";
    "umc", "umc"; "mca", "mca"; "vcn", "vcn"; "jpeg", "jpeg"; "ih", "ih"; "mpio", "mpio";
};

fn below(unit: &ExporterUnit<'_>, cause: HostLimitCause) -> UnitSeries {
    unit.filter_readings(|quantity, value| match quantity {
        Quantity::Vendor(VendorQuantity::Amd(AmdQuantity::BelowHostLimit(other, xcc))) if *other == cause => {
            Some((vec![xcc.to_string()], value))
        }
        _ => None,
    })
}

macro_rules! violations {
    ($($name:literal, $cause:ident, $what:literal;)*) => {
        compat_families! {
            Gauge "gpu_violation_current_accumulated_counter", [], "Cycles of the firmware.",
                |unit| amd_value(unit, AmdQuantity::Cycles, 1.0);
            $(
                Gauge concat!("gpu_violation_", $name, "_residency_accumulated"), [],
                    concat!("Cycles in which ", $what, " throttled the GPU."),
                    |unit| amd_value(unit, AmdQuantity::ThrottledCycles(ThrottleCause::$cause), 1.0);
                Gauge concat!("gpu_violation_", $name, "_residency_percentage"), [],
                    "The same in percent of the cycles since the last sample.",
                    |unit| amd_value(unit, AmdQuantity::ThrottledShare(ThrottleCause::$cause), TO_PERCENT);
            )*
            Gauge "gpu_violation_gfx_clock_below_host_limit_power_accumulated", ["xcc_index"],
                "Cycles in which an XCC ran below the host's limit for power.",
                |unit| below(unit, HostLimitCause::Power);
            Gauge "gpu_violation_gfx_clock_below_host_limit_thermal_accumulated", ["xcc_index"],
                "Cycles in which an XCC ran below the host's limit for heat.",
                |unit| below(unit, HostLimitCause::Thermal);
            Gauge "gpu_violation_low_utilization_accumulated", ["xcc_index"],
                "Cycles in which an XCC ran below the host's limit for low utilisation.",
                |unit| below(unit, HostLimitCause::LowUtilization);
            Gauge "gpu_violation_gfx_clock_below_host_limit_total_accumulated", ["xcc_index"],
                "Cycles in which an XCC ran below the host's limit.",
                |unit| below(unit, HostLimitCause::Total);
        }
    };
}

pub(super) const VIOLATIONS: &[CompatFamily] = violations! {
    "processor_hot", Prochot, "the board's PROCHOT";
    "ppt", Power, "the power limit";
    "socket_thermal", Thermal, "the socket's temperature";
    "vr_thermal", RegulatorThermal, "a regulator's temperature";
    "hbm_thermal", MemoryThermal, "the memory's temperature";
};
