//! The agent's own metrics: its version, the duration of its probes, its resource usage.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use afd_apiserver::ApiCalls;
use afd_derive::families::Family;
use afd_host::child::DroppedMessages;
use afd_publish::{http::HttpCounters, node::NodeCounters};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    process_collector::ProcessCollector, proto::MetricFamily,
};

/// The agent's own families.
#[derive(Clone, Debug)]
pub struct AgentMetrics {
    registry: Registry,
    durations: HistogramVec,
    last_sample: GaugeVec,
    restarts: IntCounterVec,
    dropped: IntCounterVec,
    kubelet_errors: IntCounter,
    kubelet_skipped: GaugeVec,
    slices_skipped: GaugeVec,
    build: GaugeVec,
    node: NodeCounters,
    http: HttpCounters,
}

/// From a tenth of a millisecond to a second; no step should take longer.
const BUCKETS: [f64; 9] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];

impl AgentMetrics {
    /// Nothing observed yet.
    #[expect(clippy::new_without_default, reason = "it reads the process, unlike a default value")]
    pub fn new() -> AgentMetrics {
        const CONSTANT: &str = "names and labels of the table are valid and registered once";
        let registry = Registry::new();
        let spec = Family::ProbeDurationSeconds.spec();
        let options = HistogramOpts::new(spec.name, spec.help).buckets(BUCKETS.to_vec());
        let durations = HistogramVec::new(options, spec.labels).expect(CONSTANT);
        let last_sample = gauge(Family::LastSampleTimestampSeconds);
        let restarts = counters(Family::ProbeRestartsTotal);
        let dropped = counters(Family::LibraryMessagesDroppedTotal);
        let kubelet_errors = counter(Family::KubeletErrorsTotal);
        let kubelet_skipped = gauge(Family::KubeletSkippedDevices);
        let slices_skipped = gauge(Family::ResourceSliceSkippedDevices);
        let requests = counters(Family::KubernetesRequestsTotal);
        let node = NodeCounters {
            calls: ApiCalls::new(requests.clone()),
            label_writes: counter(Family::LabelWritesTotal),
            contested: counters(Family::LabelContestedTotal),
            refused: counters(Family::LabelRefusedTotal),
        };
        let http = HttpCounters {
            connections: integers(Family::HttpConnections),
            rejected: counters(Family::HttpRejectedTotal),
            taken_ports: counters(Family::HttpTakenPortsTotal),
            config_errors: counter(Family::WebConfigErrorsTotal),
        };
        let build = gauge(Family::BuildInfo);
        registry.register(Box::new(durations.clone())).expect(CONSTANT);
        registry.register(Box::new(last_sample.clone())).expect(CONSTANT);
        registry.register(Box::new(restarts.clone())).expect(CONSTANT);
        registry.register(Box::new(dropped.clone())).expect(CONSTANT);
        registry.register(Box::new(kubelet_errors.clone())).expect(CONSTANT);
        registry.register(Box::new(kubelet_skipped.clone())).expect(CONSTANT);
        registry.register(Box::new(slices_skipped.clone())).expect(CONSTANT);
        registry.register(Box::new(requests)).expect(CONSTANT);
        registry.register(Box::new(node.label_writes.clone())).expect(CONSTANT);
        registry.register(Box::new(node.contested.clone())).expect(CONSTANT);
        registry.register(Box::new(node.refused.clone())).expect(CONSTANT);
        registry.register(Box::new(http.connections.clone())).expect(CONSTANT);
        registry.register(Box::new(http.rejected.clone())).expect(CONSTANT);
        registry.register(Box::new(http.taken_ports.clone())).expect(CONSTANT);
        registry.register(Box::new(http.config_errors.clone())).expect(CONSTANT);
        registry.register(Box::new(build.clone())).expect(CONSTANT);
        registry.register(Box::new(ProcessCollector::for_self())).expect(CONSTANT);
        AgentMetrics {
            registry,
            durations,
            last_sample,
            restarts,
            dropped,
            kubelet_errors,
            kubelet_skipped,
            slices_skipped,
            build,
            node,
            http,
        }
    }

