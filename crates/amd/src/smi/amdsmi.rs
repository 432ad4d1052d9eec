//! AMD SMI (`libamd_smi.so`).
//!
//! A GPU is a socket; its partitions are the processors in it, the first of which is the GPU's PCI function. What concerns
//! the whole GPU is queried on the first one only. Statuses and enums are those of amdsmi.h.

pub(crate) mod calls;
mod ffi;
mod layout;

use afd_probe::{ffi::LoadedLibrary, row};
use serde_json::Value;

pub use self::calls::STATUSES;
use self::{
    calls::{
        ASIC_INFO, BAD_PAGE_THRESHOLD, BDF, DRIVER_INFO, INIT, LIB_VERSION, LINK_TYPE, LINK_WEIGHT,
        MEMORY_TOTAL, PARTITION_PROFILE, PROCESSORS, SAMPLED, SOCKETS, UUID, VBIOS_INFO, VIRTUALIZATION_MODE,
    },
    ffi::{AmdSmiApi, SmiProcessor},
};
use super::{AmdAnswers, AmdDeviceAnswers, AmdReport};

/// `AMDSMI_PROCESSOR_TYPE_AMD_GPU`.
const AMD_GPU: u64 = 1;

/// The library, loaded and queried.
pub struct AmdSmi {
    api: AmdSmiApi,
    initialised: bool,
    slots: Vec<ProcessorSlot>,
}

/// An element of the report: a processor of the last discovery; none where the processors of a socket cannot be listed.
struct ProcessorSlot {
    processor: Option<SmiProcessor>,
    /// Whether it is the GPU, not another partition of it.
    is_first: bool,
    socket: u32,
}

impl AmdSmi {
    pub(super) fn new(loaded: LoadedLibrary) -> AmdSmi {
        AmdSmi { api: AmdSmiApi(loaded), initialised: false, slots: Vec::new() }
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
        report.system.put(LIB_VERSION, self.api.lib_version());
        let sockets = self.api.sockets();
        report.system.put(SOCKETS, sockets.as_ref().map(|all| all.len().into()).map_err(|code| *code));
        self.slots.clear();
        for (number, socket) in (0..).zip(sockets.unwrap_or_default()) {
            let first = self.slots.len();
            let mut answers = AmdAnswers::default();
            match self.api.processors(socket) {
                Ok(processors) => self.add_gpus(number, &processors),
                Err(code) => {
                    answers.put(PROCESSORS, Err(code));
                    self.slots.push(ProcessorSlot { processor: None, is_first: true, socket: number });
                }
            }
            for slot in &self.slots[first..] {
                let mut answers = answers.clone();
                self.describe(slot, &mut answers);
                report.devices.push(device(slot, answers));
            }
        }
        self.links(&mut report);
        report
    }

    /// Adds the GPUs of a socket; processors of another kind are left out.
    fn add_gpus(&mut self, socket: u32, processors: &[SmiProcessor]) {
        let is_gpu = |processor: &&SmiProcessor| match self.api.processor_type(**processor) {
            Ok(kind) => kind.as_u64() == Some(AMD_GPU),
            // An old library has GPUs only.
            Err(_) => true,
        };
        let gpus: Vec<SmiProcessor> = processors.iter().filter(is_gpu).copied().collect();
        self.slots.extend(gpus.into_iter().enumerate().map(|(order, processor)| ProcessorSlot {
            processor: Some(processor),
            is_first: order == 0,
            socket,
        }));
    }

    fn describe(&self, slot: &ProcessorSlot, answers: &mut AmdAnswers) {
        let (api, Some(processor)) = (&self.api, slot.processor) else { return };
        answers.put(BDF, api.bdf(processor));
        answers.put(UUID, api.uuid(processor));
        answers.put(MEMORY_TOTAL, api.memory_total(processor));
        if slot.is_first {
            answers.put(ASIC_INFO, api.asic_info(processor));
            answers.put(VBIOS_INFO, api.vbios_info(processor));
            answers.put(DRIVER_INFO, api.driver_info(processor));
            answers.put(VIRTUALIZATION_MODE, api.virtualization_mode(processor));
            answers.put(BAD_PAGE_THRESHOLD, api.bad_page_threshold(processor));
            answers.put(PARTITION_PROFILE, api.partition_profile(processor));
        }
    }

    /// The paths between GPUs, each pair once, under the index of the other in the report.
    fn links(&self, report: &mut AmdReport) {
        let gpus: Vec<(usize, SmiProcessor)> = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.is_first)
            .filter_map(|(index, slot)| Some((index, slot.processor?)))
            .collect();
        for (order, (index, from)) in gpus.iter().enumerate() {
            for (other, to) in &gpus[order + 1..] {
                let answers = &mut report.devices[*index].answers;
                let other = [*other as u32];
                answers.put(LINK_TYPE.with(&other), self.api.link_type(*from, *to));
                answers.put(LINK_WEIGHT.with(&other), self.api.link_weight(*from, *to));
            }
        }
    }

    pub(super) fn sample(&self) -> AmdReport {
        let mut report = AmdReport::default();
        report.system.put(INIT, Ok(Value::Null));
        report.devices.extend(self.slots.iter().map(|slot| {
            let mut answers = AmdAnswers::default();
            if let Some(processor) = slot.processor {
                answers.put(BDF, self.api.bdf(processor));
                if slot.is_first {
                    row::query(SAMPLED, &mut answers, |query, _| query(&self.api, processor));
                }
            }
            device(slot, answers)
        }));
        report
    }
}

fn device(slot: &ProcessorSlot, answers: AmdAnswers) -> AmdDeviceAnswers {
    AmdDeviceAnswers { socket: Some(slot.socket), answers, ..AmdDeviceAnswers::default() }
}
