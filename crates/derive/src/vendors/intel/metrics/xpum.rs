//! XPU Manager 1.x: `xpum_*`.

use std::collections::BTreeMap;

use afd_model::{Direction, HandleKind, IntelComponent, IntelValue, XelinkPort};

use super::{ComponentList, component_readings, own_readings, tile};
use crate::compat::metrics::{
    CompatFamily, ExporterUnit, HolderLabel, LeftOutFamilies, MetricSet, SeriesOrder, SharedUnits, UnitLabel,
    UnitSeries, compat_families, whole_units,
};

pub(crate) const XPUM: MetricSet = MetricSet {
    exporter: "XPU Manager 1.x",
    page: "xpum",
    always_served: false,
    notes: "Counters are counters, as in the exporter. Series of a tile have `sub_dev`; `src` says whether a value is `direct`, or the \
            `sum` or `avg` over tiles.",
    units: whole_units,
    unit_labels: &[
        UnitLabel { name: "uuid", value: |unit| Some(unit.device.uuid.value().cloned().unwrap_or_default()) },
        UnitLabel {
            name: "dev_name",
            value: |unit| Some(unit.device.product_name().unwrap_or_default().to_owned()),
        },
        UnitLabel {
            name: "pci_dev",
            value: |unit| {
                Some(unit.device.pci.device_id.value().map(|id| format!("0x{id}")).unwrap_or_default())
            },
        },
        UnitLabel { name: "vendor", value: |_| Some("Intel(R) Corporation".to_owned()) },
        UnitLabel { name: "pci_bdf", value: |unit| Some(unit.device.id.to_string()) },
        UnitLabel {
            name: "dev_file",
            value: |unit| {
                let card = unit.device.handle(HandleKind::DrmCard);
                Some(card.map(|card| format!("/dev/dri/{card}")).unwrap_or_default())
            },
        },
        UnitLabel { name: "node", value: |unit| Some(unit.node.unwrap_or_default().to_owned()) },
    ],
    holder_labels: &[
        HolderLabel { name: "kube_pod", value: |allocation| &allocation.pod },
        HolderLabel { name: "kube_namespace", value: |allocation| &allocation.namespace },
        HolderLabel { name: "kube_container", value: |allocation| &allocation.container },
    ],
    tables: &[FAMILIES],
    sharing: SharedUnits::SeriesEach,
    order: SeriesOrder::ByUnit,
    left_out: &[
        LeftOutFamilies {
            names: &["xpum_eu_active_ratio", "xpum_eu_stall_ratio", "xpum_eu_idle_ratio"],
            reason: "They need ZET: a metric group that is open on the device, for which user 0 needs the device exclusively.",
        },
        LeftOutFamilies {
            names: &["xpum_max_temperature_celsius"],
            reason: "There is no source: it is the maximum of XPU Manager's own samples.",
        },
    ],
    differences: &[
        "A value that was not read is an absent series: a `sum` or `avg` needs the values of all tiles.",
        "Memory of the system, which an integrated GPU uses, is not counted.",
        "Names of counters end in `_total`, as the exporter's client library writes them; its series `_created` are left out.",
        "Ratios are 0 to 1, as in the exporter; its help texts say percent.",
        "`uuid` is empty: Level Zero makes it of the PCI ids and the address, so that it is the same on every node.",
        "`xpum_pcie_*` are the counters of the device (`zesDevicePciGetStats`), read from its side; the exporter measures the root port \
         with pcm.",
        "`xpum_topology_link` has no label `local_cpu_affinity`, and `xpum_fabric_tx_bytes_total` no `dst_dev_file`.",
        "`local_device_id`, `remote_device_id` and `device_id` are PCI addresses; the exporter numbers devices.",
        "`xpum_power_watts` and `xpum_energy_joules_total` of the whole device are those of the card, else of the package. The \
         exporter has series for the card besides (`card`).",
    ],
};

