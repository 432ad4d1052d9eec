//! The observation of a host by all probes.

mod entries;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use afd_derive::{
    compat::CompatSet,
    vendors::{self, NetworkSource, VENDORS, VendorRecord},
};
use afd_host::{Host, child::Launcher};
use afd_model::{
    Allocation, Device, DeviceId, ErrorCountRecord, IncidentRecord, Inventory, Known, LibraryStatus, Missing,
    NodeFacts, PodNetworks, Sampling,
};
use afd_probe::{PciBus, Probe, node, plausible, rdma::counters::PortSampler};

use self::entries::{PROBES, ProbeEntry, ProbeSettings};
pub use self::entries::{blank, open_driver, open_library, open_network};
use crate::agent_metrics::AgentMetrics;

/// How all probes are constructed.
#[derive(Clone, Debug, Default)]
pub struct ProbeOptions {
    /// Read only the kernel's files.
    pub no_libraries: bool,
    /// Load no library under the host root: it may be a recording from elsewhere, and a library is code.
    pub withhold_host_libraries: bool,
    /// The root under which a vendor's library is looked up, by the name of the probe; the host root by default.
    pub library_roots: BTreeMap<&'static str, PathBuf>,
    /// The addresses of servers that are given, by their options; none for one that is not queried.
    pub servers: BTreeMap<&'static str, Option<SocketAddr>>,
    /// Whether servers within pods are queried.
    pub reads_pods: bool,
    /// Whether to sample the memory used by each process.
    pub per_process: bool,
    /// Whether to sample the values of each link.
    pub per_link: bool,
    /// The vendors' own metrics that are requested.
    pub compat_metrics: Vec<CompatSet>,
    /// How much memory this container may lock, where it has the limit that its runtime gives every container.
    pub container_limit: Option<u64>,
}

/// Starts the process that queries the library of a probe, with the environment and the limits of the vendor's record.
fn launcher_of(probe: &'static str, launcher: &Launcher) -> Launcher {
    let record = vendors::by_probe(probe);
    let network = record.and_then(|record| record.network.as_ref());
    let (environment, max_resident_bytes) = match record.and_then(|record| record.library.as_ref()) {
        Some(library) => (library.environment, library.max_resident_bytes),
        None => (launcher.environment, network.map_or(u64::MAX, |network| network.max_resident_bytes)),
    };
    let (span, log) = (tracing::info_span!("library", probe), Arc::clone(&launcher.log));
    Launcher {
        environment,
        max_resident_bytes,
        log: Arc::new(move |note| span.in_scope(|| log(note))),
        ..launcher.clone()
    }
}

/// All probes of a host.
pub struct Probes {
    host: Host,
    probes: Vec<Box<dyn Probe + Send>>,
    ports: PortSampler,
    container_limit: Option<u64>,
    metrics: AgentMetrics,
    /// The vendors whose library is not loaded because it would be one of the host root.
    withheld: Vec<&'static VendorRecord>,
}

impl ProbeOptions {
    /// Whether the library of a probe may be loaded.
    fn may_load(&self, probe: &str) -> bool {
        !self.no_libraries && (!self.withhold_host_libraries || self.library_roots.contains_key(probe))
    }

    /// The port of servers within pods that a probe may query.
    fn pod_port_of(&self, probe: &str) -> Option<u16> {
        let server = vendors::by_probe(probe)?.pod_server()?;
        (self.reads_pods && !self.no_libraries).then_some(server.port)
    }

    /// The addresses of the servers of a probe that may be queried, by their names. Those of another host are elsewhere, so that
    /// they must be given.
    fn servers_of(&self, probe: &str) -> BTreeMap<&'static str, SocketAddr> {
        let network = vendors::by_probe(probe).and_then(|record| record.network.as_ref());
        let sources = network.filter(|_| !self.no_libraries).map_or(&[][..], |network| network.sources);
        let address = |source: &NetworkSource| match self.servers.get(source.option) {
            Some(given) => *given,
            None if self.withhold_host_libraries => None,
            None => source.default.parse().ok(),
        };
        sources.iter().filter_map(|source| Some((source.name, address(source)?))).collect()
    }
}

