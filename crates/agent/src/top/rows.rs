//! The rows of the table: devices with their partitions, and missing devices; filtered and sorted.

use std::cmp::Ordering;

use afd_model::{HealthState, Known};

use super::state::SortKey;
use crate::live::{LiveReport, LiveUnit, format::LiveValue};

/// A row.
#[derive(Clone, Debug)]
pub(super) struct TopRow<'r> {
    /// What identifies it, among all rows.
    pub(super) key: String,
    pub(super) id: &'r str,
    pub(super) name: &'r str,
    pub(super) is_partition: bool,
    /// None of a partition for which no source reports it.
    pub(super) health: Option<HealthState>,
    /// What is said of it besides, one line each.
    pub(super) notes: Vec<String>,
    /// None of a missing device.
    pub(super) unit: Option<&'r LiveUnit>,
}

impl<'r> TopRow<'r> {
    fn of_unit(unit: &'r LiveUnit, device: Option<&LiveUnit>) -> TopRow<'r> {
        let reasons = unit.reasons.iter().map(|reason| format!("{}: {}", reason.code, reason.message));
        TopRow {
            key: device.map_or_else(|| unit.id.clone(), |device| format!("{}/{}", device.id, unit.id)),
            id: &unit.id,
            name: &unit.name,
            is_partition: device.is_some(),
            health: unit.health,
            notes: reasons.collect(),
            unit: Some(unit),
        }
    }

    /// The pods that hold it, in a line; a dash where the kubelet has not reported.
    pub(super) fn pods(&self) -> String {
        match self.unit.map(|unit| &unit.pods) {
            Some(Known::Value(pods)) => pods.join(", "),
            Some(Known::Missing { .. }) | None => "-".to_owned(),
        }
    }

    fn matches(&self, filter: &str) -> bool {
        let health = self.health.map_or("", HealthState::as_str);
        let texts = [self.key.as_str(), self.name, health].into_iter().map(str::to_lowercase);
        let mut texts = texts.chain([self.pods().to_lowercase(), self.notes.join("\n").to_lowercase()]);
        texts.any(|text| text.contains(filter))
    }
}

/// The rows of a report, in the order of `sort`. A partition follows its device, and is shown with it where either matches.
pub(super) fn rows<'r>(
    report: &'r LiveReport,
    filter: &str,
    sort: SortKey,
    is_reversed: bool,
) -> Vec<TopRow<'r>> {
    let filter = filter.to_lowercase();
    let mut devices: Vec<&LiveUnit> = report.devices.iter().collect();
    // Stable: equal devices stay in the order of their addresses.
    devices.sort_by(|left, right| {
        let order = compare(sort, left, right);
        if is_reversed { order.reverse() } else { order }
    });
    let mut rows = Vec::new();
    for missing in &report.missing {
        let name = missing.product.as_deref().unwrap_or_default();
        rows.push(TopRow {
            key: missing.id.clone(),
            id: &missing.id,
            name,
            is_partition: false,
            health: Some(HealthState::Failed),
            notes: vec![format!("DeviceMissing: {}", missing.message)],
            unit: None,
        });
    }
    rows.retain(|row| row.matches(&filter));
    for device in devices {
        let own = TopRow::of_unit(device, None);
        let is_shown = own.matches(&filter);
        let partitions = device.partitions.iter().map(|partition| TopRow::of_unit(partition, Some(device)));
        let partitions: Vec<TopRow<'_>> = partitions.filter(|row| is_shown || row.matches(&filter)).collect();
        if is_shown || !partitions.is_empty() {
            rows.push(own);
            rows.extend(partitions);
        }
    }
    rows
}

/// The higher value first, and what is not known last.
fn compare(sort: SortKey, left: &LiveUnit, right: &LiveUnit) -> Ordering {
    let by_value = |value: LiveValue| {
        let of = |unit: &LiveUnit| value.of(&unit.values).into_value().unwrap_or(f64::NEG_INFINITY);
        of(right).total_cmp(&of(left))
    };
    match sort {
        SortKey::Device => left.id.cmp(&right.id),
        SortKey::Health => {
            let severity = |unit: &LiveUnit| unit.health.map_or(0, HealthState::severity);
            severity(right).cmp(&severity(left))
        }
        SortKey::Value(value) => by_value(value),
    }
}
