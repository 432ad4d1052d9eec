//! A host and the probes that read it: the left half of the straight line.

use std::{path::PathBuf, time::Instant};

use afd_host::{Host, child::Launcher};
use afd_model::{Inventory, Sampling};
use afd_probe::{PciBus, Probe, node};

use crate::{agent_metrics::AgentMetrics, args::MetricArgs};

/// How vendors' libraries are asked.
#[derive(Debug)]
pub struct Libraries {
    /// Starts the processes that ask them.
    pub launcher: Launcher,
    /// Where NVIDIA's is, unless beneath the host.
    pub nvidia_driver_root: Option<PathBuf>,
    /// Where AMD's is, unless beneath the host.
    pub rocm_root: Option<PathBuf>,
}

/// Asks the probes of a host.
pub struct Survey {
    host: Host,
    probes: Vec<Box<dyn Probe + Send>>,
    metrics: AgentMetrics,
}

impl Survey {
    /// Of this host, by every vendor's probe: by the kernel's files, and by the vendors' libraries if they may be asked.
    pub fn new(host: Host, libraries: Option<Libraries>, asked: &MetricArgs) -> Survey {
        let mut nvidia = afd_nvidia::Nvidia::default();
        let mut amd = afd_amd::Amd::new(afd_amd::Options {
            per_process: asked.per_process,
            exporter: asked.compat_metrics.iter().any(|set| set.as_str() == "amd"),
        });
        if let Some(libraries) = libraries {
            amd = amd.with_library(libraries.launcher.clone(), libraries.rocm_root);
            let options = afd_nvidia::Options {
                driver_root: libraries.nvidia_driver_root,
                per_process: asked.per_process,
            };
            nvidia = afd_nvidia::Nvidia::with_library(libraries.launcher, options);
        }
        let probes: Vec<Box<dyn Probe + Send>> = vec![
            Box::new(nvidia),
            Box::new(amd),
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
            if let Some(restarts) = probe.restarts() {
                self.metrics.restarted(probe.name(), restarts);
            }
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
            all.rediscover |= sampling.rediscover;
        }
        all
    }

    /// Has a probe let its vendor's driver go; whether nothing holds it any more.
    pub fn release(&mut self, probe: &str) -> bool {
        self.probes.iter_mut().filter(|own| own.name() == probe).all(|probe| probe.release())
    }

    /// Has a probe ask its vendor's library again.
    pub fn take_back(&mut self, probe: &str) {
        self.probes.iter_mut().filter(|own| own.name() == probe).for_each(|probe| probe.take_back());
    }

    /// What vendors' libraries answered last, by the name of the file in a recording.
    pub fn library_recordings(&self) -> impl Iterator<Item = (&'static str, serde_json::Value)> {
        self.probes.iter().filter_map(|probe| probe.recording())
    }
}
