//! The C calls of NVML: each returns a JSON value in the units and enums of nvml.h, or the return code.
//!
//! Types and symbols are those of the crate `nvml-wrapper-sys`. A symbol that the library lacks is FUNCTION_NOT_FOUND. Numbers of
//! enums are never turned into Rust enums: those of a newer driver are data.
#![allow(unsafe_code, reason = "the library is C; every block below says why it is sound")]

mod structs;

use std::{ffi::OsStr, mem::size_of};

use afd_probe::answers::LibraryCall;
use nvml_wrapper_sys::bindings::{
    NvmlLib, nvmlConfComputeSystemState_t, nvmlDevice_t, nvmlDeviceAddressingMode_t, nvmlDeviceAttributes_t,
    nvmlFieldValue_t, nvmlGpmSupport_t, nvmlGpuFabricInfo_t, nvmlGpuFabricInfo_v2_t, nvmlGpuFabricInfoV_t,
    nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstanceProfileInfo_v2_t, nvmlGridLicensableFeatures_t,
    nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_v2_t, nvmlUtilization_t,
    nvmlViolationTime_t,
};
use serde_json::{Value, json};

use super::report::{FUNCTION_NOT_FOUND, INVALID_ARGUMENT, NOT_SUPPORTED, NvmlCode, code};

pub(super) type NvmlReply = Result<Value, NvmlCode>;

const INSUFFICIENT_SIZE: NvmlCode = NvmlCode::named("INSUFFICIENT_SIZE");
const VERSION_MISMATCH: NvmlCode = NvmlCode::named("ARGUMENT_VERSION_MISMATCH");

/// Length of the first list of processes of a GPU, and of the longest.
const INITIAL_PROCESSES: usize = 64;
const MAX_PROCESSES: usize = 16384;

/// The loaded library.
pub(super) struct NvmlApi(pub(super) NvmlLib);

/// A GPU or MIG device of the library.
#[derive(Clone, Copy)]
pub(super) struct NvmlHandle(pub(super) nvmlDevice_t);

impl NvmlHandle {
    /// Distinguishes the handles of one process, which stay the same while the library is initialised.
    pub(super) fn key(self) -> usize {
        self.0 as usize
    }
}

/// The version word of a struct: its size and its number.
const fn version<T>(number: u32) -> u32 {
    size_of::<T>() as u32 | (number << 24)
}

/// Calls a symbol, if the library has it.
macro_rules! call {
    ($api:expr, $symbol:ident($($argument:expr),*)) => {
        match &$api.0.$symbol {
            Err(_) => Err(FUNCTION_NOT_FOUND),
            Ok(function) => {
                // SAFETY: the signature is nvml.h's; handles come from this library; every pointer is to a local that
                // outlives the call, of the size that is passed or that the struct's version states.
                let status = unsafe { function($($argument),*) };
                if status == 0 { Ok(()) } else { Err(code(status)) }
            }
        }
    };
}

/// A call whose last argument is a pointer to what it fills.
macro_rules! fill {
    ($api:expr, $symbol:ident($($argument:expr),*), $kind:ty) => {
        fill!($api, $symbol($($argument),*), $kind, |_| ())
    };
    ($api:expr, $symbol:ident($($argument:expr),*), $kind:ty, $prepare:expr) => {{
        // SAFETY: all of these are C structs or numbers, for which zeros are a value.
        let mut filled: $kind = unsafe { std::mem::zeroed() };
        let prepare: fn(&mut $kind) = $prepare;
        prepare(&mut filled);
        call!($api, $symbol($($argument,)* &mut filled)).map(|()| filled)
    }};
}

/// A call that fills a buffer with a string.
macro_rules! text {
    ($api:expr, $symbol:ident($($argument:expr),*)) => {{
        let mut buffer = [0; 128];
        call!($api, $symbol($($argument,)* buffer.as_mut_ptr(), buffer.len() as u32))
            .map(|()| json!(structs::text(&buffer)))
    }};
}

