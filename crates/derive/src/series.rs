//! Inventory and samples to metric families, built anew each time so that a vanished device is gone at once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use afd_model::{
    Allocation, Device, Health, HealthState, Inventory, Known, Nic, PortState, Problem, Quantity, Sample,
};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::{
    families::{Family, Kind},
    offer::OfferCount,
    paths::{Answer, Verdict},
};

/// What Kubernetes tells of the devices; nothing outside of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct InCluster<'a> {
    /// Who holds them.
    pub allocations: &'a [Allocation],
    /// What is offered of them.
    pub offers: &'a [OfferCount],
}

/// The families of devices, node and problems. `problems` are those of the last sampling; the inventory has its own.
pub fn families(
    inventory: &Inventory,
    samples: &[Sample],
    problems: &[Problem],
    cluster: &InCluster<'_>,
    paths: &[Verdict<'_>],
) -> Vec<MetricFamily> {
    let mut series = Series::default();
    for device in &inventory.devices {
        static_series(&mut series, device);
    }
    for sample in samples {
        if let Some(device) = inventory.devices.iter().find(|device| device.id == sample.unit.device) {
            sampled_series(&mut series, device, sample);
        }
    }
    for allocation in cluster.allocations {
        if let Some(device) = inventory.devices.iter().find(|device| device.id == allocation.unit.device) {
            allocation_series(&mut series, device, allocation);
        }
    }
    for count in cluster.offers {
        offer_series(&mut series, count);
    }
    for nic in &inventory.nics {
        rdma_series(&mut series, inventory, nic);
    }
    path_series(&mut series, paths);
    problem_series(&mut series, inventory.problems.iter().chain(problems));
    series.into_families()
}

/// Series by family, one value for each set of label values.
#[derive(Debug, Default)]
struct Series(BTreeMap<Family, BTreeMap<Vec<String>, f64>>);

impl Series {
    /// Adds a series unless it is there: what was read first stays.
    fn add<'v>(&mut self, family: Family, values: impl IntoIterator<Item = &'v str>, value: f64) {
        let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
        self.0.entry(family).or_default().entry(values).or_insert(value);
    }

    fn into_families(self) -> Vec<MetricFamily> {
        self.0.into_iter().map(|(family, series)| family_of(family, series)).collect()
    }
}

fn family_of(of: Family, series: BTreeMap<Vec<String>, f64>) -> MetricFamily {
    let spec = of.spec();
    let names = || spec.subject.labels().iter().chain(spec.labels).copied();
    let labelled = series.into_iter().map(|(values, value)| {
        debug_assert_eq!(values.len(), names().count(), "{} has a value for each label", spec.name);
        (names().zip(values).collect(), value)
    });
    family(spec.name, spec.help, spec.kind, labelled)
}

/// A value with the names and values of its labels.
pub(crate) type Labelled = (Vec<(&'static str, String)>, f64);

/// A family with these series.
pub(crate) fn family(
    name: &str,
    help: &str,
    kind: Kind,
    series: impl IntoIterator<Item = Labelled>,
) -> MetricFamily {
    let metrics = series.into_iter().map(|(labels, value)| {
        let labels = labels.into_iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value);
            pair
        });
        let mut metric = Metric::from_label(labels.collect());
        if kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    });
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(if kind == Kind::Counter { MetricType::COUNTER } else { MetricType::GAUGE });
    family.set_metric(metrics.collect());
    family
}

/// The values of the labels that every series of a device or partition has.
fn subject<'a>(device: &'a Device, address: &'a str, partition: &'a str) -> [&'a str; 4] {
    let uuid = device.uuid.value().map_or("", String::as_str);
    [device.vendor.as_str(), address, uuid, partition]
}

