//! The process that queries NVML (`afd probe nvidia`).
//!
//! In comes the path of the library, out go [`NvmlReport`]s: each call with its value or its error, nothing interpreted. The
//! library is initialised once and stays so; indices are resolved again at every discovery, since GPUs fall off the bus and
//! MIG devices come and go. What is asked is in `table`.

mod events;
mod ffi;
mod gpm;
pub mod report;
pub(crate) mod table;

use std::{ffi::OsStr, sync::Arc};

use afd_probe::answers::{Answer, LibraryCall};
pub use afd_probe::library::{DISCOVER, SAMPLE};
use serde_json::{Value, json};

use self::{
    events::NvmlEventWatch,
    ffi::{NvmlApi, NvmlHandle},
    gpm::GpmSamples,
    report::{FUNCTION_NOT_FOUND, NvmlAnswers, NvmlCode, NvmlDeviceReport, NvmlReport},
    table::{GPU_ROWS, HEALTH_ROWS, MEMORY_ROWS, NvmlRow, call},
};

/// The request for a sample that includes the processes of the GPUs.
pub const SAMPLE_WITH_PROCESSES: &str = "sample with processes";

/// The library, loaded.
pub struct Nvml {
    api: Arc<NvmlApi>,
    is_initialised: bool,
    gpus: Vec<DiscoveredGpu>,
    gpm: GpmSamples,
    events: NvmlEventWatch,
}

/// A GPU of the last discovery.
struct DiscoveredGpu {
    index: u32,
    handle: NvmlHandle,
    pci: Option<Value>,
    has_gpm: bool,
    is_vgpu: bool,
    /// Index of each MIG device, and its GPU instance.
    mig: Vec<(u32, u32)>,
}

impl Nvml {
    /// Loads the library; it is initialised at the first discovery.
    ///
    /// # Errors
    /// The message of the loader.
    pub fn open(path: &OsStr) -> Result<Nvml, String> {
        Ok(Nvml {
            api: Arc::new(NvmlApi::open(path)?),
            is_initialised: false,
            gpus: Vec::new(),
            gpm: GpmSamples::default(),
            events: NvmlEventWatch::default(),
        })
    }

    /// The GPUs, and what does not change while they are there. Where the library cannot be initialised the report holds that
    /// alone; the next discovery tries again.
    pub fn discover(&mut self) -> NvmlReport {
        let mut report = NvmlReport::default();
        self.gpus.clear();
        let init = if self.is_initialised { Ok(()) } else { self.api.init() };
        self.is_initialised = init.is_ok();
        report.system.put(call::INIT, init.map(|()| Value::Null));
        if !self.is_initialised {
            return report;
        }
        for call in call::SYSTEM_CALLS {
            report.system.put(*call, self.api.ask_system(*call));
        }
        let count = report.system.known::<u32>(call::DEVICE_COUNT).into_value().unwrap_or(0);
        let handles: Vec<Result<NvmlHandle, NvmlCode>> =
            (0..count).map(|index| self.api.by_index(index)).collect();
        for (index, handle) in (0..).zip(&handles) {
            let mut device = NvmlDeviceReport::default();
            match handle {
                Err(code) => device.answers.put(call::HANDLE_BY_INDEX, Err(*code)),
                Ok(handle) => {
                    let health = HEALTH_ROWS.iter().map(|row| row.call);
                    ask(
                        &self.api,
                        *handle,
                        call::GPU_CALLS.iter().copied().chain(health),
                        &mut device.answers,
                    );
                    self.ask_links(*handle, &mut device.answers);
                    self.ask_peers(index, *handle, &handles, &mut device.answers);
                    let mig = self.discover_mig(*handle, &mut device);
                    self.gpus.push(DiscoveredGpu::new(index, *handle, &device.answers, mig));
                }
            }
            report.devices.push(device);
        }
        report
    }

    /// What changes of the GPUs of the last discovery, in the same order.
    pub fn sample(&mut self, with_processes: bool) -> NvmlReport {
        let devices = self.gpus.iter().map(|gpu| {
            let mut device = NvmlDeviceReport::default();
            let answers = &mut device.answers;
            if let Some(pci) = &gpu.pci {
                answers.put(call::PCI_INFO, Ok(pci.clone()));
            }
            let health = HEALTH_ROWS.iter().filter(|row| row.is_sampled).map(|row| row.call);
            let licences = gpu.is_vgpu.then_some(call::LICENCES);
            let processes = if with_processes { call::PROCESS_CALLS } else { &[] };
            let sampled = calls(GPU_ROWS).chain(calls(MEMORY_ROWS)).chain(health);
            let sampled = sampled.chain(licences).chain(processes.iter().copied());
            ask(&self.api, gpu.handle, sampled, answers);
            if gpu.has_gpm {
                self.gpm.sample(&self.api, (gpu.index, gpu.handle), None, answers);
            }
            for (index, gpu_instance) in &gpu.mig {
                let mut answers = NvmlAnswers::default();
                if let Ok(mig) = self.api.mig_by_index(gpu.handle, *index) {
                    let identity = call::MIG_IDENTITY_CALLS.iter().copied();
                    ask(&self.api, mig, identity.chain(calls(MEMORY_ROWS)), &mut answers);
                }
                if gpu.has_gpm {
                    self.gpm.sample(&self.api, (gpu.index, gpu.handle), Some(*gpu_instance), &mut answers);
                }
                device.partitions.resize(*index as usize, None);
                device.partitions.push(Some(answers));
            }
            device
        });
        NvmlReport { devices: devices.collect(), ..NvmlReport::default() }
    }

