//! The host under `--host-root`: files, directories, links and child processes.
//!
//! The only crate that opens anything. Every path is absolute as the host sees it (`/sys/class/drm`) and is resolved under
//! the root: the kernel (openat2 with RESOLVE_IN_ROOT) prevents absolute links and `..` from leaving it. A read returns
//! a value, or a [`ReadError`] with the path and the kind of error. Reads are bounded, so that an endless file does no
//! harm, and nothing here ever writes to the host.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the crate that opens files")]

pub mod child;
mod lock;
mod read;
mod recording;
pub mod sandbox;
#[cfg(feature = "testing")]
pub mod testing;

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Mutex,
};

pub use lock::LockFile;
pub use read::{MAX_FILE_BYTES, ReadError, ReadErrorKind};
pub use recording::{CopyError, HostRecording, RecordedRead};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

/// A host under a root directory.
#[derive(Debug)]
pub struct Host {
    root: OwnedFd,
    root_path: PathBuf,
    containment: Containment,
    recording: Option<Mutex<HostRecording>>,
    failures: BTreeMap<String, ReadErrorKind>,
}

/// How paths are kept under the root.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Containment {
    /// By the kernel, RESOLVE_IN_ROOT.
    Kernel,
    /// Not needed: the root is `/` itself.
    Root,
}

/// The root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It does not exist, is no directory, or may not be opened.
    #[error("host root {} cannot be opened as a directory", path.display())]
    Open {
        /// The root.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The kernel is too old to keep links under a root other than `/`.
    #[error("host root {}: this kernel has no openat2 (Linux 5.6 or newer is needed)", path.display())]
    NoContainment {
        /// The root.
        path: PathBuf,
    },
}

impl Host {
    /// Opens a root directory.
    ///
    /// # Errors
    /// When it is no directory that can be opened, or when links cannot be kept under it.
    pub fn open(root: impl AsRef<Path>) -> Result<Host, RootError> {
        let path = root.as_ref();
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open_error = |errno: Errno| RootError::Open { path: path.to_owned(), source: errno.into() };
        let root = openat(rustix::fs::CWD, path, directory, Mode::empty()).map_err(open_error)?;
        let containment = match openat2(&root, ".", directory, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(_) => Containment::Kernel,
            Err(_) if path == Path::new("/") => Containment::Root,
            Err(Errno::NOSYS) => return Err(RootError::NoContainment { path: path.to_owned() }),
            Err(errno) => return Err(open_error(errno)),
        };
        Ok(Host { root, root_path: path.to_owned(), containment, recording: None, failures: BTreeMap::new() })
    }

    /// The same host, on which these paths cannot be read or listed: a recording holds what was read, and this is how it is
    /// replayed that a read failed.
    #[must_use]
    pub fn with_failures(mut self, failures: BTreeMap<String, ReadErrorKind>) -> Host {
        self.failures = failures;
        self
    }

    /// The same host, which records all reads from now on.
    #[must_use]
    pub fn with_recording(mut self) -> Host {
        self.recording = Some(Mutex::default());
        self
    }

    /// The reads recorded so far; empty for a host that does not record.
    pub fn recording(&self) -> HostRecording {
        self.recording.as_ref().map(|recording| lock(recording).clone()).unwrap_or_default()
    }

    /// The root as it was given.
    pub fn root(&self) -> &Path {
        &self.root_path
    }

    /// The content of a file, at most [`MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// When it is absent, unreadable or too long, or access is denied.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, ReadError> {
        let result = self
            .open_unless_failed(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .and_then(|file| read::bounded(file.as_fd()))
            .map_err(|kind| ReadError::new(path, kind));
        self.record(path, || RecordedRead::file(&result));
        result
    }

