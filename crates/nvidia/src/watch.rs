//! Whether the XIDs of a GPU are watched: by what NVML reported when their events were registered.

use afd_model::{Missing, PciAddress, Problem};

use crate::{
    NAME,
    nvml::{
        report::{NvmlAnswers, NvmlReport, address},
        table::{XID_EVENT, call},
    },
};

/// Whether XIDs of a GPU would be seen.
pub(crate) fn is_watched(answers: &NvmlAnswers) -> bool {
    answers.known::<u64>(call::REGISTER_EVENTS).value().is_some_and(|kinds| kinds & XID_EVENT != 0)
}

/// One problem for each GPU whose errors are not watched, and one where no event can be waited for. Calls that were refused are
/// problems already; a library that lacks the call is one here. A GPU that has no events, as in a virtual machine, is none.
pub(crate) fn problems(report: &NvmlReport, wait_error: Option<&str>) -> Vec<Problem> {
    let problem = |device: Option<PciAddress>, reason, message| Problem {
        probe: NAME.to_owned(),
        device: device.map(Into::into),
        fact: "events".to_owned(),
        reason,
        path: None,
        message,
    };
    let unwatched = report.devices.iter().filter_map(|reported| {
        let code = reported.answers.error(call::REGISTER_EVENTS)?;
        let is_lacking = code.missing() == Missing::NotExposed;
        let message = || format!("errors of the GPU are not watched: {} {code}", call::REGISTER_EVENTS);
        is_lacking.then(|| problem(address(&reported.answers), code.missing(), message()))
    });
    let waiting = wait_error
        .map(|code| problem(None, Missing::Unreadable, format!("events cannot be waited for: {code}")));
    unwatched.chain(waiting).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(watched: Value) -> NvmlReport {
        let pci = json!({ "value": { "busId": "00000000:01:00.0" } });
        let answers = json!({ "nvmlDeviceGetPciInfo_v3": pci, "nvmlDeviceRegisterEvents": watched });
        serde_json::from_value(json!({ "system": {}, "devices": [{ "answers": answers }] }))
            .expect("it is a report")
    }

    #[test]
    fn errors_that_are_not_watched_are_a_problem() {
        let cases = [
            (json!({ "value": 0x1f }), true, 0),
            (json!({ "value": 0x3 }), false, 0),
            (json!({ "error": "NOT_SUPPORTED" }), false, 0),
            (json!({ "error": "FUNCTION_NOT_FOUND" }), false, 1),
        ];
        for (watched, is_watched, problems) in cases {
            let report = report(watched.clone());
            assert_eq!(super::is_watched(&report.devices[0].answers), is_watched, "{watched}");
            assert_eq!(super::problems(&report, None).len(), problems, "{watched}");
        }
        assert_eq!(problems(&report(json!({ "value": 0x1f })), Some("GPU_IS_LOST")).len(), 1);
    }
}
