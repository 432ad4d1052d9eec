//! A record of all reads of a host, and a copy of what was read.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{Host, ReadError, ReadErrorKind};

/// All reads of a host, by path.
#[derive(Clone, Debug, Default)]
pub struct HostRecording {
    reads: BTreeMap<String, RecordedRead>,
}

/// The result of reading a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RecordedRead {
    /// The content of a file.
    File(Vec<u8>),
    /// The names in a directory.
    Listing(Vec<String>),
    /// A link with this target.
    Link(String),
    /// The path exists.
    Present,
    /// The path does not exist.
    Absent,
    /// It could not be read.
    Failed(ReadErrorKind),
}

impl RecordedRead {
    pub(crate) fn file(result: &Result<Vec<u8>, ReadError>) -> RecordedRead {
        result.as_ref().map_or_else(RecordedRead::failed, |content| RecordedRead::File(content.clone()))
    }

    pub(crate) fn listing(result: &Result<Vec<String>, ReadError>) -> RecordedRead {
        result.as_ref().map_or_else(RecordedRead::failed, |names| RecordedRead::Listing(names.clone()))
    }

    pub(crate) fn link(result: &Result<String, ReadError>) -> RecordedRead {
        result.as_ref().map_or_else(RecordedRead::failed, |target| RecordedRead::Link(target.clone()))
    }

    pub(crate) fn existence(exists: bool) -> RecordedRead {
        if exists { RecordedRead::Present } else { RecordedRead::Absent }
    }

    fn failed(error: &ReadError) -> RecordedRead {
        match error.kind {
            ReadErrorKind::Absent => RecordedRead::Absent,
            kind => RecordedRead::Failed(kind),
        }
    }
}

/// A recording could not be written.
#[derive(Debug, thiserror::Error)]
#[error("recording {path} cannot be written")]
pub struct CopyError {
    /// The path being copied, as the host sees it.
    pub path: String,
    /// The error of the kernel.
    pub source: io::Error,
}

impl HostRecording {
    /// The reads, ordered by path.
    pub fn reads(&self) -> impl Iterator<Item = (&str, &RecordedRead)> {
        self.reads.iter().map(|(path, read)| (path.as_str(), read))
    }

    /// A success takes precedence over a failure, and both over whether the path exists: a path that was read may also be examined in
    /// other ways, such as whether it is a link, and may be gone later.
    pub(crate) fn add(&mut self, path: &str, read: RecordedRead) {
        use RecordedRead::{Absent, Failed, File, Link, Listing, Present};
        match (self.reads.get(path), &read) {
            (Some(File(_) | Listing(_) | Link(_)), Present | Absent | Failed(_))
            | (Some(Failed(_)), Present | Absent) => {}
            _ => {
                self.reads.insert(path.to_owned(), read);
            }
        }
    }

    /// Writes what was read to `target`, which must be an empty directory: files with their redacted content, links as
    /// links, and directories with all names that were listed (an entry that was only listed, or whose read failed, is an
    /// empty file or directory). `rename` replaces names in a path or in the target of a link, each by itself.
    ///
    /// # Errors
    /// When a file or link cannot be written.
    pub fn copy(
        &self,
        host: &Host,
        target: &Path,
        redact: impl Fn(&str, &[u8]) -> Vec<u8>,
        rename: impl FnMut(&str) -> String,
    ) -> Result<(), CopyError> {
        let mut copy = RecordingCopy { host, target, rename, done: BTreeSet::new() };
        for (path, read) in self.reads() {
            let written = match read {
                RecordedRead::File(content) => copy.file(path, &redact(path, content)),
                RecordedRead::Listing(names) => copy.listing(path, names),
                RecordedRead::Link(_) | RecordedRead::Present => copy.placeholder(path),
                RecordedRead::Failed(_) if host.exists(path) => copy.placeholder(path),
                RecordedRead::Absent | RecordedRead::Failed(_) => Ok(()),
            };
            written.map_err(|source| CopyError { path: path.to_owned(), source })?;
        }
        Ok(())
    }
}