/// How values of tiles become one of the device.
#[derive(Clone, Copy)]
enum Combined {
    Sum,
    Mean,
    /// There is none of the device.
    No,
}

impl Combined {
    fn of(self, values: &[f64]) -> f64 {
        let sum = values.iter().sum::<f64>();
        match self {
            Combined::Sum => sum,
            Combined::Mean | Combined::No => sum / values.len() as f64,
        }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Combined::Sum => Some("sum"),
            Combined::Mean => Some("avg"),
            Combined::No => None,
        }
    }
}

/// The series of components: own labels, `sub_dev`, `src`. Without one of its components there is no series, since a counter would
/// fall and a share would be of something else.
fn series(
    unit: &ExporterUnit<'_>,
    list: ComponentList,
    is_wanted: impl Fn(IntelValue) -> bool,
    labels: impl Fn(usize, &IntelComponent) -> Option<Vec<String>>,
    combined: Combined,
) -> UnitSeries {
    let Some(facts) = unit.device.intel() else { return Vec::new() };
    let mut counts: BTreeMap<(Vec<String>, Option<u32>), usize> = BTreeMap::new();
    for (index, component) in list(facts).iter().enumerate() {
        if let Some(labels) = labels(index, component) {
            *counts.entry((labels, component.tile)).or_default() += 1;
        }
    }
    let mut values: BTreeMap<(Vec<String>, Option<u32>), Vec<f64>> = BTreeMap::new();
    for reading in component_readings(unit, list, is_wanted) {
        if let Some(labels) = labels(reading.index, reading.component) {
            values.entry((labels, reading.component.tile)).or_default().push(reading.number);
        }
    }
    let mut series = Vec::new();
    let mut of_tiles: BTreeMap<&Vec<String>, Option<Vec<f64>>> = BTreeMap::new();
    for (key, count) in &counts {
        let (labels, of_tile) = key;
        let complete = values.get(key).filter(|values| values.len() == *count);
        let value = complete.map(|values| combined.of(values));
        series.extend(value.map(|value| (with(labels, &tile(*of_tile), "direct"), value)));
        if of_tile.is_some() && !counts.contains_key(&(labels.clone(), None)) {
            let known = of_tiles.remove(labels).unwrap_or_else(|| Some(Vec::new()));
            let with_this = known.zip(value).map(|(known, value)| [known, vec![value]].concat());
            of_tiles.insert(labels, with_this);
        }
    }
    if let Some(name) = combined.name() {
        let of_device = |(labels, values): (&Vec<String>, Option<Vec<f64>>)| {
            Some((with(labels, "", name), combined.of(&values?)))
        };
        series.extend(of_tiles.into_iter().filter_map(of_device));
    }
    series
}

fn with(labels: &[String], sub_device: &str, source: &str) -> Vec<String> {
    labels.iter().cloned().chain([sub_device.to_owned(), source.to_owned()]).collect()
}

/// Memory of the system is none of the device.
fn of_device(_: usize, module: &IntelComponent) -> Option<Vec<String>> {
    (!module.is_of_system).then(Vec::new)
}

fn engines(
    unit: &ExporterUnit<'_>,
    labels: impl Fn(usize, &IntelComponent) -> Option<Vec<String>>,
) -> UnitSeries {
    let is_ratio = |value| value == IntelValue::EngineRatio;
    series(unit, |facts| &facts.engines, is_ratio, labels, Combined::Mean)
}

/// The groups of several engines, with their names in the exporter.
const GROUPS: [(&str, &str); 5] = [
    ("compute_all", "compute"),
    ("media_all", "media"),
    ("copy_all", "copy"),
    ("render_all", "render"),
    ("3d_all", "3d"),
];

fn engine_group(_: usize, engine: &IntelComponent) -> Option<Vec<String>> {
    let (_, name) = GROUPS.iter().find(|(kind, _)| *kind == engine.kind)?;
    Some(vec![(*name).to_owned()])
}

