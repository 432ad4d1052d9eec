//! Sets of metrics that are of no vendor: the names that a platform has for the devices of all.

use afd_model::{Clock, Engine, Quantity, Sensor};

use super::{
    CommonSet,
    metrics::{
        CompatFamily, ExporterUnit, HolderLabel, MetricSet, SeriesOrder, SharedUnits, UnitLabel, UnitSeries,
        common_units, compat_families, plain,
    },
};

/// All of them.
pub(super) static COMMON_SETS: [CommonSet; 1] = [CommonSet {
    name: "openshift",
    file: "crates/derive/src/compat/common.rs",
    metrics: MetricSet {
        exporter: "OpenShift's common accelerator metrics",
        page: "openshift",
        always_served: false,
        notes: "The platform's dashboards and products built on it (OpenShift AI, Advanced Cluster Management) sum these names over \
                the devices of a namespace. So every device, or partition, has one series in each family, and a device has one \
                temperature.\n\n\
                **Where another exporter has these names on the same nodes, each figure counts twice.** The GPU operators' bundles for \
                OpenShift define them by recording rules over their own exporters, and one exporter has some of them itself. Scrape this \
                page only where none of these is, or drop theirs: `count by (accelerator_id) (accelerator_memory_used_bytes) > 1` \
                must return nothing.",
        units: common_units,
        unit_labels: &[
            UnitLabel { name: "vendor", value: |unit| Some(unit.device.vendor.as_str().to_owned()) },
            UnitLabel { name: "accelerator_id", value: |unit| Some(unit.identity()) },
        ],
        holder_labels: &[
            HolderLabel { name: "namespace", value: |allocation| &allocation.namespace },
            HolderLabel { name: "pod", value: |allocation| &allocation.pod },
        ],
        sharing: SharedUnits::OneSeries,
        tables: &[FAMILIES],
        order: SeriesOrder::ByUnit,
        left_out: &[],
        differences: &[
            "`accelerator_id` is the UUID of the device or partition; the PCI address where it has none, followed by the name of the \
             partition.",
            "`namespace` and `pod` are those of the pod that holds the device, and empty where none holds it. A device that several \
             pods share has one series: a label on which they do not agree is empty.",
            "Of a partitioned device, utilization and memory are those of its partitions, where these have values of their own. Power, \
             temperature and clocks are always the device's.",
            "`accelerator_temperature_celsius` is the first that the device reports of: die, junction, edge, package, SoC, a sensor \
             without a name.",
            "A value that the vendor's source does not report has no series.",
        ],
    },
}];

const FAMILIES: &[CompatFamily] = compat_families! {
    Gauge "accelerator_gpu_utilization", [], "Share of the time in which the device was busy, 0 to 100.",
        |unit| reading(unit, Quantity::Utilization(Engine::Compute), 100.0);
    Gauge "accelerator_memory_used_bytes", [], "Memory of the device in use.",
        |unit| reading(unit, Quantity::MemoryUsedBytes, 1.0);
    Gauge "accelerator_memory_total_bytes", [], "Memory of the device.", memory_total;
    Gauge "accelerator_power_usage_watts", [], "Power drawn.", |unit| whole(unit, Quantity::PowerWatts);
    Gauge "accelerator_temperature_celsius", [], "Temperature of the device.", temperature;
    Gauge "accelerator_sm_clock_hertz", [], "Clock of the shaders or cores.",
        |unit| whole(unit, Quantity::ClockHertz(Clock::Compute));
    Gauge "accelerator_memory_clock_hertz", [], "Clock of the memory.",
        |unit| whole(unit, Quantity::ClockHertz(Clock::Memory));
};

/// Temperature sensors, the one first that says most of the die.
const SENSORS: [Sensor; 6] =
    [Sensor::Gpu, Sensor::Junction, Sensor::Edge, Sensor::Package, Sensor::Soc, Sensor::Device];

/// Rounded to a millionth: a factor such as 0.01 is no binary number.
fn reading(unit: &ExporterUnit<'_>, quantity: Quantity, factor: f64) -> UnitSeries {
    plain(unit.value(quantity, factor).map(|value| (value * 1e6).round() / 1e6))
}

/// Of the device alone.
fn whole(unit: &ExporterUnit<'_>, quantity: Quantity) -> UnitSeries {
    if unit.partition.is_some() { Vec::new() } else { reading(unit, quantity, 1.0) }
}

fn temperature(unit: &ExporterUnit<'_>) -> UnitSeries {
    let sensors = SENSORS.into_iter().map(|sensor| whole(unit, Quantity::TemperatureCelsius(sensor)));
    sensors.into_iter().find(|series| !series.is_empty()).unwrap_or_default()
}

