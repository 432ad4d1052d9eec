//! Inventory to the node's condition, in the sense of Kubernetes: whether its accelerators may take work.

use afd_model::{Device, HealthState, Inventory};

use crate::offer::Verdict;

/// A condition of the node, without its type and times.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// A word in CamelCase.
    pub reason: String,
    /// A sentence that a person can act on.
    pub message: String,
}

/// More than this helps nobody; Kubernetes takes 32 KiB.
const MOST_MESSAGE_BYTES: usize = 1024;

/// The condition of a node; none if it has no accelerator. Integrated GPUs do not count unless asked for. `offered` is
/// whether Kubernetes offers what may take work.
pub fn condition(inventory: &Inventory, include_integrated: bool, offered: &Verdict) -> Option<Condition> {
    let devices = || inventory.devices.iter().filter(|device| include_integrated || !device.integrated);
    let in_state = |state: HealthState| devices().filter(move |device| device.health.state == state);
    let count = devices().count();
    if count == 0 {
        return None;
    }
    let failed = in_state(HealthState::Failed).next();
    let unknown = in_state(HealthState::Unknown).count();
    Some(if let Some(first) = failed {
        Condition {
            status: "False",
            reason: reason(first),
            message: sentences(in_state(HealthState::Failed)),
        }
    } else if let Verdict::Lacking(what) = offered {
        Condition { status: "False", reason: "NotAllocatable".to_owned(), message: cut(what) }
    } else if unknown > 0 {
        Condition {
            status: "Unknown",
            reason: "HealthUnknown".to_owned(),
            message: format!(
                "no source tells the health of {unknown} of {count} devices; the vendor's library may be missing or not \
                 visible to the agent"
            ),
        }
    } else if *offered == Verdict::Unknown {
        Condition {
            status: "Unknown",
            reason: "OfferUnknown".to_owned(),
            message: "the API server does not tell which devices are offered to pods".to_owned(),
        }
    } else if in_state(HealthState::Degraded).next().is_some() {
        Condition {
            status: "True",
            reason: "Degraded".to_owned(),
            message: sentences(in_state(HealthState::Degraded)),
        }
    } else if let Verdict::Twice(what) = offered {
        Condition { status: "True", reason: "OfferedTwice".to_owned(), message: cut(what) }
    } else {
        Condition {
            status: "True",
            reason: "AllHealthy".to_owned(),
            message: format!("all accelerators ({count}) may take work"),
        }
    })
}

/// Cut to the longest message, at a character.
fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(MOST_MESSAGE_BYTES);
    text[..end].to_owned()
}

fn reason(device: &Device) -> String {
    device.health.reasons.first().map_or_else(|| "DeviceUnhealthy".to_owned(), |reason| reason.code.clone())
}

/// What is the matter with each device.
fn sentences<'a>(devices: impl Iterator<Item = &'a Device>) -> String {
    let mut text = String::new();
    for (told, device) in devices.enumerate() {
        let reasons: Vec<&str> = device.health.reasons.iter().map(|reason| reason.message.as_str()).collect();
        let sentence = format!("{}: {}", device.id, reasons.join(", "));
        if text.len() + sentence.len() > MOST_MESSAGE_BYTES && told > 0 {
            text += "; and more";
            break;
        }
        if told > 0 {
            text += "; ";
        }
        text += &sentence;
    }
    text
}

#[cfg(test)]
mod tests {
    use afd_model::{Health, PciAddress, Variant, Vendor};

    use super::*;

    fn told(states: &[Health]) -> Option<Condition> {
        let devices = (1..).zip(states).map(|(bus, health)| Device {
            health: health.clone(),
            ..Device::bare(PciAddress { domain: 0, bus, device: 0, function: 0 }, Vendor::Amd, Variant::Gpu)
        });
        condition(&Inventory { devices: devices.collect(), ..Inventory::default() }, false, &Verdict::AsFound)
    }

    #[test]
    fn one_failed_device_is_enough_and_is_named() {
        let lost = Health::failed("GpuLost", "it has fallen off the bus");
        let condition = told(&[Health::healthy(), lost, Health::unknown()]).expect("there are devices");
        assert_eq!((condition.status, condition.reason.as_str()), ("False", "GpuLost"));
        assert_eq!(condition.message, "0000:02:00.0: it has fallen off the bus");
    }

    #[test]
    fn unknown_is_neither_well_nor_ill() {
        let condition = told(&[Health::healthy(), Health::unknown()]).expect("there are devices");
        assert_eq!((condition.status, condition.reason.as_str()), ("Unknown", "HealthUnknown"));
        let condition = told(&[Health::healthy(), Health::degraded("RowRemapPending", "a row waits")]);
        assert_eq!(
            condition.map(|condition| (condition.status, condition.reason)),
            Some(("True", "Degraded".to_owned()))
        );
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn a_message_has_an_end() {
        let many = vec![Health::failed("GpuLost", "x".repeat(300)); 16];
        let condition = told(&many).expect("there are devices");
        assert!(condition.message.len() < 1100 && condition.message.ends_with("; and more"));
    }
}
