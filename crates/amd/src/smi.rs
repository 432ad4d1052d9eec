//! What AMD's libraries report, queried by a process of its own (`afd probe amd`): AMD SMI (`libamd_smi.so`), else ROCm SMI
//! (`librocm_smi64.so`).
//!
//! In goes the path of the library, out come [`AmdReport`]s: each call with its value or its error, not interpreted. The
//! library is initialised once. It enumerates the processors then and never again; other ones need another
//! process.
//!
//! # What the libraries add to what the kernel reports
//!
//! | fact | call | why the kernel does not report it |
//! |---|---|---|
//! | marketing name | `amdsmi_get_gpu_asic_info`, `rsmi_dev_name_get` | it is in a file of libdrm; the FRU of the board is not accessible to virtual functions and absent on Radeon cards |
//! | UUID and unique id | `amdsmi_get_gpu_device_uuid`, `amdsmi_get_gpu_asic_info`, `rsmi_dev_unique_id_get` | virtual functions have no `unique_id` |
//! | VBIOS version | `amdsmi_get_gpu_vbios_info` | `vbios_version` is the part number only |
//! | bare metal, host, guest or passed through | `amdsmi_get_gpu_virtualization_mode` | a passed-through physical function has no distinguishing attribute |
//! | the greatest number of bad pages | `amdsmi_get_gpu_bad_page_threshold` | it is in debugfs, for root alone |
//! | the number of partitions of a mode | `amdsmi_get_gpu_accelerator_partition_profile` | KFD lists those that exist |
//!
//! Memory, VBIOS part number, driver version, utilization, memory in use and XGMI links are taken from the library where the
//! kernel does not report them.
//!
//! Error counts, bad pages, power, power caps, temperatures, clocks and throttling are not queried: the libraries read the
//! very files that AFD reads, and lay them out in other structs and units from release to release.
//! `amdsmi_get_violation_status` waits for a second sample within the call. The energy counter is reported with the same 15.3
//! microjoules for every product, which is not the unit of a Radeon. Memory of partitions is not taken: where KFD does not
//! report it, the libraries report that of the whole device.

pub mod amdsmi;
pub(crate) mod readings;
pub mod rocmsmi;

use std::{ffi::OsStr, time::Duration};

use afd_model::PciAddress;
use afd_probe::{
    answers::LibraryCall,
    ffi::LoadedLibrary,
    library::{DIRECTORIES, LibraryInterface, LibrarySpec},
    report::{DeviceAnswers, LibraryAnswers, LibraryReport, ReportedUnit, Retention},
    status::{StatusCode, StatusRow, StatusTable, UnlistedStatus},
};
use serde_json::Value;

use self::{amdsmi::AmdSmi, rocmsmi::RocmSmi};
use crate::NAME;

/// `amdsmi_status_t` or `rsmi_status_t`, by the name without `AMDSMI_STATUS_` or `RSMI_STATUS_`.
pub type SmiStatus = StatusCode<SmiStatuses>;
/// What AMD SMI or ROCm SMI reported: `libraries/amdsmi.json` or `libraries/rocmsmi.json` of a recording.
pub type AmdReport = LibraryReport<SmiStatuses>;
/// Answers by call.
pub type AmdAnswers = LibraryAnswers<SmiStatuses>;
/// What the library reported of one processor. AMD SMI: the partitions of a GPU are in one socket, the first of them is the
/// GPU.
pub(crate) type AmdDeviceAnswers = DeviceAnswers<SmiStatuses>;
/// The value of a call, or its status.
pub(crate) type CallResult = Result<Value, SmiStatus>;

/// The statuses of both libraries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SmiStatuses;

impl StatusTable for SmiStatuses {
    const C_TYPE: &'static str = "amdsmi_status_t or rsmi_status_t";
    const TABLES: &'static [&'static [StatusRow]] = &[amdsmi::STATUSES, rocmsmi::STATUSES];
    const UNLISTED: UnlistedStatus = UnlistedStatus::String;
}

/// Where the libraries are. AMD SMI takes precedence over ROCm SMI. ROCm's own packages have the plain name; distributions have
/// it in their packages for developers alone, so the versions are looked up as well.
pub(crate) static LIBRARY: LibrarySpec<SmiStatuses> = LibrarySpec {
    probe: NAME,
    fact: "smi",
    files: &[
        "libamd_smi.so",
        "libamd_smi.so.27",
        "libamd_smi.so.26",
        "libamd_smi.so.25",
        "libamd_smi.so.24",
        "librocm_smi64.so",
        "librocm_smi64.so.7",
        "librocm_smi64.so.6",
        "librocm_smi64.so.5",
        "librocm_smi64.so.1",
    ],
    directories: &[&["/opt/rocm/lib", "/opt/rocm/lib64"], &DIRECTORIES],
    roots: &[""],
    interfaces: &[
        LibraryInterface {
            init: amdsmi::calls::INIT.symbol,
            title: "AMD SMI",
            required: &[],
            recording: "amdsmi.json",
        },
        LibraryInterface {
            init: rocmsmi::calls::INIT.symbol,
            title: "ROCm SMI",
            required: &[],
            recording: "rocmsmi.json",
        },
    ],
    drivers: &["amdgpu"],
    needed_by: &[],
    enumerates_once: true,
    start_deadline: Duration::from_secs(60),
    discover_deadline: Duration::from_secs(60),
    sample_deadline: Duration::from_secs(10),
    unit_of,
    retains: Retention { calls: |call| !is_path(call), identity: &[], partitions: &[] },
    init_advice: |_| "KFD or the device files may not be visible here",
};

