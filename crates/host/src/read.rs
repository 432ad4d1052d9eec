//! Bounded reading, and the causes of failure told apart.

use std::{fmt, os::fd::BorrowedFd};

use rustix::{fs::Dir, io::Errno};

/// The longest file that is read. A sysfs attribute has at most a page (binary ones a few), a KFD or procfs text a
/// few KiB.
pub const MAX_FILE_BYTES: usize = 64 * 1024;

/// A path that could not be read, and why.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct ReadError {
    /// The path beneath the host root.
    pub path: String,
    /// Why.
    pub cause: Cause,
}

impl ReadError {
    pub(crate) fn new(path: &str, cause: Cause) -> ReadError {
        ReadError { path: path.to_owned(), cause }
    }
}

/// Why a path could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// ENOENT: it is not there, or a link leads nowhere.
    Absent,
    /// EACCES or EPERM, by number.
    Denied(i32),
    /// The driver says that it has no value now: ENODATA, EOPNOTSUPP, EBUSY, EAGAIN.
    NoValue(i32),
    /// It has no end within [`MAX_FILE_BYTES`].
    TooLong,
    /// Any other failure (EINVAL, EIO, ELOOP, EISDIR, ENOTDIR, ENODEV, ...), by number.
    Failed(i32),
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Cause {
        let number = errno.raw_os_error();
        match errno {
            Errno::NOENT => Cause::Absent,
            Errno::ACCESS | Errno::PERM => Cause::Denied(number),
            Errno::NODATA | Errno::OPNOTSUPP | Errno::BUSY | Errno::AGAIN => Cause::NoValue(number),
            _ => Cause::Failed(number),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Absent => f.write_str("no such file"),
            Cause::TooLong => write!(f, "longer than {MAX_FILE_BYTES} bytes"),
            Cause::Denied(errno) | Cause::NoValue(errno) | Cause::Failed(errno) => {
                std::io::Error::from_raw_os_error(*errno).fmt(f)
            }
        }
    }
}

pub(crate) fn bounded(file: BorrowedFd<'_>) -> Result<Vec<u8>, Cause> {
    // A sysfs file is one page at most: one read for the content and one for its end is the usual case.
    let mut chunk = [0_u8; 4096];
    let mut content = Vec::new();
    loop {
        match rustix::io::read(file, &mut chunk) {
            Ok(0) => return Ok(content),
            Ok(length) if content.len() + length > MAX_FILE_BYTES => return Err(Cause::TooLong),
            Ok(length) => content.extend_from_slice(&chunk[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// One read of all that a file says it has, into memory with a page to spare.
pub(crate) fn at_once(file: BorrowedFd<'_>, most: usize) -> Result<Vec<u8>, Cause> {
    const SPARE: usize = 4096;
    let length = usize::try_from(rustix::fs::fstat(file)?.st_size).map_err(|_| Cause::TooLong)?;
    if length > most {
        return Err(Cause::TooLong);
    }
    let mut content = vec![0; length.next_multiple_of(SPARE) + SPARE];
    let read = loop {
        match rustix::io::read(file, &mut content) {
            Err(Errno::INTR) => {}
            answer => break answer?,
        }
    };
    content.truncate(read);
    Ok(content)
}

pub(crate) fn names(directory: BorrowedFd<'_>) -> Result<Vec<String>, Cause> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        if let Ok(name) = entry?.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

pub(crate) fn link_text(link: BorrowedFd<'_>) -> Result<String, Cause> {
    // An empty path reads the link that the descriptor itself is open on; ENOENT then says that it is no link.
    let text = rustix::fs::readlinkat(link, "", Vec::new()).map_err(|errno| match errno {
        Errno::NOENT => Cause::Failed(Errno::INVAL.raw_os_error()),
        errno => errno.into(),
    })?;
    text.into_string().map_err(|_| Cause::Failed(Errno::ILSEQ.raw_os_error()))
}
