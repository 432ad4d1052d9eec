//! The node as we see it beneath `--host-root`: files, directories and links.
//!
//! The only crate that opens anything. Every path given is absolute as the host sees it (`/sys/class/drm`) and is
//! resolved beneath the root: the kernel itself (openat2 with RESOLVE_IN_ROOT) keeps absolute links and `..` from
//! leading out. Every answer is a value or a [`ReadError`] with the path and the cause. Reads are bounded, so a
//! file without an end cannot hurt, and nothing here ever writes to the host.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the crate that opens files")]

pub mod child;
mod read;
mod recording;
#[cfg(feature = "testing")]
pub mod testing;

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Mutex,
};

pub use read::{Cause, MAX_FILE_BYTES, ReadError};
pub use recording::{Asked, CopyError, Recording};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

/// A host beneath a root directory.
#[derive(Debug)]
pub struct Host {
    root: OwnedFd,
    root_path: PathBuf,
    containment: Containment,
    recording: Option<Mutex<Recording>>,
}

/// How paths are kept beneath the root.
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
    /// It is not there, or is no directory, or may not be opened.
    #[error("host root {} cannot be opened as a directory", path.display())]
    Open {
        /// The root.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel is too old to keep links beneath a root other than `/`.
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
    /// When it is no directory that can be opened, or when links cannot be kept beneath it.
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
        Ok(Host { root, root_path: path.to_owned(), containment, recording: None })
    }

    /// The same host, noting all that is asked of it from now on.
    #[must_use]
    pub fn recorded(mut self) -> Host {
        self.recording = Some(Mutex::default());
        self
    }

    /// What was asked so far; empty for a host that does not record.
    pub fn recording(&self) -> Recording {
        self.recording.as_ref().map(|recording| lock(recording).clone()).unwrap_or_default()
    }

    /// The root as it was given.
    pub fn root(&self) -> &Path {
        &self.root_path
    }

    /// The content of a file, at most [`MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// When it is absent, refused, unreadable or too long.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, ReadError> {
        let answer = self
            .open_beneath(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .and_then(|file| read::bounded(file.as_fd()))
            .map_err(|cause| ReadError::new(path, cause));
        self.note(path, || Asked::file(&answer));
        answer
    }

    /// The content of a file by one read, into memory that is longer than the file says it is, at most `most` bytes: for files
    /// whose driver answers one read with all it has, and must not be asked for the rest.
    ///
    /// # Errors
    /// When it is absent, refused, unreadable or says that it is longer.
    pub fn read_at_once(&self, path: &str, most: usize) -> Result<Vec<u8>, ReadError> {
        let answer = self
            .open_beneath(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            .and_then(|file| read::at_once(file.as_fd(), most))
            .map_err(|cause| ReadError::new(path, cause));
        self.note(path, || Asked::file(&answer));
        answer
    }

    /// The names in a directory, sorted. Names that are not UTF-8 are left out: the kernel makes none.
    ///
    /// # Errors
    /// When it is absent, refused or no directory.
    pub fn list(&self, path: &str) -> Result<Vec<String>, ReadError> {
        let answer = self
            .open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(|directory| read::names(directory.as_fd()))
            .map_err(|cause| ReadError::new(path, cause));
        self.note(path, || Asked::listing(&answer));
        answer
    }

    /// The text of a symbolic link, unresolved.
    ///
    /// # Errors
    /// When it is absent, refused or no link.
    pub fn link(&self, path: &str) -> Result<String, ReadError> {
        let answer = self
            .open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW)
            .and_then(|link| read::link_text(link.as_fd()))
            .map_err(|cause| ReadError::new(path, cause));
        self.note(path, || Asked::link(&answer));
        answer
    }

    /// Whether something is at the path, links followed.
    pub fn exists(&self, path: &str) -> bool {
        let exists = self.open_beneath(path, OFlags::PATH).is_ok();
        self.note(path, || Asked::existence(exists));
        exists
    }

    /// Where something beneath the root lies for a library or program that cannot be given a `Host`, links resolved beneath
    /// the root. A recording does not note it: what is used from there is no file of the kernel.
    ///
    /// # Errors
    /// When it is absent or refused.
    pub fn real_path(&self, path: &str) -> Result<PathBuf, ReadError> {
        let descriptor =
            self.open_beneath(path, OFlags::PATH).map_err(|cause| ReadError::new(path, cause))?;
        std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd())).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            ReadError::new(path, Cause::from(errno))
        })
    }

    fn open_beneath(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Cause> {
        let relative = match path.trim_start_matches('/') {
            "" => ".",
            relative => relative,
        };
        let flags = flags | OFlags::CLOEXEC;
        let opened = match self.containment {
            Containment::Kernel => self.open_in_root(relative, flags),
            Containment::Root => openat(&self.root, relative, flags, Mode::empty()),
        };
        opened.map_err(Cause::from)
    }

    /// The kernel answers EAGAIN where a `..` was resolved while somebody renamed or mounted something, anywhere on the
    /// machine (openat2(2)): it cannot tell whether the way led out. Asking again is what it wants.
    fn open_in_root(&self, relative: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        const MOST_TRIES: usize = 1000;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..MOST_TRIES {
            match openat2(&self.root, relative, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                answer => return answer,
            }
        }
        Err(Errno::IO)
    }

    fn note(&self, path: &str, asked: impl FnOnce() -> Asked) {
        if let Some(recording) = &self.recording {
            lock(recording).note(path, asked());
        }
    }
}

fn lock(recording: &Mutex<Recording>) -> std::sync::MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Opens a file of our own machine for writing, new: the recorded copy, never the host.
fn create(path: &Path) -> io::Result<File> {
    File::create_new(path)
}

#[cfg(test)]
mod tests;
