//! What the texts of habanalabs mean: pure functions, no file is read here.

use afd_model::{Health, Sensor};

/// The health that `status` tells (`sysfs-driver-habanalabs`).
///
/// # Errors
/// When it is no status of the driver's.
pub(crate) fn health(status: &str) -> Result<Health, &'static str> {
    match status {
        "Operational" => Ok(Health::healthy()),
        "In reset" | "In device creation" | "In reset after device release" => Ok(Health::failed(
            "InReset",
            format!("the driver says \"{status}\"; the device takes no work until it is done"),
        )),
        "Disabled" => {
            Ok(Health::failed("Disabled", "the driver has disabled the device; look into the kernel log"))
        }
        "Needs reset" | "Malfunction" => Ok(Health::failed(
            "NeedsReset",
            format!("the driver says \"{status}\"; reset the device and look into the kernel log"),
        )),
        _ => Err("no status such as \"Operational\""),
    }
}

/// The version within `fw_os_ver`: `hl-gaudi2-1.16.0-fw-50.0.0-sec-9` in
/// `Zephyr 2.7.2-hl-gaudi2-1.16.0-fw-50.0.0-sec-9 ...`. A text without one is taken as it is.
pub(crate) fn firmware_version(text: &str) -> String {
    let version = text.find("hl-").and_then(|start| text[start..].split_whitespace().next());
    version.unwrap_or(text).to_owned()
}

/// Where a temperature is taken. The firmware gives the sensors their names, if any; what is no board and no memory
/// is a place on the device.
pub(crate) fn sensor(label: Option<&str>) -> Sensor {
    let label = label.unwrap_or_default().to_ascii_lowercase();
    let tells = |words: &[&str]| words.iter().any(|word| label.contains(word));
    if tells(&["board"]) {
        Sensor::Board
    } else if tells(&["hbm", "dram", "mem"]) {
        Sensor::Memory
    } else {
        Sensor::Device
    }
}

/// Whether a name is `<prefix><number>`: `accel10`, and not `accel_controlD10`.
pub(crate) fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use afd_model::HealthState;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_an_operational_device_is_healthy() {
        let state = |status| health(status).map(|health| health.state);
        assert_eq!(state("Operational"), Ok(HealthState::Healthy));
        assert_eq!(state("In reset after device release"), Ok(HealthState::Failed));
        assert_eq!(state("Needs reset"), Ok(HealthState::Failed));
        assert!(state("operational?").is_err());
    }

    #[test]
    fn firmware_is_called_by_its_release() {
        let text = "Zephyr 2.7.2-hl-gaudi2-1.16.0-fw-50.0.0-sec-9 (built Apr 2024)";
        assert_eq!(firmware_version(text), "hl-gaudi2-1.16.0-fw-50.0.0-sec-9");
        assert_eq!(firmware_version("Linux 5.4"), "Linux 5.4");
    }

    #[test]
    fn accel_numbers_have_any_number_of_digits() {
        assert!(is_numbered("accel10", "accel"));
        assert!(!is_numbered("accel_controlD10", "accel"));
        assert!(!is_numbered("accel", "accel"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = health(&text);
            let _ = firmware_version(&text);
            let _ = sensor(Some(&text));
            let _ = is_numbered(&text, "accel");
        }
    }
}
