//! Interprets the files of habanalabs. Pure functions; no file is read here.

use afd_model::{Health, HealthState, Sensor};

/// The health for the attribute `status` (`sysfs-driver-habanalabs`).
///
/// The driver resets the device whenever the workload has closed it. That follows every job and is no fault: this status says
/// nothing of the device's health.
///
/// # Errors
/// When the driver has no such status.
pub(crate) fn health(status: &str) -> Result<Health, &'static str> {
    match status {
        "Operational" => Ok(Health::healthy()),
        "In reset" | "In device creation" => Ok(Health::failed(
            "InReset",
            format!("the driver reports \"{status}\"; the device accepts no work until it is finished"),
        )),
        "In reset after device release" => Ok(Health {
            state: HealthState::Unknown,
            ..Health::failed(
                "WorkloadReset",
                "the driver resets the device after its last workload; it accepts work when that is finished",
            )
        }),
        "Disabled" => {
            Ok(Health::failed("Disabled", "the driver has disabled the device; see the kernel log"))
        }
        "Needs reset" | "Malfunction" => Ok(Health::failed(
            "NeedsReset",
            format!("the driver reports \"{status}\"; reset the device and see the kernel log"),
        )),
        _ => Err("unknown status; expected one like \"Operational\""),
    }
}

/// The version in `fw_os_ver`: `hl-gaudi2-1.16.0-fw-50.0.0-sec-9` in
/// `Zephyr 2.7.2-hl-gaudi2-1.16.0-fw-50.0.0-sec-9 ...`. A value without one is returned unchanged.
pub(crate) fn firmware_version(text: &str) -> String {
    let version = text.find("hl-").and_then(|start| text[start..].split_whitespace().next());
    version.unwrap_or(text).to_owned()
}

/// The sensor of a temperature label, which the firmware defines, if at all. A sensor that is neither on the board nor in the
/// memory is on the device.
pub(crate) fn sensor(label: Option<&str>) -> Sensor {
    let label = label.unwrap_or_default().to_ascii_lowercase();
    let contains_any = |words: &[&str]| words.iter().any(|word| label.contains(word));
    if contains_any(&["board"]) {
        Sensor::Board
    } else if contains_any(&["hbm", "dram", "mem"]) {
        Sensor::Memory
    } else {
        Sensor::Device
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_an_operational_device_is_healthy() {
        let state = |status| health(status).map(|health| health.state);
        assert_eq!(state("Operational"), Ok(HealthState::Healthy));
        assert_eq!(state("In reset"), Ok(HealthState::Failed));
        assert_eq!(state("Needs reset"), Ok(HealthState::Failed));
        assert!(state("operational?").is_err());
    }

    #[test]
    fn a_reset_after_a_workload_is_no_fault() {
        let health = health("In reset after device release").expect("the driver has this status");
        assert_eq!(health.state, HealthState::Unknown);
        assert_eq!(health.reasons[0].code, "WorkloadReset");
    }

    #[test]
    fn the_firmware_version_is_extracted() {
        let text = "Zephyr 2.7.2-hl-gaudi2-1.16.0-fw-50.0.0-sec-9 (built Apr 2024)";
        assert_eq!(firmware_version(text), "hl-gaudi2-1.16.0-fw-50.0.0-sec-9");
        assert_eq!(firmware_version("Linux 5.4"), "Linux 5.4");
    }

    proptest! {
        #[test]
        fn no_input_panics(text in ".*") {
            let _ = health(&text);
            let _ = firmware_version(&text);
            let _ = sensor(Some(&text));
        }
    }
}
