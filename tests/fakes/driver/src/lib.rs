//! A driver that answers ioctls of a program and opens counters for it, from a recording: habanalabs, or xe and i915. The README describes how the answers get
//! into a program.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it stands for the kernel: it reads and writes the memory of the program, and receives its system calls"
)]

mod call;
mod counters;
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
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
        recvmsg, socketpair,
    },
};

use crate::call::DriverCall;

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
    carry_out: fn(&DriverCall<'_>) -> Result<bool, Errno>,
    /// Opens a counter, if the kernel hands over these calls; none where it does not return.
    open_counter: Option<CounterOpener>,
}

type CounterOpener = fn(&DriverCall<'_>) -> Result<Option<OwnedFd>, Errno>;

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

    /// Answers the calls of the program that the command is to start, and of all processes that it starts, as long as one of
    /// them runs. The command can start one program.
    ///
    /// # Panics
    /// When no socket can be made.
    pub fn serve(&self, command: &mut Command) {
        let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("a pair of sockets can be made");
        ffi::hand_over(command, self.kind.requests, self.kind.open_counter.is_some(), other);
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
            match self.carry_out(&call) {
                Ok(CarriedOutCall::Done) => ffi::answer(listener, &call, Ok(0)),
                Ok(CarriedOutCall::Opened(file)) => {
                    // It fails where the caller was killed meanwhile, too.
                    let number = ffi::give(listener, &call, &file);
                    ffi::answer(listener, &call, number.map_err(|_| libc::EIO));
                }
                Ok(CarriedOutCall::Hangs) => {}
                Err(errno) => ffi::answer(listener, &call, Err(errno.raw_os_error())),
            }
        }
    }

    fn carry_out(&self, call: &ffi::HandedOverCall) -> Result<CarriedOutCall, Errno> {
        let own = DriverCall::new(self, call)?;
        match self.kind.open_counter.filter(|_| call.is_counter()) {
            Some(open) => open(&own).map(|file| file.map_or(CarriedOutCall::Hangs, CarriedOutCall::Opened)),
            None => (self.kind.carry_out)(&own)
                .map(|returns| if returns { CarriedOutCall::Done } else { CarriedOutCall::Hangs }),
        }
    }
}

/// What a call came to.
enum CarriedOutCall {
    Done,
    /// It returns this file to the program.
    Opened(OwnedFd),
    /// It does not return.
    Hangs,
}

/// The listener, when the program has started.
fn received(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    let mut buffers = [std::io::IoSliceMut::new(&mut byte)];
    // Interrupted, it would close the socket, and the program could not be started.
    retry_on_intr(|| recvmsg(socket, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)).ok()?;
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}
