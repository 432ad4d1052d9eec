//! The paths of the host that the agent reads: what the chart mounts into its container, and nothing else.

/// A path of the host, mounted read-only at the same path under the container's host root.
#[derive(Debug)]
pub struct HostMount {
    /// A path that every Linux has: a mount of one that is absent keeps the pod from starting, or is created on the host.
    pub host_path: &'static str,
    /// What it is read for.
    pub reason: &'static str,
    /// Whether it is a file.
    pub is_file: bool,
    /// Whether it is always mounted; otherwise only if a vendor's library on the host itself is configured, or its own value is set.
    pub when: MountCondition,
}

/// When a path is mounted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MountCondition {
    /// Always.
    Always,
    /// If the vendor's library is to be looked up on the host itself: its root is `/`.
    LibraryOnHost,
    /// If this value of the chart is true.
    Value(&'static str),
}

/// What is read whatever the devices are. Only parts of `/sys`: the others have mounts of their own, such as control groups, and
/// files that only root may read.
pub static SHARED_MOUNTS: [HostMount; 7] = [
    directory("/sys/bus", "PCI functions and their drivers"),
    directory("/sys/class", "devices by their kind: DRM, accel, RDMA, DMI"),
    directory("/sys/devices", "what the links of the other two lead to: attributes, sensors, NUMA nodes"),
    directory("/sys/module", "versions of drivers"),
    file("/proc/meminfo", "the memory of the machine"),
    file("/proc/sys/kernel/osrelease", "the release of the kernel"),
    file("/proc/sys/kernel/random/boot_id", "whether the machine was booted since the last observation"),
];

/// A directory that is always mounted.
pub(super) const fn directory(host_path: &'static str, reason: &'static str) -> HostMount {
    HostMount { host_path, reason, is_file: false, when: MountCondition::Always }
}

const fn file(host_path: &'static str, reason: &'static str) -> HostMount {
    HostMount { host_path, reason, is_file: true, when: MountCondition::Always }
}

/// Where distributions install libraries.
pub(super) const USR: HostMount = HostMount {
    when: MountCondition::LibraryOnHost,
    ..directory("/usr", "the library, where it is installed on the host itself")
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendors::VENDORS;

    #[test]
    fn nothing_is_mounted_that_has_secrets_or_sockets_and_no_mount_is_below_another() {
        let own = VENDORS.into_iter().flat_map(|record| record.mounts);
        let mounts: Vec<&HostMount> = SHARED_MOUNTS.iter().chain(own).collect();
        for mount in &mounts {
            let path = mount.host_path;
            for never in ["/", "/sys", "/proc", "/dev", "/etc", "/run", "/var", "/root", "/home", "/boot"] {
                assert_ne!(path, never);
            }
            assert!(!path.starts_with("/var/") && !path.starts_with("/run/"), "{path}");
            let inside = |other: &&&HostMount| path.starts_with(&format!("{}/", other.host_path));
            assert_eq!(mounts.iter().find(inside).map(|other| other.host_path), None, "{path}");
            assert_eq!(mount.is_file, path.starts_with("/proc/") && path != "/proc/driver", "{path}");
        }
    }
}