    /// The content of a file by a single read call, into a buffer larger than the reported size of the file, which must not
    /// exceed `max_bytes`: for files whose driver returns everything in one read and does not support a second one.
    ///
    /// # Errors
    /// When it is absent, unreadable or larger than `max_bytes`, or access is denied.
    pub fn read_once(&self, path: &str, max_bytes: usize) -> Result<Vec<u8>, ReadError> {
        let result = self
            .open_unless_failed(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .and_then(|file| read::once(file.as_fd(), max_bytes))
            .map_err(|kind| ReadError::new(path, kind));
        self.record(path, || RecordedRead::file(&result));
        result
    }

    /// Calls `line` with each line of a file, without its end: for lists that may be longer than [`MAX_FILE_BYTES`]. Nothing of it
    /// is kept, unless the reads are recorded.
    ///
    /// # Errors
    /// When it is absent, unreadable or longer than 8 MiB, or access is denied.
    pub fn read_lines(&self, path: &str, mut line: impl FnMut(&[u8])) -> Result<(), ReadError> {
        let mut content = Vec::new();
        let is_recorded = self.recording.is_some();
        let result = self
            .open_unless_failed(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .and_then(|file| {
                read::lines(file.as_fd(), |text| {
                    if is_recorded {
                        content.extend_from_slice(text);
                        content.push(b'\n');
                    }
                    line(text);
                })
            })
            .map_err(|kind| ReadError::new(path, kind));
        self.record(path, || RecordedRead::file(&result.clone().map(|()| content)));
        result
    }

    /// The names in a directory, sorted. Names that are not UTF-8 are left out: the kernel makes none.
    ///
    /// # Errors
    /// When it is absent or no directory, or access is denied.
    pub fn list(&self, path: &str) -> Result<Vec<String>, ReadError> {
        let result = self
            .open_unless_failed(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(|directory| read::names(directory.as_fd(), usize::MAX))
            .map_err(|kind| ReadError::new(path, kind));
        self.record(path, || RecordedRead::listing(&result));
        result
    }

    /// The names in a directory that others can fill, of which there may be at most `max_names`. It is not recorded.
    ///
    /// # Errors
    /// When there are more, or it is absent or no directory, or access is denied.
    pub fn list_at_most(&self, path: &str, max_names: usize) -> Result<Vec<String>, ReadError> {
        self.open_under_root(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(|directory| read::names(directory.as_fd(), max_names))
            .map_err(|kind| ReadError::new(path, kind))
    }

    /// Whether all reads are recorded.
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// The target of a symbolic link, unresolved.
    ///
    /// # Errors
    /// When it is absent or no link, or access is denied.
    pub fn link(&self, path: &str) -> Result<String, ReadError> {
        let result = self
            .open_unless_failed(path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(|link| read::link_target(link.as_fd()))
            .map_err(|kind| ReadError::new(path, kind));
        self.record(path, || RecordedRead::link(&result));
        result
    }

    /// The number of the link or file itself, its inode. The kernel never gives a number of sysfs twice in a boot: another number
    /// at the same path means that the kernel has removed what was there, and made it again. It is not recorded.
    ///
    /// # Errors
    /// When it is absent, or access is denied.
    pub fn file_number(&self, path: &str) -> Result<u64, ReadError> {
        let number = |file: OwnedFd| Ok(rustix::fs::fstat(file)?.st_ino);
        self.open_under_root(path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(number)
            .map_err(|kind| ReadError::new(path, kind))
    }

    /// Whether the path exists, links followed.
    pub fn exists(&self, path: &str) -> bool {
        let exists = self.open_under_root(path, OFlags::PATH).is_ok();
        self.record(path, || RecordedRead::existence(exists));
        exists
    }

    /// The real path of something under the root, for a library or program that takes a path; links are resolved under the
    /// root. It is not recorded: what is used from there is no file of the kernel.
    ///
    /// # Errors
    /// When it is absent, or access is denied.
    pub fn real_path(&self, path: &str) -> Result<PathBuf, ReadError> {
        let descriptor =
            self.open_under_root(path, OFlags::PATH).map_err(|kind| ReadError::new(path, kind))?;
        std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd())).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            ReadError::new(path, ReadErrorKind::from(errno))
        })
    }

    fn open_unless_failed(&self, path: &str, flags: OFlags) -> Result<OwnedFd, ReadErrorKind> {
        self.failures.get(path).map_or_else(|| self.open_under_root(path, flags), |kind| Err(*kind))
    }

    fn open_under_root(&self, path: &str, flags: OFlags) -> Result<OwnedFd, ReadErrorKind> {
        let relative = match path.trim_start_matches('/') {
            "" => ".",
            relative => relative,
        };
        let flags = flags | OFlags::CLOEXEC;
        let opened = match self.containment {
            Containment::Kernel => self.open_in_root(relative, flags),
            Containment::Root => openat(&self.root, relative, flags, Mode::empty()),
        };
        opened.map_err(ReadErrorKind::from)
    }

    /// The kernel returns EAGAIN when a `..` was resolved during a rename or a mount anywhere on the machine, because it
    /// cannot be sure that the path stays under the root. openat2(2) asks callers to retry.
    fn open_in_root(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        const MAX_TRIES: usize = 1000;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..MAX_TRIES {
            match openat2(&self.root, relative, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                result => return result,
            }
        }
        Err(Errno::IO)
    }

    fn record(&self, path: &str, read: impl FnOnce() -> RecordedRead) {
        if let Some(recording) = &self.recording {
            lock(recording).add(path, read());
        }
    }
}

fn lock(recording: &Mutex<HostRecording>) -> std::sync::MutexGuard<'_, HostRecording> {
    recording.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Creates a file of a recording, never one of the host.
fn create(path: &Path) -> io::Result<File> {
    File::create_new(path)
}

#[cfg(test)]
mod tests;
