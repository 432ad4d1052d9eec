//! Hosts laid out in a temporary folder, for tests.

use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

use crate::Host;

/// A host in a temporary folder; it goes when the value goes.
#[derive(Debug)]
pub struct TestHost {
    folder: TempDir,
}

impl TestHost {
    /// An empty host.
    ///
    /// # Panics
    /// When the temporary folder cannot be made.
    #[expect(clippy::new_without_default, reason = "it makes a folder, which no default should")]
    pub fn new() -> TestHost {
        TestHost { folder: TempDir::new().expect("a temporary folder can be made") }
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
        fs::write(self.place(path), content).expect("a file of the test host can be written");
        self
    }

    /// Adds a link.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn link(self, path: &str, text: &str) -> TestHost {
        symlink(text, self.place(path)).expect("a link of the test host can be made");
        self
    }

    /// Opens it.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open(&self) -> Host {
        Host::open(self.folder.path()).expect("the test host can be opened")
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn place(&self, path: &str) -> std::path::PathBuf {
        let place = self.folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("every path lies below the root"))
            .expect("a directory of the test host can be made");
        place
    }
}
