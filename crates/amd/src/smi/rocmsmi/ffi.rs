//! The raw calls of ROCm SMI: each returns a JSON value in the units and enums of rocm_smi.h, or the status.
//!
//! Devices are indices. Signatures are those of rocm_smi.h 5.2.3 and are the same in every later release.
#![allow(unsafe_code, reason = "the library is C; afd_probe::ffi explains why the calls are sound")]

use afd_probe::{call, call_number, call_text, ffi::LoadedLibrary};
use serde_json::json;

use super::calls::{
    BUSY_PERCENT, COUNT, DRIVER_VERSION, INIT, LINK_TYPE, LINK_WEIGHT, MEMORY_TOTAL, MEMORY_USAGE, NAME,
    PCI_ID, STATUSES, UNIQUE_ID, VBIOS_VERSION,
};
use crate::smi::{CallResult, SmiStatus};

const TEXT_BYTES: usize = 256;

pub(crate) struct RocmSmiApi(pub(super) LoadedLibrary);

impl RocmSmiApi {
    pub(super) fn init(&self) -> Result<(), SmiStatus> {
        call!(self.0, STATUSES, INIT(0 => u64))
    }

    /// The driver's version.
    pub(super) fn driver_version(&self) -> CallResult {
        call_text!(self.0, STATUSES, DRIVER_VERSION(DRIVER_VERSION.arguments[0] => u32), TEXT_BYTES as u32)
    }

    pub(super) fn count(&self) -> Result<u32, SmiStatus> {
        let mut count = 0;
        call!(self.0, STATUSES, COUNT(&mut count => *mut u32)).map(|()| count)
    }

    /// Function in bits 0 to 2, device to 7, bus to 15, from ROCm 6.2 on the partition in bits 28 to 31, domain above.
    pub(super) fn pci_id(&self, index: u32) -> CallResult {
        call_number!(self.0, STATUSES, PCI_ID(index => u32), u64)
    }

    pub(super) fn name(&self, index: u32) -> CallResult {
        call_text!(self.0, STATUSES, NAME(index => u32), TEXT_BYTES as usize)
    }

    pub(super) fn vbios_version(&self, index: u32) -> CallResult {
        call_text!(self.0, STATUSES, VBIOS_VERSION(index => u32), TEXT_BYTES as u32)
    }

    pub(super) fn unique_id(&self, index: u32) -> CallResult {
        call_number!(self.0, STATUSES, UNIQUE_ID(index => u32), u64)
    }

    /// Bytes.
    pub(super) fn memory_total(&self, index: u32) -> CallResult {
        call_number!(self.0, STATUSES, MEMORY_TOTAL(index => u32, MEMORY_TOTAL.arguments[0] => u32), u64)
    }

    /// Bytes.
    pub(super) fn memory_usage(&self, index: u32) -> CallResult {
        call_number!(self.0, STATUSES, MEMORY_USAGE(index => u32, MEMORY_USAGE.arguments[0] => u32), u64)
    }

    pub(super) fn busy_percent(&self, index: u32) -> CallResult {
        call_number!(self.0, STATUSES, BUSY_PERCENT(index => u32), u32)
    }

    pub(super) fn link_type(&self, from: u32, to: u32) -> CallResult {
        let (mut hops, mut kind) = (0, 0);
        call!(self.0, STATUSES, LINK_TYPE(
            from => u32,
            to => u32,
            &mut hops => *mut u64,
            &mut kind => *mut u32,
        ))?;
        Ok(json!({ "hops": hops, "type": kind }))
    }

    pub(super) fn link_weight(&self, from: u32, to: u32) -> CallResult {
        call_number!(self.0, STATUSES, LINK_WEIGHT(from => u32, to => u32), u64)
    }
}