impl Probes {
    /// Constructs all probes. `launcher` starts the processes that query vendor libraries.
    pub fn new(host: Host, options: &ProbeOptions, launcher: &Launcher) -> Probes {
        let construct = |entry: &ProbeEntry| {
            let servers = options.servers_of(entry.name);
            let has_library = vendors::by_probe(entry.name).is_some_and(|record| record.library.is_some());
            let pod_port = options.pod_port_of(entry.name);
            let may_query =
                has_library && options.may_load(entry.name) || !servers.is_empty() || pod_port.is_some();
            (entry.construct)(ProbeSettings {
                servers,
                pod_port,
                launcher: may_query.then(|| launcher_of(entry.name, launcher)),
                library_root: options.library_roots.get(entry.name).cloned(),
                per_process: options.per_process,
                per_link: options.per_link,
                exporter: options.compat_metrics.iter().any(|set| set.as_str() == entry.name),
            })
        };
        let withheld = |record: &&VendorRecord| {
            record.library.is_some() && !options.no_libraries && !options.may_load(record.probe)
        };
        Probes {
            host,
            probes: PROBES.iter().map(construct).collect(),
            ports: PortSampler::default(),
            container_limit: options.container_limit,
            metrics: AgentMetrics::new(),
            withheld: VENDORS.into_iter().filter(withheld).collect(),
        }
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The agent's own metrics.
    pub fn metrics(&self) -> &AgentMetrics {
        &self.metrics
    }

    /// Discovers all devices of the node and their static facts. Sequential, because all probes read the same few
    /// directories and startup is not latency-sensitive.
    pub fn discover(&mut self) -> Inventory {
        let bus = PciBus::read(&self.host);
        let mut findings = Vec::with_capacity(self.probes.len());
        for probe in &mut self.probes {
            let started = Instant::now();
            let found = probe.discover(&self.host, &bus);
            if found.devices.is_empty() {
                // Without a device nothing is sampled, and nothing grows old.
                self.metrics.not_sampled(probe.name(), "kernel");
            }
            findings.push(found);
            self.metrics.observe_duration(probe.name(), "discover", started.elapsed());
            if let Some(restarts) = probe.restarts() {
                self.metrics.set_restarts(probe.name(), restarts);
            }
        }
        let mut inventory = node::surroundings(&self.host, &bus).assemble(findings);
        inventory.devices.iter_mut().for_each(vendors::withdraw_foreign_facts);
        node::withdraw_examined(&mut inventory);
        let has_online_memory = |device: &&Device| {
            vendors::of_device(device).is_some_and(|record| (record.has_online_memory)(device))
        };
        let online = inventory.devices.iter().filter(has_online_memory).map(|device| device.memory_bytes);
        let online: Vec<_> = online.collect();
        node::withdraw_device_memory(&self.host, &mut inventory, &online);
        let limit = Known::from_option(self.container_limit, Missing::NotExposed);
        inventory.host.locked_memory_bytes.fill(|| limit);
        self.ports.set_nics(&self.host, &inventory.nics);
        self.log_withheld(&inventory);
        inventory
    }

    /// Logs once that libraries which could report more of these devices are not loaded.
    fn log_withheld(&mut self, inventory: &Inventory) {
        let withheld = std::mem::take(&mut self.withheld).into_iter();
        let of_devices =
            withheld.filter(|record| inventory.devices.iter().any(|device| record.covers(device)));
        let titles: Vec<&str> =
            of_devices.filter_map(|record| Some(record.library.as_ref()?.title)).collect();
        if !titles.is_empty() {
            let libraries = titles.join(", ");
            tracing::warn!(libraries, "libraries under this host root are not loaded; --libraries allows it");
        }
    }

    /// Takes in what the Node says; whether a discovery can find something else by it.
    pub fn set_node(&mut self, node: &NodeFacts) -> bool {
        // All of them are given it.
        self.probes.iter_mut().filter_map(|probe| probe.set_node(node).then_some(())).count() > 0
    }

    /// Takes in how the pods are reached that hold devices.
    pub fn set_pods(&mut self, pods: &PodNetworks) {
        self.probes.iter_mut().for_each(|probe| probe.set_pods(pods));
    }

    /// Samples the devices of the last discovery. `allocations` is what the kubelet reports, if it does.
    pub fn sample(&mut self, allocations: Option<&[Allocation]>) -> Sampling {
        let ports = self.ports.sample(&self.host, Instant::now());
        let mut all = Sampling { ports, ..Sampling::default() };
        for probe in &mut self.probes {
            probe.set_allocations(allocations);
            let started = Instant::now();
            let mut sampling = probe.sample(&self.host, started);
            plausible::retain(&mut sampling, probe.name());
            if !sampling.samples.is_empty() {
                self.metrics.sampled(probe.name(), "kernel");
                self.metrics.observe_duration(probe.name(), "sample", started.elapsed());
            }
            if let Some(dropped) = probe.dropped() {
                self.metrics.set_dropped(probe.name(), dropped);
            }
            // A library that is not sampled on purpose has no time that grows old.
            if sampling.samples.is_empty() || !probe.is_library_sampled() {
                self.metrics.not_sampled(probe.name(), "library");
            } else if sampling.library_answered {
                self.metrics.sampled(probe.name(), "library");
            }
            all.samples.extend(sampling.samples);
            all.problems.extend(sampling.problems);
            all.rediscover |= sampling.rediscover;
            all.has_news |= sampling.has_news;
        }
        all
    }

    /// Makes a probe release its vendor's driver; returns the processes that have not ended and may hold it.
    pub fn release(&mut self, probe: &str) -> Vec<u32> {
        self.probes.iter_mut().filter(|own| own.name() == probe).flat_map(|probe| probe.release()).collect()
    }

    /// Makes a probe query its vendor's library again.
    pub fn reacquire(&mut self, probe: &str) {
        self.probes.iter_mut().filter(|own| own.name() == probe).for_each(|probe| probe.reacquire());
    }

    /// What the library of a probe last did, and how often its process was started again.
    pub fn library(&self, probe: &str) -> (LibraryStatus, u64) {
        let probe = self.probes.iter().find(|own| own.name() == probe);
        probe.map_or_else(Default::default, |probe| (probe.library(), probe.restarts().unwrap_or_default()))
    }

    /// The probes whose library is a copy in this container that the loaded driver refuses.
    pub fn stale_libraries(&self) -> impl Iterator<Item = &'static str> {
        self.probes.iter().filter(|probe| probe.has_stale_library(&self.host)).map(|probe| probe.name())
    }

