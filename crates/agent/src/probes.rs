//! The probes: the only list of vendors in shared code, and the observation of a host by all of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use afd_derive::{compat::CompatSet, vendors};
use afd_host::{
    Host,
    child::{EventSender, Launcher},
};
use afd_model::{DeviceId, ErrorCountRecord, IncidentRecord, Inventory, LibraryStatus, Sampling};
use afd_probe::{
    PciBus, Probe,
    library::{DISCOVER, SAMPLE},
    node, plausible,
};
use anyhow::{anyhow, bail};

use crate::{agent_metrics::AgentMetrics, library_process::LibraryService};

/// A vendor's probe.
struct ProbeEntry {
    /// Its name, by which the vendor's record is found.
    name: &'static str,
    /// Constructs the probe.
    construct: fn(ProbeSettings) -> Box<dyn Probe + Send>,
    /// Opens the vendor's library, in `afd probe <name>`; none if there is no library.
    open_library: Option<fn(&Path) -> anyhow::Result<LibraryService>>,
    /// Removes identifiers from the vendor's binary files, which the record names.
    blank: Option<BlankContent>,
}

/// The content of a file without identifiers.
type BlankContent = fn(&[u8]) -> Vec<u8>;

/// What a probe is constructed from.
struct ProbeSettings {
    /// Starts the process that queries the library; none where no library may be queried.
    launcher: Option<Launcher>,
    /// The root under which the library is looked up; the host root by default.
    library_root: Option<PathBuf>,
    /// Whether to sample the memory used by each process.
    per_process: bool,
    /// Whether the metrics of the vendor's own exporter are requested.
    exporter: bool,
}

/// All probes, in the order in which they run.
const PROBES: &[ProbeEntry] = &[
    ProbeEntry {
        name: "nvidia",
        construct: |settings| {
            let Some(launcher) = settings.launcher else { return Box::new(afd_nvidia::Nvidia::default()) };
            let options = afd_nvidia::NvmlOptions {
                driver_root: settings.library_root,
                per_process: settings.per_process,
            };
            Box::new(afd_nvidia::Nvidia::with_library(launcher, options))
        },
        open_library: Some(open_nvml),
        blank: None,
    },
    ProbeEntry {
        name: "amd",
        construct: |settings| {
            let options =
                afd_amd::AmdOptions { per_process: settings.per_process, exporter: settings.exporter };
            let amd = afd_amd::Amd::new(options);
            Box::new(match settings.launcher {
                Some(launcher) => amd.with_library(launcher, settings.library_root),
                None => amd,
            })
        },
        open_library: Some(open_smi),
        blank: Some(afd_amd::cper::blank),
    },
    ProbeEntry {
        name: "intel",
        construct: |_| Box::new(afd_intel::Intel::default()),
        open_library: None,
        blank: None,
    },
    ProbeEntry {
        name: "gaudi",
        construct: |_| Box::new(afd_gaudi::Gaudi::default()),
        open_library: None,
        blank: None,
    },
    ProbeEntry {
        name: "tpu",
        construct: |_| Box::new(afd_tpu::Tpu::default()),
        open_library: None,
        blank: None,
    },
];

fn open_nvml(path: &Path) -> anyhow::Result<LibraryService> {
    use afd_nvidia::nvml::{DISCOVER, Nvml, SAMPLE, SAMPLE_WITH_PROCESSES};
    let mut library = Nvml::open(path.as_os_str()).map_err(|error| anyhow!("{error}"))?;
    Ok(Box::new(move |request, events| {
        let report = match request {
            DISCOVER => {
                let mut report = library.discover();
                let events: EventSender = events.clone();
                library.watch(&mut report, move |event| events.send(event));
                report
            }
            SAMPLE => library.sample(false),
            SAMPLE_WITH_PROCESSES => library.sample(true),
            other => bail!("unknown request {other:?}"),
        };
        Ok(serde_json::to_value(report)?)
    }))
}

fn open_smi(path: &Path) -> anyhow::Result<LibraryService> {
    let mut library = afd_amd::smi::Smi::open(path.as_os_str()).map_err(|error| anyhow!("{error}"))?;
    Ok(Box::new(move |request, _| {
        let report = match request {
            DISCOVER => library.discover(),
            SAMPLE => library.sample(),
            other => bail!("unknown request {other:?}"),
        };
        Ok(serde_json::to_value(report)?)
    }))
}