/// A call that lists processes. Where the list is too short it returns the length, which may grow meanwhile.
macro_rules! processes {
    ($api:expr, $symbol:ident($gpu:expr)) => {{
        let mut capacity = INITIAL_PROCESSES;
        loop {
            let mut count = capacity as u32;
            let none =
                nvmlProcessInfo_v2_t { pid: 0, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 };
            let mut list = vec![none; capacity];
            match call!($api, $symbol($gpu, &mut count, list.as_mut_ptr())) {
                Err(INSUFFICIENT_SIZE) if capacity < MAX_PROCESSES => {
                    capacity = (count as usize).max(capacity * 2).min(MAX_PROCESSES);
                }
                result => {
                    break result.map(|()| list.iter().take(count as usize).map(structs::process).collect());
                }
            }
        }
    }};
}

pub(super) use {call, fill};

/// [`NvmlApi::ask`]: calls that fill one string or number, by the C type; calls that fill several numbers, with the names of
/// nvml.h; and the others.
macro_rules! asked {
    ($api:ident, $gpu:ident, $selected:ident;
     text { $($text:ident;)* }
     number { $($kind:ident $number:ident($($argument:ident),*);)* }
     numbers { $($numbers:ident { $($field:ident),* })* }
     other { $($other:ident($($selecting:ident),*) => $reply:expr,)* }
    ) => {
        /// Makes a call on a GPU or MIG device, with the arguments that select.
        #[allow(non_snake_case, reason = "fields have the names of nvml.h")]
        pub(super) fn ask(&self, gpu: NvmlHandle, call: LibraryCall, arguments: &[u32]) -> NvmlReply {
            let ($api, $gpu, $selected) = (self, gpu, arguments);
            let mut arguments = arguments.iter().copied();
            let mut argument = || arguments.next().ok_or(INVALID_ARGUMENT);
            match call.symbol {
                $(symbol if symbol == stringify!($text) => text!(self, $text(gpu.0)),)*
                $(symbol if symbol == stringify!($number) => {
                    $(let $argument = argument()?;)*
                    fill!(self, $number(gpu.0 $(, $argument)*), $kind).map(|number| json!(number))
                })*
                $(symbol if symbol == stringify!($numbers) => {
                    $(let mut $field = 0;)*
                    call!(self, $numbers(gpu.0, $(&mut $field),*))
                        .map(|()| json!({ $(stringify!($field): $field),* }))
                })*
                $(symbol if symbol == stringify!($other) => {
                    $(let $selecting = argument()?;)*
                    $reply
                })*
                _ => Err(FUNCTION_NOT_FOUND),
            }
        }

        /// Symbols of the calls that [`NvmlApi::ask`] can make.
        #[cfg(test)]
        const ASKED: &'static [&'static str] = &[
            $(stringify!($text),)* $(stringify!($number),)* $(stringify!($numbers),)* $(stringify!($other),)*
        ];
    };
}

impl NvmlApi {
    /// Opens the library. Its initialisers run, as they do for every program that uses it.
    pub(super) fn open(path: &OsStr) -> Result<NvmlApi, String> {
        // SAFETY: loading a library runs its code; this process exists to run it.
        unsafe { NvmlLib::new(path) }.map(NvmlApi).map_err(|error| error.to_string())
    }

    pub(super) fn init(&self) -> Result<(), NvmlCode> {
        call!(self, nvmlInit_v2())
    }

    pub(super) fn by_index(&self, index: u32) -> Result<NvmlHandle, NvmlCode> {
        fill!(self, nvmlDeviceGetHandleByIndex_v2(index), nvmlDevice_t).map(NvmlHandle)
    }

    pub(super) fn mig_by_index(&self, parent: NvmlHandle, index: u32) -> Result<NvmlHandle, NvmlCode> {
        fill!(self, nvmlDeviceGetMigDeviceHandleByIndex(parent.0, index), nvmlDevice_t).map(NvmlHandle)
    }

