//! The raw calls of NVML: each gives a JSON value in the units and enums of nvml.h, or the return code.
//!
//! Types and symbols are those of the crate `nvml-wrapper-sys`. A symbol that the library lacks answers
//! FUNCTION_NOT_FOUND. Values of enums are never turned into Rust enums: a newer driver's are data.
#![allow(unsafe_code, reason = "the library is C; every block below says why it is sound")]

use std::{ffi::OsStr, mem::size_of};

use nvml_wrapper_sys::bindings::{
    NvmlLib, nvmlConfComputeSystemState_t, nvmlDevice_t, nvmlDeviceAddressingMode_t, nvmlDeviceAttributes_t,
    nvmlEventData_t, nvmlEventSet_t, nvmlFieldValue_t, nvmlGpmMetricsGet_t, nvmlGpmSample_t,
    nvmlGpmSupport_t, nvmlGpuFabricInfo_t, nvmlGpuFabricInfoV_t, nvmlGpuInstanceInfo_t,
    nvmlGpuInstanceProfileInfo_v2_t, nvmlGridLicensableFeatures_t, nvmlMemory_t, nvmlMemory_v2_t,
    nvmlPciInfo_t, nvmlProcessInfo_v2_t, nvmlUtilization_t, nvmlViolationTime_t,
};
use serde_json::{Value, json};

use super::answers::Code;

pub(super) type Reply = Result<Value, Code>;

/// Room for the processes of a GPU at first, and at last.
const PROCESSES: usize = 64;
const MOST_PROCESSES: usize = 16384;

/// The loaded library.
pub(super) struct Api(NvmlLib);

/// A GPU or MIG device of the library.
#[derive(Clone, Copy)]
pub(super) struct Gpu(nvmlDevice_t);

/// A set of events.
pub(super) struct EventSet(nvmlEventSet_t);

// SAFETY: NVML is thread-safe by its manual, and handles are names, not pointers into our memory.
unsafe impl Send for EventSet {}
// SAFETY: as above; the set is only passed to NVML.
unsafe impl Sync for EventSet {}

/// A GPM sample, freed by [`Api::free_sample`].
pub(super) struct GpmSample(nvmlGpmSample_t);

/// An event as the library gave it; nothing is dropped of it.
pub(super) struct RawEvent {
    pub(super) gpu: Gpu,
    pub(super) kind: u64,
    pub(super) value: u64,
    pub(super) gpu_instance: u32,
    pub(super) compute_instance: u32,
}

/// The version word of a struct: its size and its number.
const fn version<T>(number: u32) -> u32 {
    size_of::<T>() as u32 | (number << 24)
}

/// Calls a symbol, if the library has it.
macro_rules! call {
    ($api:expr, $symbol:ident($($argument:expr),*)) => {
        match &$api.0.$symbol {
            Err(_) => Err(Code::FUNCTION_NOT_FOUND),
            Ok(function) => {
                // SAFETY: the signature is nvml.h's; handles come from this library; every pointer is to a local that
                // outlives the call, of the size that is passed or that the struct's version states.
                let code = unsafe { function($($argument),*) };
                if code == 0 { Ok(()) } else { Err(Code(code)) }
            }
        }
    };
}

/// A call whose last argument is a pointer to what it fills.
macro_rules! fill {
    ($api:expr, $symbol:ident($($argument:expr),*), $kind:ty) => {
        fill!($api, $symbol($($argument),*), $kind, |_| ())
    };
    ($api:expr, $symbol:ident($($argument:expr),*), $kind:ty, $begin:expr) => {{
        // SAFETY: all of these are C structs or numbers, for which zeros are a value.
        let mut filled: $kind = unsafe { std::mem::zeroed() };
        let begin: fn(&mut $kind) = $begin;
        begin(&mut filled);
        call!($api, $symbol($($argument,)* &mut filled)).map(|()| filled)
    }};
}

macro_rules! text {
    ($api:expr, $symbol:ident($($argument:expr),*)) => {{
        let mut buffer = [0; 128];
        call!($api, $symbol($($argument,)* buffer.as_mut_ptr(), buffer.len() as u32)).map(|()| json!(text(&buffer)))
    }};
}

