//! The raw calls of AMD SMI: each returns a JSON value in the units and enums of amdsmi.h, or the status.
//!
//! Only calls whose signature is the same in every release that has them (amdsmi.h 23.2 to 26.1, ROCm 6.0 to 7.1).
//! Structs that changed are read by `layout`.
#![allow(unsafe_code, reason = "the library is C; afd_probe::ffi explains why the calls are sound")]

use std::ffi::{c_char, c_void};

use afd_probe::{
    call, call_handles, call_number, call_struct,
    ffi::{LoadedLibrary, StructBuffer, text},
};
use serde_json::json;

use super::{
    calls::{
        ACTIVITY, ASIC_INFO, BAD_PAGE_THRESHOLD, BDF, DRIVER_INFO, INIT, LIB_VERSION, LINK_TYPE, LINK_WEIGHT,
        MEMORY_TOTAL, MEMORY_USAGE, PARTITION_PROFILE, PROCESSOR_TYPE, PROCESSORS, SOCKETS, STATUSES, UUID,
        VBIOS_INFO, VIRTUALIZATION_MODE,
    },
    layout,
};
use crate::smi::{CallResult, SmiStatus};

/// `AMDSMI_INIT_AMD_GPUS`.
const INIT_AMD_GPUS: u64 = 1 << 1;
/// The offset in `amdsmi_version_t` of the pointer to the string of the whole version.
const BUILD: usize = 16;

pub(crate) struct AmdSmiApi(pub(super) LoadedLibrary);

/// A socket: a GPU with its partitions.
#[derive(Clone, Copy)]
pub(super) struct SmiSocket(*mut c_void);

/// A GPU, or one partition of it.
#[derive(Clone, Copy)]
pub(crate) struct SmiProcessor(*mut c_void);

impl AmdSmiApi {
    pub(super) fn init(&self) -> Result<(), SmiStatus> {
        call!(self.0, STATUSES, INIT(INIT_AMD_GPUS => u64))
    }

    /// `{"build": "26.2.0"}`; the meaning of the numbers before it changes from release to release.
    pub(super) fn lib_version(&self) -> CallResult {
        let mut buffer = StructBuffer::new();
        call!(self.0, STATUSES, LIB_VERSION(buffer.pointer() => *mut StructBuffer))?;
        // SAFETY: the call filled an `amdsmi_version_t`, whose `build` is a string constant of the library.
        let build = unsafe { buffer.pointed_text(BUILD) }.ok_or(SmiStatus::UNEXPECTED_DATA)?;
        Ok(json!({ "build": build }))
    }

    pub(super) fn sockets(&self) -> Result<Vec<SmiSocket>, SmiStatus> {
        let handles = call_handles!(self.0, STATUSES, SOCKETS())?;
        Ok(handles.into_iter().map(SmiSocket).collect())
    }

    pub(super) fn processors(&self, socket: SmiSocket) -> Result<Vec<SmiProcessor>, SmiStatus> {
        let handles = call_handles!(self.0, STATUSES, PROCESSORS(socket.0 => *mut c_void))?;
        Ok(handles.into_iter().map(SmiProcessor).collect())
    }

    pub(super) fn processor_type(&self, processor: SmiProcessor) -> CallResult {
        call_number!(self.0, STATUSES, PROCESSOR_TYPE(processor.0 => *mut c_void), u32)
    }

    /// `amdsmi_bdf_t` as a number: function in bits 0 to 2, device to 7, bus to 15, domain above.
    pub(super) fn bdf(&self, processor: SmiProcessor) -> CallResult {
        call_number!(self.0, STATUSES, BDF(processor.0 => *mut c_void), u64)
    }

    pub(super) fn uuid(&self, processor: SmiProcessor) -> CallResult {
        let mut buffer = [0_u8; 64];
        let mut length = buffer.len() as u32;
        call!(self.0, STATUSES, UUID(
            processor.0 => *mut c_void,
            &mut length => *mut u32,
            buffer.as_mut_ptr().cast() => *mut c_char,
        ))?;
        Ok(json!(text(&buffer)))
    }

    pub(super) fn asic_info(&self, processor: SmiProcessor) -> CallResult {
        call_struct!(self.0, STATUSES, ASIC_INFO(processor.0 => *mut c_void), layout::asic_info)
    }

    pub(super) fn vbios_info(&self, processor: SmiProcessor) -> CallResult {
        call_struct!(self.0, STATUSES, VBIOS_INFO(processor.0 => *mut c_void), layout::vbios_info)
    }

    pub(super) fn driver_info(&self, processor: SmiProcessor) -> CallResult {
        call_struct!(self.0, STATUSES, DRIVER_INFO(processor.0 => *mut c_void), layout::driver_info)
    }

    pub(super) fn activity(&self, processor: SmiProcessor) -> CallResult {
        call_struct!(self.0, STATUSES, ACTIVITY(processor.0 => *mut c_void), layout::engine_usage)
    }

    pub(super) fn virtualization_mode(&self, processor: SmiProcessor) -> CallResult {
        call_number!(self.0, STATUSES, VIRTUALIZATION_MODE(processor.0 => *mut c_void), u32)
    }

    pub(super) fn bad_page_threshold(&self, processor: SmiProcessor) -> CallResult {
        call_number!(self.0, STATUSES, BAD_PAGE_THRESHOLD(processor.0 => *mut c_void), u32)
    }

    pub(super) fn partition_profile(&self, processor: SmiProcessor) -> CallResult {
        let (mut profile, mut partitions) = (StructBuffer::new(), StructBuffer::new());
        call!(self.0, STATUSES, PARTITION_PROFILE(
            processor.0 => *mut c_void,
            profile.pointer() => *mut StructBuffer,
            partitions.pointer() => *mut StructBuffer,
        ))?;
        layout::partition_profile(profile.bytes()).ok_or(SmiStatus::UNEXPECTED_DATA)
    }

    /// Bytes.
    pub(super) fn memory_total(&self, processor: SmiProcessor) -> CallResult {
        let kind = MEMORY_TOTAL.arguments[0];
        call_number!(self.0, STATUSES, MEMORY_TOTAL(processor.0 => *mut c_void, kind => u32), u64)
    }

    /// Bytes.
    pub(super) fn memory_usage(&self, processor: SmiProcessor) -> CallResult {
        let kind = MEMORY_USAGE.arguments[0];
        call_number!(self.0, STATUSES, MEMORY_USAGE(processor.0 => *mut c_void, kind => u32), u64)
    }

    pub(super) fn link_type(&self, from: SmiProcessor, to: SmiProcessor) -> CallResult {
        let (mut hops, mut kind) = (0, 0);
        call!(self.0, STATUSES, LINK_TYPE(
            from.0 => *mut c_void,
            to.0 => *mut c_void,
            &mut hops => *mut u64,
            &mut kind => *mut u32,
        ))?;
        Ok(json!({ "hops": hops, "type": kind }))
    }

    pub(super) fn link_weight(&self, from: SmiProcessor, to: SmiProcessor) -> CallResult {
        call_number!(self.0, STATUSES, LINK_WEIGHT(from.0 => *mut c_void, to.0 => *mut c_void), u64)
    }
}
