//! The process that queries NVML (`afd probe nvidia`).
//!
//! In comes the path of the library, out go [`NvmlReport`]s: each call with its value or its error, nothing interpreted. The
//! library is initialised once and stays so; indices are resolved again at every discovery, since GPUs fall off the bus and
//! MIG devices come and go. What is asked is in `table`.

mod events;
mod extras;
mod ffi;
mod gpm;
pub mod report;
pub(crate) mod table;

use std::{collections::BTreeMap, ffi::OsStr, sync::Arc};

use afd_model::PciAddress;
use afd_probe::answers::{Answer, LibraryCall};
pub use afd_probe::library::DISCOVER;
use serde_json::{Value, json};

pub use self::extras::SampledExtras;
use self::{
    events::NvmlEventWatch,
    ffi::{NvmlApi, NvmlHandle},
    gpm::GpmSamples,
    report::{
        FUNCTION_NOT_FOUND, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, NvmlAnswers, NvmlCode,
        NvmlDeviceReport, NvmlReport, address,
    },
    table::{GPU_ROWS, HEALTH_ROWS, LINK_ROWS, MEMORY_ROWS, NvmlRow, call},
};

/// The library, loaded.
pub struct Nvml {
    api: Arc<NvmlApi>,
    is_initialised: bool,
    gpus: Vec<DiscoveredGpu>,
    /// PCI information of the GPUs by handle: a GPU that is lost may refuse to say which one it is.
    pci: BTreeMap<usize, Value>,
    /// The handle that each index last had.
    handles: BTreeMap<u32, usize>,
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
    /// The numbers of its NVLinks.
    links: Vec<u32>,
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
            pci: BTreeMap::new(),
            handles: BTreeMap::new(),
            gpm: GpmSamples::default(),
            events: NvmlEventWatch::default(),
        })
    }

    /// The GPUs, and what does not change while they are there. Where the library cannot be initialised, or cannot count its
    /// GPUs, the report holds that alone; the next discovery tries again.
    pub fn discover(&mut self) -> NvmlReport {
        let mut report = NvmlReport::default();
        let init = if self.is_initialised { Ok(()) } else { self.api.init() };
        self.is_initialised = init.is_ok();
        report.system.put(call::INIT, init.map(|()| Value::Null));
        if !self.is_initialised {
            self.gpus.clear();
            return report;
        }
        for call in call::SYSTEM_CALLS {
            report.system.put(*call, self.api.ask_system(*call));
        }
        let Some(count) = report.system.known::<u32>(call::DEVICE_COUNT).into_value() else { return report };
        self.gpus.clear();
        let handles: Vec<Result<NvmlHandle, NvmlCode>> =
            (0..count).map(|index| self.api.by_index(index)).collect();
        for (index, handle) in (0..).zip(&handles) {
            let mut device = NvmlDeviceReport::default();
            match handle {
                Err(code) => device.answers.put(call::HANDLE_BY_INDEX, Err(*code)),
                Ok(handle) => {
                    let health = HEALTH_ROWS.iter().map(|row| row.call);
                    let calls = call::GPU_CALLS.iter().copied().chain(health);
                    ask(&self.api, *handle, calls, &mut device.answers);
                    self.identify(*handle, &mut device.answers);
                    self.ask_links(*handle, &mut device.answers);
                    self.ask_peers(index, *handle, &handles, &mut device.answers);
                    let mig = self.discover_mig(*handle, &mut device);
                    self.gpus.push(DiscoveredGpu::new(index, *handle, &device.answers, mig));
                }
            }
            report.devices.push(device);
        }
        self.identify_refused(&mut report);
        self.handles.extend(self.gpus.iter().map(|gpu| (gpu.index, gpu.handle.key())));
        self.gpm.forget_others(&self.api, &self.gpus);
        report
    }

    /// Remembers which GPU a handle is; one that does not say so now is the one that it was.
    fn identify(&mut self, handle: NvmlHandle, answers: &mut NvmlAnswers) {
        match (value(answers, call::PCI_INFO), self.pci.get(&handle.key())) {
            (Some(pci), _) => {
                self.pci.insert(handle.key(), pci);
            }
            (None, Some(pci)) => answers.put(call::PCI_INFO, Ok(pci.clone())),
            (None, None) => {}
        }
    }

    /// An index without a handle is the GPU that it was, unless that has another index now.
    fn identify_refused(&self, report: &mut NvmlReport) {
        let listed: Vec<PciAddress> =
            report.devices.iter().filter_map(|device| address(&device.answers)).collect();
        for (index, device) in (0..).zip(&mut report.devices) {
            let refused = device.answers.error(call::HANDLE_BY_INDEX).is_some();
            if let Some(pci) = self.handles.get(&index).and_then(|handle| self.pci.get(handle))
                && refused
            {
                let mut earlier = NvmlAnswers::default();
                earlier.put(call::PCI_INFO, Ok(pci.clone()));
                if address(&earlier).is_some_and(|address| !listed.contains(&address)) {
                    device.answers.extend(earlier);
                }
            }
        }
    }

    /// What changes of the GPUs of the last discovery, in the same order.
    pub fn sample(&mut self, extras: SampledExtras) -> NvmlReport {
        let devices = self.gpus.iter().map(|gpu| {
            let mut device = NvmlDeviceReport::default();
            let answers = &mut device.answers;
            if let Some(pci) = &gpu.pci {
                answers.put(call::PCI_INFO, Ok(pci.clone()));
            }
            let health = HEALTH_ROWS.iter().filter(|row| row.is_sampled).map(|row| row.call);
            let licences = gpu.is_vgpu.then_some(call::LICENCES);
            let processes = if extras.processes { call::PROCESS_CALLS } else { &[] };
            let sampled = calls(GPU_ROWS).chain(calls(MEMORY_ROWS)).chain(health);
            let sampled = sampled.chain(licences).chain(processes.iter().copied());
            ask(&self.api, gpu.handle, sampled, answers);
            for link in gpu.links.iter().filter(|_| extras.links) {
                for row in LINK_ROWS {
                    answers.put(row.name(*link), self.api.ask(gpu.handle, row.call, &row.arguments(*link)));
                }
            }
            if gpu.has_gpm {
                answers.extend(self.gpm.sample(&self.api, gpu.handle, None));
            }
            // Once for each GPU instance, which its compute instances share.
            let mut measured: BTreeMap<u32, NvmlAnswers> = BTreeMap::new();
            for (index, gpu_instance) in &gpu.mig {
                let mut answers = NvmlAnswers::default();
                if let Ok(mig) = self.api.mig_by_index(gpu.handle, *index) {
                    let identity = call::MIG_IDENTITY_CALLS.iter().copied();
                    ask(&self.api, mig, identity.chain(calls(MEMORY_ROWS)), &mut answers);
                }
                if gpu.has_gpm {
                    let measure = || self.gpm.sample(&self.api, gpu.handle, Some(*gpu_instance));
                    answers.extend(measured.entry(*gpu_instance).or_insert_with(measure).clone());
                }
                device.partitions.resize(*index as usize, None);
                device.partitions.push(Some(answers));
            }
            device
        });
        NvmlReport { devices: devices.collect(), ..NvmlReport::default() }
    }

    /// Forwards the events of all GPUs of the last discovery, from a thread of its own, and adds to its report which events each
    /// GPU reports. May be called again after each discovery.
    pub fn watch(&mut self, report: &mut NvmlReport, forward: impl Fn(Value) + Send + 'static) {
        if report.devices.is_empty() {
            return;
        }
        for gpu in &self.gpus {
            let bus_id = gpu.pci.as_ref().map(|pci| pci["busId"].clone()).unwrap_or_default();
            let watched = self.events.add(&self.api, gpu.handle, bus_id);
            if let Some(device) = report.devices.get_mut(gpu.index as usize) {
                device.answers.put(call::REGISTER_EVENTS, watched);
            }
        }
        self.events.forward(&self.api, forward);
    }

    fn ask_links(&self, handle: NvmlHandle, answers: &mut NvmlAnswers) {
        for link in 0..table::MAX_LINKS {
            let mut ask = |call: LibraryCall| {
                let reply = self.api.ask(handle, call, &[link]);
                answers.put(call.with(&[link]), reply.clone());
                reply
            };
            let may_be_up = match ask(call::NVLINK_STATE) {
                Err(code) if is_no_link(code) => break,
                Err(_) => true,
                Ok(state) => state == json!(1),
            };
            if may_be_up {
                for call in [call::NVLINK_VERSION, call::NVLINK_REMOTE_TYPE, call::NVLINK_REMOTE_PCI] {
                    let _ = ask(call);
                }
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
            let mut answers = NvmlAnswers::default();
            let mig = match self.api.mig_by_index(gpu, index) {
                Ok(mig) => mig,
                Err(NOT_FOUND | NOT_SUPPORTED | INVALID_ARGUMENT) => {
                    device.partitions.push(None);
                    continue;
                }
                // There may be one.
                Err(code) => {
                    answers.put(call::MIG_BY_INDEX, Err(code));
                    device.partitions.push(Some(answers));
                    continue;
                }
            };
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
            pci: value(answers, call::PCI_INFO),
            has_gpm: value(answers, call::GPM_SUPPORT)
                .is_some_and(|support| support["isSupportedDevice"] == 1),
            is_vgpu: value(answers, call::VIRTUALIZATION_MODE)
                .is_some_and(|mode| mode == table::VIRTUALIZATION_VGPU),
            links: (0..table::MAX_LINKS).filter(|link| may_be_link(answers, *link)).collect(),
            mig,
        }
    }
}

/// Whether the error of a state means that there is no link of the number: a GPU refuses those beyond the numbers of its links.
fn is_no_link(code: NvmlCode) -> bool {
    code == INVALID_ARGUMENT || !code.missing().is_undecided()
}

/// Whether a GPU has a link of this number, as far as its discovery knows.
fn may_be_link(answers: &NvmlAnswers, link: u32) -> bool {
    match answers.get(call::NVLINK_STATE.with(&[link])) {
        Some(Answer::Value(_)) => true,
        Some(Answer::Error(code)) => !is_no_link(*code),
        None => false,
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

fn value(answers: &NvmlAnswers, call: LibraryCall) -> Option<Value> {
    answers.known(call).into_value()
}
