//! The structs of `habanalabs_accel.h`, filled from the values of a recording.

use serde_json::Value;

/// The bytes that the driver fills for the operation of a name: as many as its struct has.
pub(crate) fn filled(operation: &str, value: &Value) -> Vec<u8> {
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

#[derive(Default)]
struct FilledStruct(Vec<u8>);

impl FilledStruct {
    fn put(&mut self, offset: usize, bytes: &[u8]) -> &mut FilledStruct {
        let end = offset + bytes.len();
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        self.0[offset..end].copy_from_slice(bytes);
        self
    }
}
