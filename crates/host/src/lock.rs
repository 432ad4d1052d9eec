//! A lock on a file or folder of the host, which changes nothing: it is a state of the kernel, and ends with the process.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

use crate::{Host, ReadError, ReadErrorKind};

/// A file or folder that can be locked.
#[derive(Debug)]
pub struct LockFile {
    path: String,
    file: OwnedFd,
}

impl Host {
    /// Opens a file or folder that all processes of the machine see, for a lock. It is not locked yet.
    ///
    /// # Errors
    /// When it is absent, or access is denied.
    pub fn lock_file(&self, path: &str) -> Result<LockFile, ReadError> {
        let file = self.open_under_root(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
        let file = file.map_err(|kind| ReadError::new(path, kind))?;
        Ok(LockFile { path: path.to_owned(), file })
    }
}

impl LockFile {
    /// Locks it unless another process has; returns whether it is locked. The lock lasts until the value is dropped.
    ///
    /// # Errors
    /// When the file system has no locks.
    pub fn try_lock(&self) -> Result<bool, ReadError> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(ReadError::new(&self.path, ReadErrorKind::from(errno))),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Host, testing::TestHost};

    #[test]
    fn one_of_two_has_the_lock_until_it_is_dropped() {
        let folder = TestHost::new().file("/sys/devices/d0/vendor", "0x10de\n");
        let open = || folder.open().lock_file("/sys/devices").expect("it exists");
        let (first, second) = (open(), open());
        assert_eq!((first.try_lock(), second.try_lock()), (Ok(true), Ok(false)));
        assert_eq!(first.try_lock(), Ok(true), "its own lock is none of another");
        drop(first);
        assert_eq!(second.try_lock(), Ok(true));
        assert!(folder.open().lock_file("/sys/nothing").is_err());
    }

    #[test]
    fn the_kernels_own_folder_can_be_locked() {
        let host = Host::open("/").expect("the machine has a root");
        assert!(host.lock_file("/sys/devices").expect("sysfs is mounted").try_lock().is_ok());
    }
}