    /// Forwards the events of all GPUs of the last discovery, from a thread of its own. May be called again after each discovery.
    pub fn watch(&mut self, forward: impl Fn(Value) + Send + 'static) {
        if self.is_initialised {
            let gpus = self.gpus.iter().map(|gpu| (gpu.pci.as_ref().map(Value::to_string), gpu.handle));
            self.events.add(&self.api, gpus, forward);
        }
    }

    fn ask_links(&self, handle: NvmlHandle, answers: &mut NvmlAnswers) {
        for link in 0..table::MAX_LINKS {
            let mut ask = |call: LibraryCall| {
                let reply = self.api.ask(handle, call, &[link]);
                answers.put(call.with(&[link]), reply.clone());
                reply
            };
            match ask(call::NVLINK_STATE) {
                // A GPU refuses the numbers beyond those of its links.
                Err(_) => break,
                Ok(state) if state == json!(1) => {
                    for call in [call::NVLINK_VERSION, call::NVLINK_REMOTE_TYPE, call::NVLINK_REMOTE_PCI] {
                        let _ = ask(call);
                    }
                }
                Ok(_) => {}
            }
        }
    }

    fn ask_peers(
        &self,
        index: u32,
        handle: NvmlHandle,
        all: &[Result<NvmlHandle, NvmlCode>],
        answers: &mut NvmlAnswers,
    ) {
        for (other, other_handle) in (0..).zip(all) {
            // A GPU is no peer of itself.
            if let Ok(other_handle) = other_handle
                && other != index
            {
                let status = self.api.p2p_status(handle, *other_handle, table::P2P_NVLINK);
                answers.put(call::P2P_STATUS.with(&[other, table::P2P_NVLINK]), status);
            }
        }
    }

    /// The MIG devices of a GPU whose MIG mode is enabled: index and GPU instance.
    fn discover_mig(&self, gpu: NvmlHandle, device: &mut NvmlDeviceReport) -> Vec<(u32, u32)> {
        let answers = &mut device.answers;
        if value(answers, call::MIG_MODE).is_none_or(|mode| mode["currentMode"] != 1) {
            return Vec::new();
        }
        ask(&self.api, gpu, [call::MAX_MIG_DEVICES].into_iter(), answers);
        for profile in 0..table::MAX_PROFILES {
            // The driver refuses numbers of profiles that it does not know or the GPU does not have.
            if let Ok(reply) = self.api.ask(gpu, call::GPU_INSTANCE_PROFILE, &[profile]) {
                answers.put(call::GPU_INSTANCE_PROFILE.with(&[profile]), Ok(reply));
            }
        }
        let count = answers.known::<u32>(call::MAX_MIG_DEVICES).into_value().unwrap_or(0);
        let mut instances = Vec::new();
        for index in 0..count {
            let Ok(mig) = self.api.mig_by_index(gpu, index) else {
                device.partitions.push(None);
                continue;
            };
            let mut answers = NvmlAnswers::default();
            ask(&self.api, mig, call::MIG_CALLS.iter().copied(), &mut answers);
            if let Some(id) = answers.known::<u32>(call::GPU_INSTANCE_ID).into_value() {
                answers.put(call::GPU_INSTANCE_INFO, self.api.gpu_instance_info(gpu, id));
                instances.push((index, id));
            }
            device.partitions.push(Some(answers));
        }
        instances
    }
}

impl DiscoveredGpu {
    fn new(index: u32, handle: NvmlHandle, answers: &NvmlAnswers, mig: Vec<(u32, u32)>) -> DiscoveredGpu {
        DiscoveredGpu {
            index,
            handle,
            pci: value(answers, call::PCI_INFO).cloned(),
            has_gpm: value(answers, call::GPM_SUPPORT)
                .is_some_and(|support| support["isSupportedDevice"] == 1),
            is_vgpu: value(answers, call::VIRTUALIZATION_MODE)
                .is_some_and(|mode| *mode == table::VIRTUALIZATION_VGPU),
            mig,
        }
    }
}

/// Makes calls on a GPU or MIG device, each once, and the older one where the library lacks the symbol.
fn ask(
    api: &NvmlApi,
    handle: NvmlHandle,
    calls: impl Iterator<Item = LibraryCall>,
    answers: &mut NvmlAnswers,
) {
    for call in calls {
        if answers.get(call).is_some() || call::is_older(call) {
            continue;
        }
        let reply = api.ask(handle, call, call.arguments);
        if reply == Err(FUNCTION_NOT_FOUND)
            && let Some(older) = call::older(call)
        {
            answers.put(older, api.ask(handle, older, older.arguments));
        }
        answers.put(call, reply);
    }
}

fn calls(rows: &[NvmlRow]) -> impl Iterator<Item = LibraryCall> {
    rows.iter().map(|row| row.call)
}

fn value(answers: &NvmlAnswers, call: LibraryCall) -> Option<&Value> {
    match answers.get(call) {
        Some(Answer::Value(value)) => Some(value),
        _ => None,
    }
}
