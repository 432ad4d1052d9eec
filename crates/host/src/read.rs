//! Bounded reads, and the kinds of errors.

use std::{fmt, os::fd::BorrowedFd};

use rustix::{fs::Dir, io::Errno};

/// The maximum size of a file. A sysfs attribute has at most a page (binary ones a few), a KFD or procfs file a few KiB.
pub const MAX_FILE_BYTES: usize = 64 * 1024;

/// A path that could not be read, and why.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{path}: {kind}")]
pub struct ReadError {
    /// The path under the host root.
    pub path: String,
    /// Why.
    pub kind: ReadErrorKind,
}

impl ReadError {
    pub(crate) fn new(path: &str, kind: ReadErrorKind) -> ReadError {
        ReadError { path: path.to_owned(), kind }
    }
}

/// Why a path could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadErrorKind {
    /// ENOENT: it does not exist, or is a dangling link.
    Absent,
    /// EACCES or EPERM, by number.
    Denied(i32),
    /// The driver has no value at this time: ENODATA, EOPNOTSUPP, EBUSY, EAGAIN.
    NoValue(i32),
    /// It is longer than [`MAX_FILE_BYTES`], or than the maximum given.
    TooLong,
    /// Any other failure (EINVAL, EIO, ELOOP, EISDIR, ENOTDIR, ENODEV, ...), by number.
    Failed(i32),
}

impl ReadErrorKind {
    /// The kind of an error by its number; without one, a file that is too long.
    pub fn from_errno(errno: Option<i32>) -> ReadErrorKind {
        let Some(errno) = errno else { return ReadErrorKind::TooLong };
        let error = std::io::Error::from_raw_os_error(errno);
        Errno::from_io_error(&error).map_or(ReadErrorKind::Failed(errno), ReadErrorKind::from)
    }

    /// The number of the error; none of a file that is too long.
    pub fn errno(self) -> Option<i32> {
        match self {
            ReadErrorKind::Absent => Some(Errno::NOENT.raw_os_error()),
            ReadErrorKind::TooLong => None,
            ReadErrorKind::Denied(errno) | ReadErrorKind::NoValue(errno) | ReadErrorKind::Failed(errno) => {
                Some(errno)
            }
        }
    }
}

impl From<Errno> for ReadErrorKind {
    fn from(errno: Errno) -> ReadErrorKind {
        let number = errno.raw_os_error();
        match errno {
            Errno::NOENT => ReadErrorKind::Absent,
            Errno::ACCESS | Errno::PERM => ReadErrorKind::Denied(number),
            Errno::NODATA | Errno::OPNOTSUPP | Errno::BUSY | Errno::AGAIN => ReadErrorKind::NoValue(number),
            _ => ReadErrorKind::Failed(number),
        }
    }
}

impl fmt::Display for ReadErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadErrorKind::Absent => f.write_str("no such file"),
            ReadErrorKind::TooLong => write!(f, "longer than {MAX_FILE_BYTES} bytes"),
            ReadErrorKind::Denied(errno) | ReadErrorKind::NoValue(errno) | ReadErrorKind::Failed(errno) => {
                std::io::Error::from_raw_os_error(*errno).fmt(f)
            }
        }
    }
}

pub(crate) fn bounded(file: BorrowedFd<'_>) -> Result<Vec<u8>, ReadErrorKind> {
    // A sysfs file is one page at most: one read for the content and one for its end is the usual case.
    let mut chunk = [0_u8; 4096];
    let mut content = Vec::new();
    loop {
        match rustix::io::read(file, &mut chunk) {
            Ok(0) => return Ok(content),
            Ok(length) if content.len() + length > MAX_FILE_BYTES => return Err(ReadErrorKind::TooLong),
            Ok(length) => content.extend_from_slice(&chunk[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The greatest number of bytes of a file that is read line by line: as text, more bad pages than a memory has spare ones for.
const MAX_LINES_BYTES: usize = 8 << 20;

/// Calls `line` with each line, without its end; NULs separate lines, too.
pub(crate) fn lines(file: BorrowedFd<'_>, mut line: impl FnMut(&[u8])) -> Result<(), ReadErrorKind> {
    let mut chunk = [0_u8; 4096];
    let (mut rest, mut total) = (Vec::new(), 0_usize);
    loop {
        let length = match rustix::io::read(file, &mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        total += length;
        if total > MAX_LINES_BYTES {
            return Err(ReadErrorKind::TooLong);
        }
        let mut parts = chunk[..length].split(|byte| matches!(byte, b'\n' | 0)).peekable();
        while let Some(part) = parts.next() {
            if rest.len() + part.len() > MAX_FILE_BYTES {
                return Err(ReadErrorKind::TooLong);
            }
            rest.extend_from_slice(part);
            if parts.peek().is_some() {
                line(&rest);
                rest.clear();
            }
        }
    }
    if !rest.is_empty() {
        line(&rest);
    }
    Ok(())
}

/// A single read call, into a buffer one page larger than the reported size.
pub(crate) fn once(file: BorrowedFd<'_>, max_bytes: usize) -> Result<Vec<u8>, ReadErrorKind> {
    const PAGE: usize = 4096;
    let length = usize::try_from(rustix::fs::fstat(file)?.st_size).map_err(|_| ReadErrorKind::TooLong)?;
    if length > max_bytes {
        return Err(ReadErrorKind::TooLong);
    }
    let mut content = vec![0; length.next_multiple_of(PAGE) + PAGE];
    let read = loop {
        match rustix::io::read(file, &mut content) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    content.truncate(read);
    Ok(content)
}

pub(crate) fn names(directory: BorrowedFd<'_>, max_names: usize) -> Result<Vec<String>, ReadErrorKind> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        if let Ok(name) = entry?.file_name().to_str()
            && name != "."
            && name != ".."
        {
            if names.len() == max_names {
                return Err(ReadErrorKind::TooLong);
            }
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

pub(crate) fn link_target(link: BorrowedFd<'_>) -> Result<String, ReadErrorKind> {
    // An empty path reads the link that the descriptor is open on; ENOENT then means that it is no link.
    let target = rustix::fs::readlinkat(link, "", Vec::new()).map_err(|errno| match errno {
        Errno::NOENT => ReadErrorKind::Failed(Errno::INVAL.raw_os_error()),
        errno => errno.into(),
    })?;
    target.into_string().map_err(|_| ReadErrorKind::Failed(Errno::ILSEQ.raw_os_error()))
}
