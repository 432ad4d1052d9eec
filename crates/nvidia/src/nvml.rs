//! NVML's word, asked in a process of its own (`afd probe nvidia`).
//!
//! In comes the path of the library, out go [`Report`]s: each call with its value or its error, nothing interpreted. The
//! library is initialised once and stays so; indices are resolved anew at every discovery, since GPUs fall off the bus
//! and MIG devices come and go. Calls and struct fields are nvml.h's.

pub mod answers;
mod ffi;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    sync::Arc,
    thread,
    time::Duration,
};

use afd_probe::answers::call_with;
use serde_json::{Value, json};

use self::{
    answers::{Answer, Answers, Code, DeviceReport, Report},
    ffi::{Api, EventSet, GpmSample, Gpu},
};

/// Calls as they are spelt in a report; those with an argument are made by `of`.
pub(crate) const INIT: &str = "nvmlInit_v2";
pub(crate) const HANDLE: &str = "nvmlDeviceGetHandleByIndex_v2";

pub(crate) const LICENCES: &str = "nvmlDeviceGetGridLicensableFeatures_v4";
/// Calls that list the processes of a GPU: those that compute, those that draw, and those of the Multi-Process Service.
pub(crate) const PROCESSES: [&str; 3] = [
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
];

/// Requests to the process that asks the library.
pub const DISCOVER: &str = "discover";
/// Moving values.
pub const SAMPLE: &str = "sample";
/// Moving values, and the processes that use the GPUs.
pub const SAMPLE_WITH_PROCESSES: &str = "sample with processes";

/// The virtualization mode of a vGPU within its virtual machine.
const VIRTUALIZATION_VGPU: u32 = 2;
/// Scope of an NVLink field that means the sum over all links.
const ALL_LINKS: u32 = u32::MAX;
/// Fields of every sample, by id and scope: temperature of the memory, recovery action, bytes over NVLink.
const FIELDS: [(u32, u32); 4] = [(82, 0), (230, 0), (138, ALL_LINKS), (139, ALL_LINKS)];
/// GPM metrics: graphics engine, SMs, tensor cores, memory bandwidth, PCIe to and from the device.
const GPM_METRICS: [u32; 6] = [1, 2, 5, 10, 20, 21];
/// Clocks: SM, memory, video.
const CLOCKS: [u32; 3] = [1, 2, 3];
/// Corrected and uncorrected errors since the driver was loaded ("volatile").
const ECC_COUNTERS: [(u32, u32); 2] = [(0, 0), (1, 0)];
/// Violations whose time is counted: power, thermal, and all of them.
const VIOLATIONS: [u32; 2] = [0, 1];
/// Most NVLinks of a GPU (NVML_NVLINK_MAX_LINKS).
const MOST_LINKS: u32 = 18;
/// Profiles of GPU instances that nvml.h numbers, and some more for newer drivers.
const MOST_PROFILES: u32 = 24;
/// Peer-to-peer capability "over NVLink".
const P2P_NVLINK: u32 = 2;
/// How long the library waits for an event before the watch looks whether GPUs came.
const EVENT_WAIT_MILLISECONDS: u32 = 5000;
/// After an error of the wait, so that it does not become a hot loop.
const EVENT_ERROR_REST: Duration = Duration::from_secs(5);

/// `call(argument)`.
pub(crate) fn of(call: &str, argument: u32) -> String {
    call_with(call, &[argument])
}

/// `call(first,second)`.
pub(crate) fn of_two(call: &str, first: u32, second: u32) -> String {
    call_with(call, &[first, second])
}

/// How a field of `nvmlDeviceGetFieldValues` is spelt.
pub(crate) fn field(id: u32, scope: u32) -> String {
    match scope {
        0 => of("nvmlDeviceGetFieldValues", id),
        scope => of_two("nvmlDeviceGetFieldValues", id, scope),
    }
}

/// The library, loaded and asked.
pub struct Nvml {
    api: Arc<Api>,
    initialised: bool,
    gpus: Vec<Seen>,
    gpm: BTreeMap<(u32, Option<u32>), GpmSample>,
    events: Option<Arc<EventSet>>,
    watched: BTreeSet<String>,
}