/// Engines are numbered by type and tile.
fn single_engines(unit: &ExporterUnit<'_>) -> UnitSeries {
    engines(unit, |index, engine| {
        let kind = engine.kind.strip_suffix("_single")?;
        let before = unit.device.intel()?.engines.get(..index)?;
        let number = before.iter().filter(|other| *other == engine).count();
        Some(vec![kind.to_owned(), number.to_string()])
    })
}

fn power(unit: &ExporterUnit<'_>, value: IntelValue) -> UnitSeries {
    let domains = unit.device.intel().map(|facts| facts.power_domains.as_slice()).unwrap_or_default();
    let has_card = domains.iter().any(|domain| domain.kind == "card" && domain.tile.is_none());
    let labels = |_, domain: &IntelComponent| {
        let is_main = match (domain.kind.as_str(), domain.tile) {
            ("card", None) | ("package", Some(_)) => true,
            ("package", None) => !has_card,
            _ => false,
        };
        is_main.then(Vec::new)
    };
    series(unit, |facts| &facts.power_domains, |read| read == value, labels, Combined::Sum)
}

fn temperatures(unit: &ExporterUnit<'_>) -> UnitSeries {
    let labels = |_, sensor: &IntelComponent| match sensor.kind.as_str() {
        "gpu" => Some(vec!["gpu".to_owned()]),
        "memory" => Some(vec!["mem".to_owned()]),
        _ => None,
    };
    series(unit, |facts| &facts.sensors, |value| value == IntelValue::Temperature, labels, Combined::No)
}

fn frequencies(unit: &ExporterUnit<'_>) -> UnitSeries {
    let of = |value: IntelValue, name: &str| {
        let labels = |_, domain: &IntelComponent| {
            (domain.kind == "gpu").then(|| vec!["gpu".to_owned(), name.to_owned()])
        };
        series(unit, |facts| &facts.frequency_domains, |read| read == value, labels, Combined::No)
    };
    let series = [of(IntelValue::Frequency, "actual"), of(IntelValue::FrequencyRequest, "request")];
    series.into_iter().flatten().map(|(labels, hertz)| (labels, hertz / 1e6)).collect()
}

fn memory(unit: &ExporterUnit<'_>, value: IntelValue, combined: Combined) -> UnitSeries {
    series(unit, |facts| &facts.memory_modules, |read| read == value, of_device, combined)
}

fn memory_ratio(unit: &ExporterUnit<'_>) -> UnitSeries {
    let sizes: BTreeMap<Vec<String>, f64> =
        memory(unit, IntelValue::MemorySize, Combined::Sum).into_iter().collect();
    let used = memory(unit, IntelValue::MemoryUsed, Combined::Sum).into_iter();
    let ratio = |(mut labels, used): (Vec<String>, f64)| {
        let size = sizes.get(&labels).filter(|size| **size > 0.0)?;
        if labels.last().is_some_and(|source| source == "sum") {
            *labels.last_mut()? = "avg".to_owned();
        }
        Some((labels, used / size))
    };
    used.filter_map(ratio).collect()
}

fn errors(unit: &ExporterUnit<'_>, category: &'static str, with_type: bool) -> UnitSeries {
    let labels = |_, set: &IntelComponent| Some(if with_type { vec![set.kind.clone()] } else { Vec::new() });
    let is_category = |value| value == IntelValue::RasErrors(category);
    series(unit, |facts| &facts.error_sets, is_category, labels, Combined::Sum)
}

fn pcie(unit: &ExporterUnit<'_>, direction: Direction) -> UnitSeries {
    let bytes = own_readings(unit, |value| (value == IntelValue::PcieBytes(direction)).then_some(()));
    bytes.into_iter().map(|(_, (), bytes)| (vec![String::new(), "direct".to_owned()], bytes)).collect()
}

