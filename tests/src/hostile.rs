//! A driver root with a library that misbehaves.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use tempfile::TempDir;

use crate::built;

/// A temporary driver root with the hostile library under the name of NVML.
#[derive(Debug)]
pub struct HostileDriverRoot(TempDir);

impl HostileDriverRoot {
    /// With a library that behaves so; see `tests/fakes/hostile`.
    ///
    /// # Panics
    /// When it cannot be laid out.
    pub fn new(behavior: &str) -> HostileDriverRoot {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let file = BUILT.get_or_init(|| built(&["--package", "afd-fake-hostile"], "libafd_fake_hostile.so"));
        let root = HostileDriverRoot(TempDir::new().expect("a temporary folder can be made"));
        fs::create_dir_all(root.library().with_file_name("")).expect("a folder can be made");
        fs::copy(file, root.library()).expect("the library can be copied");
        fs::write(root.library().with_file_name("behavior"), behavior).expect("a file can be written");
        root
    }

    /// The root, for `--nvidia-driver-root`.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The library in it.
    pub fn library(&self) -> PathBuf {
        self.path().join("usr/lib64/libnvidia-ml.so.1")
    }

    /// The living processes that have loaded the library, or that one of them started: they have the same command line.
    pub fn processes(&self) -> Vec<u32> {
        let library = self.library();
        let library = library.to_str().expect("temporary paths are UTF-8");
        let entries = fs::read_dir("/proc").expect("there is a procfs");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let has_library = |pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("probe\0nvidia") && line.contains(library)
        };
        pids.filter(has_library).collect()
    }
}