    /// Makes a call on the system.
    pub(super) fn ask_system(&self, call: LibraryCall) -> NvmlReply {
        match call.symbol {
            "nvmlSystemGetDriverVersion" => text!(self, nvmlSystemGetDriverVersion()),
            "nvmlSystemGetNVMLVersion" => text!(self, nvmlSystemGetNVMLVersion()),
            "nvmlSystemGetCudaDriverVersion_v2" => {
                fill!(self, nvmlSystemGetCudaDriverVersion_v2(), i32).map(|version| json!(version))
            }
            "nvmlSystemGetConfComputeState" => {
                fill!(self, nvmlSystemGetConfComputeState(), nvmlConfComputeSystemState_t)
                    .map(|state| structs::confidential_compute(&state))
            }
            "nvmlDeviceGetCount_v2" => fill!(self, nvmlDeviceGetCount_v2(), u32).map(|count| json!(count)),
            _ => Err(FUNCTION_NOT_FOUND),
        }
    }

    asked! { api, gpu, selected;
        text {
            nvmlDeviceGetName;
            nvmlDeviceGetUUID;
            nvmlDeviceGetSerial;
            nvmlDeviceGetVbiosVersion;
            nvmlDeviceGetBoardPartNumber;
            nvmlDeviceGetInforomImageVersion;
        }
        number {
            u32 nvmlDeviceGetBrand();
            u32 nvmlDeviceGetArchitecture();
            u32 nvmlDeviceGetMinorNumber();
            u32 nvmlDeviceGetModuleId();
            u32 nvmlDeviceGetMaxMigDeviceCount();
            u32 nvmlDeviceGetPersistenceMode();
            u32 nvmlDeviceGetComputeMode();
            u32 nvmlDeviceGetVirtualizationMode();
            u32 nvmlDeviceGetPowerManagementDefaultLimit();
            u32 nvmlDeviceGetEnforcedPowerLimit();
            u32 nvmlDeviceGetPowerUsage();
            u64 nvmlDeviceGetTotalEnergyConsumption();
            u32 nvmlDeviceGetPcieReplayCounter();
            u32 nvmlDeviceGetRetiredPagesPendingStatus();
            u64 nvmlDeviceGetCurrentClocksEventReasons();
            u64 nvmlDeviceGetCurrentClocksThrottleReasons();
            u32 nvmlDeviceGetGpuInstanceId();
            u32 nvmlDeviceGetComputeInstanceId();
            u32 nvmlDeviceGetTemperature(sensor);
            u32 nvmlDeviceGetClockInfo(clock);
            u32 nvmlDeviceGetMaxClockInfo(clock);
            u32 nvmlDeviceGetTemperatureThreshold(threshold);
            u32 nvmlDeviceGetNvLinkState(link);
            u32 nvmlDeviceGetNvLinkVersion(link);
            u32 nvmlDeviceGetNvLinkRemoteDeviceType(link);
            u64 nvmlDeviceGetTotalEccErrors(kind, counter);
        }
        numbers {
            nvmlDeviceGetCudaComputeCapability { major, minor }
            nvmlDeviceGetMigMode { currentMode, pendingMode }
            nvmlDeviceGetEccMode { current, pending }
            nvmlDeviceGetPowerManagementLimitConstraints { minLimit, maxLimit }
            nvmlDeviceGetEncoderUtilization { utilization, samplingPeriodUs }
            nvmlDeviceGetDecoderUtilization { utilization, samplingPeriodUs }
            nvmlDeviceGetJpgUtilization { utilization, samplingPeriodUs }
            nvmlDeviceGetOfaUtilization { utilization, samplingPeriodUs }
            nvmlDeviceGetRemappedRows { corrRows, uncRows, isPending, failureOccurred }
        }
        other {
            nvmlDeviceGetPciInfo_v3() =>
                fill!(api, nvmlDeviceGetPciInfo_v3(gpu.0), nvmlPciInfo_t).map(|pci| structs::pci_info(&pci)),
            nvmlDeviceGetGspFirmwareVersion() => {
                // nvml.h requires a buffer of 64 bytes and takes no length.
                let mut buffer = [0; 128];
                call!(api, nvmlDeviceGetGspFirmwareVersion(gpu.0, buffer.as_mut_ptr()))
                    .map(|()| json!(structs::text(&buffer)))
            },
            nvmlDeviceGetMemoryInfo_v2() =>
                fill!(api, nvmlDeviceGetMemoryInfo_v2(gpu.0), nvmlMemory_v2_t, |memory| {
                    memory.version = version::<nvmlMemory_v2_t>(2);
                })
                .map(|memory| structs::memory(&memory)),
            nvmlDeviceGetMemoryInfo() => fill!(api, nvmlDeviceGetMemoryInfo(gpu.0), nvmlMemory_t)
                .map(|memory| structs::memory_v1(&memory)),
            nvmlDeviceGetAddressingMode() =>
                fill!(api, nvmlDeviceGetAddressingMode(gpu.0), nvmlDeviceAddressingMode_t, |mode| {
                    mode.version = version::<nvmlDeviceAddressingMode_t>(1);
                })
                .map(|mode| json!({ "value": mode.value })),
            nvmlDeviceGetGpuFabricInfoV() => api.fabric(gpu),
            nvmlDeviceGetGpuFabricInfo() =>
                fill!(api, nvmlDeviceGetGpuFabricInfo(gpu.0), nvmlGpuFabricInfo_t)
                    .map(|fabric| structs::fabric_v1(&fabric)),
            nvmlDeviceGetNvLinkRemotePciInfo_v2(link) =>
                fill!(api, nvmlDeviceGetNvLinkRemotePciInfo_v2(gpu.0, link), nvmlPciInfo_t)
                    .map(|pci| structs::pci_info(&pci)),
            nvmlDeviceGetGpuInstanceProfileInfoV(profile) =>
                fill!(
                    api,
                    nvmlDeviceGetGpuInstanceProfileInfoV(gpu.0, profile),
                    nvmlGpuInstanceProfileInfo_v2_t,
                    |info| info.version = version::<nvmlGpuInstanceProfileInfo_v2_t>(2)
                )
                .map(|info| structs::gpu_instance_profile(&info)),
            nvmlDeviceGetAttributes_v2() =>
                fill!(api, nvmlDeviceGetAttributes_v2(gpu.0), nvmlDeviceAttributes_t)
                    .map(|attributes| structs::attributes(&attributes)),
            nvmlDeviceGetUtilizationRates() =>
                fill!(api, nvmlDeviceGetUtilizationRates(gpu.0), nvmlUtilization_t)
                    .map(|rates| structs::utilization(&rates)),
            nvmlDeviceGetViolationStatus(policy) =>
                fill!(api, nvmlDeviceGetViolationStatus(gpu.0, policy), nvmlViolationTime_t)
                    .map(|time| structs::violation(&time)),
            nvmlDeviceGetFieldValues() => api.field_value(gpu, selected),
            nvmlDeviceGetGridLicensableFeatures_v4() =>
                fill!(api, nvmlDeviceGetGridLicensableFeatures_v4(gpu.0), nvmlGridLicensableFeatures_t)
                    .map(|licences| structs::licences(&licences)),
            nvmlGpmQueryDeviceSupport() =>
                fill!(api, nvmlGpmQueryDeviceSupport(gpu.0), nvmlGpmSupport_t, |support| support.version = 1)
                    .map(|support| json!({ "isSupportedDevice": support.isSupportedDevice })),
            nvmlDeviceGetComputeRunningProcesses_v3() =>
                processes!(api, nvmlDeviceGetComputeRunningProcesses_v3(gpu.0)),
            nvmlDeviceGetGraphicsRunningProcesses_v3() =>
                processes!(api, nvmlDeviceGetGraphicsRunningProcesses_v3(gpu.0)),
            nvmlDeviceGetMPSComputeRunningProcesses_v3() =>
                processes!(api, nvmlDeviceGetMPSComputeRunningProcesses_v3(gpu.0)),
        }
    }