/// Of the partitions, where it is known of one; else of the device.
fn memory_total(unit: &ExporterUnit<'_>) -> UnitSeries {
    let parts = unit.device.partitions.iter();
    if unit.partition.is_none() && parts.into_iter().any(|part| part.memory_bytes.is_known()) {
        return Vec::new();
    }
    plain(unit.memory_bytes().or_else(|| unit.value(Quantity::MemoryTotalBytes, 1.0)))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use afd_model::{
        Allocation, AllocationMechanism, Device, Inventory, Known, Partition, PartitionName, Reading, Sample,
        UnitId,
    };

    use crate::{
        compat::{CompatSet, metrics::CompatInput},
        vendors::bare_device,
    };

    use super::*;

    /// The values by family, with the labels as text.
    type Shown = BTreeMap<String, Vec<(String, f64)>>;

    fn shown(devices: Vec<Device>, samples: &[Sample], allocations: &[Allocation]) -> Shown {
        let set: CompatSet = "openshift".parse().expect("there is such a set");
        let inventory = Inventory { devices, ..Inventory::default() };
        let input = CompatInput { inventory: &inventory, samples, allocations, node: None };
        let mut shown = Shown::new();
        for family in set.metric_families(&input) {
            for metric in family.get_metric() {
                let labels: Vec<_> = metric.get_label().iter().map(|label| label.value()).collect();
                let values = shown.entry(family.name().to_owned()).or_default();
                values.push((labels[1..].join(","), metric.get_gauge().get_value()));
            }
        }
        shown
    }

    fn sample(unit: UnitId, readings: &[(Quantity, f64)]) -> Sample {
        let reading = |(quantity, value): &(Quantity, f64)| Reading { quantity: *quantity, value: *value };
        Sample { unit, readings: readings.iter().map(reading).collect() }
    }

    fn held(unit: UnitId, namespace: &str, pod: &str) -> Allocation {
        Allocation {
            unit,
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: "main".to_owned(),
            resource: "example.com/device".to_owned(),
            mechanism: AllocationMechanism::DevicePlugin,
        }
    }

    #[test]
    fn a_device_has_one_temperature_and_one_series_however_many_pods_share_it() {
        let device = Device { uuid: Known::Value("u-1".to_owned()), ..bare_device(1) };
        let id = UnitId::from(device.id);
        let readings = [
            (Quantity::TemperatureCelsius(Sensor::Edge), 40.0),
            (Quantity::TemperatureCelsius(Sensor::Junction), 50.0),
            (Quantity::TemperatureCelsius(Sensor::Memory), 60.0),
            (Quantity::Utilization(Engine::Compute), 0.29),
        ];
        let of = |allocations: &[Allocation]| {
            let shown = shown(vec![device.clone()], &[sample(id, &readings)], allocations);
            assert_eq!(shown["accelerator_gpu_utilization"][0].1, 29.0);
            shown["accelerator_temperature_celsius"].clone()
        };
        assert_eq!(of(&[]), [("u-1,,".to_owned(), 50.0)]);
        assert_eq!(of(&[held(id, "a", "p")]), [("u-1,a,p".to_owned(), 50.0)]);
        assert_eq!(of(&[held(id, "a", "p"), held(id, "a", "q")]), [("u-1,a,".to_owned(), 50.0)]);
        assert_eq!(of(&[held(id, "a", "p"), held(id, "b", "p")]), [("u-1,,p".to_owned(), 50.0)]);
    }

    #[test]
    fn nothing_of_a_partitioned_device_counts_twice() {
        let mut device = bare_device(1);
        device.memory_bytes = Known::Value(80);
        device.partitions = [0, 1]
            .map(|number| Partition {
                memory_bytes: Known::Value(40),
                ..Partition::bare(device.id, PartitionName::Xcp(number))
            })
            .into();
        let part = |number| UnitId::from(Partition::bare(device.id, PartitionName::Xcp(number)).id);
        let whole =
            sample(device.id.into(), &[(Quantity::MemoryUsedBytes, 30.0), (Quantity::PowerWatts, 7.0)]);
        let used = |number, bytes| sample(part(number), &[(Quantity::MemoryUsedBytes, bytes)]);
        let sum = |shown: &Shown, family: &str| shown[family].iter().map(|(_, value)| value).sum::<f64>();
        let all = shown(vec![device.clone()], &[whole.clone(), used(0, 10.0), used(1, 20.0)], &[]);
        assert_eq!(sum(&all, "accelerator_memory_used_bytes"), 30.0);
        assert_eq!(sum(&all, "accelerator_memory_total_bytes"), 80.0);
        assert_eq!(sum(&all, "accelerator_power_usage_watts"), 7.0);
        let ids: BTreeSet<&str> =
            all["accelerator_memory_used_bytes"].iter().map(|(labels, _)| labels.as_str()).collect();
        assert_eq!(ids.len(), 2, "{ids:?}");
        // Where the partitions report nothing of their own, the device does.
        assert_eq!(sum(&shown(vec![device], &[whole], &[]), "accelerator_memory_used_bytes"), 30.0);
    }
}