/// A call that lists processes. It says how many there are where there is too little room, and more may come meanwhile.
macro_rules! processes {
    ($api:expr, $symbol:ident($gpu:expr)) => {{
        let mut room = PROCESSES;
        loop {
            let mut count = room as u32;
            let none =
                nvmlProcessInfo_v2_t { pid: 0, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 };
            let mut list = vec![none; room];
            match call!($api, $symbol($gpu, &mut count, list.as_mut_ptr())) {
                Err(Code::INSUFFICIENT_SIZE) if room < MOST_PROCESSES => {
                    room = (count as usize).max(room * 2).min(MOST_PROCESSES);
                }
                told => break told.map(|()| list.iter().take(count as usize).map(process).collect()),
            }
        }
    }};
}

/// The text of a C buffer.
fn text(buffer: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Getters of one number or text, with the arguments that choose.
macro_rules! getters {
    ($($name:ident = $symbol:ident($($argument:ident),*): $kind:tt;)*) => {
        $(pub(super) fn $name(&self, gpu: Gpu $(, $argument: u32)*) -> Reply {
            getters!(@get self, $symbol(gpu.0 $(, $argument)*), $kind)
        })*
    };
    (@get $api:expr, $symbol:ident($($argument:expr),*), text) => { text!($api, $symbol($($argument),*)) };
    (@get $api:expr, $symbol:ident($($argument:expr),*), $kind:ty) => {
        fill!($api, $symbol($($argument),*), $kind).map(|value| json!(value))
    };
}

impl Api {
    /// Opens the library. Its initialisers run, as they do for every program that uses it.
    pub(super) fn open(path: &OsStr) -> Result<Api, String> {
        // SAFETY: loading a library runs its code; this process exists to run it.
        unsafe { NvmlLib::new(path) }.map(Api).map_err(|error| error.to_string())
    }

    pub(super) fn init(&self) -> Result<(), Code> {
        call!(self, nvmlInit_v2())
    }

    pub(super) fn driver_version(&self) -> Reply {
        text!(self, nvmlSystemGetDriverVersion())
    }

    pub(super) fn nvml_version(&self) -> Reply {
        text!(self, nvmlSystemGetNVMLVersion())
    }

    pub(super) fn cuda_version(&self) -> Reply {
        fill!(self, nvmlSystemGetCudaDriverVersion_v2(), i32).map(|version| json!(version))
    }

    pub(super) fn confidential_compute(&self) -> Reply {
        fill!(self, nvmlSystemGetConfComputeState(), nvmlConfComputeSystemState_t).map(|state| {
            json!({
                "environment": state.environment,
                "ccFeature": state.ccFeature,
                "devToolsMode": state.devToolsMode,
            })
        })
    }

    pub(super) fn count(&self) -> Result<u32, Code> {
        fill!(self, nvmlDeviceGetCount_v2(), u32)
    }

    pub(super) fn by_index(&self, index: u32) -> Result<Gpu, Code> {
        fill!(self, nvmlDeviceGetHandleByIndex_v2(index), nvmlDevice_t).map(Gpu)
    }

    pub(super) fn mig_by_index(&self, parent: Gpu, index: u32) -> Result<Gpu, Code> {
        fill!(self, nvmlDeviceGetMigDeviceHandleByIndex(parent.0, index), nvmlDevice_t).map(Gpu)
    }

    getters! {
        name = nvmlDeviceGetName(): text;
        uuid = nvmlDeviceGetUUID(): text;
        serial = nvmlDeviceGetSerial(): text;
        vbios_version = nvmlDeviceGetVbiosVersion(): text;
        board_part_number = nvmlDeviceGetBoardPartNumber(): text;
        inforom_image_version = nvmlDeviceGetInforomImageVersion(): text;
        brand = nvmlDeviceGetBrand(): u32;
        architecture = nvmlDeviceGetArchitecture(): u32;
        minor_number = nvmlDeviceGetMinorNumber(): u32;
        module_id = nvmlDeviceGetModuleId(): u32;
        max_mig_device_count = nvmlDeviceGetMaxMigDeviceCount(): u32;
        persistence_mode = nvmlDeviceGetPersistenceMode(): u32;
        compute_mode = nvmlDeviceGetComputeMode(): u32;
        virtualization_mode = nvmlDeviceGetVirtualizationMode(): u32;
        default_power_limit = nvmlDeviceGetPowerManagementDefaultLimit(): u32;
        enforced_power_limit = nvmlDeviceGetEnforcedPowerLimit(): u32;
        power_usage = nvmlDeviceGetPowerUsage(): u32;
        total_energy = nvmlDeviceGetTotalEnergyConsumption(): u64;
        pcie_replay_counter = nvmlDeviceGetPcieReplayCounter(): u32;
        retired_pages_pending = nvmlDeviceGetRetiredPagesPendingStatus(): u32;
        clocks_event_reasons = nvmlDeviceGetCurrentClocksEventReasons(): u64;
        clocks_throttle_reasons = nvmlDeviceGetCurrentClocksThrottleReasons(): u64;
        supported_event_types = nvmlDeviceGetSupportedEventTypes(): u64;
        gpu_instance_id = nvmlDeviceGetGpuInstanceId(): u32;
        compute_instance_id = nvmlDeviceGetComputeInstanceId(): u32;
        temperature = nvmlDeviceGetTemperature(sensor): u32;
        clock = nvmlDeviceGetClockInfo(clock): u32;
        max_clock = nvmlDeviceGetMaxClockInfo(clock): u32;
        nvlink_state = nvmlDeviceGetNvLinkState(link): u32;
        nvlink_version = nvmlDeviceGetNvLinkVersion(link): u32;
        nvlink_remote_kind = nvmlDeviceGetNvLinkRemoteDeviceType(link): u32;
        total_ecc_errors = nvmlDeviceGetTotalEccErrors(kind, counter): u64;
    }

    pub(super) fn gsp_firmware_version(&self, gpu: Gpu) -> Reply {
        // nvml.h asks for a buffer of 64 bytes and takes no length.
        let mut buffer = [0; 128];
        call!(self, nvmlDeviceGetGspFirmwareVersion(gpu.0, buffer.as_mut_ptr()))
            .map(|()| json!(text(&buffer)))
    }

    pub(super) fn pci_info(&self, gpu: Gpu) -> Reply {
        fill!(self, nvmlDeviceGetPciInfo_v3(gpu.0), nvmlPciInfo_t).map(|pci| pci_info(&pci))
    }

    pub(super) fn nvlink_remote_pci(&self, gpu: Gpu, link: u32) -> Reply {
        fill!(self, nvmlDeviceGetNvLinkRemotePciInfo_v2(gpu.0, link), nvmlPciInfo_t).map(|pci| pci_info(&pci))
    }

    pub(super) fn compute_capability(&self, gpu: Gpu) -> Reply {
        let (mut major, mut minor) = (0, 0);
        call!(self, nvmlDeviceGetCudaComputeCapability(gpu.0, &mut major, &mut minor))
            .map(|()| json!({ "major": major, "minor": minor }))
    }

    pub(super) fn memory_v2(&self, gpu: Gpu) -> Reply {
        fill!(self, nvmlDeviceGetMemoryInfo_v2(gpu.0), nvmlMemory_v2_t, |memory| {
            memory.version = version::<nvmlMemory_v2_t>(2);
        })
        .map(|memory| {
            json!({
                "total": memory.total,
                "reserved": memory.reserved,
                "free": memory.free,
                "used": memory.used,
            })
        })
    }

    pub(super) fn memory_v1(&self, gpu: Gpu) -> Reply {
        fill!(self, nvmlDeviceGetMemoryInfo(gpu.0), nvmlMemory_t)
            .map(|memory| json!({ "total": memory.total, "free": memory.free, "used": memory.used }))
    }

    pub(super) fn mig_mode(&self, gpu: Gpu) -> Reply {
        let (mut current, mut pending) = (0, 0);
        call!(self, nvmlDeviceGetMigMode(gpu.0, &mut current, &mut pending))
            .map(|()| json!({ "currentMode": current, "pendingMode": pending }))
    }

    pub(super) fn ecc_mode(&self, gpu: Gpu) -> Reply {
        let (mut current, mut pending) = (0, 0);
        call!(self, nvmlDeviceGetEccMode(gpu.0, &mut current, &mut pending))
            .map(|()| json!({ "current": current, "pending": pending }))
    }

    pub(super) fn addressing_mode(&self, gpu: Gpu) -> Reply {
        fill!(self, nvmlDeviceGetAddressingMode(gpu.0), nvmlDeviceAddressingMode_t, |mode| {
            mode.version = version::<nvmlDeviceAddressingMode_t>(1);
        })
        .map(|mode| json!({ "value": mode.value }))
    }

    pub(super) fn power_limits(&self, gpu: Gpu) -> Reply {
        let (mut least, mut most) = (0, 0);
        call!(self, nvmlDeviceGetPowerManagementLimitConstraints(gpu.0, &mut least, &mut most))
            .map(|()| json!({ "minLimit": least, "maxLimit": most }))
    }

    /// Struct version 3, and 2 for a driver that does not know it: 3 only adds a field at the end.
    pub(super) fn fabric_v(&self, gpu: Gpu) -> Reply {
        let newest = fill!(self, nvmlDeviceGetGpuFabricInfoV(gpu.0), nvmlGpuFabricInfoV_t, |fabric| {
            fabric.version = version::<nvmlGpuFabricInfoV_t>(3);
        });
        let told = match newest {
            Err(Code(25)) => {
                fill!(self, nvmlDeviceGetGpuFabricInfoV(gpu.0), nvmlGpuFabricInfoV_t, |fabric| {
                    fabric.version = version::<nvml_wrapper_sys::bindings::nvmlGpuFabricInfo_v2_t>(2);
                })
                .map(|fabric| (fabric, None))
            }
            newest => newest.map(|fabric| (fabric, Some(fabric.healthSummary))),
        };
        told.map(|(fabric, summary)| {
            json!({
                "clusterUuid": hexadecimal(&fabric.clusterUuid),
                "status": fabric.status,
                "cliqueId": fabric.cliqueId,
                "state": fabric.state,
                "healthMask": fabric.healthMask,
                "healthSummary": summary,
            })
        })
    }

    pub(super) fn fabric(&self, gpu: Gpu) -> Reply {
        fill!(self, nvmlDeviceGetGpuFabricInfo(gpu.0), nvmlGpuFabricInfo_t).map(|fabric| {
            json!({
                "clusterUuid": hexadecimal(&fabric.clusterUuid),
                "status": fabric.status,
                "cliqueId": fabric.cliqueId,
                "state": fabric.state,
            })
        })
    }

    pub(super) fn p2p_status(&self, gpu: Gpu, other: Gpu, capability: u32) -> Reply {
        fill!(self, nvmlDeviceGetP2PStatus(gpu.0, other.0, capability), u32).map(|status| json!(status))
    }

    pub(super) fn gpu_instance_profile(&self, gpu: Gpu, profile: u32) -> Reply {
        type Profile = nvmlGpuInstanceProfileInfo_v2_t;
        fill!(self, nvmlDeviceGetGpuInstanceProfileInfoV(gpu.0, profile), Profile, |info| {
            info.version = version::<Profile>(2);
        })
        .map(|info| {
            json!({
                "id": info.id,
                "sliceCount": info.sliceCount,
                "instanceCount": info.instanceCount,
                "multiprocessorCount": info.multiprocessorCount,
                "memorySizeMB": info.memorySizeMB,
                "name": text(&info.name),
            })
        })
    }

    pub(super) fn gpu_instance_info(&self, parent: Gpu, id: u32) -> Reply {
        let instance = fill!(
            self,
            nvmlDeviceGetGpuInstanceById(parent.0, id),
            nvml_wrapper_sys::bindings::nvmlGpuInstance_t
        )?;
        fill!(self, nvmlGpuInstanceGetInfo(instance), nvmlGpuInstanceInfo_t).map(|info| {
            json!({
                "id": info.id,
                "profileId": info.profileId,
                "placement": { "start": info.placement.start, "size": info.placement.size },
            })
        })
    }

    pub(super) fn attributes(&self, mig: Gpu) -> Reply {
        fill!(self, nvmlDeviceGetAttributes_v2(mig.0), nvmlDeviceAttributes_t).map(|attributes| {
            json!({
                "multiprocessorCount": attributes.multiprocessorCount,
                "sharedCopyEngineCount": attributes.sharedCopyEngineCount,
                "sharedDecoderCount": attributes.sharedDecoderCount,
                "sharedEncoderCount": attributes.sharedEncoderCount,
                "sharedJpegCount": attributes.sharedJpegCount,
                "sharedOfaCount": attributes.sharedOfaCount,
                "gpuInstanceSliceCount": attributes.gpuInstanceSliceCount,
                "computeInstanceSliceCount": attributes.computeInstanceSliceCount,
                "memorySizeMB": attributes.memorySizeMB,
            })
        })
    }

    pub(super) fn utilization(&self, gpu: Gpu) -> Reply {
        fill!(self, nvmlDeviceGetUtilizationRates(gpu.0), nvmlUtilization_t)
            .map(|rates| json!({ "gpu": rates.gpu, "memory": rates.memory }))
    }

    pub(super) fn encoder_utilization(&self, gpu: Gpu) -> Reply {
        let (mut share, mut period) = (0, 0);
        call!(self, nvmlDeviceGetEncoderUtilization(gpu.0, &mut share, &mut period))
            .map(|()| engine(share, period))
    }

    pub(super) fn decoder_utilization(&self, gpu: Gpu) -> Reply {
        let (mut share, mut period) = (0, 0);
        call!(self, nvmlDeviceGetDecoderUtilization(gpu.0, &mut share, &mut period))
            .map(|()| engine(share, period))
    }

    pub(super) fn jpeg_utilization(&self, gpu: Gpu) -> Reply {
        let (mut share, mut period) = (0, 0);
        call!(self, nvmlDeviceGetJpgUtilization(gpu.0, &mut share, &mut period))
            .map(|()| engine(share, period))
    }

    pub(super) fn ofa_utilization(&self, gpu: Gpu) -> Reply {
        let (mut share, mut period) = (0, 0);
        call!(self, nvmlDeviceGetOfaUtilization(gpu.0, &mut share, &mut period))
            .map(|()| engine(share, period))
    }

    pub(super) fn remapped_rows(&self, gpu: Gpu) -> Reply {
        let (mut corrected, mut uncorrected, mut pending, mut failed) = (0, 0, 0, 0);
        call!(
            self,
            nvmlDeviceGetRemappedRows(gpu.0, &mut corrected, &mut uncorrected, &mut pending, &mut failed)
        )
        .map(|()| {
            json!({
                "corrRows": corrected,
                "uncRows": uncorrected,
                "isPending": pending,
                "failureOccurred": failed,
            })
        })
    }

    pub(super) fn violation(&self, gpu: Gpu, policy: u32) -> Reply {
        fill!(self, nvmlDeviceGetViolationStatus(gpu.0, policy), nvmlViolationTime_t)
            .map(|time| json!({ "referenceTime": time.referenceTime, "violationTime": time.violationTime }))
    }

    /// Values of fields, each with its scope (0 where a field has none), in one call.
    pub(super) fn field_values(&self, gpu: Gpu, fields: &[(u32, u32)]) -> Vec<Reply> {
        let mut values: Vec<nvmlFieldValue_t> = fields
            .iter()
            .map(|(id, scope)| {
                // SAFETY: a C struct of numbers, for which zeros are a value.
                let mut value: nvmlFieldValue_t = unsafe { std::mem::zeroed() };
                (value.fieldId, value.scopeId) = (*id, *scope);
                value
            })
            .collect();
        let asked = call!(self, nvmlDeviceGetFieldValues(gpu.0, values.len() as i32, values.as_mut_ptr()));
        values.iter().map(|value| asked.and_then(|()| field_value(value))).collect()
    }

    /// Features of a vGPU that need a licence, and whether they have it.
    pub(super) fn licensable_features(&self, gpu: Gpu) -> Reply {
        fill!(self, nvmlDeviceGetGridLicensableFeatures_v4(gpu.0), nvmlGridLicensableFeatures_t).map(|told| {
            let features = told.gridLicensableFeatures.iter().take(told.licensableFeaturesCount as usize);
            let features = features.map(|feature| {
                json!({
                    "featureCode": feature.featureCode,
                    "featureState": feature.featureState,
                    "featureEnabled": feature.featureEnabled,
                    "productName": text(&feature.productName),
                })
            });
            json!({
                "isGridLicenseSupported": told.isGridLicenseSupported,
                "gridLicensableFeatures": features.collect::<Value>(),
            })
        })
    }

    /// Processes that compute.
    pub(super) fn compute_processes(&self, gpu: Gpu) -> Reply {
        processes!(self, nvmlDeviceGetComputeRunningProcesses_v3(gpu.0))
    }

    /// Processes that draw.
    pub(super) fn graphics_processes(&self, gpu: Gpu) -> Reply {
        processes!(self, nvmlDeviceGetGraphicsRunningProcesses_v3(gpu.0))
    }

    /// Processes that compute by way of the Multi-Process Service.
    pub(super) fn mps_processes(&self, gpu: Gpu) -> Reply {
        processes!(self, nvmlDeviceGetMPSComputeRunningProcesses_v3(gpu.0))
    }

    pub(super) fn gpm_supported(&self, gpu: Gpu) -> Reply {
        fill!(self, nvmlGpmQueryDeviceSupport(gpu.0), nvmlGpmSupport_t, |support| support.version = 1)
            .map(|support| json!({ "isSupportedDevice": support.isSupportedDevice }))
    }

    /// Takes a GPM sample of a GPU, or of one of its GPU instances.
    pub(super) fn gpm_sample(&self, gpu: Gpu, gpu_instance: Option<u32>) -> Result<GpmSample, Code> {
        let sample = fill!(self, nvmlGpmSampleAlloc(), nvmlGpmSample_t).map(GpmSample)?;
        let taken = match gpu_instance {
            None => call!(self, nvmlGpmSampleGet(gpu.0, sample.0)),
            Some(id) => call!(self, nvmlGpmMigSampleGet(gpu.0, id, sample.0)),
        };
        match taken {
            Ok(()) => Ok(sample),
            Err(code) => {
                self.free_sample(sample);
                Err(code)
            }
        }
    }

    pub(super) fn free_sample(&self, sample: GpmSample) {
        // There is nothing to be done about a sample that the library does not take back.
        let _ = call!(self, nvmlGpmSampleFree(sample.0));
    }

    /// Metrics between two samples.
    pub(super) fn gpm_metrics(&self, before: &GpmSample, after: &GpmSample, ids: &[u32]) -> Vec<Reply> {
        // SAFETY: a C struct of numbers and pointers, for which zeros are a value.
        let mut asked: Box<nvmlGpmMetricsGet_t> = Box::new(unsafe { std::mem::zeroed() });
        asked.version = 1;
        (asked.sample1, asked.sample2) = (before.0, after.0);
        let ids = &ids[..ids.len().min(asked.metrics.len())];
        asked.numMetrics = ids.len() as u32;
        for (metric, id) in asked.metrics.iter_mut().zip(ids) {
            metric.metricId = *id;
        }
        let got = call!(self, nvmlGpmMetricsGet(&mut *asked));
        let metrics = asked.metrics.iter().take(ids.len());
        metrics
            .map(|metric| match (got, metric.nvmlReturn) {
                (Err(code), _) => Err(code),
                (Ok(()), 0) => Ok(json!(metric.value)),
                (Ok(()), code) => Err(Code(code)),
            })
            .collect()
    }

    pub(super) fn event_set(&self) -> Result<EventSet, Code> {
        fill!(self, nvmlEventSetCreate(), nvmlEventSet_t).map(EventSet)
    }

    pub(super) fn register(&self, gpu: Gpu, kinds: u64, set: &EventSet) -> Result<(), Code> {
        call!(self, nvmlDeviceRegisterEvents(gpu.0, kinds, set.0))
    }

    /// Waits for an event. The error TIMEOUT says that there was none.
    pub(super) fn wait(&self, set: &EventSet, milliseconds: u32) -> Result<RawEvent, Code> {
        // SAFETY: a C struct of numbers and a handle, for which zeros are a value.
        let mut event: nvmlEventData_t = unsafe { std::mem::zeroed() };
        call!(self, nvmlEventSetWait_v2(set.0, &mut event, milliseconds))?;
        Ok(RawEvent {
            gpu: Gpu(event.device),
            kind: event.eventType,
            value: event.eventData,
            gpu_instance: event.gpuInstanceId,
            compute_instance: event.computeInstanceId,
        })
    }
}

fn pci_info(pci: &nvmlPciInfo_t) -> Value {
    json!({
        "busId": text(&pci.busId),
        "domain": pci.domain,
        "bus": pci.bus,
        "device": pci.device,
        "pciDeviceId": pci.pciDeviceId,
        "pciSubSystemId": pci.pciSubSystemId,
    })
}

fn process(process: &nvmlProcessInfo_v2_t) -> Value {
    json!({
        "pid": process.pid,
        "usedGpuMemory": process.usedGpuMemory,
        "gpuInstanceId": process.gpuInstanceId,
        "computeInstanceId": process.computeInstanceId,
    })
}

fn engine(share: u32, period: u32) -> Value {
    json!({ "utilization": share, "samplingPeriodUs": period })
}

fn field_value(value: &nvmlFieldValue_t) -> Reply {
    if value.nvmlReturn != 0 {
        return Err(Code(value.nvmlReturn));
    }
    // SAFETY: the library says in valueType (nvmlValueType_t) which member it wrote; all are plain numbers.
    Ok(unsafe {
        match value.valueType {
            0 => json!(value.value.dVal),
            1 => json!(value.value.uiVal),
            2 => json!(value.value.ulVal),
            3 => json!(value.value.ullVal),
            4 => json!(value.value.sllVal),
            5 => json!(value.value.siVal),
            6 => json!(value.value.usVal),
            _ => return Err(Code::NOT_SUPPORTED),
        }
    })
}
