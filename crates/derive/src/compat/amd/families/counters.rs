//! Error counters of the blocks, and counters of cycles in which something held the GPU back.

use afd_model::{
    AmdQuantity, ErrorDetail, ErrorKind, HostLimitCause, Quantity, ThrottleCause, VendorQuantity,
};

use super::{PERCENT, extra, plain, told};
use crate::compat::metrics::{CompatFamily, Series, Tell, Unit};

fn errors(unit: &Unit<'_>, kind: ErrorKind, block: &'static str) -> Series {
    told(unit, Quantity::Errors(kind, ErrorDetail::Block(block)), 1.0)
}

fn all_errors(unit: &Unit<'_>, kind: ErrorKind) -> Series {
    let counts = unit.each(|quantity, count| match quantity {
        Quantity::Errors(other, ErrorDetail::Block(_)) if *other == kind => Some(count),
        _ => None,
    });
    plain(counts.into_iter().reduce(|sum, count| sum + count))
}

macro_rules! errors {
    ($($name:literal, $block:literal;)*) => {
        families! {
            "gpu_ecc_correct_total", [], "Correctable errors of all blocks.",
                |unit| all_errors(unit, ErrorKind::EccCorrectable);
            "gpu_ecc_uncorrect_total", [], "Uncorrectable errors of all blocks.",
                |unit| all_errors(unit, ErrorKind::EccUncorrectable);
            "gpu_ecc_deferred_total", [], "Deferred errors of all blocks.",
                |unit| all_errors(unit, ErrorKind::EccDeferred);
            $(
                concat!("gpu_ecc_correct_", $name), [], concat!("Correctable errors of ", $block, "."),
                    |unit| errors(unit, ErrorKind::EccCorrectable, $block);
                concat!("gpu_ecc_uncorrect_", $name), [], concat!("Uncorrectable errors of ", $block, "."),
                    |unit| errors(unit, ErrorKind::EccUncorrectable, $block);
                concat!("gpu_ecc_deferred_", $name), [], concat!("Deferred errors of ", $block, "."),
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

fn below(unit: &Unit<'_>, cause: HostLimitCause) -> Series {
    unit.each(|quantity, value| match quantity {
        Quantity::Vendor(VendorQuantity::Amd(AmdQuantity::BelowHostLimit(other, xcc))) if *other == cause => {
            Some((vec![xcc.to_string()], value))
        }
        _ => None,
    })
}

macro_rules! violations {
    ($($name:literal, $cause:ident, $what:literal;)*) => {
        families! {
            "gpu_violation_current_accumulated_counter", [], "Cycles of the firmware.",
                |unit| extra(unit, AmdQuantity::Cycles, 1.0);
            $(
                concat!("gpu_violation_", $name, "_residency_accumulated"), [],
                    concat!("Cycles in which ", $what, " held the GPU back."),
                    |unit| extra(unit, AmdQuantity::ThrottledCycles(ThrottleCause::$cause), 1.0);
                concat!("gpu_violation_", $name, "_residency_percentage"), [],
                    "The same in percent of the cycles since the last sample.",
                    |unit| extra(unit, AmdQuantity::ThrottledShare(ThrottleCause::$cause), PERCENT);
            )*
            "gpu_violation_gfx_clock_below_host_limit_power_accumulated", ["xcc_index"],
                "Cycles in which an XCC was below the host's limit for power.",
                |unit| below(unit, HostLimitCause::Power);
            "gpu_violation_gfx_clock_below_host_limit_thermal_accumulated", ["xcc_index"],
                "Cycles in which an XCC was below the host's limit for heat.",
                |unit| below(unit, HostLimitCause::Thermal);
            "gpu_violation_low_utilization_accumulated", ["xcc_index"],
                "Cycles in which an XCC was below the host's limit for want of work.",
                |unit| below(unit, HostLimitCause::LowUtilization);
            "gpu_violation_gfx_clock_below_host_limit_total_accumulated", ["xcc_index"],
                "Cycles in which an XCC was below the host's limit.",
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