    /// Struct version 3, and 2 for a driver that does not know it: 3 only adds a field at the end.
    fn fabric(&self, gpu: NvmlHandle) -> NvmlReply {
        let newest = fill!(self, nvmlDeviceGetGpuFabricInfoV(gpu.0), nvmlGpuFabricInfoV_t, |fabric| {
            fabric.version = version::<nvmlGpuFabricInfoV_t>(3);
        });
        match newest {
            Err(VERSION_MISMATCH) => {
                fill!(self, nvmlDeviceGetGpuFabricInfoV(gpu.0), nvmlGpuFabricInfoV_t, |fabric| {
                    fabric.version = version::<nvmlGpuFabricInfo_v2_t>(2);
                })
                .map(|fabric| structs::fabric(&fabric, false))
            }
            newest => newest.map(|fabric| structs::fabric(&fabric, true)),
        }
    }

    /// The value of a field by its id and its scope, if it has one.
    fn field_value(&self, gpu: NvmlHandle, id_and_scope: &[u32]) -> NvmlReply {
        let (id, scope) = match id_and_scope {
            [id] => (*id, 0),
            [id, scope] => (*id, *scope),
            _ => return Err(INVALID_ARGUMENT),
        };
        // SAFETY: a C struct of numbers, for which zeros are a value.
        let mut value: nvmlFieldValue_t = unsafe { std::mem::zeroed() };
        (value.fieldId, value.scopeId) = (id, scope);
        call!(self, nvmlDeviceGetFieldValues(gpu.0, 1, &mut value))?;
        if value.nvmlReturn != 0 {
            return Err(code(value.nvmlReturn));
        }
        // SAFETY: the library states in valueType (nvmlValueType_t) which member it wrote; all are plain numbers.
        Ok(unsafe {
            match value.valueType {
                0 => json!(value.value.dVal),
                1 => json!(value.value.uiVal),
                2 => json!(value.value.ulVal),
                3 => json!(value.value.ullVal),
                4 => json!(value.value.sllVal),
                5 => json!(value.value.siVal),
                6 => json!(value.value.usVal),
                _ => return Err(NOT_SUPPORTED),
            }
        })
    }

