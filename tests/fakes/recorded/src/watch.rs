//! Waiting for a change of the recording without polling, as a driver lets its callers wait for events.

use std::{os::fd::OwnedFd, path::Path, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};

/// Watches the folder of a recording, since a test may replace the file.
#[derive(Debug)]
pub struct ChangeWatch(OwnedFd);

impl ChangeWatch {
    /// Watches from now on.
    pub(crate) fn of(file: &Path) -> ChangeWatch {
        let folder = file.parent().expect("a recording is in a folder");
        let watch =
            inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify is available");
        inotify::add_watch(&watch, folder, WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        ChangeWatch(watch)
    }

    /// Waits for a change since the last wait, or until the time is over.
    pub fn wait(&self, time: Duration) {
        let time = Timespec::try_from(time).expect("a timeout of a library is short");
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&time)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("waiting for a change of the recording: {error}"),
        }
        let mut buffer = [0_u8; 4096];
        while rustix::io::read(&self.0, &mut buffer).is_ok_and(|length| length > 0) {}
    }
}
