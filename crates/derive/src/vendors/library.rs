//! The vendor's library and the folders of the host that a probe needs.

/// Resident memory above which a library's process ends: no library needs a third of it.
pub(super) const MAX_RESIDENT_BYTES: u64 = 256 << 20;

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
    /// Variables in the environment of the process.
    pub environment: &'static [(&'static str, &'static str)],
    /// Resident memory above which the process ends, since the library leaks then.
    pub max_resident_bytes: u64,
    /// Device files that the library opens; a name that ends in `*` stands for all that begin so.
    pub device_files: &'static [&'static str],
}

/// A folder of the host that a probe reads.
#[derive(Debug)]
pub struct VendorMount {
    /// The folder.
    pub host_path: &'static str,
    /// What it is read for.
    pub reason: &'static str,
    /// Whether the chart mounts it unless it is switched off.
    pub by_default: bool,
}
