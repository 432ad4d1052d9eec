//! NVML's reports: return codes by their names in nvml.h without `NVML_ERROR_`, and answers by call.

use afd_model::{Known, Missing, PciAddress};
use afd_probe::{
    answers::{LibraryCall, trimmed},
    report::{DeviceAnswers, LibraryAnswers, LibraryReport, ReportedUnit},
    status::{StatusCode, StatusRow, StatusTable},
};
use serde::de::DeserializeOwned;

use super::table::call::{self, older};

/// `nvmlReturn_t`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NvmlStatus;

/// A return code other than success.
pub type NvmlCode = StatusCode<NvmlStatus>;
/// What NVML reported at one time; one element of `devices` per index.
pub type NvmlReport = LibraryReport<NvmlStatus>;
/// What NVML reported of one GPU, and of its MIG devices by their index.
pub type NvmlDeviceReport = DeviceAnswers<NvmlStatus>;
/// Answers by call.
pub type NvmlAnswers = LibraryAnswers<NvmlStatus>;

impl StatusTable for NvmlStatus {
    const C_TYPE: &'static str = "nvmlReturn_t";
    const TABLES: &'static [&'static [StatusRow]] = &[STATUSES];
}

/// All return codes other than success.
pub const STATUSES: &[StatusRow] = &[
    (1, "UNINITIALIZED", Missing::Unreadable),
    (2, "INVALID_ARGUMENT", Missing::Unreadable),
    (3, "NOT_SUPPORTED", Missing::NotAvailable),
    (4, "NO_PERMISSION", Missing::NotPermitted),
    (5, "ALREADY_INITIALIZED", Missing::Unreadable),
    (6, "NOT_FOUND", Missing::NotAvailable),
    (7, "INSUFFICIENT_SIZE", Missing::Unreadable),
    (8, "INSUFFICIENT_POWER", Missing::Unreadable),
    (9, "DRIVER_NOT_LOADED", Missing::Unreadable),
    (10, "TIMEOUT", Missing::Unreadable),
    (11, "IRQ_ISSUE", Missing::Unreadable),
    (12, "LIBRARY_NOT_FOUND", Missing::Unreadable),
    (13, "FUNCTION_NOT_FOUND", Missing::NotExposed),
    (14, "CORRUPTED_INFOROM", Missing::Unreadable),
    (15, "GPU_IS_LOST", Missing::Unreadable),
    (16, "RESET_REQUIRED", Missing::Unreadable),
    (17, "OPERATING_SYSTEM", Missing::Unreadable),
    (18, "LIB_RM_VERSION_MISMATCH", Missing::Unreadable),
    (19, "IN_USE", Missing::Unreadable),
    (20, "MEMORY", Missing::Unreadable),
    (21, "NO_DATA", Missing::Unreadable),
    (22, "VGPU_ECC_NOT_SUPPORTED", Missing::Unreadable),
    (23, "INSUFFICIENT_RESOURCES", Missing::Unreadable),
    (24, "FREQ_NOT_SUPPORTED", Missing::Unreadable),
    (25, "ARGUMENT_VERSION_MISMATCH", Missing::Unreadable),
    (26, "DEPRECATED", Missing::Unreadable),
    (27, "NOT_READY", Missing::Unreadable),
    (28, "GPU_NOT_FOUND", Missing::Unreadable),
    (29, "INVALID_STATE", Missing::Unreadable),
    (30, "RESET_TYPE_NOT_SUPPORTED", Missing::Unreadable),
    (999, "UNKNOWN", Missing::Unreadable),
];

/// The kernel driver is not loaded.
pub(crate) const DRIVER_NOT_LOADED: NvmlCode = NvmlCode::named("DRIVER_NOT_LOADED");
/// The library lacks the symbol.
pub(crate) const FUNCTION_NOT_FOUND: NvmlCode = NvmlCode::named("FUNCTION_NOT_FOUND");
/// The GPU has fallen off the bus.
pub(crate) const GPU_IS_LOST: NvmlCode = NvmlCode::named("GPU_IS_LOST");
/// Library and driver are of different versions.
pub(crate) const LIB_RM_VERSION_MISMATCH: NvmlCode = NvmlCode::named("LIB_RM_VERSION_MISMATCH");
/// An argument is invalid, such as the number of a link that the GPU does not have.
pub(crate) const INVALID_ARGUMENT: NvmlCode = NvmlCode::named("INVALID_ARGUMENT");
/// There is nothing of the index.
pub(crate) const NOT_FOUND: NvmlCode = NvmlCode::named("NOT_FOUND");
/// The GPU does not have it.
pub(crate) const NOT_SUPPORTED: NvmlCode = NvmlCode::named("NOT_SUPPORTED");
/// The caller is not permitted to open the device files.
pub(crate) const NO_PERMISSION: NvmlCode = NvmlCode::named("NO_PERMISSION");
/// The GPU must be reset.
pub(crate) const RESET_REQUIRED: NvmlCode = NvmlCode::named("RESET_REQUIRED");

