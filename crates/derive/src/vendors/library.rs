//! The vendor's library.

/// Resident memory above which a library's process is killed: no library needs a third of it.
pub(super) const MAX_RESIDENT_BYTES: u64 = 256 << 20;
/// Private memory that a library's process can have at all, used or not: the stacks of its threads are part of it.
pub(super) const MAX_DATA_BYTES: u64 = 320 << 20;

/// A vendor's library, which `afd probe <name>` loads in a process of its own.
#[derive(Debug)]
pub struct VendorLibrary {
    /// Name of the library in a problem.
    pub fact: &'static str,
    /// What the library is called in sentences.
    pub title: &'static str,
    /// The option that sets the root under which the library is looked up, without the dashes.
    pub root_option: &'static str,
    /// Help of that option.
    pub root_help: &'static str,
    /// The value of the chart that sets that root; `None` if the chart has none.
    pub chart_value: Option<&'static str>,
    /// Whether it reports UUIDs. If so, series of a device begin when it has answered, since they have the UUID as a label.
    pub reports_uuids: bool,
    /// The environment of the process, which inherits nothing of the agent's.
    pub environment: &'static [(&'static str, &'static str)],
    /// Resident memory above which the process is killed, since the library leaks then.
    pub max_resident_bytes: u64,
    /// Private memory that the process can have; more is refused by the kernel.
    pub max_data_bytes: u64,
    /// Files and folders that the library reads besides its own folder, the system's libraries, sysfs and common files
    /// of procfs.
    pub read_paths: &'static [&'static str],
    /// Folders in which the library makes files that it shares with other processes.
    pub shared_folders: &'static [&'static str],
    /// Whether the process opens counters of the kernel that are of devices (`perf_event_open`). It never opens those of processes.
    pub opens_counters: bool,
    /// Programs that the library executes. Without any its process cannot start another one.
    pub programs: &'static [&'static str],
    /// Device files that the library opens. A name that ends in `*` stands for all that begin so, and in a folder below `/dev` for
    /// all of the folder.
    pub device_files: &'static [&'static str],
}
