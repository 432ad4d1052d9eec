//! Inventory and samples to metric families. They are built from scratch each time, so that a device that is gone has no series.

mod counts;
mod exposition;
mod links;
mod ports;

use std::collections::{BTreeMap, BTreeSet};

use afd_model::{
    Allocation, Device, DeviceId, ExpectedDevices, Fact, Health, HealthState, Inventory, Known, Missing, Nic,
    OfferedUnit, PortState, Problem, Sample, Sampling,
};
use prometheus::proto::MetricFamily;

pub(crate) use self::exposition::{SeriesWithLabels, family};
use crate::{
    families::{Family, OwnLabels, device_info},
    offer::OfferCount,
    paths::{PathAnswer, PathVerdict},
    rdma::nearest_device,
    vendors,
};

/// What the cluster reports of the devices; nothing outside of one, or before it has reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct InCluster<'a> {
    /// The containers that hold them; none while the kubelet has not reported.
    pub allocations: Option<&'a [Allocation]>,
    /// What is offered of them.
    pub offers: &'a [OfferCount],
    /// Whether each can be allocated, as [`Offered::allocatable`](crate::offer::Offered::allocatable) says.
    pub allocatable: Option<&'a BTreeMap<DeviceId, bool>>,
    /// Whether DRA drivers publish them as healthy.
    pub published_health: Option<&'a BTreeMap<OfferedUnit, bool>>,
    /// How many are expected; none until the Node was read. Nothing is expected where the admin has switched it off.
    pub expected: Option<&'a [ExpectedDevices]>,
}

/// What is published only on request, since it is many series.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeriesDetail {
    /// The values of each link.
    pub per_link: bool,
}

