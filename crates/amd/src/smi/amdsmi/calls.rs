//! Calls and statuses of AMD SMI, each written once.

use afd_model::{Engine, Missing, Quantity};
use afd_probe::{
    answers::LibraryCall,
    row::{LibraryRow, ValueScale},
    status::StatusRow,
};

use super::ffi::{AmdSmiApi, SmiProcessor};
use crate::smi::CallResult;

/// `AMDSMI_MEM_TYPE_VRAM`.
const VRAM: u32 = 0;

pub(crate) const INIT: LibraryCall = LibraryCall::new("amdsmi_init");
pub(crate) const LIB_VERSION: LibraryCall = LibraryCall::new("amdsmi_get_lib_version");
pub(crate) const SOCKETS: LibraryCall = LibraryCall::new("amdsmi_get_socket_handles");
/// Its error is the only answer of a socket whose processors cannot be listed.
pub(crate) const PROCESSORS: LibraryCall = LibraryCall::new("amdsmi_get_processor_handles");
pub(crate) const PROCESSOR_TYPE: LibraryCall = LibraryCall::new("amdsmi_get_processor_type");
pub(crate) const BDF: LibraryCall = LibraryCall::new("amdsmi_get_gpu_device_bdf");
pub(crate) const UUID: LibraryCall = LibraryCall::new("amdsmi_get_gpu_device_uuid");
pub(crate) const ASIC_INFO: LibraryCall = LibraryCall::new("amdsmi_get_gpu_asic_info");
pub(crate) const VBIOS_INFO: LibraryCall = LibraryCall::new("amdsmi_get_gpu_vbios_info");
pub(crate) const DRIVER_INFO: LibraryCall = LibraryCall::new("amdsmi_get_gpu_driver_info");
pub(crate) const VIRTUALIZATION_MODE: LibraryCall = LibraryCall::new("amdsmi_get_gpu_virtualization_mode");
pub(crate) const BAD_PAGE_THRESHOLD: LibraryCall = LibraryCall::new("amdsmi_get_gpu_bad_page_threshold");
pub(crate) const PARTITION_PROFILE: LibraryCall =
    LibraryCall::new("amdsmi_get_gpu_accelerator_partition_profile");
pub(crate) const MEMORY_TOTAL: LibraryCall = LibraryCall::selecting("amdsmi_get_gpu_memory_total", &[VRAM]);
/// With the index of the other device in the report.
pub(crate) const LINK_TYPE: LibraryCall = LibraryCall::new("amdsmi_topo_get_link_type");
/// With the index of the other device in the report.
pub(crate) const LINK_WEIGHT: LibraryCall = LibraryCall::new("amdsmi_topo_get_link_weight");
pub(super) const ACTIVITY: LibraryCall = LibraryCall::new("amdsmi_get_gpu_activity");
pub(super) const MEMORY_USAGE: LibraryCall = LibraryCall::selecting("amdsmi_get_gpu_memory_usage", &[VRAM]);

/// Queries a processor.
pub(super) type AmdSmiQuery = fn(&AmdSmiApi, SmiProcessor) -> CallResult;

/// The changing values.
pub(crate) const SAMPLED: &[LibraryRow<AmdSmiQuery>] = &[
    activity("gfx_activity", Engine::Compute),
    activity("umc_activity", Engine::Memory),
    activity("mm_activity", Engine::Media),
    LibraryRow {
        call: MEMORY_USAGE,
        source: AmdSmiApi::memory_usage,
        field: None,
        quantity: Quantity::MemoryUsedBytes,
        scale: ValueScale::ONE,
    },
];

const fn activity(field: &'static str, engine: Engine) -> LibraryRow<AmdSmiQuery> {
    LibraryRow {
        call: ACTIVITY,
        source: AmdSmiApi::activity,
        field: Some(field),
        quantity: Quantity::Utilization(engine),
        scale: ValueScale::PERCENT,
    }
}

/// `amdsmi_status_t` (amdsmi.h 26.1; 24.6 has the same numbers).
pub const STATUSES: &[StatusRow] = &[
    (1, "INVAL", Missing::Unreadable),
    (2, "NOT_SUPPORTED", Missing::NotAvailable),
    (3, "NOT_YET_IMPLEMENTED", Missing::NotAvailable),
    (4, "FAIL_LOAD_MODULE", Missing::Unreadable),
    (5, "FAIL_LOAD_SYMBOL", Missing::Unreadable),
    (6, "DRM_ERROR", Missing::Unreadable),
    (7, "API_FAILED", Missing::Unreadable),
    (8, "TIMEOUT", Missing::Unreadable),
    (9, "RETRY", Missing::NotAvailable),
    (10, "NO_PERM", Missing::NotPermitted),
    (11, "INTERRUPT", Missing::Unreadable),
    (12, "IO", Missing::Unreadable),
    (13, "ADDRESS_FAULT", Missing::Unreadable),
    (14, "FILE_ERROR", Missing::Unreadable),
    (15, "OUT_OF_RESOURCES", Missing::Unreadable),
    (16, "INTERNAL_EXCEPTION", Missing::Unreadable),
    (17, "INPUT_OUT_OF_BOUNDS", Missing::Unreadable),
    (18, "INIT_ERROR", Missing::Unreadable),
    (19, "REFCOUNT_OVERFLOW", Missing::Unreadable),
    (20, "DIRECTORY_NOT_FOUND", Missing::Unreadable),
    (30, "BUSY", Missing::NotAvailable),
    (31, "NOT_FOUND", Missing::NotAvailable),
    (32, "NOT_INIT", Missing::Unreadable),
    (33, "NO_SLOT", Missing::Unreadable),
    (34, "DRIVER_NOT_LOADED", Missing::Unreadable),
    (39, "MORE_DATA", Missing::Unreadable),
    (40, "NO_DATA", Missing::NotAvailable),
    (41, "INSUFFICIENT_SIZE", Missing::Unreadable),
    (42, "UNEXPECTED_SIZE", Missing::Malformed),
    (43, "UNEXPECTED_DATA", Missing::Malformed),
    (52, "FILE_NOT_FOUND", Missing::NotAvailable),
    (53, "ARG_PTR_NULL", Missing::Unreadable),
    (54, "AMDGPU_RESTART_ERR", Missing::Unreadable),
    (55, "SETTING_UNAVAILABLE", Missing::NotAvailable),
    (56, "CORRUPTED_EEPROM", Missing::Unreadable),
    (0xffff_fffe, "MAP_ERROR", Missing::Unreadable),
    (0xffff_ffff, "UNKNOWN_ERROR", Missing::Unreadable),
];