fn static_series(series: &mut Series, device: &Device) {
    let address = device.id.to_string();
    let whole = subject(device, &address, "");
    let product = device.product.value();
    let ids = device.pci.vendor_id.value().zip(device.pci.device_id.value());
    let pci_id = ids.map_or_else(String::new, |(vendor, device)| format!("{vendor}:{device}"));
    let numa_node = device.numa_node.value().map_or_else(String::new, u32::to_string);
    let integrated = device.integrated.to_string();
    let facts = [
        product.map_or("", |product| product.name.as_str()),
        product.and_then(|product| product.model.value()).map_or("", String::as_str),
        product.and_then(|product| product.architecture.value()).map_or("", String::as_str),
        text(&device.compute),
        text(&device.driver_version),
        text(&device.firmware_version),
        &pci_id,
        &numa_node,
        &integrated,
    ];
    series.add(Family::DeviceInfo, whole.into_iter().chain(facts), 1.0);
    health_series(series, whole, &device.health);
    if let Known::Value(bytes) = device.memory_bytes {
        series.add(Family::MemoryTotalBytes, whole, bytes as f64);
    }
    for partition in &device.partitions {
        let name = partition.name.to_string();
        let part = subject(device, &address, &name);
        if let Known::Value(bytes) = partition.memory_bytes {
            series.add(Family::MemoryTotalBytes, part, bytes as f64);
        }
        // Of most partitions nobody tells, and their device's health is theirs.
        if partition.health.state != HealthState::Unknown {
            health_series(series, part, &partition.health);
        }
    }
}

fn allocation_series(series: &mut Series, device: &Device, allocation: &Allocation) {
    let address = device.id.to_string();
    let partition = allocation.unit.partition_label();
    let subject = subject(device, &address, &partition);
    let holder = [
        allocation.namespace.as_str(),
        &allocation.pod,
        &allocation.container,
        &allocation.resource,
        allocation.mechanism.as_str(),
    ];
    series.add(Family::Allocation, subject.into_iter().chain(holder), 1.0);
}

fn offer_series(series: &mut Series, count: &OfferCount) {
    let states = [
        ("discovered", count.discovered),
        ("allocatable", Some(count.allocatable)),
        ("allocated", count.allocated),
    ];
    for (state, number) in states {
        if let Some(number) = number {
            let values = [count.resource.as_str(), count.mechanism.as_str(), state];
            series.add(Family::ResourceDevices, values, number as f64);
        }
    }
}

fn health_series(series: &mut Series, subject: [&str; 4], health: &Health) {
    for state in HealthState::ALL {
        let holds = f64::from(u8::from(health.state == state));
        series.add(Family::Health, subject.into_iter().chain([state.as_str()]), holds);
    }
    for reason in &health.reasons {
        series.add(Family::HealthReason, subject.into_iter().chain([reason.code.as_str()]), 1.0);
    }
}

fn text(fact: &Known<String>) -> &str {
    fact.value().map_or("", String::as_str)
}

fn sampled_series(series: &mut Series, device: &Device, sample: &Sample) {
    let address = device.id.to_string();
    let partition = sample.unit.partition_label();
    let subject = subject(device, &address, &partition);
    for reading in &sample.readings {
        let Some((family, values)) = place(&reading.quantity) else { continue };
        series.add(family, subject.into_iter().chain(values.iter().map(AsRef::as_ref)), reading.value);
    }
}

