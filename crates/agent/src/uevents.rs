//! Kernel events that announce a change of devices or drivers (netlink, NETLINK_KOBJECT_UEVENT).
//!
//! An event only triggers a discovery: nothing of its content is used but the subsystem, and whether a DRM driver has given up its
//! device (`WEDGED=`), which no file says.

use std::{io, os::fd::OwnedFd, time::Duration};

use afd_derive::vendors::VENDORS;
use afd_model::PciAddress;
use rustix::{
    buffer::spare_capacity,
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
        netlink::{KOBJECT_UEVENT, SocketAddrNetlink},
        recvfrom, socket_with,
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

    /// Waits for an event that may change the inventory, for `timeout` at most. Returns whether there was one, and adds the devices
    /// that their drivers have given up.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn wait(&self, timeout: Duration, wedged: &mut Vec<PciAddress>) -> io::Result<bool> {
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
        if poll(&mut ready, Some(&timeout))? == 0 {
            return Ok(false);
        }
        let mut message = Vec::with_capacity(MESSAGE_BYTES);
        let mut relevant = false;
        loop {
            message.clear();
            match recvfrom(&self.socket, spare_capacity(&mut message), RecvFlags::empty()) {
                Ok((_, _, sender)) => {
                    relevant |= concerns_devices(&message);
                    let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
                    wedged.extend(wedged_device(sender.map(|sender| sender.pid()), &message));
                }
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

/// The PCI device that its DRM driver has given up: `WEDGED=rebind,bus-reset` lists what may bring it back. `none` is a device that
/// works again. `sender` is the port of the sender: another program than the kernel, which has 0, may send to the group as well.
fn wedged_device(sender: Option<u32>, message: &[u8]) -> Option<PciAddress> {
    if sender != Some(0) {
        return None;
    }
    let value = |key: &[u8]| {
        let text = message.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(key))?;
        std::str::from_utf8(text).ok()
    };
    let is_wedged = value(b"SUBSYSTEM=")? == "drm" && value(b"WEDGED=")? != "none";
    value(b"DEVPATH=").filter(|_| is_wedged)?.split('/').rev().find_map(|name| name.parse().ok())
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

    #[test]
    fn a_device_is_wedged_that_does_not_work_again_by_itself() {
        let event = |subsystem: &str, wedged: &str| {
            let path = "/devices/pci0000:00/0000:00:01.0/0000:03:00.0/drm/card1";
            format!(
                "change@{path}\0ACTION=change\0DEVPATH={path}\0SUBSYSTEM={subsystem}\0{wedged}\0SEQNUM=9\0"
            )
        };
        let device =
            |text: String| wedged_device(Some(0), text.as_bytes()).map(|address| address.to_string());
        let given_up = || event("drm", "WEDGED=rebind,bus-reset");
        assert_eq!(device(given_up()).as_deref(), Some("0000:03:00.0"));
        assert_eq!(device(event("drm", "WEDGED=none")), None);
        assert_eq!(device(event("drm", "HOTPLUG=1")), None);
        assert_eq!(device(event("pci", "WEDGED=rebind")), None);
        assert_eq!(device(given_up().replace("0000:0", "virtual")), None);
    }

    #[test]
    fn only_the_kernel_says_that_a_device_is_wedged() {
        let message = b"DEVPATH=/devices/pci0000:00/0000:03:00.0/drm/card1\0SUBSYSTEM=drm\0WEDGED=rebind\0";
        assert!(wedged_device(Some(0), message).is_some());
        assert_eq!([Some(4711), None].map(|sender| wedged_device(sender, message)), [None, None]);
    }

    proptest! {
        #[test]
        fn no_message_panics(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (concerns_devices(&message), wedged_device(Some(0), &message));
        }
    }
}
