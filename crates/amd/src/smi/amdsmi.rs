//! AMD SMI (`libamd_smi.so`).
//!
//! A GPU is a socket; its partitions are the processors in it, the first of which is the GPU's PCI function. What concerns
//! the whole GPU is asked of the first alone. Statuses and enums are amdsmi.h's.

mod ffi;
mod layout;

use afd_probe::answers::of;
use serde_json::Value;

use self::ffi::{Api, Processor};
use super::{
    answers::{Answers, Code, DeviceReport, Report, Statuses},
    ffi::Loaded,
};

pub(crate) const INIT: &str = "amdsmi_init";
pub(crate) const BDF: &str = "amdsmi_get_gpu_device_bdf";
/// Stands in the report of a socket whose processors cannot be had.
pub(crate) const HANDLES: &str = "amdsmi_get_processor_handles";

/// `AMDSMI_PROCESSOR_TYPE_AMD_GPU`.
const AMD_GPU: u64 = 1;
/// `AMDSMI_MEM_TYPE_VRAM`.
const VRAM: u32 = 0;

/// `amdsmi_status_t` (amdsmi.h 26.1; 24.6 has the same numbers).
pub const STATUSES: &Statuses = &[
    (1, "INVAL"),
    (2, "NOT_SUPPORTED"),
    (3, "NOT_YET_IMPLEMENTED"),
    (4, "FAIL_LOAD_MODULE"),
    (5, "FAIL_LOAD_SYMBOL"),
    (6, "DRM_ERROR"),
    (7, "API_FAILED"),
    (8, "TIMEOUT"),
    (9, "RETRY"),
    (10, "NO_PERM"),
    (11, "INTERRUPT"),
    (12, "IO"),
    (13, "ADDRESS_FAULT"),
    (14, "FILE_ERROR"),
    (15, "OUT_OF_RESOURCES"),
    (16, "INTERNAL_EXCEPTION"),
    (17, "INPUT_OUT_OF_BOUNDS"),
    (18, "INIT_ERROR"),
    (19, "REFCOUNT_OVERFLOW"),
    (20, "DIRECTORY_NOT_FOUND"),
    (30, "BUSY"),
    (31, "NOT_FOUND"),
    (32, "NOT_INIT"),
    (33, "NO_SLOT"),
    (34, "DRIVER_NOT_LOADED"),
    (39, "MORE_DATA"),
    (40, "NO_DATA"),
    (41, "INSUFFICIENT_SIZE"),
    (42, "UNEXPECTED_SIZE"),
    (43, "UNEXPECTED_DATA"),
    (52, "FILE_NOT_FOUND"),
    (53, "ARG_PTR_NULL"),
    (54, "AMDGPU_RESTART_ERR"),
    (55, "SETTING_UNAVAILABLE"),
    (56, "CORRUPTED_EEPROM"),
    (0xffff_fffe, "MAP_ERROR"),
    (0xffff_ffff, "UNKNOWN_ERROR"),
];

/// The library, loaded and asked.
pub struct AmdSmi {
    api: Api,
    initialised: bool,
    seen: Vec<Seen>,
}

/// A processor of the last discovery; none where a socket told none.
struct Seen {
    processor: Option<Processor>,
    /// Whether it is the GPU, not another partition of it.
    first: bool,
    socket: u32,
}

impl AmdSmi {
    pub(super) fn new(loaded: Loaded) -> AmdSmi {
        AmdSmi { api: Api(loaded), initialised: false, seen: Vec::new() }
    }

