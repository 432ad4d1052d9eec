//! The seccomp filter that hands system calls over, and the listener that receives them.

use std::{
    io,
    mem::size_of,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

const RETURN_USER_NOTIFICATION: u32 = 0x7fc0_0000;
const RETURN_ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_IOCTL_NOTIF_RECV` and `SECCOMP_IOCTL_NOTIF_SEND`.
const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
/// `SECCOMP_IOCTL_NOTIF_ADDFD`.
const ADD_DESCRIPTOR: libc::Ioctl = 0x4018_2103_u32 as libc::Ioctl;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct HandedOverCall {
    id: u64,
    pub(crate) process: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction: u64,
    pub(crate) arguments: [u64; 6],
}

impl HandedOverCall {
    /// Whether it opens a counter.
    pub(crate) fn is_counter(&self) -> bool {
        i64::from(self.number) == libc::SYS_perf_event_open
    }
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct AddedDescriptor {
    id: u64,
    flags: u32,
    source: u32,
    number: u32,
    number_flags: u32,
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct HandedBackResult {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// Makes the kernel hand over these ioctls of the program that is to be started, and the opening of counters. The listener is sent over
/// the socket.
pub(crate) fn hand_over(command: &mut Command, requests: [u32; 3], counters: bool, socket: OwnedFd) {
    let install = move || {
        let listener = install(requests, counters)?;
        let descriptors = [rustix::fd::AsFd::as_fd(&listener)];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&socket, &[io::IoSlice::new(b"l")], &mut ancillary, SendFlags::empty())?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls alone, and allocates nothing.
    unsafe { command.pre_exec(install) };
}

fn install(requests: [u32; 3], counters: bool) -> io::Result<OwnedFd> {
    let code = |class: u32| class as u16;
    let load = |offset: u32| libc::sock_filter {
        code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS),
        jt: 0,
        jf: 0,
        k: offset,
    };
    let equal = |value: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
        jt,
        jf,
        k: value,
    };
    let give =
        |value: u32| libc::sock_filter { code: code(libc::BPF_RET | libc::BPF_K), jt: 0, jf: 0, k: value };
    // `struct seccomp_data` begins with the number of the call; the second argument is at 24.
    let mut filter = [
        load(0),
        equal(libc::SYS_ioctl as u32, 1, 0),
        // No call has the number that stands for none.
        equal(if counters { libc::SYS_perf_event_open as u32 } else { u32::MAX }, 4, 5),
        load(24),
        equal(requests[0], 2, 0),
        equal(requests[1], 1, 0),
        equal(requests[2], 0, 1),
        give(RETURN_USER_NOTIFICATION),
        give(RETURN_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // SAFETY: the numbers are those of the header.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the program and its filter are alive during the call.
    let listener =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has returned a descriptor that is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(listener as i32) })
}

/// The next call that was handed over.
pub(crate) fn receive(listener: &OwnedFd) -> io::Result<HandedOverCall> {
    const { assert!(size_of::<HandedOverCall>() == 80, "the struct of the kernel has 80 bytes") }
    let mut call = HandedOverCall::default();
    // SAFETY: the kernel fills a struct of this size, which must be zero before.
    match unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut call) } {
        0 => Ok(call),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives a file to the caller; its number there.
pub(crate) fn give(listener: &OwnedFd, call: &HandedOverCall, file: &OwnedFd) -> io::Result<i64> {
    let added = AddedDescriptor {
        id: call.id,
        flags: 0,
        source: file.as_raw_fd() as u32,
        number: 0,
        number_flags: libc::O_CLOEXEC as u32,
    };
    // SAFETY: the kernel reads a struct of this size.
    match unsafe { libc::ioctl(listener.as_raw_fd(), ADD_DESCRIPTOR, &raw const added) } {
        number if number >= 0 => Ok(number.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets a call return: a value, or an error.
pub(crate) fn answer(listener: &OwnedFd, call: &HandedOverCall, result: Result<i64, i32>) {
    let (value, error) = result.map_or_else(|error| (0, -error), |value| (value, 0));
    let mut result = HandedBackResult { id: call.id, value, error, flags: 0 };
    // SAFETY: the kernel reads a struct of this size. It fails where the caller has ended, which is of no interest.
    unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut result) };
}