/// A port of which the library says where it is.
fn is_known(port: &XelinkPort) -> bool {
    port.number.is_known()
}

/// The sum of a value over the ports that have the same labels, if all of them have one.
fn ports(
    unit: &ExporterUnit<'_>,
    wanted: IntelValue,
    labels: impl Fn(&XelinkPort) -> Option<Vec<String>>,
) -> UnitSeries {
    let Some(facts) = unit.device.intel() else { return Vec::new() };
    let labels = |port: &XelinkPort| if is_known(port) { labels(port) } else { None };
    let mut counts: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for labels in facts.ports.iter().filter_map(labels) {
        *counts.entry(labels).or_default() += 1;
    }
    let mut sums: BTreeMap<Vec<String>, (usize, f64)> = BTreeMap::new();
    for (index, (), number) in own_readings(unit, |value| (value == wanted).then_some(())) {
        if let Some(labels) = facts.ports.get(index).and_then(labels) {
            let (added, sum) = sums.entry(labels).or_default();
            *added += 1;
            *sum += number;
        }
    }
    sums.retain(|labels, (added, _)| counts.get(labels) == Some(added));
    sums.into_iter().map(|(labels, (_, sum))| (labels, sum)).collect()
}

fn fabric_sent(unit: &ExporterUnit<'_>) -> UnitSeries {
    ports(unit, IntelValue::PortBytes(Direction::Transmit), |port| {
        Some(vec![tile(port.tile), port.peer.value()?.to_string(), tile(port.peer_tile)])
    })
}

fn link_ends(unit: &ExporterUnit<'_>, port: &XelinkPort) -> Option<[String; 4]> {
    Some([unit.device.id.to_string(), tile(port.tile), port.peer.value()?.to_string(), tile(port.peer_tile)])
}

/// The lanes of all ports between two tiles; empty where those of one are not known.
fn topology(unit: &ExporterUnit<'_>) -> UnitSeries {
    let Some(facts) = unit.device.intel() else { return Vec::new() };
    let mut lanes: BTreeMap<[String; 4], Option<u32>> = BTreeMap::new();
    for port in facts.ports.iter().filter(|port| is_known(port)) {
        let Some(ends) = link_ends(unit, port) else { continue };
        let own = port.lanes.value().copied();
        // A library may report any number.
        let add = |sum: &mut Option<u32>| *sum = sum.zip(own).and_then(|(sum, own)| sum.checked_add(own));
        lanes.entry(ends).and_modify(add).or_insert(own);
    }
    let numa = unit.device.numa_node.value().map(u32::to_string).unwrap_or_default();
    let link = |([local, local_tile, remote, remote_tile], lanes): ([String; 4], Option<u32>)| {
        let lanes = lanes.map(|lanes| lanes.to_string()).unwrap_or_default();
        let on_tile = (!local_tile.is_empty()).to_string();
        (vec![local, numa.clone(), on_tile, local_tile, remote, remote_tile, lanes], 1.0)
    };
    lanes.into_iter().map(link).collect()
}

fn link_throughput(unit: &ExporterUnit<'_>) -> UnitSeries {
    let rates = ports(unit, IntelValue::PortBytesPerSecond(Direction::Transmit), |port| {
        link_ends(unit, port).map(Vec::from)
    });
    rates.into_iter().map(|(labels, bytes)| (labels, bytes / 1e3)).collect()
}

fn port_status(unit: &ExporterUnit<'_>) -> UnitSeries {
    ports(unit, IntelValue::PortUp, |port| {
        let description = format!("port {} of tile {}", port.number.value()?, tile(port.tile));
        Some(vec![unit.device.id.to_string(), description])
    })
}

