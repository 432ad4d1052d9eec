//! Interprets the files of habanalabs. Pure functions; no file is read here.

use afd_model::Sensor;

pub(crate) mod library;

/// What the driver, or HLML, says a device does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum GaudiStatus {
    /// It accepts work.
    Operational,
    /// The driver resets it.
    InReset,
    /// The driver initialises it.
    InCreation,
    /// The driver resets it because its last workload has closed it. That follows every job.
    InReleaseReset,
    /// The driver has disabled it.
    Disabled,
    /// It works again after a reset only.
    NeedsReset,
    /// It does not work.
    Malfunction,
}

/// The attribute `status` (`sysfs-driver-habanalabs`).
///
/// # Errors
/// When the driver has no such status.
pub(crate) fn status(text: &str) -> Result<GaudiStatus, &'static str> {
    Ok(match text.trim().replace('_', " ").to_ascii_lowercase().as_str() {
        "operational" => GaudiStatus::Operational,
        "in reset" => GaudiStatus::InReset,
        "in device creation" => GaudiStatus::InCreation,
        "in reset after device release" => GaudiStatus::InReleaseReset,
        "disabled" => GaudiStatus::Disabled,
        "needs reset" => GaudiStatus::NeedsReset,
        "malfunction" => GaudiStatus::Malfunction,
        _ => return Err("unknown status; expected one like \"Operational\""),
    })
}

/// `enum hl_device_status`.
pub(crate) fn numbered_status(number: u32) -> Option<GaudiStatus> {
    Some(match number {
        0 => GaudiStatus::Operational,
        1 => GaudiStatus::InReset,
        2 => GaudiStatus::Malfunction,
        3 => GaudiStatus::NeedsReset,
        4 => GaudiStatus::InCreation,
        5 => GaudiStatus::InReleaseReset,
        _ => return None,
    })
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
    fn a_status_is_one_of_the_driver() {
        assert_eq!(status("Operational"), Ok(GaudiStatus::Operational));
        assert_eq!(status("In reset after device release"), Ok(GaudiStatus::InReleaseReset));
        assert_eq!(status("NEEDS_RESET"), Ok(GaudiStatus::NeedsReset));
        assert!(status("operational?").is_err());
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
            let _ = status(&text);
            let _ = firmware_version(&text);
            let _ = sensor(Some(&text));
        }
    }
}
