//! What AMD SMI or ROCm SMI answered: `libraries/amdsmi.json` or `libraries/rocmsmi.json` of a recording.

use std::fmt;

use afd_model::Missing;
use serde::{Deserialize, Serialize};

use super::{amdsmi, rocmsmi};

/// Answers by call.
pub type Answers = afd_probe::answers::Answers<Code>;

/// All that the library told at one time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    /// Calls that concern no processor. The first is `amdsmi_init` or `rsmi_init`.
    pub system: Answers,
    /// One for each processor, in the library's order.
    #[serde(default)]
    pub devices: Vec<DeviceReport>,
}

/// What the library told of one processor: a GPU, or one partition of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DeviceReport {
    /// AMD SMI: the socket that it is in. The partitions of a GPU are in one socket, the first of them is the GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<u32>,
    /// Calls on it.
    pub answers: Answers,
}

impl Report {
    /// The name of the file that holds it in a recording; none of an empty one.
    pub fn file(&self) -> Option<&'static str> {
        [(amdsmi::INIT, "amdsmi.json"), (rocmsmi::INIT, "rocmsmi.json")]
            .into_iter()
            .find_map(|(init, file)| self.system.get(init).map(|_| file))
    }

    /// Why the library could not be initialised, if it could not: its name and what it said.
    pub fn init_error(&self) -> Option<(&'static str, Code)> {
        [(amdsmi::INIT, "AMD SMI"), (rocmsmi::INIT, "ROCm SMI")]
            .into_iter()
            .find_map(|(init, library)| Some((library, self.system.error(init)?)))
    }
}

/// A status other than success: its name in the header without `AMDSMI_STATUS_` or `RSMI_STATUS_`, the number of one that
/// is newer than this program, or [`Code::NO_SYMBOL`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Code(String);

/// The statuses of a library, by number.
pub type Statuses = [(u32, &'static str)];

impl Code {
    /// The library lacks the symbol. No library says this; AFD does.
    pub const NO_SYMBOL: &'static str = "NO_SYMBOL";
    /// What the library filled is laid out in no way that AFD knows: both headers have this status for data that is not
    /// what was expected.
    pub const UNEXPECTED_DATA: &'static str = "UNEXPECTED_DATA";

    /// A status by name.
    pub fn named(name: &str) -> Code {
        Code(name.to_owned())
    }

    /// The status of a number.
    pub fn numbered(number: u32, statuses: &Statuses) -> Code {
        let name = statuses.iter().find(|(status, _)| *status == number).map(|(_, name)| *name);
        Code(name.map_or_else(|| number.to_string(), str::to_owned))
    }

    /// The number of the status, for a library that gives it; none if there is none of that name.
    pub fn number(&self, statuses: &Statuses) -> Option<u32> {
        let known = statuses.iter().find(|(_, name)| *name == self.0).map(|(number, _)| *number);
        known.or_else(|| self.0.parse().ok())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Code> for Missing {
    fn from(code: Code) -> Missing {
        match code.0.as_str() {
            Code::NO_SYMBOL => Missing::NotExposed,
            // The part, the driver or the mode does not have it, or not now.
            "NOT_SUPPORTED"
            | "NOT_YET_IMPLEMENTED"
            | "NOT_FOUND"
            | "NO_DATA"
            | "FILE_NOT_FOUND"
            | "SETTING_UNAVAILABLE"
            | "BUSY"
            | "RETRY" => Missing::NotAvailable,
            "NO_PERM" | "PERMISSION" => Missing::NotPermitted,
            Code::UNEXPECTED_DATA | "UNEXPECTED_SIZE" => Missing::Malformed,
            _ => Missing::Unreadable,
        }
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
            "system": {"amdsmi_init": {"value": null}},
            "devices": [
                {"socket": 0, "answers": {"amdsmi_get_gpu_device_uuid": {"value": "e3ff74a1"}}},
                {"answers": {"rsmi_dev_name_get": {"error": "4711"}}},
            ],
        });
        let report: Report = serde_json::from_value(text.clone()).expect("it is a recording");
        assert_eq!(serde_json::to_value(&report).expect("it can be written"), text);
        assert_eq!(report.file(), Some("amdsmi.json"));
        assert_eq!(report.init_error(), None);
        let name: Known<String> = report.devices[1].answers.known("rsmi_dev_name_get");
        assert_eq!(name.missing(), Some(Missing::Unreadable));
    }

    #[test]
    fn a_status_has_one_name_in_both_directions() {
        for statuses in [amdsmi::STATUSES, rocmsmi::STATUSES] {
            for (number, name) in statuses {
                assert_eq!(Code::numbered(*number, statuses), Code::named(name));
                assert_eq!(Code::named(name).number(statuses), Some(*number), "{name}");
            }
            assert_eq!(Code::numbered(4711, statuses).number(statuses), Some(4711));
            assert_eq!(Code::named("NONSENSE").number(statuses), None);
        }
    }
}