/// A GPU of the last discovery.
struct Seen {
    index: u32,
    gpu: Gpu,
    bus_id: Option<Value>,
    gpm: bool,
    vgpu: bool,
    /// MIG index and GPU instance.
    mig: Vec<(usize, u32)>,
}

impl Nvml {
    /// Loads the library; it is initialised at the first discovery.
    ///
    /// # Errors
    /// What the loader said.
    pub fn open(path: &OsStr) -> Result<Nvml, String> {
        Ok(Nvml {
            api: Arc::new(Api::open(path)?),
            initialised: false,
            gpus: Vec::new(),
            gpm: BTreeMap::new(),
            events: None,
            watched: BTreeSet::new(),
        })
    }

    /// Which GPUs there are and what does not change while they are there. Where the library cannot be initialised the
    /// report holds that alone; it is tried again the next time.
    pub fn discover(&mut self) -> Report {
        let mut report = Report::default();
        if !self.initialised {
            let init = self.api.init();
            self.initialised = init.is_ok();
            report.system.put(INIT, init.map(|()| Value::Null));
            if !self.initialised {
                return report;
            }
        }
        report.system.put(INIT, Ok(Value::Null));
        report.system.put("nvmlSystemGetDriverVersion", self.api.driver_version());
        report.system.put("nvmlSystemGetNVMLVersion", self.api.nvml_version());
        report.system.put("nvmlSystemGetCudaDriverVersion_v2", self.api.cuda_version());
        report.system.put("nvmlSystemGetConfComputeState", self.api.confidential_compute());
        let count = self.api.count();
        report.system.put("nvmlDeviceGetCount_v2", count.map(Value::from));
        let handles: Vec<Result<Gpu, Code>> =
            (0..count.unwrap_or(0)).map(|index| self.api.by_index(index)).collect();
        self.gpus.clear();
        for (index, handle) in (0..).zip(&handles) {
            let mut device = DeviceReport::default();
            match handle {
                Err(code) => device.answers.put(HANDLE, Err(*code)),
                Ok(gpu) => {
                    self.describe(*gpu, &mut device.answers);
                    self.links(index, &handles, &mut device.answers);
                    let mig = self.mig(*gpu, &mut device);
                    let seen = Seen {
                        index,
                        gpu: *gpu,
                        bus_id: value(&device.answers, "nvmlDeviceGetPciInfo_v3").cloned(),
                        gpm: value(&device.answers, "nvmlGpmQueryDeviceSupport")
                            .is_some_and(|support| support["isSupportedDevice"] == 1),
                        vgpu: value(&device.answers, "nvmlDeviceGetVirtualizationMode")
                            .is_some_and(|mode| *mode == VIRTUALIZATION_VGPU),
                        mig,
                    };
                    self.gpus.push(seen);
                }
            }
            report.devices.push(device);
        }
        report
    }

