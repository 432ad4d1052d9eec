//! Metric sets: the families of one vendor's exporter.
//!
//! The names, labels and units are the vendor's; AFD's own rule stays that a value which was not read is an absent series.

mod door;
mod units;

use std::collections::BTreeSet;

use afd_model::{Allocation, Inventory, Sample};
use prometheus::proto::MetricFamily;

pub(crate) use self::units::{allocatable_units, common_units, sampled_units, whole_units};
pub use self::{
    door::{DoorFault, DoorInput, FaultyDevice, SYNTHETIC_LABEL, door_families},
    units::ExporterUnit,
};
use super::{CompatSet, SetScope};
use crate::{
    families::MetricKind,
    series::{self, SeriesWithLabels},
};

/// The page that llm-d's endpoint picker reads (`/compat/dcgm`): it has the utilization of every vendor's devices.
pub const ENDPOINT_PICKER_PAGE: &str = "dcgm";

/// The metrics of one vendor's exporter.
#[derive(Debug)]
pub struct MetricSet {
    /// The exporter whose names they are.
    pub exporter: &'static str,
    /// Name of the page: `/compat/<page>`.
    pub page: &'static str,
    /// Whether the agent always serves the page, or only on request (`--compat-metrics`).
    pub always_served: bool,
    /// What else the documentation says of the set.
    pub notes: &'static str,
    /// The devices and partitions that have series, in order.
    pub(crate) units: for<'i> fn(SetScope, &CompatInput<'i>) -> Vec<ExporterUnit<'i>>,
    /// Labels of every series of a device or partition.
    pub unit_labels: &'static [UnitLabel],
    /// Labels by which the exporter names the container that holds the device or partition. They come last, and are empty where no
    /// container holds it.
    pub holder_labels: &'static [HolderLabel],
    /// What several containers that hold the same device or partition have.
    pub(crate) sharing: SharedUnits,
    /// Families, in the order of the documentation.
    pub tables: &'static [&'static [CompatFamily]],
    /// How the exporter sorts the series of a family.
    pub(crate) order: SeriesOrder,
    /// Families of the exporter that are not published.
    pub left_out: &'static [LeftOutFamilies],
    /// How series differ from those of the exporter, and why.
    pub differences: &'static [&'static str],
}

/// What metrics of a set are made from.
#[derive(Clone, Copy, Debug)]
pub struct CompatInput<'i> {
    /// The devices.
    pub inventory: &'i Inventory,
    /// The last samples of them.
    pub samples: &'i [Sample],
    /// The containers that hold them, where that is known.
    pub allocations: &'i [Allocation],
    /// Name of the node, where it is known.
    pub node: Option<&'i str>,
}

/// A label of every series of a device or partition.
#[derive(Clone, Copy, Debug)]
pub struct UnitLabel {
    /// Its name.
    pub name: &'static str,
    /// Its value; series have no such label where there is none.
    pub(crate) value: fn(&ExporterUnit<'_>) -> Option<String>,
}

/// A label by which the exporter names the container that holds a device or partition.
#[derive(Clone, Copy, Debug)]
pub struct HolderLabel {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub(crate) value: fn(&Allocation) -> &str,
}

/// What several containers that hold the same device or partition have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SharedUnits {
    /// One series for each of them, as most exporters do.
    SeriesEach,
    /// One series for all, since sums over series must be right: a label on which they do not agree is empty.
    OneSeries,
}

/// How the exporter sorts the series of a family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SeriesOrder {
    /// By the values of the labels, as Prometheus' client library for Go does.
    ByLabelValues,
    /// By device.
    ByUnit,
}

/// A family of a vendor's exporter.
#[derive(Clone, Copy, Debug)]
pub struct CompatFamily {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: MetricKind,
    /// Labels besides those of the unit.
    pub labels: &'static [&'static str],
    /// What it means, with its unit.
    pub help: &'static str,
    /// Whether it has series of other vendors' devices, too.
    pub every_vendor: bool,
    pub(crate) source: SeriesSource,
}

