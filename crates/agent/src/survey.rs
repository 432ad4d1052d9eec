//! A host and the probes that read it: the left half of the straight line.

use std::time::Instant;

use afd_host::Host;
use afd_model::{Inventory, Sampling};
use afd_probe::{PciBus, Probe, node};

use crate::agent_metrics::AgentMetrics;

/// Asks the probes of a host.
pub struct Survey {
    host: Host,
    probes: Vec<Box<dyn Probe + Send>>,
    metrics: AgentMetrics,
}

impl Survey {
    /// Of this host, by every vendor's probe.
    pub fn new(host: Host) -> Survey {
        let probes: Vec<Box<dyn Probe + Send>> = vec![
            Box::new(afd_nvidia::Nvidia::default()),
            Box::new(afd_amd::Amd::default()),
            Box::new(afd_intel::Intel::default()),
            Box::new(afd_gaudi::Gaudi::default()),
            Box::new(afd_tpu::Tpu::default()),
        ];
        Survey { host, probes, metrics: AgentMetrics::new() }
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What the agent tells of itself.
    pub fn metrics(&self) -> &AgentMetrics {
        &self.metrics
    }

    /// All devices of the node, and what does not change while they are there. One probe after the other: they all
    /// read the same few directories, and a node's start is no race.
    pub fn discover(&mut self) -> Inventory {
        let bus = PciBus::read(&self.host);
        let mut findings = Vec::with_capacity(self.probes.len());
        for probe in &mut self.probes {
            let begun = Instant::now();
            findings.push(probe.discover(&self.host, &bus));
            self.metrics.took(probe.name(), "discover", begun.elapsed());
        }
        node::surroundings(&self.host, &bus).assemble(findings)
    }

    /// The moving values of the devices that were last discovered.
    pub fn sample(&mut self) -> Sampling {
        let mut all = Sampling::default();
        for probe in &mut self.probes {
            let begun = Instant::now();
            let sampling = probe.sample(&self.host, begun);
            if !sampling.samples.is_empty() {
                self.metrics.sampled(probe.name());
                self.metrics.took(probe.name(), "sample", begun.elapsed());
            }
            all.samples.extend(sampling.samples);
            all.problems.extend(sampling.problems);
        }
        all
    }
}