/// The families of devices, node and problems, with the values of the last sampling.
pub fn families(
    inventory: &Inventory,
    sampling: &Sampling,
    cluster: &InCluster<'_>,
    paths: &[PathVerdict<'_>],
    detail: SeriesDetail,
) -> Vec<MetricFamily> {
    let mut series = SeriesByFamily::default();
    let devices = || inventory.devices.iter().filter(|device| !uuid_is_pending(device));
    devices().for_each(|device| add_device(&mut series, device));
    for sample in &sampling.samples {
        if let Some(device) = devices().find(|device| device.id == sample.unit.device) {
            add_sample(&mut series, device, sample, detail);
        }
    }
    for allocation in cluster.allocations.unwrap_or_default() {
        if let Some(device) = devices().find(|device| device.id == allocation.unit.device) {
            add_allocation(&mut series, device, allocation);
        }
    }
    for (offered, healthy) in cluster.published_health.into_iter().flatten() {
        if let Some(device) = devices().find(|device| device.id == offered.unit.device) {
            add_published_health(&mut series, device, offered, *healthy);
        }
    }
    counts::add_missing(&mut series, &inventory.missing);
    counts::add_counts(&mut series, inventory, cluster);
    for count in cluster.offers {
        add_offer(&mut series, count);
    }
    for nic in &inventory.nics {
        add_nic(&mut series, inventory, nic);
    }
    for port in &sampling.ports {
        ports::add_counters(&mut series, inventory, port);
    }
    add_paths(&mut series, paths);
    add_problems(&mut series, inventory.problems.iter().chain(&sampling.problems));
    series.into_families()
}

/// Whether the UUID is still to be reported. A label of a series never changes while the device is there, so the device has no
/// series until then. One that cannot be read is not waited for, nor one that the vendor's library does not report.
fn uuid_is_pending(device: &Device) -> bool {
    let cannot_be_read = matches!(
        device.uuid.missing(),
        Some(Missing::NotPermitted | Missing::Unreadable | Missing::Malformed)
    );
    let library = vendors::of_device(device).and_then(|record| record.library.as_ref());
    let may_come = library.is_none_or(|library| library.reports_uuids);
    device.undecided.contains(Fact::Uuid) && !cannot_be_read && may_come
}

/// The values of the labels of a family's subject.
type SubjectLabels<'l> = &'l [&'l str];

/// Of the node and of the agent.
const NO_SUBJECT: SubjectLabels<'static> = &[];

/// Series by family, one value for each set of label values.
#[derive(Debug, Default)]
struct SeriesByFamily(BTreeMap<Family, BTreeMap<Vec<String>, f64>>);

impl SeriesByFamily {
    /// Adds a series unless it exists: the value that was read first stays.
    fn add(&mut self, family: Family, subject: SubjectLabels<'_>, own: OwnLabels, value: f64) {
        let subject = subject.iter().map(|value| (*value).to_owned());
        let values = subject.chain(own.into_iter().map(Into::into)).collect();
        self.0.entry(family).or_default().entry(values).or_insert(value);
    }

    /// The same, with own labels by name.
    fn add_with(&mut self, family: Family, subject: SubjectLabels<'_>, own: &[(&str, &str)], value: f64) {
        debug_assert!(
            own.iter().map(|(name, _)| name).eq(family.spec().labels),
            "{} has the labels {:?}",
            family.spec().name,
            family.spec().labels
        );
        self.add(family, subject, own.iter().map(|(_, value)| (*value).to_owned().into()).collect(), value);
    }

    fn into_families(self) -> Vec<MetricFamily> {
        let families = self.0.into_iter().map(|(family, series)| {
            let spec = family.spec();
            let names = || spec.subject.labels().iter().chain(spec.labels).copied();
            let series = series.into_iter().map(|(values, value)| {
                debug_assert!(
                    values.len() == names().count() || links::is_sum(family, values.len()),
                    "{} has a value for each label",
                    spec.name
                );
                (names().zip(values).collect(), value)
            });
            exposition::family(spec.name, spec.help, spec.kind, series)
        });
        families.collect()
    }
}

/// The values of the labels that every series of a device or partition has.
fn unit_labels<'a>(device: &'a Device, address: &'a str, partition: &'a str) -> [&'a str; 4] {
    let uuid = device.uuid.value().map_or("", String::as_str);
    [device.vendor.as_str(), address, uuid, partition]
}

fn add_device(series: &mut SeriesByFamily, device: &Device) {
    let address = device.id.to_string();
    let whole = unit_labels(device, &address, "");
    series.add(Family::DeviceInfo, &whole, device_info(device), 1.0);
    add_health(series, &whole, &device.health);
    if let Known::Value(bytes) = device.memory_bytes {
        series.add(Family::MemoryTotalBytes, &whole, OwnLabels::new(), bytes as f64);
    }
    for partition in &device.partitions {
        let name = partition.name.to_string();
        let labels = unit_labels(device, &address, &name);
        if let Known::Value(bytes) = partition.memory_bytes {
            series.add(Family::MemoryTotalBytes, &labels, OwnLabels::new(), bytes as f64);
        }
        // The health of most partitions is not reported; that of their device applies to them.
        if partition.health.state != HealthState::Unknown {
            add_health(series, &labels, &partition.health);
        }
    }
}

fn add_health(series: &mut SeriesByFamily, subject: SubjectLabels<'_>, health: &Health) {
    for state in HealthState::ALL {
        let is_current = f64::from(u8::from(health.state == state));
        series.add_with(Family::Health, subject, &[("state", state.as_str())], is_current);
    }
    for reason in &health.reasons {
        series.add_with(Family::HealthReason, subject, &[("reason", &reason.code)], 1.0);
    }
}

fn add_sample(series: &mut SeriesByFamily, device: &Device, sample: &Sample, detail: SeriesDetail) {
    let address = device.id.to_string();
    let partition = sample.unit.partition_label();
    let subject = unit_labels(device, &address, &partition);
    for reading in sample.readings.iter().filter(|reading| links::is_shown(reading, sample, detail)) {
        if let Some((family, own)) = Family::of_quantity(reading.quantity) {
            series.add(family, &subject, own, reading.value);
        }
    }
}

fn add_allocation(series: &mut SeriesByFamily, device: &Device, allocation: &Allocation) {
    let address = device.id.to_string();
    let partition = allocation.unit.partition_label();
    let own = [
        ("namespace", allocation.namespace.as_str()),
        ("pod", &allocation.pod),
        ("container", &allocation.container),
        ("resource", &allocation.resource),
        ("mechanism", allocation.mechanism.as_str()),
    ];
    series.add_with(Family::Allocation, &unit_labels(device, &address, &partition), &own, 1.0);
}

fn add_published_health(
    series: &mut SeriesByFamily,
    device: &Device,
    OfferedUnit { by, unit }: &OfferedUnit,
    healthy: bool,
) {
    let (address, partition) = (device.id.to_string(), unit.partition_label());
    let subject = unit_labels(device, &address, &partition);
    series.add_with(Family::PublishedHealth, &subject, &[("driver", by)], f64::from(u8::from(healthy)));
}

fn add_offer(series: &mut SeriesByFamily, count: &OfferCount) {
    let states = [
        ("discovered", count.discovered),
        ("allocatable", Some(count.allocatable)),
        ("allocated", count.allocated),
    ];
    for (state, number) in states {
        if let Some(number) = number {
            let own = [
                ("resource", count.resource.as_str()),
                ("mechanism", count.mechanism.as_str()),
                ("state", state),
            ];
            series.add_with(Family::ResourceDevices, NO_SUBJECT, &own, number as f64);
        }
    }
}

fn add_nic(series: &mut SeriesByFamily, inventory: &Inventory, nic: &Nic) {
    let device = nearest_device(inventory, nic).map(|device| device.id.to_string()).unwrap_or_default();
    for port in &nic.ports {
        let Known::Value(state) = port.state else { continue };
        let number = port.number.to_string();
        let link_layer = port.link_layer.value().map_or("", |layer| layer.as_str());
        let is_up = f64::from(u8::from(state == PortState::Active));
        let own =
            [("nic", nic.name.as_str()), ("port", &number), ("link_layer", link_layer), ("device", &device)];
        series.add_with(Family::RdmaPortUp, NO_SUBJECT, &own, is_up);
    }
}

fn add_paths(series: &mut SeriesByFamily, verdicts: &[PathVerdict<'_>]) {
    for verdict in verdicts {
        let path = verdict.path.name.as_str();
        let mut add = |is_ready| series.add_with(Family::PathReady, NO_SUBJECT, &[("path", path)], is_ready);
        match verdict.answer() {
            PathAnswer::Ready => add(1.0),
            PathAnswer::NotReady => {
                add(0.0);
                for outcome in verdict.unmet() {
                    let own = [("path", path), ("reason", outcome.requirement.reason.as_str())];
                    series.add_with(Family::PathReason, NO_SUBJECT, &own, 1.0);
                }
            }
            PathAnswer::Unknown => {}
        }
    }
}

fn add_problems<'p>(series: &mut SeriesByFamily, problems: impl Iterator<Item = &'p Problem>) {
    // Both verbs of a probe can have the same problem; it counts once.
    let distinct: BTreeSet<_> = problems
        .map(|problem| {
            (problem.probe.as_str(), problem.reason.as_str(), &problem.device, &problem.fact, &problem.path)
        })
        .collect();
    let mut counts: BTreeMap<_, f64> = BTreeMap::new();
    for (probe, reason, ..) in distinct {
        *counts.entry((probe, reason)).or_default() += 1.0;
    }
    for ((probe, reason), count) in counts {
        let own = [("probe", probe), ("reason", reason)];
        series.add_with(Family::ProbeProblems, NO_SUBJECT, &own, count);
    }
}

#[cfg(test)]
mod tests;
