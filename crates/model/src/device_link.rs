//! What is sampled of each device-to-device link of a device.

use crate::{DeviceId, Direction, LinkKind};

/// A link of a device, and what is known of its other end.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DeviceLink {
    /// Its type (metric label `type`).
    pub kind: LinkKind,
    /// The tile that has it, where the device numbers its links by tile.
    pub tile: Option<u32>,
    /// Its number.
    pub number: u32,
    /// The other end.
    pub end: LinkEnd,
}

/// The other end of a link.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LinkEnd {
    /// Not reported, or a switch.
    Unknown,
    /// A device of the node.
    Device(DeviceId),
    /// Outside of the node.
    External,
}

/// What is read of a link.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LinkValue {
    /// 1 if the link is up, else 0.
    Up,
    /// Bytes over the link.
    Bytes(Direction),
    /// Errors since the driver was loaded.
    Errors(LinkErrorKind),
}

/// Kind of error of a link (metric label `kind`).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LinkErrorKind {
    /// Data that was sent again.
    Replay,
    /// The link was trained again.
    Recovery,
    /// Data with a wrong checksum.
    Crc,
    /// Received packets with errors.
    Receive,
    /// The link failed.
    Failure,
    /// The link lost lanes or speed.
    Degradation,
    /// Errors that the firmware of the link reported.
    Firmware,
    /// Failed communication with the firmware of the link.
    FirmwareCommunication,
}

impl DeviceLink {
    /// The metric label `link`: `7`, or `0.3` for link 3 of tile 0.
    pub fn label(self) -> String {
        match self.tile {
            Some(tile) => format!("{tile}.{}", self.number),
            None => self.number.to_string(),
        }
    }

    /// The metric label `peer`; empty where the other end is no device of the node, or not known.
    pub fn peer_label(self) -> String {
        match self.end {
            LinkEnd::Device(device) => device.to_string(),
            LinkEnd::Unknown | LinkEnd::External => String::new(),
        }
    }
}

impl LinkErrorKind {
    /// The value of the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            LinkErrorKind::Replay => "replay",
            LinkErrorKind::Recovery => "recovery",
            LinkErrorKind::Crc => "crc",
            LinkErrorKind::Receive => "receive",
            LinkErrorKind::Failure => "failure",
            LinkErrorKind::Degradation => "degradation",
            LinkErrorKind::Firmware => "firmware",
            LinkErrorKind::FirmwareCommunication => "firmware_communication",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PciAddress;

    #[test]
    fn a_link_is_named_by_its_tile_and_number_and_its_peer_by_the_device() {
        let peer = PciAddress { domain: 0, bus: 0x29, device: 0, function: 0 };
        let link = DeviceLink {
            kind: LinkKind::Xelink,
            tile: Some(0),
            number: 3,
            end: LinkEnd::Device(peer.into()),
        };
        assert_eq!((link.label(), link.peer_label()), ("0.3".to_owned(), "0000:29:00.0".to_owned()));
        let link = DeviceLink { tile: None, end: LinkEnd::External, ..link };
        assert_eq!((link.label(), link.peer_label()), ("3".to_owned(), String::new()));
    }
}