/// Where the series of a family come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SeriesSource {
    /// One series of the node, without labels of a unit.
    Node(fn(&[ExporterUnit<'_>]) -> f64),
    /// Series of each device or partition.
    Unit(fn(&ExporterUnit<'_>) -> UnitSeries),
    /// The same of those alone that a container holds.
    Held(fn(&ExporterUnit<'_>) -> UnitSeries),
    /// The same without the container that holds it.
    Alone(fn(&ExporterUnit<'_>) -> UnitSeries),
}

/// Series of a device or partition: the values of the family's own labels, and the value.
pub(crate) type UnitSeries = Vec<(Vec<String>, f64)>;

/// Families of a vendor's exporter that are not published.
#[derive(Clone, Copy, Debug)]
pub struct LeftOutFamilies {
    /// Their names.
    pub names: &'static [&'static str],
    /// Why they are left out.
    pub reason: &'static str,
}

/// A table of families: kind, name, own labels, help, source.
macro_rules! compat_families {
    ($($kind:ident $name:expr, [$($label:literal),*], $help:expr, $source:expr;)*) => {
        $crate::compat::metrics::compat_families! { Unit: $($kind $name, [$($label),*], $help, $source;)* }
    };
    ($of:ident: $($kind:ident $name:expr, [$($label:literal),*], $help:expr, $source:expr;)*) => {
        &[$($crate::compat::metrics::CompatFamily {
            name: $name,
            kind: $crate::families::MetricKind::$kind,
            labels: &[$($label),*],
            help: $help,
            every_vendor: false,
            source: $crate::compat::metrics::SeriesSource::$of($source),
        }),*]
    };
}
pub(crate) use compat_families;

/// A series without labels of its own.
pub(crate) fn plain(value: Option<f64>) -> UnitSeries {
    value.map(|value| (Vec::new(), value)).into_iter().collect()
}

impl MetricSet {
    /// All families.
    pub fn families(&self) -> impl Iterator<Item = &'static CompatFamily> + use<> {
        self.tables.iter().copied().flatten()
    }
}

impl CompatSet {
    /// The set that has the page of this name, and the page.
    pub fn of_page(page: &str) -> Option<(CompatSet, &'static MetricSet)> {
        CompatSet::with_metrics().find(|(_, metrics)| metrics.page == page)
    }

    /// The families of all pages of the set with the values of the last samples; none if the node has no device of it.
    pub fn metric_families(self, input: &CompatInput<'_>) -> Vec<MetricFamily> {
        self.pages().flat_map(|page| self.page_families(page, input)).collect()
    }

    /// The families of one of its pages.
    pub fn page_families(self, set: &'static MetricSet, input: &CompatInput<'_>) -> Vec<MetricFamily> {
        let page = MetricPage::new(self, set, input);
        if page.units.is_empty() {
            return Vec::new();
        }
        let families = set.families().filter_map(|family| {
            let mut series = page.series(family);
            if set.order == SeriesOrder::ByLabelValues {
                series.sort_by(|(left, _), (right, _)| {
                    left.iter().map(|(_, value)| value).cmp(right.iter().map(|(_, value)| value))
                });
            }
            (!series.is_empty()).then(|| series::family(family.name, family.help, family.kind, series))
        });
        families.collect()
    }
}

/// Names and values of labels.
type Labels = Vec<(&'static str, String)>;

/// The labels of one unit's series: those before the family's own ones, and those after them, once for each holder.
struct UnitLabels {
    before: Labels,
    after: Vec<Labels>,
    /// Whether a container holds it.
    is_held: bool,
}

impl UnitLabels {
    fn new(set: &MetricSet, input: &CompatInput<'_>, unit: &ExporterUnit<'_>) -> UnitLabels {
        let before = set.unit_labels.iter().filter_map(|label| Some((label.name, (label.value)(unit)?)));
        let held = input.allocations.iter().filter(|allocation| allocation.unit == unit.id());
        UnitLabels { before: before.collect(), ..UnitLabels::of_holders(set, held) }
    }

    /// The labels of the holders alone.
    fn of_holders<'a>(set: &MetricSet, holders: impl Iterator<Item = &'a Allocation>) -> UnitLabels {
        let labels = |allocation: &Allocation| -> Labels {
            let labels = set.holder_labels.iter();
            labels.map(|label| (label.name, (label.value)(allocation).to_owned())).collect()
        };
        let mut after: Vec<Labels> = holders.map(labels).collect();
        after.sort_unstable();
        after.dedup();
        let is_held = !after.is_empty();
        if after.is_empty() {
            after.push(set.holder_labels.iter().map(|label| (label.name, String::new())).collect());
        }
        if set.sharing == SharedUnits::OneSeries {
            let others = after.split_off(1);
            for (index, (_, value)) in after[0].iter_mut().enumerate() {
                if others.iter().any(|other| other[index].1 != *value) {
                    value.clear();
                }
            }
        }
        UnitLabels { before: Vec::new(), after, is_held }
    }
}

/// The units of a set, and their labels.
struct MetricPage<'i> {
    scope: SetScope,
    units: Vec<ExporterUnit<'i>>,
    labels: Vec<UnitLabels>,
}

impl<'i> MetricPage<'i> {
    fn new(set: CompatSet, metrics: &MetricSet, input: &CompatInput<'i>) -> MetricPage<'i> {
        let units = (metrics.units)(set.0, input);
        let labels = units.iter().map(|unit| UnitLabels::new(metrics, input, unit)).collect();
        MetricPage { scope: set.0, units, labels }
    }

    /// Keeps the units for which `keeps` holds.
    fn retain(&mut self, keeps: impl Fn(&ExporterUnit<'_>) -> bool) {
        let kept: Vec<bool> = self.units.iter().map(keeps).collect();
        let (mut of_units, mut of_labels) = (kept.iter(), kept.iter());
        self.units.retain(|_| of_units.next() == Some(&true));
        self.labels.retain(|_| of_labels.next() == Some(&true));
    }

    fn series(&self, family: &CompatFamily) -> Vec<SeriesWithLabels> {
        let of_unit = match family.source {
            SeriesSource::Node(value) => return vec![(Vec::new(), value(&self.units))],
            SeriesSource::Unit(series) | SeriesSource::Held(series) | SeriesSource::Alone(series) => series,
        };
        let without_holder = [Vec::new()];
        let (mut all, mut known) = (Vec::new(), BTreeSet::new());
        for (unit, labels) in self.units.iter().zip(&self.labels) {
            if !family.every_vendor && !self.scope.covers(unit.device) {
                continue;
            }
            let after = match family.source {
                SeriesSource::Held(_) if !labels.is_held => continue,
                SeriesSource::Alone(_) => &without_holder[..],
                _ => &labels.after,
            };
            for (own, value) in of_unit(unit) {
                let own = family.labels.iter().copied().zip(own);
                let before: Labels = labels.before.iter().cloned().chain(own).collect();
                for after in after {
                    let labels: Labels = before.iter().chain(after).cloned().collect();
                    // Of units with equal labels the first one counts: two equal series would be none.
                    if known.insert(labels.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>()) {
                        all.push((labels, value));
                    }
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn families_and_pages_have_one_owner() {
        let mut pages = BTreeMap::new();
        for (set, metrics) in CompatSet::with_metrics() {
            assert_eq!(CompatSet::of_page(metrics.page).map(|(set, _)| set), Some(set));
            assert_eq!(pages.insert(metrics.page, set), None, "{} is there twice", metrics.page);
            let mut names = BTreeMap::new();
            for family in metrics.families() {
                assert_eq!(names.insert(family.name, ()), None, "{} is there twice", family.name);
            }
        }
        assert!(pages.contains_key(ENDPOINT_PICKER_PAGE));
    }
}
