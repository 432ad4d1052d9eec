//! Series to the types of Prometheus' client library.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::families::MetricKind;

/// A value with the names and values of its labels.
pub(crate) type SeriesWithLabels = (Vec<(&'static str, String)>, f64);

/// A family of counters or gauges with these series.
pub(crate) fn family(
    name: &str,
    help: &str,
    kind: MetricKind,
    series: impl IntoIterator<Item = SeriesWithLabels>,
) -> MetricFamily {
    let metrics = series.into_iter().map(|(labels, value)| {
        let labels = labels.into_iter().map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value);
            pair
        });
        let mut metric = Metric::from_label(labels.collect());
        if kind == MetricKind::Counter {
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
    family.set_field_type(if kind == MetricKind::Counter { MetricType::COUNTER } else { MetricType::GAUGE });
    family.set_metric(metrics.collect());
    family
}
