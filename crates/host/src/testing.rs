//! Hosts in a temporary directory, for tests.

use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

use crate::Host;

/// A host in a temporary directory, which is removed with the value.
#[derive(Debug)]
pub struct TestHost {
    directory: TempDir,
}

impl TestHost {
    /// An empty host.
    ///
    /// # Panics
    /// When the temporary directory cannot be created.
    #[expect(clippy::new_without_default, reason = "it creates a directory, which no default should")]
    pub fn new() -> TestHost {
        TestHost { directory: TempDir::new().expect("a temporary directory can be created") }
    }

    /// A host with these files.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn with_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> TestHost {
        files.into_iter().fold(TestHost::new(), |host, (path, content)| host.file(path, content))
    }

    /// Adds or replaces a file.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> TestHost {
        fs::write(self.create_parent(path), content).expect("a file of the test host can be written");
        self
    }

    /// Adds a link.
    ///
    /// # Panics
    /// When it cannot be created.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> TestHost {
        symlink(target, self.create_parent(path)).expect("a link of the test host can be created");
        self
    }

    /// Opens it.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open(&self) -> Host {
        Host::open(self.directory.path()).expect("the test host can be opened")
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The path in the temporary directory; its parent exists.
    fn create_parent(&self, path: &str) -> std::path::PathBuf {
        let path = self.directory.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("every path is below the root"))
            .expect("a directory of the test host can be created");
        path
    }
}