    fn describe(&self, gpu: Gpu, answers: &mut Answers) {
        let api = &self.api;
        answers.put("nvmlDeviceGetPciInfo_v3", api.pci_info(gpu));
        answers.put("nvmlDeviceGetName", api.name(gpu));
        answers.put("nvmlDeviceGetUUID", api.uuid(gpu));
        answers.put("nvmlDeviceGetSerial", api.serial(gpu));
        answers.put("nvmlDeviceGetBrand", api.brand(gpu));
        answers.put("nvmlDeviceGetArchitecture", api.architecture(gpu));
        answers.put("nvmlDeviceGetCudaComputeCapability", api.compute_capability(gpu));
        answers.put("nvmlDeviceGetMinorNumber", api.minor_number(gpu));
        answers.put("nvmlDeviceGetVbiosVersion", api.vbios_version(gpu));
        answers.put("nvmlDeviceGetBoardPartNumber", api.board_part_number(gpu));
        answers.put("nvmlDeviceGetInforomImageVersion", api.inforom_image_version(gpu));
        answers.put("nvmlDeviceGetGspFirmwareVersion", api.gsp_firmware_version(gpu));
        answers.put("nvmlDeviceGetModuleId", api.module_id(gpu));
        answers.put("nvmlDeviceGetMigMode", api.mig_mode(gpu));
        answers.put("nvmlDeviceGetAddressingMode", api.addressing_mode(gpu));
        answers.put("nvmlDeviceGetEccMode", api.ecc_mode(gpu));
        answers.put("nvmlDeviceGetPersistenceMode", api.persistence_mode(gpu));
        answers.put("nvmlDeviceGetComputeMode", api.compute_mode(gpu));
        answers.put("nvmlDeviceGetVirtualizationMode", api.virtualization_mode(gpu));
        answers.put("nvmlDeviceGetPowerManagementLimitConstraints", api.power_limits(gpu));
        answers.put("nvmlDeviceGetPowerManagementDefaultLimit", api.default_power_limit(gpu));
        answers.put("nvmlGpmQueryDeviceSupport", api.gpm_supported(gpu));
        for clock in CLOCKS {
            answers.put(of("nvmlDeviceGetMaxClockInfo", clock), api.max_clock(gpu, clock));
        }
        self.memory(gpu, answers);
        self.wellbeing(gpu, answers);
        let fabric = api.fabric_v(gpu);
        if fabric == Err(Code::FUNCTION_NOT_FOUND) {
            answers.put("nvmlDeviceGetGpuFabricInfo", api.fabric(gpu));
        }
        answers.put("nvmlDeviceGetGpuFabricInfoV", fabric);
    }

    fn memory(&self, gpu: Gpu, answers: &mut Answers) {
        let memory = self.api.memory_v2(gpu);
        if memory == Err(Code::FUNCTION_NOT_FOUND) {
            answers.put("nvmlDeviceGetMemoryInfo", self.api.memory_v1(gpu));
        }
        answers.put("nvmlDeviceGetMemoryInfo_v2", memory);
    }

    /// What health is read from.
    fn wellbeing(&self, gpu: Gpu, answers: &mut Answers) {
        let api = &self.api;
        answers.put("nvmlDeviceGetRemappedRows", api.remapped_rows(gpu));
        answers.put("nvmlDeviceGetRetiredPagesPendingStatus", api.retired_pages_pending(gpu));
        let reasons = api.clocks_event_reasons(gpu);
        if reasons == Err(Code::FUNCTION_NOT_FOUND) {
            answers.put("nvmlDeviceGetCurrentClocksThrottleReasons", api.clocks_throttle_reasons(gpu));
        }
        answers.put("nvmlDeviceGetCurrentClocksEventReasons", reasons);
        for ((id, scope), value) in FIELDS.into_iter().zip(api.field_values(gpu, &FIELDS)) {
            answers.put(field(id, scope), value);
        }
    }

    fn links(&self, index: u32, all: &[Result<Gpu, Code>], answers: &mut Answers) {
        let api = &self.api;
        let Ok(gpu) = all[index as usize] else { return };
        for link in 0..MOST_LINKS {
            let state = api.nvlink_state(gpu, link);
            let stop = state.is_err();
            let active = state == Ok(json!(1));
            answers.put(of("nvmlDeviceGetNvLinkState", link), state);
            if stop {
                // A GPU with fewer links refuses the numbers beyond its own.
                break;
            }
            if active {
                answers.put(of("nvmlDeviceGetNvLinkVersion", link), api.nvlink_version(gpu, link));
                answers
                    .put(of("nvmlDeviceGetNvLinkRemoteDeviceType", link), api.nvlink_remote_kind(gpu, link));
                answers
                    .put(of("nvmlDeviceGetNvLinkRemotePciInfo_v2", link), api.nvlink_remote_pci(gpu, link));
            }
        }
        for (other, handle) in (0..).zip(all) {
            // A GPU is no peer of itself.
            if let Ok(handle) = handle
                && other != index
            {
                let status = api.p2p_status(gpu, *handle, P2P_NVLINK);
                answers.put(of_two("nvmlDeviceGetP2PStatus", other, P2P_NVLINK), status);
            }
        }
    }