    /// The errors of devices that are still open.
    pub fn incidents(&self) -> Vec<IncidentRecord> {
        self.probes.iter().flat_map(|probe| probe.incidents()).collect()
    }

    /// How often each device reported each error that only this process counts.
    pub fn error_counts(&self) -> Vec<ErrorCountRecord> {
        self.probes.iter().flat_map(|probe| probe.error_counts()).collect()
    }

    /// Continues the counts of an earlier agent in the same boot.
    pub fn restore_error_counts(&mut self, records: &[ErrorCountRecord]) {
        for probe in &mut self.probes {
            let own = records.iter().filter(|record| record.probe == probe.name());
            probe.restore_error_counts(own.cloned().collect());
        }
    }

    /// Takes over the errors that an earlier agent had open.
    pub fn restore_incidents(&mut self, records: &[IncidentRecord]) {
        for probe in &mut self.probes {
            let own = records.iter().filter(|record| record.probe == probe.name());
            probe.restore_incidents(own.cloned().collect());
        }
    }

    /// Takes in that the driver of a device, in this binding, has given it up.
    pub fn wedged(&mut self, device: DeviceId, binding: u64) {
        self.probes.iter_mut().for_each(|probe| probe.wedged(device, binding));
    }

    /// Lets the errors of a device count no longer; whether there were any.
    pub fn clear_incidents(&mut self, device: DeviceId) -> bool {
        // All of them are asked.
        self.probes.iter_mut().filter_map(|probe| probe.clear_incidents(device).then_some(())).count() > 0
    }

    /// The last responses of vendor libraries, by the name of the file in a recording.
    pub fn library_recordings(&self) -> impl Iterator<Item = (&'static str, serde_json::Value)> {
        self.probes.iter().filter_map(|probe| probe.recording())
    }
}