const FAMILIES: &[CompatFamily] = compat_families! {
    Gauge "xpum_engine_ratio", ["sub_dev", "src"], "Share of the time in which any engine was busy, 0 to 1.",
        |unit| engines(unit, |_, engine| (engine.kind == "all").then(Vec::new));
    Gauge "xpum_engine_group_ratio", ["type", "sub_dev", "src"], "Share of the time in which engines of a group were busy, 0 to 1.",
        |unit| engines(unit, engine_group);
    Gauge "xpum_per_engine_ratio", ["type", "engine_id", "sub_dev", "src"], "Share of the time in which an engine was busy, 0 to 1.",
        single_engines;
    Gauge "xpum_power_watts", ["sub_dev", "src"], "Power, W.", |unit| power(unit, IntelValue::Power);
    Counter "xpum_energy_joules_total", ["sub_dev", "src"], "Energy since the driver was loaded, J.",
        |unit| power(unit, IntelValue::Energy);
    Gauge "xpum_temperature_celsius", ["location", "sub_dev", "src"], "Temperature, degrees Celsius.", temperatures;
    Gauge "xpum_frequency_mhz", ["location", "type", "sub_dev", "src"], "Clock, MHz.", frequencies;
    Gauge "xpum_memory_used_bytes", ["sub_dev", "src"], "Memory in use.",
        |unit| memory(unit, IntelValue::MemoryUsed, Combined::Sum);
    Gauge "xpum_memory_ratio", ["sub_dev", "src"], "Share of the memory in use, 0 to 1.", memory_ratio;
    Gauge "xpum_memory_bandwidth_ratio", ["sub_dev", "src"], "Share of the memory bandwidth in use, 0 to 1.",
        |unit| memory(unit, IntelValue::MemoryBandwidthRatio, Combined::Mean);
    Counter "xpum_memory_read_bytes_total", ["sub_dev", "src"], "Bytes read from the memory.",
        |unit| memory(unit, IntelValue::MemoryBytes(Direction::Receive), Combined::Sum);
    Counter "xpum_memory_write_bytes_total", ["sub_dev", "src"], "Bytes written to the memory.",
        |unit| memory(unit, IntelValue::MemoryBytes(Direction::Transmit), Combined::Sum);
    Counter "xpum_resets_total", ["sub_dev", "src"], "Resets.", |unit| errors(unit, "reset", false);
    Counter "xpum_programming_errors_total", ["sub_dev", "src"], "Errors of programs.",
        |unit| errors(unit, "programming", false);
    Counter "xpum_driver_errors_total", ["sub_dev", "src"], "Errors of the driver.", |unit| errors(unit, "driver", false);
    Counter "xpum_cache_errors_total", ["type", "sub_dev", "src"], "Errors of caches.",
        |unit| errors(unit, "cache", true);
    Counter "xpum_non_compute_errors_total", ["type", "sub_dev", "src"], "Errors outside of the compute units.",
        |unit| errors(unit, "non_compute", true);
    Counter "xpum_pcie_read_bytes_total", ["sub_dev", "src"], "Bytes received over PCIe.",
        |unit| pcie(unit, Direction::Receive);
    Counter "xpum_pcie_write_bytes_total", ["sub_dev", "src"], "Bytes sent over PCIe.",
        |unit| pcie(unit, Direction::Transmit);
    Counter "xpum_fabric_tx_bytes_total", ["sub_dev", "dst_pci_bdf", "dst_sub_dev"], "Bytes sent over Xe Link to a tile.",
        fabric_sent;
    Gauge "xpum_topology_link",
        ["local_device_id", "local_numa_index", "local_on_subdevice", "local_subdevice_id", "remote_device_id",
         "remote_subdevice_id", "lane_count"],
        "1 for each pair of tiles that Xe Link connects.", topology;
    Gauge "xpum_xelink_throughput", ["local_device_id", "local_subdevice_id", "remote_device_id", "remote_subdevice_id"],
        "Data sent over Xe Link, KB/s.", link_throughput;
    Gauge "xpum_xelink_port_status", ["device_id", "description"], "1 if a port of Xe Link is up.", port_status;
};