/// The return code of a number.
pub(crate) fn code(number: u32) -> NvmlCode {
    NvmlCode::numbered(number, STATUSES)
}

/// The address of the GPU that answers are about.
pub(crate) fn address(answers: &NvmlAnswers) -> Option<PciAddress> {
    answers.field::<String>(call::PCI_INFO, "busId").into_value()?.parse().ok()
}

/// The GPU that answers are about.
pub(crate) fn unit_of(answers: &NvmlAnswers) -> Option<ReportedUnit> {
    address(answers).map(|address| ReportedUnit { address, partition: 0 })
}

/// The number of indices of a report. Devices beyond them are lost ones, of which an earlier report is retained.
pub(crate) fn indices(report: &NvmlReport) -> usize {
    let count = report.system.known::<u32>(call::DEVICE_COUNT).into_value();
    count.map_or(report.devices.len(), |count| count as usize)
}

/// What the library reported of a GPU that has an index and a handle.
pub(crate) fn accessible(report: &NvmlReport, address: PciAddress) -> Option<&NvmlAnswers> {
    let listed = report.devices.iter().take(indices(report)).map(|device| &device.answers);
    let mut listed = listed.filter(|answers| answers.get(call::HANDLE_BY_INDEX).is_none());
    listed.find(|answers| self::address(answers) == Some(address))
}

/// The value of a call, or of the older one.
pub(crate) fn known<T: DeserializeOwned>(answers: &NvmlAnswers, call: LibraryCall) -> Known<T> {
    let known = answers.known(call);
    match older(call) {
        Some(older) => known.or_else(|| answers.known(older)),
        None => known,
    }
}

/// A field of the struct that a call fills, or the older one.
pub(crate) fn field<T: DeserializeOwned>(answers: &NvmlAnswers, call: LibraryCall, field: &str) -> Known<T> {
    let known = answers.field(call, field);
    match older(call) {
        Some(older) => known.or_else(|| answers.field(older, field)),
        None => known,
    }
}

/// A string that a call fills.
pub(crate) fn text(answers: &NvmlAnswers, call: LibraryCall) -> Known<String> {
    trimmed(answers.known(call))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_recording_is_read_back_as_it_was_written() {
        let recording = json!({
            "system": {"nvmlInit_v2": {"value": null}},
            "devices": [{
                "answers": {
                    "nvmlDeviceGetName": {"value": "Tesla T4"},
                    "nvmlDeviceGetMigMode": {"error": "NOT_SUPPORTED"},
                    "nvmlDeviceGetModuleId": {"error": 4711},
                    "nvmlDeviceGetMemoryInfo_v2": {"value": {"total": 16106127360_u64}},
                },
                "mig": [null],
            }],
        });
        let report: NvmlReport = serde_json::from_value(recording.clone()).expect("it is a recording");
        assert_eq!(serde_json::to_value(&report).expect("it can be written"), recording);
        let answers = &report.devices[0].answers;
        assert_eq!(text(answers, call::NAME), Known::Value("Tesla T4".to_owned()));
        assert_eq!(field(answers, call::MEMORY, "total"), Known::Value(16_106_127_360_u64));
        assert_eq!(known::<u32>(answers, call::MIG_MODE).missing(), Some(Missing::NotAvailable));
        assert_eq!(known::<u32>(answers, call::MODULE_ID).missing(), Some(Missing::Unreadable));
        assert_eq!(known::<u32>(answers, call::NAME).missing(), Some(Missing::Malformed));
        assert_eq!(known::<u32>(answers, call::BRAND).missing(), Some(Missing::NotExposed));
    }

    #[test]
    fn the_older_call_counts_where_the_library_lacks_the_newer_one() {
        let mut answers = NvmlAnswers::default();
        answers.put(call::MEMORY, Err(FUNCTION_NOT_FOUND));
        answers.put(call::MEMORY_V1, Ok(json!({ "total": 1 })));
        assert_eq!(field(&answers, call::MEMORY, "total"), Known::Value(1));
        answers.put(call::CLOCKS_THROTTLE_REASONS, Ok(json!(4)));
        assert_eq!(known(&answers, call::CLOCKS_EVENT_REASONS), Known::Value(4));
    }
}