struct RecordingCopy<'a, Rename> {
    host: &'a Host,
    target: &'a Path,
    rename: Rename,
    done: BTreeSet<PathBuf>,
}

impl<Rename: FnMut(&str) -> String> RecordingCopy<'_, Rename> {
    fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let Some(destination) = self.destination(path)? else { return Ok(()) };
        if self.done.insert(destination.clone()) {
            make_parent(&destination)?;
            // An entry that was listed before it was read exists already, empty.
            if destination.exists() {
                fs::remove_file(&destination)?;
            }
            crate::create(&destination)?.write_all(content)?;
        }
        Ok(())
    }

    fn listing(&mut self, path: &str, names: &[String]) -> io::Result<()> {
        let Some(destination) = self.destination(path)? else { return Ok(()) };
        fs::create_dir_all(destination)?;
        names.iter().try_for_each(|name| self.placeholder(&format!("{}/{name}", path.trim_end_matches('/'))))
    }

    /// Makes the path exist: its links, and an empty directory or file if it does not exist yet.
    fn placeholder(&mut self, path: &str) -> io::Result<()> {
        let Some(destination) = self.destination(path)? else { return Ok(()) };
        if destination.exists() || destination.is_symlink() || !self.host.exists(path) {
            return Ok(());
        }
        if self.is_directory(path) {
            fs::create_dir_all(destination)
        } else {
            make_parent(&destination)?;
            crate::create(&destination).map(drop)
        }
    }

    /// Whether it is one, though it may not be listed: files in it may be readable.
    fn is_directory(&self, path: &str) -> bool {
        let no_directory = ReadErrorKind::from(rustix::io::Errno::NOTDIR);
        self.host.list(path).map_or_else(|error| error.kind != no_directory, |_| true)
    }

    /// Where a path is in the copy; nowhere if its links lead in a circle. Every link in the path is copied, and followed as
    /// on the host.
    fn destination(&mut self, path: &str) -> io::Result<Option<PathBuf>> {
        // The maximum of the kernel.
        const MAX_LINKS: usize = 40;
        let mut remaining: VecDeque<String> = components(path).collect();
        let mut resolved: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(name) = remaining.pop_front() {
            if name == ".." {
                resolved.pop();
                continue;
            }
            resolved.push(name);
            let current = resolved.join("/");
            let Ok(target) = self.host.link(&format!("/{current}")) else { continue };
            links += 1;
            let copy = self.target.join((self.rename)(&current));
            make_parent(&copy)?;
            if !copy.is_symlink() {
                symlink((self.rename)(&target), &copy)?;
            }
            if links > MAX_LINKS {
                return Ok(None);
            }
            resolved.pop();
            if target.starts_with('/') {
                resolved.clear();
            }
            for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
                remaining.push_front(name);
            }
        }
        Ok(Some(self.target.join((self.rename)(&resolved.join("/")))))
    }
}

/// Creates the folder that a file is to be in.
fn make_parent(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), fs::create_dir_all)
}

fn components(path: &str) -> impl Iterator<Item = String> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestHost;

    #[test]
    fn what_was_read_stays_when_it_is_gone_later() {
        let mut recording = HostRecording::default();
        recording.add("/a", RecordedRead::Absent);
        recording.add("/a", RecordedRead::File(b"1".to_vec()));
        recording.add("/a", RecordedRead::Absent);
        assert_eq!(recording.reads().collect::<Vec<_>>(), [("/a", &RecordedRead::File(b"1".to_vec()))]);
    }

    #[test]
    fn a_link_that_leads_nowhere_makes_no_folder() {
        let folder = TestHost::new().link("/etc/unit", "/dev/null");
        let host = folder.open().with_recording();
        assert!(host.link("/etc/unit").is_ok() && host.read("/etc/unit").is_err());
        let copy = tempfile::TempDir::new().expect("a temporary folder can be made");
        host.recording()
            .copy(&host, copy.path(), |_, content| content.to_vec(), str::to_owned)
            .expect("it can be written");
        assert!(copy.path().join("etc/unit").is_symlink() && !copy.path().join("dev").exists());
    }
}