    pub(super) fn p2p_status(&self, gpu: NvmlHandle, other: NvmlHandle, capability: u32) -> NvmlReply {
        fill!(self, nvmlDeviceGetP2PStatus(gpu.0, other.0, capability), u32).map(|status| json!(status))
    }

    pub(super) fn gpu_instance_info(&self, parent: NvmlHandle, id: u32) -> NvmlReply {
        let instance = fill!(self, nvmlDeviceGetGpuInstanceById(parent.0, id), nvmlGpuInstance_t)?;
        fill!(self, nvmlGpuInstanceGetInfo(instance), nvmlGpuInstanceInfo_t)
            .map(|info| structs::gpu_instance(&info))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvml::table::{GPU_ROWS, HEALTH_ROWS, LINK_ROWS, MEMORY_ROWS, call};

    #[test]
    fn every_call_of_the_table_is_a_c_symbol_of_this_file() {
        let listed = [call::GPU_CALLS, call::MIG_CALLS, call::MIG_IDENTITY_CALLS, call::PROCESS_CALLS];
        let rows = GPU_ROWS.iter().chain(MEMORY_ROWS).map(|row| row.call);
        let rows = rows.chain(LINK_ROWS.iter().map(|row| row.call));
        let calls = listed.into_iter().flatten().copied().chain(rows);
        for call in calls.chain(HEALTH_ROWS.iter().map(|row| row.call)) {
            assert!(NvmlApi::ASKED.contains(&call.symbol), "{call}");
        }
        for (newer, older) in call::OLDER_CALLS {
            assert!(
                [newer, older].iter().all(|call| NvmlApi::ASKED.contains(&call.symbol)),
                "{newer} {older}"
            );
        }
    }
}
