//! NVML as a library: where it is, and what is reported of one that does not work.

use std::time::Duration;

use afd_probe::library::{DIRECTORIES, LibraryInterface, LibrarySpec};

use crate::{
    NAME,
    nvml::{
        report::{DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH, NO_PERMISSION, NvmlStatus, unit_of},
        table::call,
    },
};

/// Where GKE installs the driver.
const GKE_DIRECTORIES: [&str; 1] = ["/home/kubernetes/bin/nvidia/lib64"];

pub(crate) static SPEC: LibrarySpec<NvmlStatus> = LibrarySpec {
    probe: NAME,
    fact: "nvml",
    files: &["libnvidia-ml.so.1"],
    directories: &[&DIRECTORIES, &GKE_DIRECTORIES],
    // The host's own, and the root of the GPU operator's driver container.
    roots: &["", "/run/nvidia/driver"],
    interfaces: &[LibraryInterface { init: call::INIT.symbol, title: "NVML", recording: "nvml.json" }],
    drivers: &[],
    enumerates_once: false,
    // The first discovery initialises every GPU, which takes seconds for each where persistence mode is off.
    discover_deadline: Duration::from_secs(120),
    sample_deadline: Duration::from_secs(10),
    unit_of,
    retains: |_| false,
    init_advice: |code| match code {
        LIB_RM_VERSION_MISMATCH => "library and kernel driver are of different versions",
        NO_PERMISSION => "opening the device files /dev/nvidia* is not permitted",
        DRIVER_NOT_LOADED => "the kernel driver is not loaded, or its device files are not visible here",
        _ => "see the kernel log",
    },
};
