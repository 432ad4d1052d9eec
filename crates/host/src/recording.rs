//! Notes of all that was asked of a host, and a copy of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{Cause, Host, ReadError};

/// All that was asked of a host, by path.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    asked: BTreeMap<String, Asked>,
}

/// What a path answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Asked {
    /// The content of a file.
    File(Vec<u8>),
    /// The names in a directory.
    Listing(Vec<String>),
    /// A link with this text.
    Link(String),
    /// Something is there.
    Present,
    /// Nothing is there.
    Absent,
    /// It could not be read, and why.
    Failed(Cause),
}

impl Asked {
    pub(crate) fn file(answer: &Result<Vec<u8>, ReadError>) -> Asked {
        answer.as_ref().map_or_else(Asked::failed, |content| Asked::File(content.clone()))
    }

    pub(crate) fn listing(answer: &Result<Vec<String>, ReadError>) -> Asked {
        answer.as_ref().map_or_else(Asked::failed, |names| Asked::Listing(names.clone()))
    }

    pub(crate) fn link(answer: &Result<String, ReadError>) -> Asked {
        answer.as_ref().map_or_else(Asked::failed, |text| Asked::Link(text.clone()))
    }

    pub(crate) fn existence(exists: bool) -> Asked {
        if exists { Asked::Present } else { Asked::Absent }
    }

    fn failed(error: &ReadError) -> Asked {
        match error.cause {
            Cause::Absent => Asked::Absent,
            cause => Asked::Failed(cause),
        }
    }
}

/// A copy could not be written.
#[derive(Debug, thiserror::Error)]
#[error("recording {path} cannot be written")]
pub struct CopyError {
    /// What was being copied, as the host sees it.
    pub path: String,
    /// What the kernel said.
    pub source: io::Error,
}

impl Recording {
    /// What was asked, in the order of paths.
    pub fn asked(&self) -> impl Iterator<Item = (&str, &Asked)> {
        self.asked.iter().map(|(path, asked)| (path.as_str(), asked))
    }

    pub(crate) fn note(&mut self, path: &str, asked: Asked) {
        // A file's content tells more than that something is there.
        match self.asked.get(path) {
            Some(known) if asked == Asked::Present && *known != Asked::Absent => {}
            _ => {
                self.asked.insert(path.to_owned(), asked);
            }
        }
    }

    /// Writes what was asked beneath `target`, which must be an empty directory: files with their content as
    /// `redact` leaves it, links as links, and directories with all names that were listed (an entry that was only
    /// listed is an empty file or directory).
    ///
    /// # Errors
    /// When a file or link cannot be written.
    pub fn copy(
        &self,
        host: &Host,
        target: &Path,
        redact: impl Fn(&str, &[u8]) -> Vec<u8>,
    ) -> Result<(), CopyError> {
        let mut copy = Copy { host, target, done: BTreeSet::new() };
        for (path, asked) in self.asked() {
            let written = match asked {
                Asked::File(content) => copy.file(path, &redact(path, content)),
                Asked::Listing(names) => copy.listing(path, names),
                Asked::Link(_) | Asked::Present => copy.placeholder(path),
                Asked::Absent | Asked::Failed(_) => Ok(()),
            };
            written.map_err(|source| CopyError { path: path.to_owned(), source })?;
        }
        Ok(())
    }
}

struct Copy<'a> {
    host: &'a Host,
    target: &'a Path,
    done: BTreeSet<PathBuf>,
}

impl Copy<'_> {
    fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let place = self.place(path)?;
        if self.done.insert(place.clone()) {
            // An entry that was listed before it was read is there already, empty.
            if place.exists() {
                fs::remove_file(&place)?;
            }
            crate::create(&place)?.write_all(content)?;
        }
        Ok(())
    }

    fn listing(&mut self, path: &str, names: &[String]) -> io::Result<()> {
        let place = self.place(path)?;
        fs::create_dir_all(place)?;
        names.iter().try_for_each(|name| self.placeholder(&format!("{}/{name}", path.trim_end_matches('/'))))
    }

    /// Makes the path exist: its links, and at its end an empty directory or file if nothing is there yet.
    fn placeholder(&mut self, path: &str) -> io::Result<()> {
        let place = self.place(path)?;
        if place.exists() || place.is_symlink() || !self.host.exists(path) {
            return Ok(());
        }
        if self.host.list(path).is_ok() { fs::create_dir_all(place) } else { crate::create(&place).map(drop) }
    }

    /// The place of a path in the copy. Every link on the way is copied, and followed as the host does.
    fn place(&mut self, path: &str) -> io::Result<PathBuf> {
        const MOST_LINKS: usize = 40;
        let mut ahead: VecDeque<String> = components(path).collect();
        let mut walked: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                walked.pop();
                continue;
            }
            walked.push(name);
            let here = format!("/{}", walked.join("/"));
            let Ok(text) = self.host.link(&here) else { continue };
            links += 1;
            let copy = self.target.join(&here[1..]);
            if let Some(parent) = copy.parent() {
                fs::create_dir_all(parent)?;
            }
            if !copy.is_symlink() {
                symlink(&text, &copy)?;
            }
            if links > MOST_LINKS {
                return Err(io::Error::other("too many links"));
            }
            walked.pop();
            if text.starts_with('/') {
                walked.clear();
            }
            for name in components(&text).collect::<Vec<_>>().into_iter().rev() {
                ahead.push_front(name);
            }
        }
        let place = self.target.join(walked.join("/"));
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(place)
    }
}

fn components(path: &str) -> impl Iterator<Item = String> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".").map(str::to_owned)
}
