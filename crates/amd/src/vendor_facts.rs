//! Facts that only AMD's own tools publish, read when the device is discovered.
//!
//! Compute units are filled in later from KFD, and facts that only a library reports if there is one.

use afd_model::{AmdFacts, BlockFirmware, Device, Known, Missing};
use afd_probe::{Facts, PciFunction};

use crate::{debugfs, sysfs};

/// The driver of physical functions whose virtual functions are given to virtual machines.
const HOST_DRIVER: &str = "gim";

/// The blocks whose firmware AMD's node labeller publishes, and their files in `fw_version` (`amdgpu_ucode.c`). Version 0 stands
/// for a block without firmware.
const FIRMWARE: [(&str, &str); 10] = [
    ("CE", "ce_fw_version"),
    ("MC", "mc_fw_version"),
    ("ME", "me_fw_version"),
    ("MEC", "mec_fw_version"),
    ("PFP", "pfp_fw_version"),
    ("RLC", "rlc_fw_version"),
    ("SDMA0", "sdma_fw_version"),
    ("SMC", "smc_fw_version"),
    ("UVD", "uvd_fw_version"),
    ("VCE", "vce_fw_version"),
];

pub(crate) fn read(facts: &mut Facts<'_>, function: &PciFunction, device: &Device) -> AmdFacts {
    let by_driver = device.driver.value().is_some_and(|driver| driver == "amdgpu");
    // With the driver, an absent file means that the device cannot be partitioned.
    let supported = |facts: &Facts<'_>, file: &str| {
        let exists = by_driver.then(|| facts.host().exists(&function.attribute(file)));
        Known::from_option(exists, Missing::DriverNotBound)
    };
    let module = |facts: &mut Facts<'_>, file: &str| match device.driver.value().map(String::as_str) {
        Some("amdgpu") => facts.text("driver_version", &format!("/sys/module/amdgpu/{file}")),
        Some(HOST_DRIVER) => {
            facts.text("driver_version", &format!("/sys/module/{HOST_DRIVER}/{file}")).map(released)
        }
        _ => Missing::DriverNotBound.into(),
    };
    AmdFacts {
        board_name: sysfs::product_name(facts, function),
        board_number: sysfs::product_number(facts, function),
        module_version: module(facts, "version"),
        module_source_version: module(facts, "srcversion"),
        compute_partitioning_supported: supported(facts, "available_compute_partition"),
        memory_partitioning_supported: supported(facts, "available_memory_partition"),
        firmware: blocks(facts, function, device),
        ..AmdFacts::default()
    }
}

/// A version without what the build adds after a `+`, as AMD's labeller writes it.
fn released(version: String) -> String {
    version.split('+').next().unwrap_or_default().to_owned()
}

/// The blocks that have firmware. Feature versions are in debugfs only.
fn blocks(facts: &mut Facts<'_>, function: &PciFunction, device: &Device) -> Vec<BlockFirmware> {
    let features = match debugfs::directory(device) {
        Some(directory) => debugfs::features(facts, &directory),
        None => Missing::NotExposed.into(),
    };
    let of_block = |(block, file): &(&str, &str)| {
        let path = function.attribute(&format!("fw_version/{file}"));
        let version =
            facts.parse("firmware", &path, parse_version).into_value().filter(|version| *version > 0)?;
        let feature = features
            .as_ref()
            .and_then(|features| Known::from_option(features.get(*block).copied(), Missing::NotAvailable));
        Some(BlockFirmware { block: (*block).to_owned(), version, feature })
    };
    FIRMWARE.iter().filter_map(of_block).collect()
}

/// A hexadecimal number: `0x000000aa`.
fn parse_version(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "expected a number such as \"0x000000aa\"";
    let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+')).ok_or(EXPECTED)?;
    u64::from_str_radix(digits, 16).map_err(|_| EXPECTED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_hexadecimal() {
        assert_eq!(parse_version("0x000000aa"), Ok(170));
        for wrong in ["", "0x", "170", "0x+1", "0xaa 1"] {
            assert!(parse_version(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n)*") {
            let _ = parse_version(&text);
        }
    }
}
