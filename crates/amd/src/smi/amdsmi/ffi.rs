//! The raw calls of AMD SMI: each gives a JSON value in the units and enums of amdsmi.h, or the status.
//!
//! Only calls are here whose signature is the same in every release that has them (amdsmi.h 23.2 to 26.1, ROCm 6.0 to 7.1).
//! Structs that changed are read by `layout`.
#![allow(unsafe_code, reason = "the library is C; every block below says why it is sound")]

use std::ffi::{c_char, c_void};

use serde_json::json;

use super::{STATUSES, layout};
use crate::smi::{
    answers::Code,
    ffi::{Buffer, Loaded, Reply, call, text},
};

/// `AMDSMI_INIT_AMD_GPUS`.
const INIT_AMD_GPUS: u64 = 1 << 1;
/// More sockets of a node, and more processors of a socket, than there are.
const MOST_HANDLES: usize = 256;
/// Where `amdsmi_version_t` has the pointer to the text of the whole version.
const BUILD: usize = 16;

pub(super) struct Api(pub(super) Loaded);

/// A socket: a GPU with its partitions.
#[derive(Clone, Copy)]
pub(super) struct Socket(*mut c_void);

/// A GPU, or one partition of it.
#[derive(Clone, Copy)]
pub(super) struct Processor(*mut c_void);

/// A call that fills one number.
macro_rules! number {
    ($api:expr, $symbol:ident($($argument:expr => $kind:ty),*), $filled:ty) => {{
        let mut number: $filled = 0;
        call!($api.0, STATUSES, $symbol($($argument => $kind,)* &mut number => *mut $filled))
            .map(|()| json!(number))
    }};
}

/// A call that fills a struct; how it is laid out.
macro_rules! filled {
    ($api:expr, $symbol:ident($processor:expr), $layout:expr) => {{
        let mut buffer = Buffer::new();
        call!($api.0, STATUSES, $symbol($processor.0 => *mut c_void, buffer.pointer() => *mut Buffer))?;
        $layout(buffer.bytes()).ok_or_else(|| Code::named(Code::UNEXPECTED_DATA))
    }};
}

impl Api {
    pub(super) fn init(&self) -> Result<(), Code> {
        call!(self.0, STATUSES, amdsmi_init(INIT_AMD_GPUS => u64))
    }

    /// `{"build": "26.2.0"}`: what the numbers before it mean is another thing from release to release.
    pub(super) fn lib_version(&self) -> Reply {
        let mut buffer = Buffer::new();
        call!(self.0, STATUSES, amdsmi_get_lib_version(buffer.pointer() => *mut Buffer))?;
        let build = buffer.text_behind(BUILD).ok_or_else(|| Code::named(Code::UNEXPECTED_DATA))?;
        Ok(json!({ "build": build }))
    }

    pub(super) fn sockets(&self) -> Result<Vec<Socket>, Code> {
        let mut handles = [std::ptr::null_mut(); MOST_HANDLES];
        let mut count = MOST_HANDLES as u32;
        call!(self.0, STATUSES, amdsmi_get_socket_handles(
            &mut count => *mut u32,
            handles.as_mut_ptr() => *mut *mut c_void,
        ))?;
        Ok(handles.into_iter().take(count as usize).map(Socket).collect())
    }

    pub(super) fn processors(&self, socket: Socket) -> Result<Vec<Processor>, Code> {
        let mut handles = [std::ptr::null_mut(); MOST_HANDLES];
        let mut count = MOST_HANDLES as u32;
        call!(self.0, STATUSES, amdsmi_get_processor_handles(
            socket.0 => *mut c_void,
            &mut count => *mut u32,
            handles.as_mut_ptr() => *mut *mut c_void,
        ))?;
        Ok(handles.into_iter().take(count as usize).map(Processor).collect())
    }

    pub(super) fn processor_type(&self, processor: Processor) -> Reply {
        number!(self, amdsmi_get_processor_type(processor.0 => *mut c_void), u32)
    }

    /// `amdsmi_bdf_t` as a number: function in bits 0 to 2, device to 7, bus to 15, domain above.
    pub(super) fn bdf(&self, processor: Processor) -> Reply {
        number!(self, amdsmi_get_gpu_device_bdf(processor.0 => *mut c_void), u64)
    }

    pub(super) fn uuid(&self, processor: Processor) -> Reply {
        let mut buffer = [0_u8; 64];
        let mut length = buffer.len() as u32;
        call!(self.0, STATUSES, amdsmi_get_gpu_device_uuid(
            processor.0 => *mut c_void,
            &mut length => *mut u32,
            buffer.as_mut_ptr().cast() => *mut c_char,
        ))?;
        Ok(json!(text(&buffer)))
    }

    pub(super) fn asic_info(&self, processor: Processor) -> Reply {
        filled!(self, amdsmi_get_gpu_asic_info(processor), layout::asic_info)
    }

    pub(super) fn vbios_info(&self, processor: Processor) -> Reply {
        filled!(self, amdsmi_get_gpu_vbios_info(processor), layout::vbios_info)
    }

    pub(super) fn driver_info(&self, processor: Processor) -> Reply {
        filled!(self, amdsmi_get_gpu_driver_info(processor), layout::driver_info)
    }

    pub(super) fn activity(&self, processor: Processor) -> Reply {
        filled!(self, amdsmi_get_gpu_activity(processor), layout::engine_usage)
    }

    pub(super) fn virtualization_mode(&self, processor: Processor) -> Reply {
        number!(self, amdsmi_get_gpu_virtualization_mode(processor.0 => *mut c_void), u32)
    }

    pub(super) fn bad_page_threshold(&self, processor: Processor) -> Reply {
        number!(self, amdsmi_get_gpu_bad_page_threshold(processor.0 => *mut c_void), u32)
    }

    pub(super) fn partition_profile(&self, processor: Processor) -> Reply {
        let (mut profile, mut partitions) = (Buffer::new(), Buffer::new());
        call!(self.0, STATUSES, amdsmi_get_gpu_accelerator_partition_profile(
            processor.0 => *mut c_void,
            profile.pointer() => *mut Buffer,
            partitions.pointer() => *mut Buffer,
        ))?;
        layout::partition_profile(profile.bytes()).ok_or_else(|| Code::named(Code::UNEXPECTED_DATA))
    }

    /// Bytes; the kind is `amdsmi_memory_type_t`.
    pub(super) fn memory_total(&self, processor: Processor, kind: u32) -> Reply {
        number!(self, amdsmi_get_gpu_memory_total(processor.0 => *mut c_void, kind => u32), u64)
    }

    /// Bytes; the kind is `amdsmi_memory_type_t`.
    pub(super) fn memory_usage(&self, processor: Processor, kind: u32) -> Reply {
        number!(self, amdsmi_get_gpu_memory_usage(processor.0 => *mut c_void, kind => u32), u64)
    }

    pub(super) fn link_type(&self, from: Processor, to: Processor) -> Reply {
        let (mut hops, mut kind) = (0, 0);
        call!(self.0, STATUSES, amdsmi_topo_get_link_type(
            from.0 => *mut c_void,
            to.0 => *mut c_void,
            &mut hops => *mut u64,
            &mut kind => *mut u32,
        ))?;
        Ok(json!({ "hops": hops, "type": kind }))
    }

    pub(super) fn link_weight(&self, from: Processor, to: Processor) -> Reply {
        number!(self, amdsmi_topo_get_link_weight(from.0 => *mut c_void, to.0 => *mut c_void), u64)
    }
}
