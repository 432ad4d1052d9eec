//! Inventory to the Node's condition: whether its accelerators can take work.

use afd_model::{Device, HealthState, Inventory};

use crate::offer::OfferVerdict;

/// The condition `Ready` without its times.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadyCondition {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// The reason in CamelCase.
    pub reason: String,
    /// A message that says what to do.
    pub message: String,
}

/// Kubernetes accepts 32 KiB; a message for people is shorter.
const MAX_MESSAGE_BYTES: usize = 1024;

/// The condition of a node; `None` if it has no accelerator. Integrated GPUs count only with `include_integrated`. `offered`
/// says whether Kubernetes offers the devices.
pub fn condition(
    inventory: &Inventory,
    include_integrated: bool,
    offered: &OfferVerdict,
) -> Option<ReadyCondition> {
    let devices = || inventory.devices.iter().filter(|device| include_integrated || !device.integrated);
    let in_state = |state: HealthState| devices().filter(move |device| device.health.state == state);
    let count = devices().count();
    if count == 0 {
        return None;
    }
    let failed = in_state(HealthState::Failed).next();
    let unknown = in_state(HealthState::Unknown).count();
    Some(if let Some(first) = failed {
        ReadyCondition {
            status: "False",
            reason: reason(first),
            message: sentences(in_state(HealthState::Failed)),
        }
    } else if let OfferVerdict::Incomplete(message) = offered {
        ReadyCondition { status: "False", reason: "NotAllocatable".to_owned(), message: truncated(message) }
    } else if unknown > 0 {
        ReadyCondition {
            status: "Unknown",
            reason: "HealthUnknown".to_owned(),
            message: format!(
                "the health of {unknown} of {count} devices is not reported; the vendor's library may be missing or not \
                 visible to the agent"
            ),
        }
    } else if *offered == OfferVerdict::Unknown {
        ReadyCondition {
            status: "Unknown",
            reason: "OfferUnknown".to_owned(),
            message: "the API server has not reported which devices are offered to pods".to_owned(),
        }
    } else if in_state(HealthState::Degraded).next().is_some() {
        ReadyCondition {
            status: "True",
            reason: "Degraded".to_owned(),
            message: sentences(in_state(HealthState::Degraded)),
        }
    } else if let OfferVerdict::Duplicate(message) = offered {
        ReadyCondition { status: "True", reason: "OfferedTwice".to_owned(), message: truncated(message) }
    } else {
        ReadyCondition {
            status: "True",
            reason: "AllHealthy".to_owned(),
            message: format!("all accelerators ({count}) can take work"),
        }
    })
}

/// At most the longest message.
fn truncated(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_MESSAGE_BYTES);
    text[..end].to_owned()
}

fn reason(device: &Device) -> String {
    device.health.reasons.first().map_or_else(|| "DeviceUnhealthy".to_owned(), |reason| reason.code.clone())
}

/// The reasons of each device.
fn sentences<'a>(devices: impl Iterator<Item = &'a Device>) -> String {
    let mut text = String::new();
    for (number, device) in devices.enumerate() {
        let reasons: Vec<&str> = device.health.reasons.iter().map(|reason| reason.message.as_str()).collect();
        let sentence = format!("{}: {}", device.id, reasons.join(", "));
        if text.len() + sentence.len() > MAX_MESSAGE_BYTES && number > 0 {
            text += "; and more";
            break;
        }
        if number > 0 {
            text += "; ";
        }
        text += &sentence;
    }
    text
}

#[cfg(test)]
mod tests {
    use afd_model::Health;

    use super::*;
    use crate::vendors::bare_device;

    fn condition_of(states: &[Health]) -> Option<ReadyCondition> {
        let devices =
            (1..).zip(states).map(|(bus, health)| Device { health: health.clone(), ..bare_device(bus) });
        condition(
            &Inventory { devices: devices.collect(), ..Inventory::default() },
            false,
            &OfferVerdict::Complete,
        )
    }

    #[test]
    fn one_failed_device_is_enough_and_is_named() {
        let lost = Health::failed("GpuLost", "it has fallen off the bus");
        let condition =
            condition_of(&[Health::healthy(), lost, Health::unknown()]).expect("there are devices");
        assert_eq!((condition.status, condition.reason.as_str()), ("False", "GpuLost"));
        assert_eq!(condition.message, "0000:02:00.0: it has fallen off the bus");
    }

    #[test]
    fn an_unknown_health_is_neither_ready_nor_failed() {
        let condition = condition_of(&[Health::healthy(), Health::unknown()]).expect("there are devices");
        assert_eq!((condition.status, condition.reason.as_str()), ("Unknown", "HealthUnknown"));
        let condition =
            condition_of(&[Health::healthy(), Health::degraded("RowRemapPending", "a row is pending")]);
        assert_eq!(
            condition.map(|condition| (condition.status, condition.reason)),
            Some(("True", "Degraded".to_owned()))
        );
        assert_eq!(condition_of(&[]), None);
    }

    #[test]
    fn a_message_is_truncated() {
        let many = vec![Health::failed("GpuLost", "x".repeat(300)); 16];
        let condition = condition_of(&many).expect("there are devices");
        assert!(condition.message.len() < 1100 && condition.message.ends_with("; and more"));
    }
}