/// The family of a quantity, and the values of the family's own labels; none if it has no family of ours.
fn place(quantity: &Quantity) -> Option<(Family, Vec<Cow<'static, str>>)> {
    let of = |family, values: &[&'static str]| (family, values.iter().copied().map(Cow::from).collect());
    let place = match *quantity {
        Quantity::Utilization(engine) => of(Family::UtilizationRatio, &[engine.as_str()]),
        Quantity::MemoryTotalBytes => of(Family::MemoryTotalBytes, &[]),
        Quantity::MemoryUsedBytes => of(Family::MemoryUsedBytes, &[]),
        Quantity::MemoryReservedBytes => of(Family::MemoryReservedBytes, &[]),
        Quantity::MemoryBandwidthRatio => of(Family::MemoryBandwidthRatio, &[]),
        Quantity::RowsRemapped(rows) => of(Family::MemoryRowsRemapped, &[rows.as_str()]),
        Quantity::PowerWatts => of(Family::PowerWatts, &[]),
        Quantity::PowerLimitWatts => of(Family::PowerLimitWatts, &[]),
        Quantity::EnergyJoules => of(Family::EnergyJoulesTotal, &[]),
        Quantity::TemperatureCelsius(sensor) => of(Family::TemperatureCelsius, &[sensor.as_str()]),
        Quantity::ClockHertz(clock) => of(Family::ClockHertz, &[clock.as_str()]),
        Quantity::ClockMaxHertz(clock) => of(Family::ClockMaxHertz, &[clock.as_str()]),
        Quantity::Throttled(cause) => of(Family::Throttled, &[cause.as_str()]),
        Quantity::ThrottleSeconds(cause) => of(Family::ThrottleSecondsTotal, &[cause.as_str()]),
        Quantity::RetiredPages(state) => of(Family::MemoryRetiredPages, &[state.as_str()]),
        Quantity::ProcessMemoryUsedBytes(pid) => {
            (Family::ProcessMemoryUsedBytes, vec![pid.to_string().into(), "".into(), "".into()])
        }
        Quantity::Errors(kind, detail) => (Family::ErrorsTotal, vec![kind.as_str().into(), detail.label()]),
        Quantity::PcieTransfersPerSecond(which) => of(Family::PcieLinkSpeed, &[which.as_str()]),
        Quantity::PcieWidth(which) => of(Family::PcieLinkWidth, &[which.as_str()]),
        Quantity::LinkBytes(link, direction) => {
            of(Family::LinkBytesTotal, &[link.as_str(), direction.as_str()])
        }
        Quantity::Vendor(_) | Quantity::PcieBytesPerSecond(_) => {
            return None;
        }
    };
    Some(place)
}

fn rdma_series(series: &mut Series, inventory: &Inventory, nic: &Nic) {
    let device = nearest(inventory, nic).map(|device| device.id.to_string()).unwrap_or_default();
    for port in &nic.ports {
        let Known::Value(state) = port.state else { continue };
        let number = port.number.to_string();
        let link_layer = port.link_layer.value().map_or("", |layer| layer.as_str());
        let up = f64::from(u8::from(state == PortState::Active));
        series.add(Family::RdmaPortUp, [nic.name.as_str(), &number, link_layer, &device], up);
    }
}

/// The accelerator that shares most bridges with a NIC, at least one, if it is the only such one.
pub fn nearest<'i>(inventory: &'i Inventory, nic: &Nic) -> Option<&'i Device> {
    if nic.of_accelerator {
        return inventory.devices.iter().find(|device| nic.pci_address == Known::Value(device.id.0));
    }
    let shared = |device: &Device| {
        device.pci.upstream.iter().zip(&nic.upstream).take_while(|(left, right)| left == right).count()
    };
    let most = inventory.devices.iter().map(shared).max().filter(|bridges| *bridges > 0)?;
    let mut nearest = inventory.devices.iter().filter(|device| shared(device) == most);
    nearest.next().filter(|_| nearest.next().is_none())
}

fn path_series(series: &mut Series, paths: &[Verdict<'_>]) {
    for verdict in paths {
        let path = verdict.path.name.as_str();
        match verdict.answer() {
            Answer::Ready => series.add(Family::PathReady, [path, ""], 1.0),
            Answer::NotReady => {
                for outcome in verdict.unmet() {
                    series.add(Family::PathReady, [path, &outcome.requirement.reason], 0.0);
                }
            }
            Answer::Unknown => {}
        }
    }
}

fn problem_series<'p>(series: &mut Series, problems: impl Iterator<Item = &'p Problem>) {
    // The same fact can be missed by both verbs of a probe; it is one problem.
    let distinct: BTreeSet<_> = problems
        .map(|problem| {
            (problem.probe.as_str(), problem.reason.as_str(), &problem.device, &problem.fact, &problem.path)
        })
        .collect();
    let mut counts: BTreeMap<_, f64> = BTreeMap::new();
    for (probe, reason, ..) in distinct {
        *counts.entry([probe, reason]).or_default() += 1.0;
    }
    for (values, count) in counts {
        series.add(Family::ProbeProblems, values, count);
    }
}

#[cfg(test)]
mod tests;
