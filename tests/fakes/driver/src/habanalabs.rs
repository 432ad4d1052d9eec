//! The driver habanalabs: `HL_IOCTL_INFO` on a control node.

use afd_gaudi::control::ERRNOS;
use rustix::io::Errno;
use serde_json::Value;

use crate::{DriverKind, call::DriverCall, structs::FilledStruct};

pub(crate) const HABANALABS: DriverKind = DriverKind {
    recording: "habanalabs.json",
    requests: [NEWEST, OLDER, OLDER],
    errors: ERRNOS,
    carry_out,
    open_counter: None,
};

/// `DRM_IOCTL_HL_INFO`, and `HL_IOCTL_INFO` of type `H`.
const NEWEST: u32 = 0xc018_6440;
const OLDER: u32 = 0xc018_4801;

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

fn carry_out(call: &DriverCall<'_>) -> Result<bool, Errno> {
    // The request that the driver has.
    let request = call.recording["request"].as_u64().unwrap_or(NEWEST.into());
    if u64::from(call.request()) != request {
        return Err(Errno::NOTTY);
    }
    let address = call.device_with(&accel_node(call).ok_or(Errno::NOTTY)?)?;
    let arguments: [u8; 24] = call.read(call.argument())?;
    let number =
        |offset: usize| u32::from_ne_bytes(*arguments[offset..].first_chunk().expect("it has 24 bytes"));
    let (size, operation, argument) = (number(8), number(12), number(16));
    let name = OPERATIONS.iter().find(|row| row.0 == operation).map(|row| row.1);
    let name = name.filter(|_| number(20) == 0).ok_or(Errno::INVAL)?;
    if call.hangs(name) {
        return Ok(false);
    }
    let key = if name == LINK_STATE { format!("{name}({argument})") } else { name.to_owned() };
    let mut bytes = filled(name, &call.answer(&address, &key)?);
    bytes.truncate(size as usize);
    let target = u64::from_ne_bytes(*arguments.first_chunk().expect("it has 24 bytes"));
    call.write(target, &bytes)?;
    Ok(true)
}

/// What the device of a control node has in sysfs: the control node has the number of the accel node.
fn accel_node(call: &DriverCall<'_>) -> Option<String> {
    let node = call.node().ok()?;
    let name = node.file_name()?.to_str()?;
    Some(match name.strip_prefix("accel_controlD") {
        Some(number) => format!("accel/accel{number}"),
        None => format!("habanalabs/hl{}", name.strip_prefix("hl_controlD")?),
    })
}

/// The bytes that the driver fills for the operation of a name: as many as its struct has.
fn filled(operation: &str, value: &Value) -> Vec<u8> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let mut filled = FilledStruct::default();
    match operation {
        "HL_INFO_HW_IP_INFO" => {
            let field = |name: &str| number(&value[name]);
            let name = |name: &str| value[name].as_str().unwrap_or_default().as_bytes();
            filled
                .put(16, &field("dram_size").to_ne_bytes())
                .put(36, &(field("module_id") as u32).to_ne_bytes())
                .put(46, &(field("server_type") as u16).to_ne_bytes())
                .put(72, name("cpucp_version"))
                .put(200, name("card_name"))
                .put(256, &field("nic_ports_mask").to_ne_bytes())
                .put(264, &field("nic_ports_external_mask").to_ne_bytes())
                .put(296, &field("reserved_dram_size").to_ne_bytes());
        }
        "HL_INFO_DRAM_USAGE" => {
            // What the context of the caller uses: a control node has none.
            filled.put(0, &number(&value["dram_free_mem"]).to_ne_bytes()).put(8, &[0; 8]);
        }
        "HL_INFO_DEVICE_STATUS" | "HL_INFO_DEVICE_UTILIZATION" => {
            filled.put(0, &(number(value) as u32).to_ne_bytes()).put(4, &[0; 4]);
        }
        "HL_INFO_PCI_COUNTERS" => {
            for (index, field) in ["rx", "tx", "replay"].iter().enumerate() {
                filled.put(index * 8, &number(&value[field]).to_ne_bytes());
            }
        }
        "HL_INFO_CLK_THROTTLE_REASON" => {
            filled.put(0, &(number(&value["reason"]) as u32).to_ne_bytes());
            for (at, field) in [(8, "timestamp_us"), (24, "duration_ns")] {
                for cause in 0..2 {
                    filled.put(at + cause * 8, &number(&value[field][cause]).to_ne_bytes());
                }
            }
        }
        "HL_INFO_TOTAL_ENERGY" => {
            filled.put(0, &number(value).to_ne_bytes());
        }
        "HL_INFO_NIC_LINK_STATE" => {
            filled.put(0, &[u8::from(*value == true), 0, 0]);
        }
        "HL_INFO_DRAM_PENDING_ROWS" => {
            filled.put(0, &(number(value) as u32).to_ne_bytes());
        }
        _ => {}
    }
    filled.0
}
