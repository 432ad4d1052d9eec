//! What AMD's own tools tell of a GPU and AFD's vocabulary does not need: read once, when the device is discovered.
//!
//! Compute units are filled in from KFD later, and what only a library tells if there is one.

use afd_model::{AmdFacts, BlockFirmware, Device, Known, Missing};
use afd_probe::{Facts, PciFunction};

use crate::{debugfs, sysfs};

const MODULE: &str = "/sys/module/amdgpu";

/// The blocks whose firmware AMD's node labeller tells, and the files in `fw_version` (`amdgpu_ucode.c`) that tell it as
/// well. A file that says 0 stands for a block without firmware.
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
    // A file that is absent says that the part cannot be cut, if there is a driver to say so.
    let supported = |facts: &Facts<'_>, file: &str| {
        let told = by_driver.then(|| facts.host().exists(&function.attribute(file)));
        Known::from_option(told, Missing::DriverNotBound)
    };
    let module = |facts: &mut Facts<'_>, file: &str| {
        if by_driver {
            facts.text("driver_version", &format!("{MODULE}/{file}"))
        } else {
            Missing::DriverNotBound.into()
        }
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

/// The blocks that have firmware. What it can do is told in debugfs alone.
fn blocks(facts: &mut Facts<'_>, function: &PciFunction, device: &Device) -> Vec<BlockFirmware> {
    let told = match debugfs::directory(device) {
        Some(directory) => debugfs::features(facts, &directory),
        None => Missing::NotExposed.into(),
    };
    let of_block = |(block, file): &(&str, &str)| {
        let path = function.attribute(&format!("fw_version/{file}"));
        let version =
            facts.parse("firmware", &path, parse_version).into_value().filter(|version| *version > 0)?;
        let feature = told
            .as_ref()
            .and_then(|told| Known::from_option(told.get(*block).copied(), Missing::NotAvailable));
        Some(BlockFirmware { block: (*block).to_owned(), version, feature })
    };
    FIRMWARE.iter().filter_map(of_block).collect()
}

/// A number such as `0x000000aa`.
fn parse_version(text: &str) -> Result<u64, &'static str> {
    const WRONG: &str = "no number such as \"0x000000aa\"";
    let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+')).ok_or(WRONG)?;
    u64::from_str_radix(digits, 16).map_err(|_| WRONG)
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
