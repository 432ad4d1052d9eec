//! The annotation `expected`: what the agent remembers of a machine through its own restarts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the form that this program writes.
const VERSION: u32 = 1;
/// The longest annotation.
const MAX_BYTES: usize = 4 << 10;

/// The annotation `expected`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Memory {
    v: u32,
    /// The machine, as [`crate::machine`] identifies it.
    pub(crate) machine: String,
    /// The devices by kind.
    pub(crate) devices: Vec<ExpectedId>,
    /// Since when verdicts have been unconfirmed.
    #[serde(default, rename = "unconfirmedSince", skip_serializing_if = "Option::is_none")]
    pub(crate) unconfirmed_since: Option<Timestamp>,
    /// The boots in which the machine had another number of devices than its instance type says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) differs: Vec<String>,
}

/// One kind of device.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct ExpectedId {
    /// PCI vendor and device id: `10de:2330`.
    pub(crate) id: String,
    /// How many are expected; 0 before they were there for long enough.
    pub(crate) n: u32,
    /// Marketing name, as it was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) product: Option<String>,
    /// UUIDs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) handles: Vec<String>,
}

/// What an annotation contains.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Remembered {
    /// There is no annotation.
    Nothing,
    /// It can be used.
    Memory(Memory),
    /// It stays untouched, for this reason. Of a newer form the machine and the kinds may be known all the same.
    Unusable { why: String, known: Option<Memory> },
}

impl Memory {
    /// A memory of a machine.
    pub(crate) fn new(
        machine: &str,
        devices: Vec<ExpectedId>,
        unconfirmed_since: Option<Timestamp>,
    ) -> Memory {
        Memory { v: VERSION, machine: machine.to_owned(), devices, unconfirmed_since, differs: Vec::new() }
    }

    /// The text of the annotation. Where it would be too long, the UUIDs are left out, and then the names of products.
    pub(crate) fn to_text(&self) -> String {
        let text = |memory: &Memory| serde_json::to_string(memory).expect("strings and lists can be encoded");
        let mut shortened = text(self);
        let mut short = self.clone();
        let leave_out: [fn(&mut ExpectedId); 2] = [|kind| kind.handles.clear(), |kind| kind.product = None];
        for leave_out in leave_out {
            if shortened.len() > MAX_BYTES {
                short.devices.iter_mut().for_each(leave_out);
                shortened = text(&short);
            }
        }
        shortened
    }
}

/// Reads the annotation.
pub(crate) fn remembered(annotation: Option<&str>) -> Remembered {
    let Some(text) = annotation else { return Remembered::Nothing };
    let unusable = |why: String, known| Remembered::Unusable { why, known };
    if text.len() > MAX_BYTES {
        return unusable(format!("it is longer than {MAX_BYTES} bytes"), None);
    }
    match serde_json::from_str::<Memory>(text) {
        Ok(memory) if memory.v > VERSION => {
            unusable(format!("version {} is newer than this program", memory.v), Some(memory))
        }
        Ok(memory) => Remembered::Memory(memory),
        Err(error) => unusable(error.to_string(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        let device = ExpectedId {
            id: "10de:2330".to_owned(),
            n: 8,
            product: Some("NVIDIA H100".to_owned()),
            handles: vec!["GPU-1".to_owned()],
        };
        Memory::new("0123456789abcdef", vec![device], Timestamp::from_second(1_764_000_000).ok())
    }

    #[test]
    fn a_memory_is_read_back() {
        let text = memory().to_text();
        assert_eq!(
            text,
            r#"{"v":1,"machine":"0123456789abcdef","devices":[{"id":"10de:2330","n":8,"product":"NVIDIA H100","handles":["GPU-1"]}],"unconfirmedSince":"2025-11-24T16:00:00Z"}"#
        );
        assert_eq!(remembered(Some(&text)), Remembered::Memory(memory()));
        assert_eq!(remembered(None), Remembered::Nothing);
    }

    #[test]
    fn a_memory_of_a_release_without_names_is_read() {
        let text = memory().to_text().replace(r#""product":"NVIDIA H100","#, "");
        let Remembered::Memory(memory) = remembered(Some(&text)) else { panic!("{text}") };
        assert_eq!((memory.devices[0].n, memory.devices[0].product.as_deref()), (8, None));
    }

    #[test]
    fn what_cannot_be_used_is_not_taken_for_nothing() {
        let newer = memory().to_text().replace("\"v\":1", "\"v\":2");
        assert!(matches!(remembered(Some(&newer)), Remembered::Unusable { known: Some(_), .. }));
        for text in ["", "{", "[]", "{\"v\":1}", &"x".repeat(MAX_BYTES + 1)] {
            assert!(matches!(remembered(Some(text)), Remembered::Unusable { known: None, .. }), "{text}");
        }
    }

    #[test]
    fn a_long_memory_leaves_out_uuids_and_then_names() {
        let mut long = memory();
        long.devices[0].handles = vec!["GPU-00000000-0000-0000-0000-000000000000".to_owned(); 200];
        let text = long.to_text();
        assert!(text.len() <= MAX_BYTES && text.contains(r#""n":8,"product":"NVIDIA H100"}"#), "{text}");
        long.devices[0].product = Some("H".repeat(MAX_BYTES));
        let text = long.to_text();
        assert!(text.len() <= MAX_BYTES && text.contains(r#"{"id":"10de:2330","n":8}"#), "{text}");
    }
}
