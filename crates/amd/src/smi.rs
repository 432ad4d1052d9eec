//! The word of AMD's libraries, asked in a process of its own (`afd probe amd`): AMD SMI's (`libamd_smi.so`), else ROCm
//! SMI's (`librocm_smi64.so`).
//!
//! In comes the path of the library, out go [`Report`]s: each call with its value or its error, nothing interpreted. The
//! library is initialised once and stays so; which processors there are it found out then, and who sees that they are
//! others has a new process ask.
//!
//! # What the libraries add to the kernel's word
//!
//! | fact | call | why the kernel does not tell it |
//! |---|---|---|
//! | marketing name | `amdsmi_get_gpu_asic_info`, `rsmi_dev_name_get` | it is in a file of libdrm's; the board's own memory is closed to virtual functions and absent on Radeon cards |
//! | UUID and unique id | `amdsmi_get_gpu_device_uuid`, `amdsmi_get_gpu_asic_info`, `rsmi_dev_unique_id_get` | virtual functions have no `unique_id` |
//! | VBIOS version | `amdsmi_get_gpu_vbios_info` | `vbios_version` tells the part number only |
//! | baremetal, host, guest or passed through | `amdsmi_get_gpu_virtualization_mode` | a function that was passed through whole looks like one that was not |
//! | how many bad pages the part may have | `amdsmi_get_gpu_bad_page_threshold` | it is in debugfs, for root alone |
//! | how many partitions a mode makes | `amdsmi_get_gpu_accelerator_partition_profile` | KFD lists those that are there |
//!
//! Memory, VBIOS part number, driver version, load, memory in use and XGMI links are taken from the library where the
//! kernel did not tell them.
//!
//! Error counts, bad pages, power, power caps, temperatures, clocks and throttling are not asked for: the libraries read the
//! very files that AFD reads, and lay them out in other structs and units from release to release.
//! `amdsmi_get_violation_status` waits for a second sample within the call. The energy count is told with the same 15.3
//! microjoules for every part, which is not what a Radeon counts in. Memory of partitions is not taken: where KFD does not
//! tell it, the libraries give the whole device's.

pub mod amdsmi;
pub mod answers;
mod ffi;
pub(crate) mod readings;
pub mod rocmsmi;

use std::ffi::OsStr;

use self::{amdsmi::AmdSmi, answers::Report, ffi::Loaded, rocmsmi::RocmSmi};

/// A library, loaded and asked.
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
    /// What the loader said, or that it is neither of the two.
    pub fn open(path: &OsStr) -> Result<Smi, String> {
        let loaded = Loaded::open(path)?;
        if loaded.has(amdsmi::INIT) {
            Ok(Smi::Amd(AmdSmi::new(loaded)))
        } else if loaded.has(rocmsmi::INIT) {
            Ok(Smi::Rocm(RocmSmi::new(loaded)))
        } else {
            Err(format!("it has neither {} nor {}", amdsmi::INIT, rocmsmi::INIT))
        }
    }

    /// Which processors there are and what does not change while they are there. Where the library cannot be initialised
    /// the report holds that alone; it is tried again the next time.
    pub fn discover(&mut self) -> Report {
        match self {
            Smi::Amd(library) => library.discover(),
            Smi::Rocm(library) => library.discover(),
        }
    }

    /// The moving values of the processors that were last discovered, in the same order.
    pub fn sample(&self) -> Report {
        match self {
            Smi::Amd(library) => library.sample(),
            Smi::Rocm(library) => library.sample(),
        }
    }
}