    /// The MIG devices of a GPU whose MIG mode is on, by index.
    fn mig(&self, gpu: Gpu, device: &mut DeviceReport) -> Vec<(usize, u32)> {
        let api = &self.api;
        if value(&device.answers, "nvmlDeviceGetMigMode").is_none_or(|mode| mode["currentMode"] != 1) {
            return Vec::new();
        }
        let most = api.max_mig_device_count(gpu);
        let count = most.as_ref().ok().and_then(Value::as_u64).unwrap_or(0);
        device.answers.put("nvmlDeviceGetMaxMigDeviceCount", most);
        for profile in 0..MOST_PROFILES {
            // A number that the driver does not know, or the part does not have, is no profile.
            if let Ok(told) = api.gpu_instance_profile(gpu, profile) {
                device.answers.put(of("nvmlDeviceGetGpuInstanceProfileInfoV", profile), Ok(told));
            }
        }
        let mut instances = Vec::new();
        for index in 0..count as u32 {
            let Ok(mig) = api.mig_by_index(gpu, index) else {
                device.mig.push(None);
                continue;
            };
            let mut answers = Answers::default();
            answers.put("nvmlDeviceGetName", api.name(mig));
            answers.put("nvmlDeviceGetUUID", api.uuid(mig));
            answers.put("nvmlDeviceGetComputeInstanceId", api.compute_instance_id(mig));
            answers.put("nvmlDeviceGetAttributes_v2", api.attributes(mig));
            self.memory(mig, &mut answers);
            let instance = api.gpu_instance_id(mig);
            if let Some(id) = instance.as_ref().ok().and_then(Value::as_u64) {
                answers.put("nvmlGpuInstanceGetInfo", api.gpu_instance_info(gpu, id as u32));
                instances.push((device.mig.len(), id as u32));
            }
            answers.put("nvmlDeviceGetGpuInstanceId", instance);
            device.mig.push(Some(answers));
        }
        instances
    }

    /// The moving values of the GPUs that were last discovered, in the same order; if asked for, with the processes that use
    /// them.
    pub fn sample(&mut self, with_processes: bool) -> Report {
        let mut report = Report::default();
        let gpus = std::mem::take(&mut self.gpus);
        for seen in &gpus {
            let mut device = DeviceReport::default();
            let (gpu, answers) = (seen.gpu, &mut device.answers);
            let api = &self.api;
            if let Some(bus_id) = &seen.bus_id {
                answers.put("nvmlDeviceGetPciInfo_v3", Ok(bus_id.clone()));
            }
            answers.put("nvmlDeviceGetUtilizationRates", api.utilization(gpu));
            answers.put("nvmlDeviceGetEncoderUtilization", api.encoder_utilization(gpu));
            answers.put("nvmlDeviceGetDecoderUtilization", api.decoder_utilization(gpu));
            answers.put("nvmlDeviceGetJpgUtilization", api.jpeg_utilization(gpu));
            answers.put("nvmlDeviceGetOfaUtilization", api.ofa_utilization(gpu));
            answers.put("nvmlDeviceGetPowerUsage", api.power_usage(gpu));
            answers.put("nvmlDeviceGetEnforcedPowerLimit", api.enforced_power_limit(gpu));
            answers.put("nvmlDeviceGetTotalEnergyConsumption", api.total_energy(gpu));
            answers.put(of("nvmlDeviceGetTemperature", 0), api.temperature(gpu, 0));
            answers.put("nvmlDeviceGetPcieReplayCounter", api.pcie_replay_counter(gpu));
            for clock in CLOCKS {
                answers.put(of("nvmlDeviceGetClockInfo", clock), api.clock(gpu, clock));
            }
            for (kind, counter) in ECC_COUNTERS {
                answers.put(
                    of_two("nvmlDeviceGetTotalEccErrors", kind, counter),
                    api.total_ecc_errors(gpu, kind, counter),
                );
            }
            for policy in VIOLATIONS {
                answers.put(of("nvmlDeviceGetViolationStatus", policy), api.violation(gpu, policy));
            }
            self.memory(gpu, answers);
            self.wellbeing(gpu, answers);
            if seen.vgpu {
                answers.put(LICENCES, self.api.licensable_features(gpu));
            }
            if with_processes {
                let [compute, graphics, mps] = PROCESSES;
                answers.put(compute, self.api.compute_processes(gpu));
                answers.put(graphics, self.api.graphics_processes(gpu));
                answers.put(mps, self.api.mps_processes(gpu));
            }
            if seen.gpm {
                self.gpm(seen, None, answers);
            }
            for (index, instance) in &seen.mig {
                let mut answers = Answers::default();
                if let Ok(mig) = self.api.mig_by_index(gpu, *index as u32) {
                    answers.put("nvmlDeviceGetGpuInstanceId", self.api.gpu_instance_id(mig));
                    answers.put("nvmlDeviceGetComputeInstanceId", self.api.compute_instance_id(mig));
                    self.memory(mig, &mut answers);
                }
                if seen.gpm {
                    self.gpm(seen, Some(*instance), &mut answers);
                }
                device.mig.resize(*index, None);
                device.mig.push(Some(answers));
            }
            report.devices.push(device);
        }
        self.gpus = gpus;
        report
    }

