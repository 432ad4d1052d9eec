//! What NVML answered: every call with its value or its error, as the child sends it, as `afd record` writes it to
//! `libraries/nvml.json`, and as the fake library of the tests serves it.

use std::fmt;

use afd_model::Missing;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// All that NVML told at one time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// Calls that concern no device. `nvmlInit_v2` is the first.
    pub system: Answers,
    /// One for each index.
    #[serde(default)]
    pub devices: Vec<DeviceReport>,
}

/// What NVML told of one GPU.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DeviceReport {
    /// Calls on the GPU itself.
    pub answers: Answers,
    /// Calls on its MIG devices, by their index; indices without a MIG device are null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mig: Vec<Option<Answers>>,
}

/// Answers by call.
pub type Answers = afd_probe::answers::Answers<Code>;

/// A value in the units and enums of nvml.h, or an error.
pub type Answer = afd_probe::answers::Answer<Code>;

/// An `nvmlReturn_t` other than success; its name in nvml.h without `NVML_ERROR_`, or the number of one that is newer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Code(pub u32);

impl Code {
    /// The part, the driver or the mode does not have it.
    pub const NOT_SUPPORTED: Code = Code(3);
    /// The caller may not.
    pub const NO_PERMISSION: Code = Code(4);
    /// There is nothing with that index or id.
    pub const NOT_FOUND: Code = Code(6);
    /// The caller has too little room for the answer.
    pub const INSUFFICIENT_SIZE: Code = Code(7);
    /// The library lacks the symbol.
    pub const FUNCTION_NOT_FOUND: Code = Code(13);
    /// The GPU has fallen off the bus.
    pub const GPU_IS_LOST: Code = Code(15);
    /// The GPU needs a reset.
    pub const RESET_REQUIRED: Code = Code(16);
    /// Library and driver are of different versions.
    pub const LIB_RM_VERSION_MISMATCH: Code = Code(18);

    const NAMES: [(u32, &str); 31] = [
        (1, "UNINITIALIZED"),
        (2, "INVALID_ARGUMENT"),
        (3, "NOT_SUPPORTED"),
        (4, "NO_PERMISSION"),
        (5, "ALREADY_INITIALIZED"),
        (6, "NOT_FOUND"),
        (7, "INSUFFICIENT_SIZE"),
        (8, "INSUFFICIENT_POWER"),
        (9, "DRIVER_NOT_LOADED"),
        (10, "TIMEOUT"),
        (11, "IRQ_ISSUE"),
        (12, "LIBRARY_NOT_FOUND"),
        (13, "FUNCTION_NOT_FOUND"),
        (14, "CORRUPTED_INFOROM"),
        (15, "GPU_IS_LOST"),
        (16, "RESET_REQUIRED"),
        (17, "OPERATING_SYSTEM"),
        (18, "LIB_RM_VERSION_MISMATCH"),
        (19, "IN_USE"),
        (20, "MEMORY"),
        (21, "NO_DATA"),
        (22, "VGPU_ECC_NOT_SUPPORTED"),
        (23, "INSUFFICIENT_RESOURCES"),
        (24, "FREQ_NOT_SUPPORTED"),
        (25, "ARGUMENT_VERSION_MISMATCH"),
        (26, "DEPRECATED"),
        (27, "NOT_READY"),
        (28, "GPU_NOT_FOUND"),
        (29, "INVALID_STATE"),
        (30, "RESET_TYPE_NOT_SUPPORTED"),
        (999, "UNKNOWN"),
    ];

    /// Why a fact is missing whose call gave this.
    pub fn missing(self) -> Missing {
        match self {
            Code::NOT_SUPPORTED | Code::NOT_FOUND => Missing::NotAvailable,
            Code::FUNCTION_NOT_FOUND => Missing::NotExposed,
            Code::NO_PERMISSION => Missing::NotPermitted,
            _ => Missing::Unreadable,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Code::NAMES.iter().find(|(code, _)| *code == self.0) {
            Some((_, name)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Code::NAMES.iter().find(|(code, _)| *code == self.0) {
            Some((_, name)) => serializer.serialize_str(name),
            None => serializer.serialize_u32(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u32),
            Name(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(Code(number)),
            Either::Name(name) => Code::NAMES
                .iter()
                .find(|(_, known)| *known == name)
                .map(|(code, _)| Code(*code))
                .ok_or_else(|| serde::de::Error::custom(format_args!("no nvmlReturn_t is named {name}"))),
        }
    }
}

impl From<Code> for Missing {
    fn from(code: Code) -> Missing {
        code.missing()
    }
}

#[cfg(test)]
mod tests {
    use afd_model::Known;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_recording_is_read_back_as_it_was_written() {
        let text = json!({
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
        let report: Report = serde_json::from_value(text.clone()).expect("it is a recording");
        assert_eq!(serde_json::to_value(&report).expect("it can be written"), text);
        let answers = &report.devices[0].answers;
        assert_eq!(answers.known("nvmlDeviceGetName"), Known::Value("Tesla T4".to_owned()));
        assert_eq!(answers.field("nvmlDeviceGetMemoryInfo_v2", "total"), Known::Value(16_106_127_360_u64));
        assert_eq!(answers.known::<u32>("nvmlDeviceGetMigMode").missing(), Some(Missing::NotAvailable));
        assert_eq!(answers.known::<u32>("nvmlDeviceGetModuleId").missing(), Some(Missing::Unreadable));
        assert_eq!(answers.known::<u32>("nvmlDeviceGetName").missing(), Some(Missing::Malformed));
        assert_eq!(answers.known::<u32>("nvmlDeviceGetBrand").missing(), Some(Missing::NotExposed));
    }
}
