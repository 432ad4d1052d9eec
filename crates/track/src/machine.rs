//! Which machine a Node object describes.

use afd_model::NodeFacts;
use sha2::{Digest, Sha256};

/// UUIDs that firmware vendors leave in place of one.
const PLACEHOLDER_UUIDS: [&str; 2] = ["03000200-0400-0500-0006-000700080009", "not settable"];
/// How much of the hash the annotation has.
const HASH_BYTES: usize = 8;

/// What is known of the machine that the Node describes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum MachineIdentity {
    /// The Node describes another boot: the kubelet has not written it since this one.
    Stale,
    /// The first 16 hexadecimal digits of the hash of its identifier; empty where the Node has none.
    Known(String),
}

/// The machine of a Node. `boot_id` is that of the running kernel, if it can be read.
pub(crate) fn identify(node: &NodeFacts, boot_id: Option<&str>) -> MachineIdentity {
    let is_stale = boot_id.is_some_and(|boot_id| !node.boot_id.is_empty() && node.boot_id != boot_id);
    if is_stale {
        return MachineIdentity::Stale;
    }
    let uuid = node.system_uuid.trim().to_lowercase();
    let identifier = if is_placeholder(&uuid) { node.machine_id.trim().to_lowercase() } else { uuid };
    if identifier.is_empty() {
        return MachineIdentity::Known(String::new());
    }
    let hash = Sha256::digest(identifier.as_bytes());
    MachineIdentity::Known(hash[..HASH_BYTES].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn is_placeholder(uuid: &str) -> bool {
    let mut digits = uuid.chars().filter(|c| *c != '-');
    let first = digits.next();
    let is_uniform = matches!(first, None | Some('0' | 'f')) && digits.all(|c| Some(c) == first);
    is_uniform || PLACEHOLDER_UUIDS.contains(&uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(uuid: &str, machine_id: &str) -> NodeFacts {
        NodeFacts {
            system_uuid: uuid.to_owned(),
            machine_id: machine_id.to_owned(),
            boot_id: "boot".to_owned(),
            ..NodeFacts::default()
        }
    }

    #[test]
    fn a_machine_is_known_by_its_uuid_and_a_placeholder_is_none() {
        let hash = |uuid, machine_id| identify(&node(uuid, machine_id), Some("boot"));
        let known = hash("4C4C4544-0044-4210-8031-C2C04F4E4832", "a");
        assert_eq!(
            known,
            hash("4c4c4544-0044-4210-8031-c2c04f4e4832", "b"),
            "another machine id is no other machine"
        );
        assert!(matches!(&known, MachineIdentity::Known(text) if text.len() == 16));
        for placeholder in [
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
            "Not Settable",
            "",
        ] {
            assert_eq!(hash(placeholder, "a"), hash("", "a"), "{placeholder}");
            assert_ne!(hash(placeholder, "a"), hash(placeholder, "b"), "{placeholder}");
        }
        assert_eq!(hash("", ""), MachineIdentity::Known(String::new()));
    }

    #[test]
    fn a_node_of_another_boot_describes_no_machine() {
        assert_eq!(identify(&node("u", "m"), Some("other")), MachineIdentity::Stale);
        assert_ne!(identify(&node("u", "m"), None), MachineIdentity::Stale);
    }
}
