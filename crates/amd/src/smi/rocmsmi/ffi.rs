//! The raw calls of ROCm SMI: each gives a JSON value in the units and enums of rocm_smi.h, or the status.
//!
//! Devices are indices. Signatures are those of rocm_smi.h 5.2.3 and are the same in every later release.
#![allow(unsafe_code, reason = "the library is C; every block below says why it is sound")]

use std::ffi::c_char;

use serde_json::json;

use super::STATUSES;
use crate::smi::{
    answers::Code,
    ffi::{Loaded, Reply, call, text},
};

const TEXT_BYTES: usize = 256;

pub(super) struct Api(pub(super) Loaded);

/// A call that fills one number.
macro_rules! number {
    ($api:expr, $symbol:ident($($argument:expr => $kind:ty),*), $filled:ty) => {{
        let mut number: $filled = 0;
        call!($api.0, STATUSES, $symbol($($argument => $kind,)* &mut number => *mut $filled))
            .map(|()| json!(number))
    }};
}

/// A call that fills a text; the type in which it takes its length.
macro_rules! text {
    ($api:expr, $symbol:ident($index:expr), $length:ty) => {{
        let mut buffer = [0_u8; TEXT_BYTES];
        call!($api.0, STATUSES, $symbol(
            $index => u32,
            buffer.as_mut_ptr().cast() => *mut c_char,
            TEXT_BYTES as $length => $length,
        ))
        .map(|()| json!(text(&buffer)))
    }};
}

impl Api {
    pub(super) fn init(&self) -> Result<(), Code> {
        call!(self.0, STATUSES, rsmi_init(0 => u64))
    }

    /// The driver's version; the component is `rsmi_sw_component_t`.
    pub(super) fn version(&self, component: u32) -> Reply {
        text!(self, rsmi_version_str_get(component), u32)
    }

    pub(super) fn count(&self) -> Result<u32, Code> {
        let mut count = 0;
        call!(self.0, STATUSES, rsmi_num_monitor_devices(&mut count => *mut u32)).map(|()| count)
    }

    /// Function in bits 0 to 2, device to 7, bus to 15, from ROCm 6.2 on the partition in bits 28 to 31, domain above.
    pub(super) fn pci_id(&self, index: u32) -> Reply {
        number!(self, rsmi_dev_pci_id_get(index => u32), u64)
    }

    pub(super) fn name(&self, index: u32) -> Reply {
        text!(self, rsmi_dev_name_get(index), usize)
    }

    pub(super) fn vbios_version(&self, index: u32) -> Reply {
        text!(self, rsmi_dev_vbios_version_get(index), u32)
    }

    pub(super) fn unique_id(&self, index: u32) -> Reply {
        number!(self, rsmi_dev_unique_id_get(index => u32), u64)
    }

    /// Bytes; the kind is `rsmi_memory_type_t`.
    pub(super) fn memory_total(&self, index: u32, kind: u32) -> Reply {
        number!(self, rsmi_dev_memory_total_get(index => u32, kind => u32), u64)
    }

    /// Bytes; the kind is `rsmi_memory_type_t`.
    pub(super) fn memory_usage(&self, index: u32, kind: u32) -> Reply {
        number!(self, rsmi_dev_memory_usage_get(index => u32, kind => u32), u64)
    }

    pub(super) fn busy_percent(&self, index: u32) -> Reply {
        number!(self, rsmi_dev_busy_percent_get(index => u32), u32)
    }

    pub(super) fn link_type(&self, from: u32, to: u32) -> Reply {
        let (mut hops, mut kind) = (0, 0);
        call!(self.0, STATUSES, rsmi_topo_get_link_type(
            from => u32,
            to => u32,
            &mut hops => *mut u64,
            &mut kind => *mut u32,
        ))?;
        Ok(json!({ "hops": hops, "type": kind }))
    }

    pub(super) fn link_weight(&self, from: u32, to: u32) -> Reply {
        number!(self, rsmi_topo_get_link_weight(from => u32, to => u32), u64)
    }
}
