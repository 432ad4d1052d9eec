//! Facts that only one vendor's devices have and only that vendor's own tools publish.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Known, Missing};

/// What one vendor's tools tell beyond what all devices have. Read for labels and metrics in that vendor's spelling and by
/// the probe that judges health; AFD's own names never depend on it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VendorFacts {
    /// Of an AMD GPU.
    Amd(AmdFacts),
}

/// What AMD's tools tell of a GPU.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AmdFacts {
    /// The product's name in the memory of the board (FRU): `AMD Instinct MI300X OAM`.
    pub board_name: Known<String>,
    /// The number of the product in the same memory: `102-G30211-0C`.
    pub board_number: Known<String>,
    /// Compute units of the whole device.
    pub compute_units: Known<u32>,
    /// SIMD units in each compute unit.
    pub simds_per_compute_unit: Known<u32>,
    /// Version of the driver's module; a driver that is part of the kernel has none.
    pub module_version: Known<String>,
    /// Checksum of the sources of the driver's module.
    pub module_source_version: Known<String>,
    /// Whether the compute units can be cut into partitions.
    pub compute_partitioning_supported: Known<bool>,
    /// Whether the memory can be cut into partitions.
    pub memory_partitioning_supported: Known<bool>,
    /// The marketing name by the vendor's library, which has it from libdrm's file: `AMD Instinct MI300X`.
    pub market_name: Known<String>,
    /// Version of the VBIOS (IFWI): `022.040.003.043.000001`. The part number is the device's firmware version.
    pub vbios_version: Known<String>,
    /// What the library takes the device for: `baremetal`, `host`, `guest` or `passthrough`.
    pub virtualization: Known<String>,
    /// With so many bad pages of memory the part is to be replaced.
    pub bad_page_threshold: Known<u32>,
    /// How many partitions the mode makes that the device is in.
    pub nominal_partitions: Known<u32>,
    /// How many records of errors (CPER) the driver keeps, where they may be read.
    pub error_records: Known<u32>,
    /// Versions of the firmware of the device's blocks, sorted by block.
    pub firmware: Vec<BlockFirmware>,
}

impl AmdFacts {
    /// Facts of which none is known.
    pub fn unknown() -> AmdFacts {
        let unknown = Missing::NotExposed;
        AmdFacts {
            board_name: unknown.into(),
            board_number: unknown.into(),
            compute_units: unknown.into(),
            simds_per_compute_unit: unknown.into(),
            module_version: unknown.into(),
            module_source_version: unknown.into(),
            compute_partitioning_supported: unknown.into(),
            memory_partitioning_supported: unknown.into(),
            market_name: unknown.into(),
            vbios_version: unknown.into(),
            virtualization: unknown.into(),
            bad_page_threshold: unknown.into(),
            nominal_partitions: unknown.into(),
            error_records: unknown.into(),
            firmware: Vec::new(),
        }
    }
}

/// The firmware of one block of a device.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BlockFirmware {
    /// The block as the vendor names it: `MEC`.
    pub block: String,
    /// The number of the version.
    pub version: u64,
    /// The number of the features that it has, where that may be read.
    pub feature: Known<u32>,
}