/// Opens the library of the probe with this name.
///
/// # Errors
/// When the library cannot be loaded, or the probe has none.
pub fn open_library(probe: &str, path: &Path) -> anyhow::Result<LibraryService> {
    let entry = PROBES.iter().find(|entry| entry.name == probe);
    match entry.and_then(|entry| entry.open_library) {
        Some(open) => open(path),
        None => bail!("{probe} has no library"),
    }
}

/// The content of a binary file of the vendor whose probe has this name, without identifiers.
pub fn blank(probe: &str, content: &[u8]) -> Vec<u8> {
    let entry = PROBES.iter().find(|entry| entry.name == probe);
    entry.and_then(|entry| entry.blank).map_or_else(Vec::new, |blank| blank(content))
}

/// How all probes are constructed.
#[derive(Clone, Debug, Default)]
pub struct ProbeOptions {
    /// Read only the kernel's files.
    pub no_libraries: bool,
    /// The root under which a vendor's library is looked up, by the name of the probe; the host root by default.
    pub library_roots: BTreeMap<&'static str, PathBuf>,
    /// Whether to sample the memory used by each process.
    pub per_process: bool,
    /// The vendors' own metrics that are requested.
    pub compat_metrics: Vec<CompatSet>,
}

/// Starts the process that queries the library of a probe, in the environment of the vendor's record.
fn launcher_of(probe: &str, launcher: &Launcher) -> Launcher {
    let library = vendors::by_probe(probe).and_then(|record| record.library.as_ref());
    Launcher { environment: library.map_or(&[], |library| library.environment), ..launcher.clone() }
}

/// All probes of a host.
pub struct Probes {
    host: Host,
    probes: Vec<Box<dyn Probe + Send>>,
    metrics: AgentMetrics,
}

impl Probes {
    /// Constructs all probes. `launcher` starts the processes that query vendor libraries.
    pub fn new(host: Host, options: &ProbeOptions, launcher: &Launcher) -> Probes {
        let construct = |entry: &ProbeEntry| {
            (entry.construct)(ProbeSettings {
                launcher: (!options.no_libraries).then(|| launcher_of(entry.name, launcher)),
                library_root: options.library_roots.get(entry.name).cloned(),
                per_process: options.per_process,
                exporter: options.compat_metrics.iter().any(|set| set.as_str() == entry.name),
            })
        };
        Probes { host, probes: PROBES.iter().map(construct).collect(), metrics: AgentMetrics::new() }
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
            findings.push(probe.discover(&self.host, &bus));
            self.metrics.observe_duration(probe.name(), "discover", started.elapsed());
            if let Some(restarts) = probe.restarts() {
                self.metrics.set_restarts(probe.name(), restarts);
            }
        }
        node::surroundings(&self.host, &bus).assemble(findings)
    }

    /// Samples the devices of the last discovery.
    pub fn sample(&mut self) -> Sampling {
        let mut all = Sampling::default();
        for probe in &mut self.probes {
            let started = Instant::now();
            let mut sampling = probe.sample(&self.host, started);
            plausible::retain(&mut sampling, probe.name());
            if !sampling.samples.is_empty() {
                self.metrics.sampled(probe.name(), "kernel");
                self.metrics.observe_duration(probe.name(), "sample", started.elapsed());
            }
            if sampling.library_answered {
                self.metrics.sampled(probe.name(), "library");
            }
            all.samples.extend(sampling.samples);
            all.problems.extend(sampling.problems);
            all.rediscover |= sampling.rediscover;
        }
        all
    }

    /// Makes a probe release its vendor's driver; returns whether nothing holds it open any more.
    pub fn release(&mut self, probe: &str) -> bool {
        self.probes.iter_mut().filter(|own| own.name() == probe).all(|probe| probe.release())
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

#[cfg(test)]
mod tests {
    use afd_derive::vendors::VENDORS;

    use super::*;

    #[test]
    fn every_probe_has_the_record_of_its_vendor() {
        let names: Vec<&str> = PROBES.iter().map(|entry| entry.name).collect();
        let records: Vec<&str> = VENDORS.iter().map(|record| record.probe).collect();
        assert_eq!(names, records);
        for (entry, record) in PROBES.iter().zip(VENDORS) {
            assert_eq!(entry.open_library.is_some(), record.library.is_some(), "{}", entry.name);
            assert_eq!(entry.blank.is_some(), !record.redactions.binary_files.is_empty(), "{}", entry.name);
            let settings =
                ProbeSettings { launcher: None, library_root: None, per_process: false, exporter: false };
            assert_eq!((entry.construct)(settings).name(), entry.name);
        }
    }
}
