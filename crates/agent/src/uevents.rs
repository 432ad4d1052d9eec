//! Kernel events that announce a change of devices or drivers (netlink, NETLINK_KOBJECT_UEVENT).
//!
//! An event only triggers a discovery: nothing of its content is used but the subsystem.

use std::{io, os::fd::OwnedFd, time::Duration};

use afd_derive::vendors::VENDORS;
use rustix::{
    buffer::spare_capacity,
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
        netlink::{KOBJECT_UEVENT, SocketAddrNetlink},
        recv, socket_with,
    },
};

/// The kernel's own multicast group; udev's is 2.
const KERNEL_GROUP: u32 = 1;
/// The kernel sends at most 2 KiB (`UEVENT_BUFFER_SIZE`).
const MESSAGE_BYTES: usize = 4096;

/// Subsystems whose events can change the inventory, whatever the vendor; the vendor records add theirs.
const SUBSYSTEMS: [&str; 4] = ["pci", "vfio", "infiniband", "module"];

/// A socket that receives the kernel's events.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Opens the socket.
    ///
    /// # Errors
    /// When netlink is not available; changes are then found by the periodic discovery.
    pub fn listen() -> io::Result<Uevents> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Uevents { socket })
    }

    /// Waits for an event that may change the inventory, for `timeout` at most. Returns whether there was one.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
        if poll(&mut ready, Some(&timeout))? == 0 {
            return Ok(false);
        }
        let mut message = Vec::with_capacity(MESSAGE_BYTES);
        let mut relevant = false;
        loop {
            message.clear();
            match recv(&self.socket, spare_capacity(&mut message), RecvFlags::empty()) {
                Ok(_) => relevant |= concerns_devices(&message),
                Err(rustix::io::Errno::AGAIN) => return Ok(relevant),
                // Events were lost; any of them may have been relevant.
                Err(rustix::io::Errno::NOBUFS) => relevant = true,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether a message (`add@/devices/...`, then `KEY=value` strings, each terminated by NUL) is of one of the subsystems.
fn concerns_devices(message: &[u8]) -> bool {
    message.split(|byte| *byte == 0).filter_map(|text| text.strip_prefix(b"SUBSYSTEM=")).any(|subsystem| {
        let of_vendors = VENDORS.iter().flat_map(|record| record.uevent_subsystems);
        SUBSYSTEMS.iter().chain(of_vendors).any(|known| known.as_bytes() == subsystem)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_events_of_relevant_subsystems_count() {
        assert!(concerns_devices(
            b"add@/devices/pci0000:00/0000:00:05.0\0ACTION=add\0SUBSYSTEM=pci\0SEQNUM=1\0"
        ));
        assert!(concerns_devices(b"add@/devices/virtual/kfd/kfd\0ACTION=add\0SUBSYSTEM=kfd\0SEQNUM=2\0"));
        assert!(!concerns_devices(b"change@/devices/virtual/block/loop0\0SUBSYSTEM=block\0"));
        assert!(!concerns_devices(b"libudev\0"));
    }

    proptest! {
        #[test]
        fn no_message_panics(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = concerns_devices(&message);
        }
    }
}
