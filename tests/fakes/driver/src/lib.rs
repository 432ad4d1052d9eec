//! A driver that answers ioctls of a program, from a recording: habanalabs, or xe and i915. The README describes how the answers get
//! into a program.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it stands for the kernel: it reads and writes the memory of the program, and receives its system calls"
)]

mod call;
mod drm;
mod ffi;
mod habanalabs;
mod structs;

use std::{
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use afd_probe::status::StatusRow;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
        recvmsg, socketpair,
    },
};

use crate::call::IoctlCall;

/// A kind of driver.
#[derive(Debug)]
pub struct DriverKind {
    /// The file name of its recordings.
    pub recording: &'static str,
    /// The requests that the kernel hands over. It has all other ones.
    requests: [u32; 3],
    /// The errors that it returns.
    errors: &'static [StatusRow],
    /// Fills in what a call asks for; whether it returns at all, or its error.
    carry_out: fn(&IoctlCall<'_>) -> Result<bool, Errno>,
}

/// The drivers that have a fake.
pub static DRIVERS: [DriverKind; 2] = [habanalabs::HABANALABS, drm::DRM];

/// A driver that answers from a recording, which is read again at each call.
#[derive(Clone, Debug)]
pub struct FakeDriver {
    kind: &'static DriverKind,
    recording: PathBuf,
    host_root: PathBuf,
}

impl FakeDriver {
    /// The driver that the file name of the recording stands for, and the host root of the program, in which files stand for the
    /// device nodes.
    ///
    /// # Panics
    /// When there is no fake of the driver.
    pub fn new(recording: &Path, host_root: &Path) -> FakeDriver {
        let kind = DRIVERS.iter().find(|kind| recording.ends_with(kind.recording));
        let kind = kind.unwrap_or_else(|| panic!("no fake driver for {}", recording.display()));
        FakeDriver { kind, recording: recording.to_owned(), host_root: host_root.to_owned() }
    }

    /// The file with the recording.
    pub fn recording(&self) -> &Path {
        &self.recording
    }

    /// The same driver for a program with another host root.
    #[must_use]
    pub fn under(&self, host_root: &Path) -> FakeDriver {
        FakeDriver { host_root: host_root.to_owned(), ..self.clone() }
    }

    /// Answers the ioctls of the program that the command is to start, and of all processes that it starts, as long as one of
    /// them runs. The command can start one program.
    ///
    /// # Panics
    /// When no socket can be made.
    pub fn serve(&self, command: &mut Command) {
        let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("a pair of sockets can be made");
        ffi::hand_over(command, self.kind.requests, other);
        let driver = self.clone();
        // It ends when the command is dropped without having started a program.
        thread::spawn(move || {
            if let Some(listener) = received(&own) {
                driver.answer_all(&listener);
            }
        });
    }

    fn answer_all(&self, listener: &OwnedFd) {
        loop {
            let mut ready = [PollFd::new(listener, PollFlags::IN)];
            match poll(&mut ready, None) {
                Ok(_) if ready[0].revents().contains(PollFlags::IN) => {}
                Err(Errno::INTR) => continue,
                // The last process has ended.
                _ => return,
            }
            // It fails where the caller was killed meanwhile.
            let Ok(call) = ffi::receive(listener) else { continue };
            let result = IoctlCall::new(self, &call).and_then(|call| (self.kind.carry_out)(&call));
            match result {
                Ok(true) => ffi::answer(listener, &call, 0),
                Ok(false) => {}
                Err(errno) => ffi::answer(listener, &call, errno.raw_os_error()),
            }
        }
    }
}

/// The listener, when the program has started.
fn received(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    let mut buffers = [std::io::IoSliceMut::new(&mut byte)];
    recvmsg(socket, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}
