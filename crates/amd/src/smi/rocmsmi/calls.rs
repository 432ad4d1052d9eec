//! Calls and statuses of ROCm SMI, each written once.

use afd_model::{Engine, Missing, Quantity};
use afd_probe::{
    answers::LibraryCall,
    row::{LibraryRow, ValueScale},
    status::StatusRow,
};

use super::ffi::RocmSmiApi;
use crate::smi::CallResult;

/// `RSMI_SW_COMP_DRIVER`.
const DRIVER: u32 = 0;
/// `RSMI_MEM_TYPE_VRAM`.
const VRAM: u32 = 0;

pub(crate) const INIT: LibraryCall = LibraryCall::new("rsmi_init");
pub(crate) const DRIVER_VERSION: LibraryCall = LibraryCall::selecting("rsmi_version_str_get", &[DRIVER]);
pub(crate) const COUNT: LibraryCall = LibraryCall::new("rsmi_num_monitor_devices");
pub(crate) const PCI_ID: LibraryCall = LibraryCall::new("rsmi_dev_pci_id_get");
pub(crate) const NAME: LibraryCall = LibraryCall::new("rsmi_dev_name_get");
pub(crate) const VBIOS_VERSION: LibraryCall = LibraryCall::new("rsmi_dev_vbios_version_get");
pub(crate) const UNIQUE_ID: LibraryCall = LibraryCall::new("rsmi_dev_unique_id_get");
pub(crate) const MEMORY_TOTAL: LibraryCall = LibraryCall::selecting("rsmi_dev_memory_total_get", &[VRAM]);
/// With the index of the other device.
pub(crate) const LINK_TYPE: LibraryCall = LibraryCall::new("rsmi_topo_get_link_type");
/// With the index of the other device.
pub(crate) const LINK_WEIGHT: LibraryCall = LibraryCall::new("rsmi_topo_get_link_weight");
pub(super) const BUSY_PERCENT: LibraryCall = LibraryCall::new("rsmi_dev_busy_percent_get");
pub(super) const MEMORY_USAGE: LibraryCall = LibraryCall::selecting("rsmi_dev_memory_usage_get", &[VRAM]);

/// Queries a device.
pub(super) type RocmSmiQuery = fn(&RocmSmiApi, u32) -> CallResult;

/// The changing values.
pub(crate) const SAMPLED: &[LibraryRow<RocmSmiQuery>] = &[
    LibraryRow {
        call: BUSY_PERCENT,
        source: RocmSmiApi::busy_percent,
        field: None,
        quantity: Quantity::Utilization(Engine::Compute),
        scale: ValueScale::PERCENT,
    },
    LibraryRow {
        call: MEMORY_USAGE,
        source: RocmSmiApi::memory_usage,
        field: None,
        quantity: Quantity::MemoryUsedBytes,
        scale: ValueScale::ONE,
    },
];

/// `rsmi_status_t` (rocm_smi.h 5.2.3; later releases added to its end).
pub const STATUSES: &[StatusRow] = &[
    (1, "INVALID_ARGS", Missing::Unreadable),
    (2, "NOT_SUPPORTED", Missing::NotAvailable),
    (3, "FILE_ERROR", Missing::Unreadable),
    (4, "PERMISSION", Missing::NotPermitted),
    (5, "OUT_OF_RESOURCES", Missing::Unreadable),
    (6, "INTERNAL_EXCEPTION", Missing::Unreadable),
    (7, "INPUT_OUT_OF_BOUNDS", Missing::Unreadable),
    (8, "INIT_ERROR", Missing::Unreadable),
    (9, "NOT_YET_IMPLEMENTED", Missing::NotAvailable),
    (10, "NOT_FOUND", Missing::NotAvailable),
    (11, "INSUFFICIENT_SIZE", Missing::Unreadable),
    (12, "INTERRUPT", Missing::Unreadable),
    (13, "UNEXPECTED_SIZE", Missing::Malformed),
    (14, "NO_DATA", Missing::NotAvailable),
    (15, "UNEXPECTED_DATA", Missing::Malformed),
    (16, "BUSY", Missing::NotAvailable),
    (17, "REFCOUNT_OVERFLOW", Missing::Unreadable),
    (0xffff_ffff, "UNKNOWN_ERROR", Missing::Unreadable),
];