    /// Publishes the version of this build, and the Node where it is known.
    pub fn publish_build(&self, node: Option<&str>) {
        self.build.with_label_values(&[env!("CARGO_PKG_VERSION"), node.unwrap_or_default()]).set(1.0);
    }

    /// Records how long a step of a probe took.
    pub fn observe_duration(&self, probe: &str, step: &str, duration: Duration) {
        self.durations.with_label_values(&[probe, step]).observe(duration.as_secs_f64());
    }

    /// Records that a source of a probe, `kernel` or `library`, has just answered.
    pub fn sampled(&self, probe: &str, source: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_sample.with_label_values(&[probe, source]).set(now.as_secs_f64());
    }

    /// Records that a source of a probe is not sampled any more, so that the time of its last sample says nothing.
    pub fn not_sampled(&self, probe: &str, source: &str) {
        // There may be none.
        let _ = self.last_sample.remove_label_values(&[probe, source]);
    }

    /// Records how often, in total, the process that queries the vendor's library was restarted.
    pub fn set_restarts(&self, probe: &str, restarts: u64) {
        let counter = self.restarts.with_label_values(&[probe]);
        counter.inc_by(restarts.saturating_sub(counter.get()));
    }

    /// Records what, in total, was dropped of all that the process that queries the vendor's library has sent.
    pub fn set_dropped(&self, probe: &str, dropped: DroppedMessages) {
        for (kind, count) in dropped.by_kind() {
            let counter = self.dropped.with_label_values(&[probe, kind]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Records a failed request to the kubelet.
    pub fn kubelet_failed(&self) {
        self.kubelet_errors.inc();
    }

    /// Records how many ids of the kubelet's last response were not read.
    pub fn kubelet_skipped(&self, skipped: u64) {
        self.kubelet_skipped.with_label_values::<&str>(&[]).set(skipped as f64);
    }

    /// Records how many devices of the node's ResourceSlices were not read.
    pub fn slices_skipped(&self, skipped: u64) {
        self.slices_skipped.with_label_values::<&str>(&[]).set(skipped as f64);
    }

    /// The counters of requests to the API server and of label writes.
    pub fn node_counters(&self) -> NodeCounters {
        self.node.clone()
    }

    /// The counters of the listeners.
    pub fn http_counters(&self) -> HttpCounters {
        self.http.clone()
    }

    /// The current families.
    pub fn families(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

fn gauge(family: Family) -> GaugeVec {
    let spec = family.spec();
    GaugeVec::new(Opts::new(spec.name, spec.help), spec.labels)
        .expect("names and labels of the table are valid")
}

fn integers(family: Family) -> IntGaugeVec {
    let spec = family.spec();
    IntGaugeVec::new(Opts::new(spec.name, spec.help), spec.labels)
        .expect("names and labels of the table are valid")
}

fn counter(family: Family) -> IntCounter {
    let spec = family.spec();
    IntCounter::new(spec.name, spec.help).expect("names of the table are valid")
}

fn counters(family: Family) -> IntCounterVec {
    let spec = family.spec();
    IntCounterVec::new(Opts::new(spec.name, spec.help), spec.labels)
        .expect("names and labels of the table are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_not_sampled_any_more_has_no_time_that_grows_old() {
        let metrics = AgentMetrics::new();
        let sources = || {
            let families = metrics.families();
            let family = families.iter().find(|family| family.name() == "afd_last_sample_timestamp_seconds");
            let series = family.into_iter().flat_map(|family| family.get_metric());
            series.map(|series| series.get_label()[1].value().to_owned()).collect::<Vec<_>>()
        };
        metrics.not_sampled("acme", "library");
        metrics.sampled("acme", "kernel");
        metrics.sampled("acme", "library");
        assert_eq!(sources(), ["kernel", "library"]);
        metrics.not_sampled("acme", "library");
        assert_eq!(sources(), ["kernel"]);
    }
}
