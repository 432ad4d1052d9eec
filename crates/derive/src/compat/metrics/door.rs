//! The door: the page that llm-d's endpoint picker reads. It has the families of every vendor's devices alone.
//!
//! The picker keeps the last value that it read, forever. A device that has failed would so look as idle as it was when it was last
//! read, and attract requests. Therefore a device with a confirmed fault that a pod holds is busy here, with a label that says so.
//! No other page and no other family has a value that was not read.

use std::collections::BTreeMap;

use afd_model::{Allocation, DeviceId, MissingDevice, UnitId};
use prometheus::proto::MetricFamily;

use super::{
    CompatInput, ENDPOINT_PICKER_PAGE, Labels, MetricPage, MetricSet, UnitLabels, units::unread_unit,
};
use crate::{
    compat::CompatSet,
    series::{self, SeriesWithLabels},
};

/// The label of a value that was not read: why.
pub const SYNTHETIC_LABEL: &str = "afd_synthetic";

/// The only family with such values.
const SYNTHETIC_FAMILY: &str = "DCGM_FI_DEV_GPU_UTIL";

/// Busy all the time.
const FULLY_BUSY: f64 = 100.0;

/// What the door is made from.
#[derive(Clone, Copy, Debug)]
pub struct DoorInput<'i> {
    /// What every page is made from. The allocations may have further pods, which serve with a device beside its holder.
    pub page: CompatInput<'i>,
    /// The devices with a confirmed fault; none where the admin wants to see what was read.
    pub faults: &'i [DoorFault],
}

/// A device with a confirmed fault of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DoorFault {
    /// The device.
    pub device: FaultyDevice,
    /// The reason in CamelCase.
    pub reason: String,
}

/// The device of a fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FaultyDevice {
    /// It is in the inventory.
    Present(DeviceId),
    /// It is expected and not there.
    Missing {
        /// What is known of it.
        device: MissingDevice,
        /// The containers that hold it nevertheless.
        holders: Vec<Allocation>,
    },
}

/// The families of the door.
///
/// # Panics
/// Never: a record has the page.
pub fn door_families(input: &DoorInput<'_>) -> Vec<MetricFamily> {
    let (set, metrics) = CompatSet::of_page(ENDPOINT_PICKER_PAGE).expect("a record has the page");
    let page = MetricPage::new(set, metrics, &input.page);
    let faulty = faulty_units(input);
    let families = metrics.families().filter(|family| family.every_vendor).filter_map(|family| {
        let series = if family.name == SYNTHETIC_FAMILY && !input.faults.is_empty() {
            let mut page = MetricPage::new(set, metrics, &input.page);
            page.retain(|unit| !faulty.contains_key(&unit.id()));
            let mut series = page.series(family);
            series.extend(present_series(set, metrics, &input.page, &faulty));
            series.extend(missing_series(metrics, input));
            series
        } else {
            page.series(family)
        };
        (!series.is_empty()).then(|| series::family(family.name, family.help, family.kind, series))
    });
    families.collect()
}

/// The devices and partitions that a pod holds and whose device has a fault, with its reason.
fn faulty_units<'i>(input: &DoorInput<'i>) -> BTreeMap<UnitId, &'i str> {
    let held = input.page.allocations.iter().map(|allocation| allocation.unit);
    let reason_of = |unit: &UnitId| {
        let is_its = |fault: &&DoorFault| fault.device == FaultyDevice::Present(unit.device);
        input.faults.iter().find(is_its).map(|fault| fault.reason.as_str())
    };
    held.filter_map(|unit| Some((unit, reason_of(&unit)?))).collect()
}

fn present_series(
    set: CompatSet,
    metrics: &MetricSet,
    input: &CompatInput<'_>,
    faulty: &BTreeMap<UnitId, &str>,
) -> Vec<SeriesWithLabels> {
    let mut series = Vec::new();
    for (id, reason) in faulty {
        if let Some(unit) = unread_unit(set.0, input, *id) {
            add_synthetic(&mut series, &UnitLabels::new(metrics, input, &unit), reason);
        }
    }
    series
}

/// The same of devices that are not there: of their labels only what identifies them is known.
fn missing_series(metrics: &MetricSet, input: &DoorInput<'_>) -> Vec<SeriesWithLabels> {
    let mut series = Vec::new();
    for DoorFault { device, reason } in input.faults {
        let FaultyDevice::Missing { device, holders } = device else { continue };
        if holders.is_empty() {
            continue;
        }
        let mut labels = UnitLabels::of_holders(metrics, holders.iter());
        labels.before = vec![
            ("gpu", device.id.clone()),
            ("UUID", device.uuid.clone().unwrap_or_default()),
            ("modelName", device.product.clone().unwrap_or_default()),
        ];
        labels.before.extend(input.page.node.map(|node| ("Hostname", node.to_owned())));
        add_synthetic(&mut series, &labels, reason);
    }
    series
}

fn add_synthetic(series: &mut Vec<SeriesWithLabels>, labels: &UnitLabels, reason: &str) {
    for after in &labels.after {
        let labels = labels.before.iter().chain(after).cloned();
        let labels: Labels = labels.chain([(SYNTHETIC_LABEL, reason.to_owned())]).collect();
        series.push((labels, FULLY_BUSY));
    }
}

#[cfg(test)]
mod tests;
