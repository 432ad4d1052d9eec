//! The operations of `HL_IOCTL_INFO`, each with the struct that it fills. Offsets are those of
//! `include/uapi/drm/habanalabs_accel.h`, whose structs only grow: what a driver does not fill is 0.

use afd_model::Missing;
use afd_probe::{answers::LibraryCall, ffi::text, status::StatusRow};
use serde_json::{Value, json};

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InfoOperation {
    /// Its name, in place of the C symbol of a library.
    pub(crate) call: LibraryCall,
    /// Its number.
    pub(super) number: u32,
    /// The argument where it needs one.
    pub(super) argument: u32,
    /// What is read of the struct that it fills.
    pub(super) decode: fn(&[u8]) -> Option<Value>,
}

/// That the control nodes can be used at all.
pub(crate) const INFO: LibraryCall = LibraryCall::new("HL_IOCTL_INFO");
/// The PCI address of the device, which the agent passes: the driver does not return it.
pub(crate) const ADDRESS: LibraryCall = LibraryCall::new("pci_address");

/// Sizes of the memory, the module, the firmware, the ports. Answered in any state of the device.
pub(crate) const HW_IP_INFO: InfoOperation = operation("HL_INFO_HW_IP_INFO", 0, |bytes| {
    Some(json!({
        "dram_size": wide(bytes, 16)?,
        "module_id": number(bytes, 36)?,
        "server_type": u16::from_ne_bytes(*bytes.get(46..)?.first_chunk()?),
        "cpucp_version": text(bytes.get(72..200)?),
        "card_name": text(bytes.get(200..216)?),
        "nic_ports_mask": wide(bytes, 256)?,
        "nic_ports_external_mask": wide(bytes, 264)?,
        "reserved_dram_size": wide(bytes, 296)?,
    }))
});
/// Memory that is free, without what is reserved. Answered in any state.
pub(crate) const DRAM_USAGE: InfoOperation =
    operation("HL_INFO_DRAM_USAGE", 2, |bytes| Some(json!({ "dram_free_mem": wide(bytes, 0)? })));
/// `enum hl_device_status`. Answered in any state.
pub(crate) const DEVICE_STATUS: InfoOperation =
    operation("HL_INFO_DEVICE_STATUS", 4, |bytes| Some(number(bytes, 0)?.into()));
/// Percent of the last second: the argument is the period in milliseconds.
pub(crate) const DEVICE_UTILIZATION: InfoOperation = InfoOperation {
    argument: 1000,
    ..operation("HL_INFO_DEVICE_UTILIZATION", 6, |bytes| Some(number(bytes, 0)?.into()))
};
/// Throughput in KB/s and replays. The firmware measures for 10 ms in each direction.
pub(crate) const PCI_COUNTERS: InfoOperation = operation("HL_INFO_PCI_COUNTERS", 12, |bytes| {
    Some(json!({ "rx": wide(bytes, 0)?, "tx": wide(bytes, 8)?, "replay": wide(bytes, 16)? }))
});
/// Causes for which clocks are lowered now and, for each, when the last time began and how long it was or has been. Answered in
/// any state.
pub(crate) const CLK_THROTTLE: InfoOperation = operation("HL_INFO_CLK_THROTTLE_REASON", 13, |bytes| {
    Some(json!({
        "reason": number(bytes, 0)?,
        "timestamp_us": [wide(bytes, 8)?, wide(bytes, 16)?],
        "duration_ns": [wide(bytes, 24)?, wide(bytes, 32)?],
    }))
});
/// Millijoules since the firmware was started.
pub(crate) const TOTAL_ENERGY: InfoOperation =
    operation("HL_INFO_TOTAL_ENERGY", 15, |bytes| Some(wide(bytes, 0)?.into()));
/// Whether the link of the port in the argument is up. Only drivers that report ports have it.
pub(crate) const LINK_STATE: InfoOperation =
    operation("HL_INFO_NIC_LINK_STATE", 19, |bytes| Some((*bytes.first()? != 0).into()));
/// The number of rows that wait for their replacement.
pub(crate) const PENDING_ROWS: InfoOperation =
    operation("HL_INFO_DRAM_PENDING_ROWS", 22, |bytes| Some(number(bytes, 0)?.into()));

/// The errors of the call, by their names in `errno.h`.
pub const ERRNOS: &[StatusRow] = &[
    // A cgroup that does not have the device refuses so, and the driver of a device that malfunctions.
    (1, "EPERM", Missing::NotPermitted),
    (2, "ENOENT", Missing::NotExposed),
    (5, "EIO", Missing::Unreadable),
    (6, "ENXIO", Missing::NotAvailable),
    (13, "EACCES", Missing::NotPermitted),
    // The device is being reset, or does not work.
    (16, "EBUSY", Missing::NotAvailable),
    (19, "ENODEV", Missing::NotAvailable),
    // The driver is older than the operation.
    (22, "EINVAL", Missing::NotExposed),
    (25, "ENOTTY", Missing::Unrecognized),
    (95, "EOPNOTSUPP", Missing::NotExposed),
    (110, "ETIMEDOUT", Missing::Unreadable),
];

const fn operation(symbol: &'static str, number: u32, decode: fn(&[u8]) -> Option<Value>) -> InfoOperation {
    InfoOperation { call: LibraryCall::new(symbol), number, argument: 0, decode }
}

fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn wide(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_driver_fills_less() {
        let mut bytes = [0; 1024];
        bytes[16..24].copy_from_slice(&(96_u64 << 30).to_ne_bytes());
        bytes[36] = 5;
        bytes[200..205].copy_from_slice(b"HL225");
        let info = (HW_IP_INFO.decode)(&bytes).expect("the buffer is long enough");
        assert_eq!(info["dram_size"], 96_u64 << 30);
        assert_eq!((&info["module_id"], &info["card_name"]), (&json!(5), &json!("HL225")));
        assert_eq!((&info["nic_ports_mask"], &info["reserved_dram_size"]), (&json!(0), &json!(0)));
        assert_eq!((HW_IP_INFO.decode)(&bytes[..255]), None, "nothing is read behind the buffer");
    }

    #[test]
    fn throttling_has_a_time_for_each_cause() {
        let mut bytes = [0; 40];
        bytes[0] = 2;
        bytes[16..24].copy_from_slice(&7_000_000_u64.to_ne_bytes());
        bytes[32..40].copy_from_slice(&1_500_000_000_u64.to_ne_bytes());
        let throttle = (CLK_THROTTLE.decode)(&bytes).expect("the buffer is long enough");
        assert_eq!(
            throttle,
            json!({ "reason": 2, "timestamp_us": [0, 7_000_000], "duration_ns": [0, 1_500_000_000] })
        );
    }
}
