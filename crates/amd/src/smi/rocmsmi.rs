//! ROCm SMI (`librocm_smi64.so`), the predecessor of AMD SMI, where that is not installed. Statuses and enums are those
//! of rocm_smi.h.

pub(crate) mod calls;
mod ffi;

use afd_probe::{ffi::LoadedLibrary, row};
use serde_json::Value;

pub use self::calls::STATUSES;
use self::{
    calls::{
        COUNT, DRIVER_VERSION, INIT, LINK_TYPE, LINK_WEIGHT, MEMORY_TOTAL, NAME, PCI_ID, SAMPLED, UNIQUE_ID,
        VBIOS_VERSION,
    },
    ffi::RocmSmiApi,
};
use super::{AmdAnswers, AmdDeviceAnswers, AmdReport};

/// The library, loaded and queried.
pub struct RocmSmi {
    api: RocmSmiApi,
    initialised: bool,
    count: u32,
}

impl RocmSmi {
    pub(super) fn new(loaded: LoadedLibrary) -> RocmSmi {
        RocmSmi { api: RocmSmiApi(loaded), initialised: false, count: 0 }
    }

    pub(super) fn discover(&mut self) -> AmdReport {
        let mut report = AmdReport::default();
        if !self.initialised {
            let init = self.api.init();
            self.initialised = init.is_ok();
            if !self.initialised {
                report.system.put(INIT, init.map(|()| Value::Null));
                return report;
            }
        }
        report.system.put(INIT, Ok(Value::Null));
        report.system.put(DRIVER_VERSION, self.api.driver_version());
        let count = self.api.count();
        report.system.put(COUNT, count.map(Value::from));
        self.count = count.unwrap_or(0);
        report.devices = (0..self.count).map(|index| device(self.describe(index))).collect();
        report
    }

    fn describe(&self, index: u32) -> AmdAnswers {
        let api = &self.api;
        let mut answers = AmdAnswers::default();
        answers.put(PCI_ID, api.pci_id(index));
        answers.put(NAME, api.name(index));
        answers.put(VBIOS_VERSION, api.vbios_version(index));
        answers.put(UNIQUE_ID, api.unique_id(index));
        answers.put(MEMORY_TOTAL, api.memory_total(index));
        for other in index + 1..self.count {
            answers.put(LINK_TYPE.with(&[other]), api.link_type(index, other));
            answers.put(LINK_WEIGHT.with(&[other]), api.link_weight(index, other));
        }
        answers
    }

    pub(super) fn sample(&self) -> AmdReport {
        let mut report = AmdReport::default();
        report.system.put(INIT, Ok(Value::Null));
        report.devices.extend((0..self.count).map(|index| {
            let mut answers = AmdAnswers::default();
            answers.put(PCI_ID, self.api.pci_id(index));
            row::query(SAMPLED, &mut answers, |query, _| query(&self.api, index));
            device(answers)
        }));
        report
    }
}

fn device(answers: AmdAnswers) -> AmdDeviceAnswers {
    AmdDeviceAnswers { answers, ..AmdDeviceAnswers::default() }
}