    pub(super) fn discover(&mut self) -> Report {
        let mut report = Report::default();
        if !self.initialised {
            let init = self.api.init();
            self.initialised = init.is_ok();
            if !self.initialised {
                report.system.put(INIT, init.map(|()| Value::Null));
                return report;
            }
        }
        report.system.put(INIT, Ok(Value::Null));
        report.system.put("amdsmi_get_lib_version", self.api.lib_version());
        let sockets = self.api.sockets();
        report.system.put(
            "amdsmi_get_socket_handles",
            sockets.as_ref().map(|all| all.len().into()).map_err(Code::clone),
        );
        self.seen.clear();
        for (number, socket) in (0..).zip(sockets.unwrap_or_default()) {
            match self.api.processors(socket) {
                Ok(processors) => self.take(number, &processors),
                Err(code) => {
                    self.seen.push(Seen { processor: None, first: true, socket: number });
                    let mut answers = Answers::default();
                    answers.put(HANDLES, Err(code));
                    report.devices.push(DeviceReport { socket: Some(number), answers });
                    continue;
                }
            }
            let of_socket = self.seen.iter().filter(|seen| seen.socket == number);
            report.devices.extend(
                of_socket.map(|seen| DeviceReport { socket: Some(number), answers: self.describe(seen) }),
            );
        }
        self.links(&mut report);
        report
    }

    /// Notes the GPUs of a socket; processors of another kind are left out.
    fn take(&mut self, socket: u32, processors: &[Processor]) {
        let is_gpu = |processor: &&Processor| match self.api.processor_type(**processor) {
            Ok(kind) => kind.as_u64() == Some(AMD_GPU),
            // An old library has GPUs alone.
            Err(_) => true,
        };
        let gpus: Vec<Processor> = processors.iter().filter(is_gpu).copied().collect();
        self.seen.extend(gpus.into_iter().enumerate().map(|(order, processor)| Seen {
            processor: Some(processor),
            first: order == 0,
            socket,
        }));
    }

    fn describe(&self, seen: &Seen) -> Answers {
        let mut answers = Answers::default();
        let (api, Some(processor)) = (&self.api, seen.processor) else { return answers };
        answers.put(BDF, api.bdf(processor));
        answers.put("amdsmi_get_gpu_device_uuid", api.uuid(processor));
        answers.put(of("amdsmi_get_gpu_memory_total", VRAM), api.memory_total(processor, VRAM));
        if seen.first {
            answers.put("amdsmi_get_gpu_asic_info", api.asic_info(processor));
            answers.put("amdsmi_get_gpu_vbios_info", api.vbios_info(processor));
            answers.put("amdsmi_get_gpu_driver_info", api.driver_info(processor));
            answers.put("amdsmi_get_gpu_virtualization_mode", api.virtualization_mode(processor));
            answers.put("amdsmi_get_gpu_bad_page_threshold", api.bad_page_threshold(processor));
            answers.put("amdsmi_get_gpu_accelerator_partition_profile", api.partition_profile(processor));
        }
        answers
    }

    /// What moves.
    fn moving(&self, processor: Processor, answers: &mut Answers) {
        answers.put("amdsmi_get_gpu_activity", self.api.activity(processor));
        answers.put(of("amdsmi_get_gpu_memory_usage", VRAM), self.api.memory_usage(processor, VRAM));
    }

    /// The ways between GPUs, each pair once, under the index of the other in the report.
    fn links(&self, report: &mut Report) {
        let gpus: Vec<(usize, Processor)> = self
            .seen
            .iter()
            .enumerate()
            .filter(|(_, seen)| seen.first)
            .filter_map(|(index, seen)| Some((index, seen.processor?)))
            .collect();
        for (order, (index, from)) in gpus.iter().enumerate() {
            for (other, to) in &gpus[order + 1..] {
                let answers = &mut report.devices[*index].answers;
                let other = *other as u32;
                answers.put(of("amdsmi_topo_get_link_type", other), self.api.link_type(*from, *to));
                answers.put(of("amdsmi_topo_get_link_weight", other), self.api.link_weight(*from, *to));
            }
        }
    }

    pub(super) fn sample(&self) -> Report {
        let mut report = Report::default();
        report.system.put(INIT, Ok(Value::Null));
        report.devices.extend(self.seen.iter().map(|seen| {
            let mut answers = Answers::default();
            if let Some(processor) = seen.processor {
                answers.put(BDF, self.api.bdf(processor));
                if seen.first {
                    self.moving(processor, &mut answers);
                }
            }
            DeviceReport { socket: Some(seen.socket), answers }
        }));
        report
    }
}
