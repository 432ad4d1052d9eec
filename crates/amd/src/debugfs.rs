//! What amdgpu tells in debugfs, which only root may read: that it is closed to the reader, or not mounted, is the reason
//! why a fact is missing and no problem.

use std::collections::BTreeMap;

use afd_host::{ReadError, ReadErrorKind};
use afd_model::{Device, HandleKind, Known, Missing};
use afd_probe::Facts;

use crate::cper::{self, Record};

/// Two rings of the greatest length that the driver makes (`CPER_MAX_RING_SIZE`).
const LONGEST_RING: usize = 2 << 20;

/// The directory of a device: by the number of its DRM card, which the kernel keeps as a link where the directory is
/// called by the PCI address.
pub(crate) fn directory(device: &Device) -> Option<String> {
    let number = device.handle(HandleKind::DrmCard)?.strip_prefix("card")?;
    Some(format!("/sys/kernel/debug/dri/{number}"))
}

/// The feature versions of the firmware of the device's blocks, by the driver's name of the block
/// (`amdgpu_firmware_info`).
pub(crate) fn features(facts: &mut Facts<'_>, directory: &str) -> Known<BTreeMap<String, u32>> {
    let path = format!("{directory}/amdgpu_firmware_info");
    match facts.host().read(&path) {
        Ok(text) => Known::Value(parse_features(&String::from_utf8_lossy(&text))),
        Err(error) => closed(facts, "firmware", &error),
    }
}

/// The records of errors that the driver keeps (`amdgpu_ring_cper`).
///
/// The file is read at once into as much memory as it may fill. From Linux 6.15 to 7.0 the driver answers a read with all
/// that it has, however little room the reader offered, and a second read with whatever lies behind.
pub(crate) fn records(facts: &mut Facts<'_>, directory: &str) -> Known<Vec<Record>> {
    let path = format!("{directory}/amdgpu_ring_cper");
    match facts.host().read_once(&path, LONGEST_RING) {
        Ok(ring) => cper::parse(&ring).map_or_else(
            |error| facts.missing("error_records", Missing::Malformed, Some(&path), error),
            Known::Value,
        ),
        Err(error) => closed(facts, "error_records", &error),
    }
}

fn closed<T>(facts: &mut Facts<'_>, fact: &str, error: &ReadError) -> Known<T> {
    match error.kind {
        ReadErrorKind::Absent => Missing::NotExposed.into(),
        ReadErrorKind::Denied(_) => Missing::NotPermitted.into(),
        ReadErrorKind::NoValue(_) => Missing::NotAvailable.into(),
        ReadErrorKind::TooLong | ReadErrorKind::Failed(_) => {
            facts.missing(fact, Missing::Unreadable, Some(&error.path), error.kind)
        }
    }
}

/// Lines such as `MEC feature version: 33, firmware version: 0x00000160`; others tell of other things.
fn parse_features(text: &str) -> BTreeMap<String, u32> {
    let of_line = |line: &str| {
        let (block, rest) = line.split_once(" feature version: ")?;
        let (feature, _) = rest.split_once(',')?;
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
        let told = parse_features(
            "MEC feature version: 33, firmware version: 0x00000160\n\
             SMC feature version: 2, program: 0, firmware version: 0x00557e00 (85.126.0)\n\
             TA XGMI feature version: 0x00000000, firmware version: 0x20000001\n\
             VBIOS version: 113-D0650100-X00\n",
        );
        assert_eq!(told, BTreeMap::from([("MEC".to_owned(), 33), ("SMC".to_owned(), 2)]));
    }

    #[test]
    fn files_that_are_closed_or_absent_are_no_problem() {
        let folder = TestHost::new();
        let host = folder.open();
        let mut facts = Facts::new(&host, "amd");
        assert_eq!(records(&mut facts, "/sys/kernel/debug/dri/0").missing(), Some(Missing::NotExposed));
        assert_eq!(features(&mut facts, "/sys/kernel/debug/dri/0").missing(), Some(Missing::NotExposed));
        let denied = ReadError { path: String::new(), kind: ReadErrorKind::Denied(13) };
        let closed: Known<()> = closed(&mut facts, "firmware", &denied);
        assert_eq!(closed.missing(), Some(Missing::NotPermitted));
        assert!(facts.into_problems().is_empty());
    }

    #[test]
    fn a_ring_that_is_cut_off_is_a_problem() {
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
