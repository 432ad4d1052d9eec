//! NVML as a library: where it is, and what is reported of one that does not work.

use std::time::Duration;

use afd_probe::{
    library::{DIRECTORIES, LibraryInterface, LibrarySpec},
    report::Retention,
};

use crate::{
    NAME,
    nvml::{
        report::{DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH, NO_PERMISSION, NvmlStatus, unit_of},
        table::{self, call},
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
    interfaces: &[LibraryInterface {
        init: call::INIT.symbol,
        required: &[call::DEVICE_COUNT],
        title: "NVML",
        recording: "nvml.json",
    }],
    drivers: &[],
    enumerates_once: false,
    // Initialising a GPU takes seconds where persistence mode is off, and minutes with confidential computing.
    start_deadline: Duration::from_secs(600),
    discover_deadline: Duration::from_secs(120),
    sample_deadline: Duration::from_secs(10),
    unit_of,
    retains: Retention {
        calls: table::is_static,
        identity: &[call::UUID, call::GPU_INSTANCE_ID, call::COMPUTE_INSTANCE_ID],
        partitions: &[call::MIG_MODE, call::MAX_MIG_DEVICES],
    },
    init_advice: |code| match code {
        LIB_RM_VERSION_MISMATCH => "library and kernel driver are of different versions",
        NO_PERMISSION => "opening the device files /dev/nvidia* is not permitted",
        DRIVER_NOT_LOADED => "the kernel driver is not loaded, or its device files are not visible here",
        _ => "see the kernel log",
    },
};