/// Whether a call is about the path to another processor. Its argument is the index of that in the report, where it may be
/// another one later.
fn is_path(call: &str) -> bool {
    use self::{amdsmi::calls as amd, rocmsmi::calls as rocm};
    let paths = [amd::LINK_TYPE, amd::LINK_WEIGHT, rocm::LINK_TYPE, rocm::LINK_WEIGHT];
    paths.iter().any(|path: &LibraryCall| call.starts_with(path.symbol))
}

/// Which unit a processor of a report is. AMD SMI numbers partitions in the function digit of the address, ROCm SMI apart.
pub(crate) fn unit_of(answers: &AmdAnswers) -> Option<ReportedUnit> {
    if let Some(bdf) = answers.known::<u64>(amdsmi::calls::BDF).into_value() {
        return Some(ReportedUnit { address: address(bdf, bdf >> 16)?, partition: 0 });
    }
    let bdf: u64 = answers.known(rocmsmi::calls::PCI_ID).into_value()?;
    Some(ReportedUnit { address: address(bdf, bdf >> 32)?, partition: (bdf >> 28) as u32 & 0xf })
}

fn address(bdf: u64, domain: u64) -> Option<PciAddress> {
    Some(PciAddress {
        domain: u32::try_from(domain).ok()?,
        bus: (bdf >> 8) as u8,
        device: (bdf >> 3) as u8 & 0x1f,
        function: bdf as u8 & 7,
    })
}

/// A library, loaded and queried.
pub enum Smi {
    /// AMD SMI.
    Amd(AmdSmi),
    /// ROCm SMI.
    Rocm(RocmSmi),
}

impl Smi {
    /// Loads the library; it is initialised at the first discovery. AMD SMI has the symbols of ROCm SMI as well.
    ///
    /// # Errors
    /// The message of the loader, or that it is neither of the two.
    pub fn open(path: &OsStr) -> Result<Smi, String> {
        let loaded = LoadedLibrary::open(path)?;
        let [amd, rocm] = [amdsmi::calls::INIT.symbol, rocmsmi::calls::INIT.symbol];
        if loaded.has(amd) {
            Ok(Smi::Amd(AmdSmi::new(loaded)))
        } else if loaded.has(rocm) {
            Ok(Smi::Rocm(RocmSmi::new(loaded)))
        } else {
            Err(format!("it has neither {amd} nor {rocm}"))
        }
    }

    /// The processors and what does not change while they are there. Where the library cannot be initialised the report holds
    /// that alone; the next discovery tries again.
    pub fn discover(&mut self) -> AmdReport {
        match self {
            Smi::Amd(library) => library.discover(),
            Smi::Rocm(library) => library.discover(),
        }
    }

    /// The changing values of the processors of the last discovery, in the same order.
    pub fn sample(&self) -> AmdReport {
        match self {
            Smi::Amd(library) => library.sample(),
            Smi::Rocm(library) => library.sample(),
        }
    }
}

#[cfg(test)]
mod tests {
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
        let report: AmdReport = serde_json::from_value(text.clone()).expect("it is a recording");
        assert_eq!(serde_json::to_value(&report).expect("it can be written"), text);
        assert_eq!(LIBRARY.init_error(&report), None);
    }

    #[test]
    fn a_status_has_the_same_meaning_in_both_libraries() {
        for (number, name, missing) in amdsmi::STATUSES.iter().chain(rocmsmi::STATUSES) {
            assert_eq!(SmiStatus::named(name).missing(), *missing, "{name} {number}");
        }
    }

    #[test]
    fn only_paths_to_other_processors_are_forgotten() {
        assert!(!(LIBRARY.retains.calls)("amdsmi_topo_get_link_type(3)"));
        assert!(!(LIBRARY.retains.calls)("rsmi_topo_get_link_weight(1)"));
        assert!((LIBRARY.retains.calls)("rsmi_dev_name_get"));
    }

    #[test]
    fn a_processor_is_found_by_the_numbers_of_either_library() {
        let unit = |call: LibraryCall, bdf: u64| {
            let mut answers = AmdAnswers::default();
            answers.put(call, Ok(json!(bdf)));
            unit_of(&answers).expect("it has an address")
        };
        let (bdf, pci_id) = (amdsmi::calls::BDF, rocmsmi::calls::PCI_ID);
        let device = PciAddress { domain: 0x1_0001, bus: 0x0a, device: 3, function: 0 };
        assert!(unit(bdf, 0x1_0001 << 16 | 0x0a << 8 | 3 << 3).is_device(device));
        assert!(!unit(bdf, 0x1_0001 << 16 | 0x0a << 8 | 3 << 3 | 5).is_device(device), "it is a partition");
        assert!(unit(pci_id, 0x1_0001 << 32 | 0x0a << 8 | 3 << 3).is_device(device));
        assert!(!unit(pci_id, 0x1_0001 << 32 | 2 << 28 | 0x0a << 8 | 3 << 3).is_device(device));
    }
}
