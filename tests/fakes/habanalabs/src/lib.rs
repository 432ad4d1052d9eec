//! The answers of the driver habanalabs to `HL_IOCTL_INFO`, from a recording. The README describes how they get into a program.
#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it stands for the kernel: it reads and writes the memory of the program, and receives its system calls"
)]

mod ffi;
mod structs;

use std::{
    fs::{self, OpenOptions},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use afd_gaudi::{control::ERRNOS, hlml::HlmlReport};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
        recvmsg, socketpair,
    },
};
use serde::Deserialize;

use crate::ffi::HandedOverCall;

/// `DRM_IOCTL_HL_INFO`, and `HL_IOCTL_INFO` of type `H`.
const REQUESTS: [u32; 2] = [0xc018_6440, 0xc018_4801];

/// The numbers of operations.
const OPERATIONS: [(u32, &str); 9] = [
    (0, "HL_INFO_HW_IP_INFO"),
    (2, "HL_INFO_DRAM_USAGE"),
    (4, "HL_INFO_DEVICE_STATUS"),
    (6, "HL_INFO_DEVICE_UTILIZATION"),
    (12, "HL_INFO_PCI_COUNTERS"),
    (13, "HL_INFO_CLK_THROTTLE_REASON"),
    (15, "HL_INFO_TOTAL_ENERGY"),
    (19, "HL_INFO_NIC_LINK_STATE"),
    (22, "HL_INFO_DRAM_PENDING_ROWS"),
];
const LINK_STATE: &str = "HL_INFO_NIC_LINK_STATE";

/// The content of `habanalabs.json`.
#[derive(Debug, Deserialize)]
struct DriverRecording {
    #[serde(flatten)]
    report: HlmlReport,
    /// The request that the driver has.
    #[serde(default = "newest")]
    request: u32,
    /// Operations that are not answered.
    #[serde(default)]
    hang: Vec<String>,
}

fn newest() -> u32 {
    REQUESTS[0]
}

/// A driver that answers from a recording, which is read again at each call.
#[derive(Clone, Debug)]
pub struct FakeDriver {
    recording: PathBuf,
    host_root: PathBuf,
}

impl FakeDriver {
    /// With the recording, and the host root of the program, in which files stand for the control nodes.
    pub fn new(recording: &Path, host_root: &Path) -> FakeDriver {
        FakeDriver { recording: recording.to_owned(), host_root: host_root.to_owned() }
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
        ffi::hand_over(command, REQUESTS, other);
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
                Ok(true) => ffi::answer(listener, &call, 0),
                Ok(false) => {}
                Err(errno) => ffi::answer(listener, &call, errno as i32),
            }
        }
    }

    /// Whether the call returns; or its error.
    fn carry_out(&self, call: &HandedOverCall) -> Result<bool, u32> {
        let numbered = |name: &str| ERRNOS.iter().find(|row| row.1 == name).map_or(5, |row| row.0);
        let text = fs::read(&self.recording).expect("the recording can be read");
        let recording: DriverRecording = serde_json::from_slice(&text).expect("it is a recording");
        if call.arguments[1] as u32 != recording.request {
            return Err(numbered("ENOTTY"));
        }
        let descriptor = format!("/proc/{}/fd/{}", call.process, call.arguments[0]);
        let node = fs::read_link(descriptor).map_err(|_| numbered("EIO"))?;
        let address = self.address(&node).ok_or_else(|| numbered("ENOTTY"))?;
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", call.process));
        let memory = memory.map_err(|_| numbered("EIO"))?;
        let mut arguments = [0; 24];
        memory.read_exact_at(&mut arguments, call.arguments[2]).map_err(|_| numbered("EIO"))?;
        let number =
            |offset: usize| u32::from_ne_bytes(*arguments[offset..].first_chunk().expect("it has 24 bytes"));
        let (size, operation, argument) = (number(8), number(12), number(16));
        let name = OPERATIONS.iter().find(|row| row.0 == operation).map(|row| row.1);
        let name = name.filter(|_| number(20) == 0).ok_or_else(|| numbered("EINVAL"))?;
        if recording.hang.iter().any(|hanging| hanging == name) {
            return Ok(false);
        }
        let of_device = |device: &&afd_gaudi::hlml::HlmlDeviceAnswers| {
            device.answers.known::<String>("pci_address").value() == Some(&address)
        };
        let device = recording.report.devices.iter().find(of_device).ok_or_else(|| numbered("ENODEV"))?;
        let key = if name == LINK_STATE { format!("{name}({argument})") } else { name.to_owned() };
        if let Some(error) = device.answers.error(key.as_str()) {
            return Err(error.number(ERRNOS).unwrap_or(5));
        }
        let value = device.answers.known::<serde_json::Value>(key.as_str()).into_value();
        let mut bytes = structs::filled(name, &value.ok_or_else(|| numbered("EINVAL"))?);
        bytes.truncate(size as usize);
        let target = u64::from_ne_bytes(*arguments.first_chunk().expect("it has 24 bytes"));
        memory.write_all_at(&bytes, target).map_err(|_| numbered("EIO"))?;
        Ok(true)
    }

    /// The PCI address of the device of a control node, which has the number of the accel node.
    fn address(&self, node: &Path) -> Option<String> {
        let name = node.file_name()?.to_str()?;
        let accel = match name.strip_prefix("accel_controlD") {
            Some(number) => format!("accel/accel{number}"),
            None => format!("habanalabs/hl{}", name.strip_prefix("hl_controlD")?),
        };
        let functions = fs::read_dir(self.host_root.join("sys/bus/pci/devices")).ok()?;
        let paths = functions.filter_map(|function| Some(function.ok()?.path()));
        let own = paths.into_iter().find(|path| path.join(&accel).exists())?;
        Some(own.file_name()?.to_str()?.to_owned())
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
