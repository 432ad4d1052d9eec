//! ROCm SMI (`librocm_smi64.so`), AMD SMI's older sister, where that is not there. Statuses and enums are rocm_smi.h's.

mod ffi;

use afd_probe::answers::of;
use serde_json::Value;

use self::ffi::Api;
use super::{
    answers::{Answers, Code, DeviceReport, Report, Statuses},
    ffi::Loaded,
};

pub(crate) const INIT: &str = "rsmi_init";
pub(crate) const PCI_ID: &str = "rsmi_dev_pci_id_get";

/// `RSMI_SW_COMP_DRIVER`.
const DRIVER: u32 = 0;
/// `RSMI_MEM_TYPE_VRAM`.
const VRAM: u32 = 0;

/// `rsmi_status_t` (rocm_smi.h 5.2.3; later releases added to its end).
pub const STATUSES: &Statuses = &[
    (1, "INVALID_ARGS"),
    (2, "NOT_SUPPORTED"),
    (3, "FILE_ERROR"),
    (4, "PERMISSION"),
    (5, "OUT_OF_RESOURCES"),
    (6, "INTERNAL_EXCEPTION"),
    (7, "INPUT_OUT_OF_BOUNDS"),
    (8, "INIT_ERROR"),
    (9, "NOT_YET_IMPLEMENTED"),
    (10, "NOT_FOUND"),
    (11, "INSUFFICIENT_SIZE"),
    (12, "INTERRUPT"),
    (13, "UNEXPECTED_SIZE"),
    (14, "NO_DATA"),
    (15, "UNEXPECTED_DATA"),
    (16, "BUSY"),
    (17, "REFCOUNT_OVERFLOW"),
    (0xffff_ffff, "UNKNOWN_ERROR"),
];

/// The library, loaded and asked.
pub struct RocmSmi {
    api: Api,
    initialised: bool,
    count: u32,
}

impl RocmSmi {
    pub(super) fn new(loaded: Loaded) -> RocmSmi {
        RocmSmi { api: Api(loaded), initialised: false, count: 0 }
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
        report.system.put(of("rsmi_version_str_get", DRIVER), self.api.version(DRIVER));
        let count = self.api.count();
        report.system.put(
            "rsmi_num_monitor_devices",
            count.as_ref().map(|count| (*count).into()).map_err(Code::clone),
        );
        self.count = count.unwrap_or(0);
        report.devices = (0..self.count)
            .map(|index| DeviceReport { socket: None, answers: self.describe(index) })
            .collect();
        report
    }

    fn describe(&self, index: u32) -> Answers {
        let api = &self.api;
        let mut answers = Answers::default();
        answers.put(PCI_ID, api.pci_id(index));
        answers.put("rsmi_dev_name_get", api.name(index));
        answers.put("rsmi_dev_vbios_version_get", api.vbios_version(index));
        answers.put("rsmi_dev_unique_id_get", api.unique_id(index));
        answers.put(of("rsmi_dev_memory_total_get", VRAM), api.memory_total(index, VRAM));
        for other in index + 1..self.count {
            answers.put(of("rsmi_topo_get_link_type", other), api.link_type(index, other));
            answers.put(of("rsmi_topo_get_link_weight", other), api.link_weight(index, other));
        }
        answers
    }

    /// What moves.
    fn moving(&self, index: u32, answers: &mut Answers) {
        answers.put(of("rsmi_dev_memory_usage_get", VRAM), self.api.memory_usage(index, VRAM));
        answers.put("rsmi_dev_busy_percent_get", self.api.busy_percent(index));
    }

    pub(super) fn sample(&self) -> Report {
        let mut report = Report::default();
        report.system.put(INIT, Ok(Value::Null));
        report.devices.extend((0..self.count).map(|index| {
            let mut answers = Answers::default();
            answers.put(PCI_ID, self.api.pci_id(index));
            self.moving(index, &mut answers);
            DeviceReport { socket: None, answers }
        }));
        report
    }
}