    /// What GPM counted since the last sample; nothing the first time.
    fn gpm(&mut self, seen: &Seen, instance: Option<u32>, answers: &mut Answers) {
        let Ok(now) = self.api.gpm_sample(seen.gpu, instance) else { return };
        let key = (seen.index, instance);
        if let Some(before) = self.gpm.remove(&key) {
            let metrics = self.api.gpm_metrics(&before, &now, &GPM_METRICS);
            for (id, metric) in GPM_METRICS.into_iter().zip(metrics) {
                answers.put(of("nvmlGpmMetricsGet", id), metric);
            }
            self.api.free_sample(before);
        }
        self.gpm.insert(key, now);
    }

    /// Has the library tell of events of all GPUs that were discovered, from a thread of its own. May be called again when
    /// GPUs have come.
    pub fn watch(&mut self, tell: impl Fn(Value) + Send + 'static) {
        if !self.initialised {
            return;
        }
        let begun = self.events.is_some();
        let set = match &self.events {
            Some(set) => Arc::clone(set),
            None => match self.api.event_set() {
                Ok(set) => Arc::clone(self.events.insert(Arc::new(set))),
                // Without events, discovery still reads the recovery action.
                Err(_) => return,
            },
        };
        for seen in &self.gpus {
            let name = seen.bus_id.as_ref().map(Value::to_string).unwrap_or_default();
            if self.watched.contains(&name) {
                continue;
            }
            let kinds = self.api.supported_event_types(seen.gpu).ok().and_then(|kinds| kinds.as_u64());
            if kinds.is_some_and(|kinds| self.api.register(seen.gpu, kinds, &set).is_ok()) {
                self.watched.insert(name);
            }
        }
        if !begun && !self.watched.is_empty() {
            let api = Arc::clone(&self.api);
            thread::spawn(move || forward_events(&api, &set, &tell));
        } else if self.watched.is_empty() {
            self.events = None;
        }
    }
}

fn forward_events(api: &Api, set: &EventSet, tell: &dyn Fn(Value)) {
    loop {
        match api.wait(set, EVENT_WAIT_MILLISECONDS) {
            Ok(event) => tell(json!({
                "busId": api.pci_info(event.gpu).ok().map(|pci| pci["busId"].clone()),
                "eventType": event.kind,
                "eventData": event.value,
                "gpuInstanceId": event.gpu_instance,
                "computeInstanceId": event.compute_instance,
            })),
            Err(Code(10)) => {}
            Err(code) => {
                tell(json!({ "error": code }));
                thread::sleep(EVENT_ERROR_REST);
            }
        }
    }
}

fn value<'a>(answers: &'a Answers, call: &str) -> Option<&'a Value> {
    match answers.get(call) {
        Some(Answer::Value(value)) => Some(value),
        _ => None,
    }
}
