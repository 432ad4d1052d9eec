//! What the driver reports in procfs: `/proc/driver/nvidia/version` and `/proc/driver/nvidia/gpus/<address>/information`
//! (NVIDIA driver README, "The /proc File System Interface"), parsed.

use afd_model::{Known, Missing, PciAddress};
use afd_probe::Facts;

/// One directory per GPU of the driver.
pub(crate) const GPUS: &str = "/proc/driver/nvidia/gpus";
const VERSION: &str = "/proc/driver/nvidia/version";

/// The useful lines of `information`. Lines and white space vary with the driver version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct GpuInformation {
    /// Marketing name.
    pub(crate) model: Known<String>,
    /// `GPU-` and a UUID.
    pub(crate) uuid: Known<String>,
    /// VBIOS version.
    pub(crate) video_bios: Known<String>,
    /// Minor number of `/dev/nvidia<N>`.
    pub(crate) minor: Known<u32>,
    /// Whether the driver excludes the GPU (module option `NVreg_ExcludedGpus`).
    pub(crate) excluded: Known<bool>,
}

/// Reads `information` of a GPU.
pub(crate) fn information(facts: &mut Facts<'_>, address: PciAddress) -> GpuInformation {
    let text = facts.text("information", &format!("{GPUS}/{address}/information"));
    match text {
        Known::Value(text) => parse(&text),
        Known::Missing { missing } => GpuInformation {
            model: missing.into(),
            uuid: missing.into(),
            video_bios: missing.into(),
            minor: missing.into(),
            excluded: missing.into(),
        },
    }
}

/// Version of the loaded driver: the first word of digits and dots in the line `NVRM version: ...`.
pub(crate) fn driver_version(facts: &mut Facts<'_>) -> Known<String> {
    facts.parse("driver_version", VERSION, |text| {
        parse_version(text)
            .ok_or("no line such as \"NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.105.08 ...\"")
    })
}

/// Whether the loaded module is the open one: `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06 ...`.
pub(crate) fn is_open_module(facts: &mut Facts<'_>) -> Known<bool> {
    facts.text("driver_version", VERSION).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("NVRM version:"));
        Known::from_option(line.map(|line| line.contains("Open Kernel Module")), Missing::NotAvailable)
    })
}

fn parse_version(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("NVRM version:"))?;
    let version = |word: &&str| {
        word.contains('.')
            && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    line.split_whitespace().find(version).map(str::to_owned)
}

fn parse(text: &str) -> GpuInformation {
    let value = |names: &[&str]| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let mut values =
            lines.filter(|(name, _)| names.contains(&name.trim())).map(|(_, value)| value.trim());
        match values.next() {
            None => Known::from(Missing::NotExposed),
            // The driver writes question marks until it has initialised the GPU.
            Some(value) if value.is_empty() || value.contains("??") || value == "Unknown" => {
                Missing::NotAvailable.into()
            }
            Some(value) => Known::Value(value.to_owned()),
        }
    };
    GpuInformation {
        model: value(&["Model"]),
        uuid: value(&["GPU UUID"]),
        video_bios: value(&["Video BIOS"]),
        minor: value(&["Device Minor"])
            .and_then(|minor| Known::from_option(minor.parse().ok(), Missing::Malformed)),
        excluded: value(&["GPU Excluded", "Blacklisted"]).map(|word| word.eq_ignore_ascii_case("yes")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn old_and_new_drivers_are_parsed() {
        let new = parse(
            "Model: \t\t NVIDIA GeForce RTX 3090\nGPU UUID: \t GPU-1\nVideo BIOS: \t 94.02\nDevice Minor: \t 0\nGPU Excluded:\t No\n",
        );
        assert_eq!(new.model, Known::Value("NVIDIA GeForce RTX 3090".to_owned()));
        assert_eq!(new.video_bios, Known::Value("94.02".to_owned()));
        assert_eq!((new.minor, new.excluded), (Known::Value(0), Known::Value(false)));
        let old = parse(
            "Model: Tesla K80\nGPU UUID: GPU-????????-????-????-????-????????????\nBlacklisted:\t Yes\n",
        );
        assert_eq!(old.uuid.missing(), Some(Missing::NotAvailable));
        assert_eq!(old.excluded, Known::Value(true));
        assert_eq!(old.minor.missing(), Some(Missing::NotExposed));
    }

    #[test]
    fn the_versions_of_both_kernel_modules_are_parsed() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57.02  Tue Jul 13 16:14:05 UTC 2021\nGCC version: 9.3.0\n";
        assert_eq!(parse_version(closed).as_deref(), Some("470.57.02"));
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build  (builder)\n";
        assert_eq!(parse_version(open).as_deref(), Some("580.105.08"));
        assert_eq!(parse_version("GCC version: 9.3.0"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n)*") {
            let _ = parse(&text);
            let _ = parse_version(&text);
        }
    }
}
