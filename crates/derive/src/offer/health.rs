//! The health that DRA drivers publish, compared with what is known here. Neither overrides the other.

use afd_model::{Device, HealthState, Inventory, Missing, Problem, PublishedOffers, UnitId};

use crate::vendors;

/// The devices of which a driver publishes another health than AFD finds, each as a problem. A health that is not known here, and a
/// driver that says neither, contradict nothing; a degraded device works.
pub fn health_conflicts(inventory: &Inventory, published: &PublishedOffers) -> Vec<Problem> {
    inventory.devices.iter().filter_map(|device| conflict(device, published)).collect()
}

fn conflict(device: &Device, published: &PublishedOffers) -> Option<Problem> {
    let record = vendors::of_device(device)?;
    let (driver, attribute) = (record.offers.dra_driver, record.offers.dra_health?);
    // A partition has a health of its own.
    let of_device = |by: &str, unit: UnitId| by == driver && unit == device.id.into();
    let (_, healthy) = published.health.iter().find(|(offered, _)| of_device(&offered.by, offered.unit))?;
    let state = device.health.state;
    let (value, consequence) = match (healthy, state) {
        (true, HealthState::Failed) => (attribute.healthy, "pods may be given it"),
        (false, HealthState::Healthy | HealthState::Degraded) => {
            (attribute.unhealthy, "see what the driver has found")
        }
        _ => return None,
    };
    let reasons: Vec<&str> = device.health.reasons.iter().map(|reason| reason.code.as_str()).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    Some(Problem {
        probe: record.probe.to_owned(),
        device: Some(device.id),
        fact: "health".to_owned(),
        reason: Missing::Contradicted,
        path: None,
        message: format!(
            "the DRA driver {driver} publishes {}={value}, and here the device is {}{reasons}: {consequence}; check the log of the \
             driver on this node",
            attribute.name,
            state.as_str()
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use afd_model::{Health, OfferedUnit, Partition, PartitionName, PciAddress};

    use super::*;
    use crate::vendors::{VENDORS, VendorRecord};

    /// A record whose driver publishes the health of devices.
    fn publishing() -> &'static VendorRecord {
        let mut records = VENDORS.into_iter();
        records.find(|record| record.offers.dra_health.is_some()).expect("one does")
    }

    fn device(record: &VendorRecord, state: HealthState) -> Device {
        let health = Health { state, reasons: Vec::new() };
        let address = PciAddress { domain: 0, bus: 3, device: 0, function: 0 };
        Device { health, ..Device::bare(address, record.vendor, record.variant) }
    }

    /// The messages on a device in a state of which a driver publishes this.
    fn messages(by: &str, state: HealthState, published: &[(UnitId, bool)]) -> Vec<String> {
        let inventory = Inventory { devices: vec![device(publishing(), state)], ..Inventory::default() };
        let health = published
            .iter()
            .map(|(unit, healthy)| (OfferedUnit { by: by.to_owned(), unit: *unit }, *healthy));
        let published = PublishedOffers { health: health.collect::<BTreeMap<_, _>>(), ..Default::default() };
        let problems = health_conflicts(&inventory, &published);
        problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn a_health_that_is_contradicted_is_a_problem_and_no_other_one() {
        let record = publishing();
        let driver = record.offers.dra_driver;
        let own = UnitId::from(device(record, HealthState::Unknown).id);
        let is_conflict = |state, healthy| !messages(driver, state, &[(own, healthy)]).is_empty();
        assert!(is_conflict(HealthState::Failed, true) && !is_conflict(HealthState::Failed, false));
        for works in [HealthState::Healthy, HealthState::Degraded] {
            assert!(is_conflict(works, false) && !is_conflict(works, true), "{works:?}");
        }
        for healthy in [true, false] {
            assert!(!is_conflict(HealthState::Unknown, healthy), "nothing is known here");
        }
        let message = messages(driver, HealthState::Healthy, &[(own, false)]).concat();
        assert!(message.contains("health=Unhealthy, and here the device is healthy"), "{message}");
        assert!(messages(driver, HealthState::Healthy, &[]).is_empty(), "the driver says neither");
        assert!(messages("another.driver", HealthState::Healthy, &[(own, false)]).is_empty());
    }

    #[test]
    fn a_partition_says_nothing_of_its_device() {
        let record = publishing();
        let whole = device(record, HealthState::Healthy);
        let partition = Partition::bare(whole.id, PartitionName::VirtualFunction(0));
        let unit = UnitId::from(partition.id);
        assert!(messages(record.offers.dra_driver, HealthState::Healthy, &[(unit, false)]).is_empty());
    }

    #[test]
    fn a_value_that_says_neither_is_no_health() {
        let attribute = publishing().offers.dra_health.expect("it publishes one");
        let values = [attribute.healthy, attribute.unhealthy, "Unknown", ""];
        assert_eq!(values.map(|value| attribute.is_healthy(value)), [Some(true), Some(false), None, None]);
    }
}
