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

/// Where distributions and clouds install the driver's libraries besides.
const PLACES: &[&str] = &[
    // GKE: Container-Optimized OS, and Ubuntu.
    "/home/kubernetes/bin/nvidia/lib64",
    "/opt/nvidia/lib64",
    // Container-Optimized OS elsewhere.
    "/var/lib/nvidia/lib64",
    // Bottlerocket, under its system root.
    "/usr/lib/nvidia/tesla",
    "/usr/lib/nvidia/grid",
    // JetPack 7 and older.
    "/usr/lib/aarch64-linux-gnu/nvidia",
    "/usr/lib/aarch64-linux-gnu/tegra",
    // Debian's alternatives.
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    // Flatcar: by version of driver and kernel.
    "/opt/nvidia/*/*/usr/lib64",
    // WSL2.
    "/usr/lib/wsl/lib",
    // A driver that is injected into containers.
    "/usr/local/nvidia/lib64",
];

pub(crate) static SPEC: LibrarySpec<NvmlStatus> = LibrarySpec {
    probe: NAME,
    fact: "nvml",
    files: &["libnvidia-ml.so.1"],
    directories: &[&DIRECTORIES, PLACES],
    // The host's own, that of the GPU operator's driver container, Talos' and Bottlerocket's.
    roots: &[
        "",
        "/run/nvidia/driver",
        "/usr/local/glibc",
        "/x86_64-bottlerocket-linux-gnu/sys-root",
        "/aarch64-bottlerocket-linux-gnu/sys-root",
    ],
    needed_by: &[NAME],
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

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;

    use super::*;

    #[test]
    fn the_library_is_found_where_each_distribution_has_it() {
        for place in [
            "/usr/lib64",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu/nvidia",
            "/usr/lib/x86_64-linux-gnu/nvidia/current",
            "/run/nvidia/driver/usr/lib/x86_64-linux-gnu",
            "/home/kubernetes/bin/nvidia/lib64",
            "/var/lib/nvidia/lib64",
            "/opt/nvidia/lib64",
            "/opt/nvidia/550.90.07/6.6.60-flatcar/usr/lib64",
            "/x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
            "/aarch64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
            "/usr/local/glibc/lib",
            "/usr/local/glibc/usr/lib",
            "/run/opengl-driver/lib",
            "/usr/lib/wsl/lib",
        ] {
            let folder = TestHost::new().file(&format!("{place}/libnvidia-ml.so.1"), "");
            let host = folder.open();
            assert!(SPEC.find(&host, None).is_some(), "{place}");
            assert!(
                SPEC.find(&TestHost::new().open(), Some(host.root())).is_some(),
                "{place} under a given root"
            );
        }
        let other = TestHost::new().file("/opt/other/libnvidia-ml.so.1", "");
        assert_eq!(SPEC.find(&other.open(), None), None);
    }
}
