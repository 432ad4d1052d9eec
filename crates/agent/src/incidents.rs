//! The annotation `incidents`: errors of devices that survive a restart of the agent.

use afd_model::{Decision, IncidentRecord, NodeFacts};
use serde::{Deserialize, Serialize};

use crate::{clock, probes::Probes};

/// Name of the annotation, after the prefix and its slash.
pub const INCIDENTS: &str = "incidents";
/// The version of the form that this program writes.
const VERSION: u32 = 1;
/// The longest annotation.
const MAX_BYTES: usize = 2 << 10;

/// The annotation.
#[derive(Debug, Deserialize, Serialize)]
struct IncidentList {
    v: u32,
    /// The boot in which they occurred; empty where it is not known.
    boot: String,
    incidents: Vec<IncidentRecord>,
}

/// Keeps the open errors of the devices through restarts.
#[derive(Debug, Default)]
pub struct IncidentMemory {
    /// Whether the Node was read, so that the errors of an earlier agent are known.
    is_recalled: bool,
    open: Vec<IncidentRecord>,
}

impl IncidentMemory {
    /// Gives the probes what an earlier agent remembered in the same boot, once. A restart of the machine ends all errors. Returns
    /// whether the probes were given anything.
    pub fn recall(
        &mut self,
        node: Option<&NodeFacts>,
        inherits: bool,
        key: &str,
        boot_id: &str,
        probes: &mut Probes,
    ) -> bool {
        let Some(node) = node.filter(|_| !self.is_recalled) else { return false };
        self.is_recalled = true;
        if !inherits {
            return false;
        }
        let Some(text) = node.annotations.get(key) else { return false };
        match serde_json::from_str::<IncidentList>(text) {
            Ok(list) if list.v == VERSION && list.boot == boot_id => {
                probes.restore_incidents(&list.incidents);
                self.open = list.incidents;
                !self.open.is_empty()
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(key, %error, "the annotation cannot be used");
                false
            }
        }
    }

    /// The annotation as it should be. It is written when an error opens or ends.
    pub fn annotation(&mut self, probes: &Probes, boot_id: &str) -> Decision<String> {
        if !self.is_recalled {
            return Decision::Undecided;
        }
        let is_same = |a: &IncidentRecord, b: &IncidentRecord| {
            (a.device, &a.load.uuid, &a.partition, &a.code) == (b.device, &b.load.uuid, &b.partition, &b.code)
        };
        let earlier = std::mem::take(&mut self.open);
        let open = probes.incidents().into_iter().map(|mut record| {
            let known = earlier.iter().find(|known| is_same(known, &record));
            record.first_seen = known.map_or_else(clock::wall, |known| known.first_seen);
            record
        });
        self.open = open.collect();
        if self.open.is_empty() {
            return Decision::Absent;
        }
        Decision::Decided(text(&self.open, boot_id))
    }
}

/// As many errors as there is room for, the oldest first.
fn text(open: &[IncidentRecord], boot_id: &str) -> String {
    let encode = |incidents: Vec<IncidentRecord>| {
        let list = IncidentList { v: VERSION, boot: boot_id.to_owned(), incidents };
        serde_json::to_string(&list).expect("strings and lists can be encoded")
    };
    let mut incidents = open.to_vec();
    incidents.sort_by_key(|incident| incident.first_seen);
    let mut bytes = encode(Vec::new()).len();
    let has_room = |incident: &IncidentRecord| {
        let text = serde_json::to_string(incident).expect("strings and lists can be encoded");
        // With its comma.
        bytes += text.len() + 1;
        bytes <= MAX_BYTES
    };
    encode(incidents.into_iter().take_while(has_room).collect())
}

#[cfg(test)]
mod tests {
    use afd_model::{DriverLoad, PciAddress};

    use super::*;

    #[test]
    fn the_annotation_has_room_for_a_limited_number_of_errors() {
        let incident = |bus: u8| IncidentRecord {
            probe: "nvidia".to_owned(),
            device: PciAddress { domain: 0, bus, device: 0, function: 0 }.into(),
            load: DriverLoad {
                pci_id: Some("10de:2330".to_owned()),
                uuid: Some("GPU-00000000-0000-0000-0000-000000000000".to_owned()),
                driver_version: Some("580.105.08".to_owned()),
                driver_binding: Some(4_321),
            },
            partition: None,
            code: "Xid48".to_owned(),
            first_seen: Some(i64::from(bus)),
            resets: None,
        };
        let many: Vec<IncidentRecord> = (0..64).rev().map(incident).collect();
        let text = text(&many, "boot");
        assert!(text.len() <= MAX_BYTES);
        let list: IncidentList = serde_json::from_str(&text).expect("it is readable");
        assert_eq!(list.incidents[0].first_seen, Some(0), "the oldest first");
        assert!(list.incidents.len() > 5);
        let next = serde_json::to_string(&list.incidents[0]).expect("it can be encoded");
        assert!(text.len() + next.len() + 2 > MAX_BYTES, "there is no room for another one");
    }
}
