//! What amdgpu reports in debugfs, which only root may read. A file that may not be read, or a debugfs that is not mounted, is
//! the reason of a missing fact and not a problem.

use std::collections::BTreeMap;

use afd_host::{ReadError, ReadErrorKind};
use afd_model::{Device, HandleKind, Known, Missing};
use afd_probe::{Facts, pci::numbered};

use crate::cper::{self, CperRecord};

/// Twice the maximum size of a ring (`CPER_MAX_RING_SIZE`).
const MAX_RING_BYTES: usize = 2 << 20;

/// The directory of a device, by the number of its DRM card; a link where the directory is named by the PCI address.
pub(crate) fn directory(device: &Device) -> Option<String> {
    let number = numbered(device.handle(HandleKind::DrmCard)?, "card")?;
    Some(format!("/sys/kernel/debug/dri/{number}"))
}

/// The feature version of the firmware of each block of the device, by the name that the driver gives the block
/// (`amdgpu_firmware_info`).
pub(crate) fn features(facts: &mut Facts<'_>, directory: &str) -> Known<BTreeMap<String, u32>> {
    let path = format!("{directory}/amdgpu_firmware_info");
    match facts.host().read(&path) {
        Ok(text) => Known::Value(parse_features(&String::from_utf8_lossy(&text))),
        Err(error) => unreadable(facts, "firmware", &error),
    }
}

/// The error records of the driver (`amdgpu_ring_cper`).
///
/// The file is read by one call with a buffer for all of it. From Linux 6.15 to 7.0 the driver writes the whole ring at every
/// read, whatever the size of the buffer, and reads beyond its own memory at the second one.
pub(crate) fn records(facts: &mut Facts<'_>, directory: &str) -> Known<Vec<CperRecord>> {
    let path = format!("{directory}/amdgpu_ring_cper");
    match facts.host().read_once(&path, MAX_RING_BYTES) {
        Ok(ring) => cper::parse(&ring).map_or_else(
            |error| facts.missing("error_records", Missing::Malformed, Some(&path), error),
            Known::Value,
        ),
        Err(error) => unreadable(facts, "error_records", &error),
    }
}

fn unreadable<T>(facts: &mut Facts<'_>, fact: &str, error: &ReadError) -> Known<T> {
    match error.kind {
        ReadErrorKind::Absent => Missing::NotExposed.into(),
        ReadErrorKind::Denied(_) => Missing::NotPermitted.into(),
        ReadErrorKind::NoValue(_) => Missing::NotAvailable.into(),
        ReadErrorKind::TooLong | ReadErrorKind::Failed(_) => {
            facts.missing(fact, Missing::Unreadable, Some(&error.path), error.kind)
        }
    }
}

/// The lines `MEC feature version: 33, firmware version: 0x00000160`; other lines are skipped.
fn parse_features(text: &str) -> BTreeMap<String, u32> {
    let of_line = |line: &str| {
        let (block, versions) = line.split_once(" feature version: ")?;
        let (feature, _) = versions.split_once(',')?;
        Some((block.to_owned(), feature.parse().ok()?))
    };
    text.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_firmware() {
        let features = parse_features(
            "MEC feature version: 33, firmware version: 0x00000160\n\
             SMC feature version: 2, program: 0, firmware version: 0x00557e00 (85.126.0)\n\
             TA XGMI feature version: 0x00000000, firmware version: 0x20000001\n\
             VBIOS version: 113-D0650100-X00\n",
        );
        assert_eq!(features, BTreeMap::from([("MEC".to_owned(), 33), ("SMC".to_owned(), 2)]));
    }

    #[test]
    fn files_that_are_absent_or_not_permitted_are_no_problem() {
        let folder = TestHost::new();
        let host = folder.open();
        let mut facts = Facts::new(&host, "amd");
        assert_eq!(records(&mut facts, "/sys/kernel/debug/dri/0").missing(), Some(Missing::NotExposed));
        assert_eq!(features(&mut facts, "/sys/kernel/debug/dri/0").missing(), Some(Missing::NotExposed));
        let denied = ReadError { path: String::new(), kind: ReadErrorKind::Denied(13) };
        let unreadable: Known<()> = unreadable(&mut facts, "firmware", &denied);
        assert_eq!(unreadable.missing(), Some(Missing::NotPermitted));
        assert!(facts.into_problems().is_empty());
    }

    #[test]
    fn a_truncated_ring_is_a_problem() {
        let folder = TestHost::with_files([("/sys/kernel/debug/dri/1/amdgpu_ring_cper", "short")]);
        let host = folder.open();
        let mut facts = Facts::new(&host, "amd");
        assert_eq!(records(&mut facts, "/sys/kernel/debug/dri/1").missing(), Some(Missing::Malformed));
        assert_eq!(facts.into_problems().len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n)*") {
            let _ = parse_features(&text);
        }
    }
}
