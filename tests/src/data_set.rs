//! Data sets that are no part of the repository: hosts in archives that stand beside the checkout, or where a variable says.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use tempfile::TempDir;

use crate::workspace;

/// An optional data set.
#[derive(Clone, Copy, Debug)]
pub struct DataSet {
    /// The variable with its folder.
    variable: &'static str,
    /// The folder without it, from the root of the workspace.
    default: &'static str,
}

/// Small host roots of reported situations, each with what the binary publishes of it: `cases.rs`.
pub const CASES: DataSet = DataSet { variable: "AFD_CASES", default: "../shared/cases" };
/// Recordings of real hosts, each with its facts: `captures.rs`.
pub const CAPTURES: DataSet = DataSet { variable: "AFD_CAPTURES", default: "../shared/captures/roots" };

impl DataSet {
    /// Its folder.
    pub fn folder(self) -> PathBuf {
        env::var_os(self.variable).map_or_else(|| workspace().join(self.default), PathBuf::from)
    }

    /// Its archives in order of name, or none where it is absent, which is then said.
    #[expect(clippy::print_stderr, reason = "a test says what it did not compare")]
    pub fn archives(self) -> Option<Vec<HostArchive>> {
        let folder = self.folder();
        let Ok(entries) = fs::read_dir(&folder) else {
            let DataSet { variable, .. } = self;
            eprintln!(
                "no data set at {} ({variable} names another place): nothing is compared with it",
                folder.display()
            );
            return None;
        };
        let mut archives: Vec<HostArchive> =
            entries.filter_map(|entry| HostArchive::at(entry.ok()?.path())).collect();
        archives.sort_by(|a, b| a.name.cmp(&b.name));
        Some(archives)
    }
}

/// A host in an archive.
#[derive(Clone, Debug)]
pub struct HostArchive {
    /// The name of the file without its end.
    pub name: String,
    path: PathBuf,
}

impl HostArchive {
    fn at(path: PathBuf) -> Option<HostArchive> {
        let name = path.file_name()?.to_str()?.strip_suffix(".tar.gz")?.to_owned();
        Some(HostArchive { name, path })
    }

    /// Its files in a temporary folder.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub fn unpack(&self) -> io::Result<TempDir> {
        let folder = TempDir::new()?;
        tar::Archive::new(GzDecoder::new(fs::File::open(&self.path)?)).unpack(folder.path())?;
        Ok(folder)
    }

    /// The root of the host, in the folder that it was unpacked to.
    pub fn root(&self, folder: &Path) -> PathBuf {
        let named = folder.join(&self.name);
        if named.is_dir() { named.join("root") } else { folder.join("root") }
    }
}
