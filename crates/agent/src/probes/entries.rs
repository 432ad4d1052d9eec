//! The list of probes: the only list of vendors in shared code.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use afd_host::child::{EventSender, Launcher};
use afd_probe::{
    Probe,
    library::{DISCOVER, SAMPLE},
};
use afd_tpu::runtime::{RuntimeCallError, RuntimeConnection};
use anyhow::{anyhow, bail};
use serde_json::value::to_raw_value;

use crate::{
    grpc::{GrpcConnection, GrpcError},
    library_process::{LibraryService, QueriedDriver},
};

/// A vendor's probe.
pub(super) struct ProbeEntry {
    /// Its name, by which the vendor's record is found.
    pub(super) name: &'static str,
    /// Constructs the probe.
    pub(super) construct: fn(ProbeSettings) -> Box<dyn Probe + Send>,
    /// Opens the vendor's library, in `afd probe <name>`; none if there is no library.
    open_library: Option<fn(&Path) -> anyhow::Result<LibraryService>>,
    /// Queries the driver itself, in `afd probe <name>`, and the library where there is one; none where only a library is queried.
    open_driver: Option<OpenDriver>,
    /// Queries servers on the node, in `afd probe <name>`; none if there are none.
    open_network: Option<OpenNetwork>,
    /// Removes identifiers from the vendor's files that the record names.
    blank: Option<BlankContent>,
}

/// Opens the library, if there is one, and starts to query the driver.
type OpenDriver = fn(Option<&Path>, QueriedDriver) -> anyhow::Result<LibraryService>;

/// Starts to query servers, each with its name.
type OpenNetwork = fn(&[(String, SocketAddr)]) -> anyhow::Result<LibraryService>;

/// The content of a file without identifiers.
type BlankContent = fn(&[u8]) -> Vec<u8>;

/// What a probe is constructed from.
pub(super) struct ProbeSettings {
    /// Starts the process that queries the library or the servers; none where neither may be queried.
    pub(super) launcher: Option<Launcher>,
    /// The root under which the library is looked up; the host root by default.
    pub(super) library_root: Option<PathBuf>,
    /// The addresses of servers that may be queried, by their names.
    pub(super) servers: BTreeMap<&'static str, SocketAddr>,
    /// The port of servers within pods; none where these are not queried.
    pub(super) pod_port: Option<u16>,
    /// Whether to sample the memory used by each process.
    pub(super) per_process: bool,
    /// Whether to sample the values of each link.
    pub(super) per_link: bool,
    /// Whether the metrics of the vendor's own exporter are requested.
    pub(super) exporter: bool,
}

/// All probes, in the order in which they run.
pub(super) const PROBES: &[ProbeEntry] = &[
    ProbeEntry {
        name: "nvidia",
        construct: |settings| {
            let Some(launcher) = settings.launcher else { return Box::new(afd_nvidia::Nvidia::default()) };
            let options = afd_nvidia::NvmlOptions {
                driver_root: settings.library_root,
                per_process: settings.per_process,
                per_link: settings.per_link,
            };
            Box::new(afd_nvidia::Nvidia::with_library(launcher, options))
        },
        open_library: Some(open_nvml),
        open_driver: None,
        open_network: None,
        blank: None,
    },
    ProbeEntry {
        name: "amd",
        construct: |settings| {
            let options = afd_amd::AmdOptions {
                per_process: settings.per_process,
                per_link: settings.per_link,
                exporter: settings.exporter,
            };
            let amd = afd_amd::Amd::new(options);
            Box::new(match settings.launcher {
                Some(launcher) => amd.with_library(launcher, settings.library_root),
                None => amd,
            })
        },
        open_library: Some(open_smi),
        open_driver: None,
        open_network: None,
        blank: Some(afd_amd::cper::blank),
    },
    ProbeEntry {
        name: "intel",
        construct: |settings| {
            Box::new(match settings.launcher {
                Some(launcher) => {
                    let options =
                        afd_intel::IntelOptions { per_link: settings.per_link, exporter: settings.exporter };
                    afd_intel::Intel::with_library(launcher, settings.library_root, options)
                }
                None => afd_intel::Intel::default(),
            })
        },
        open_library: Some(|path| open_levelzero(Some(path), QueriedDriver::default())),
        open_driver: Some(open_levelzero),
        open_network: None,
        blank: None,
    },
    ProbeEntry {
        name: "gaudi",
        construct: |settings| {
            Box::new(match settings.launcher {
                Some(launcher) => afd_gaudi::Gaudi::with_library(launcher, settings.library_root),
                None => afd_gaudi::Gaudi::default(),
            })
        },
        open_library: Some(|path| open_gaudi(Some(path), QueriedDriver::default())),
        open_driver: Some(open_gaudi),
        open_network: None,
        blank: None,
    },
    ProbeEntry {
        name: "tpu",
        construct: |settings| {
            use afd_tpu::servers::{EXPORTER, METADATA_SERVER, RUNTIME, SourceAddresses};
            let address = |name| settings.servers.get(name).copied();
            let addresses = SourceAddresses {
                exporter: address(EXPORTER),
                runtimes: address(RUNTIME).into_iter().collect(),
                metadata: address(METADATA_SERVER),
                ..SourceAddresses::default()
            };
            Box::new(match settings.launcher {
                Some(launcher) => afd_tpu::Tpu::with_sources(&launcher, addresses, settings.pod_port),
                None => afd_tpu::Tpu::default(),
            })
        },
        open_library: None,
        open_driver: None,
        open_network: Some(open_tpu),
        blank: Some(afd_tpu::metadata::blank),
    },
];

fn open_nvml(path: &Path) -> anyhow::Result<LibraryService> {
    use afd_nvidia::nvml::{DISCOVER, Nvml, SampledExtras};
    let mut library = Nvml::open(path.as_os_str()).map_err(|error| anyhow!("{error}"))?;
    Ok(Box::new(move |request, events| {
        let report = if request == DISCOVER {
            let mut report = library.discover();
            let events: EventSender = events.clone();
            library.watch(&mut report, move |event| events.send(event));
            report
        } else if let Some(extras) = SampledExtras::of_request(request) {
            library.sample(extras)
        } else {
            bail!("unknown request {request:?}")
        };
        Ok(to_raw_value(&report)?)
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
        Ok(to_raw_value(&report)?)
    }))
}

fn open_levelzero(library: Option<&Path>, driver: QueriedDriver) -> anyhow::Result<LibraryService> {
    use afd_intel::{counters::EngineCounters, drm::RenderNodes, levelzero::LevelZero};
    let nodes = RenderNodes::new(driver.nodes);
    let mut counters = EngineCounters::new(driver.counters).map_err(|error| anyhow!("{error}"))?;
    let open = |path: &Path| LevelZero::open(path.as_os_str()).map_err(|error| anyhow!("{error}"));
    let mut library = library.map(open).transpose()?;
    Ok(Box::new(move |request, _| {
        let mut report = match (request, &mut library) {
            (DISCOVER, Some(library)) => library.discover(),
            (SAMPLE, Some(library)) => library.sample(),
            (DISCOVER | SAMPLE, None) => nodes.report(),
            (other, _) => bail!("unknown request {other:?}"),
        };
        if library.is_some() {
            nodes.complete(&mut report);
        }
        counters.complete(&mut report);
        Ok(to_raw_value(&report)?)
    }))
}

fn open_gaudi(library: Option<&Path>, driver: QueriedDriver) -> anyhow::Result<LibraryService> {
    let mut nodes = afd_gaudi::control::ControlNodes::new(driver.nodes);
    let Some(path) = library else {
        return Ok(Box::new(move |request, _| {
            let report = match request {
                DISCOVER => nodes.discover(),
                SAMPLE => nodes.sample(),
                other => bail!("unknown request {other:?}"),
            };
            Ok(to_raw_value(&report)?)
        }));
    };
    let mut library = afd_gaudi::hlml::Hlml::open(path.as_os_str()).map_err(|error| anyhow!("{error}"))?;
    Ok(Box::new(move |request, events| {
        let report = match request {
            DISCOVER => {
                let mut report = library.discover();
                let events: EventSender = events.clone();
                library.watch(&mut report, move |event| events.send(event));
                report
            }
            SAMPLE => {
                let mut report = library.sample();
                nodes.add_throttling(&mut report);
                report
            }
            other => bail!("unknown request {other:?}"),
        };
        Ok(to_raw_value(&report)?)
    }))
}

fn open_tpu(servers: &[(String, SocketAddr)]) -> anyhow::Result<LibraryService> {
    let addresses =
        afd_tpu::servers::SourceAddresses::from_named(servers).map_err(|name| anyhow!("no source {name}"))?;
    Ok(Box::new(move |request, _| match request {
        DISCOVER => Ok(to_raw_value(&addresses.query_metadata())?),
        SAMPLE => Ok(to_raw_value(&addresses.query(connect_runtime))?),
        other => bail!("unknown request {other:?}"),
    }))
}

/// A connection to the runtime of a workload.
struct GrpcRuntime(GrpcConnection);

impl RuntimeConnection for GrpcRuntime {
    fn call(&mut self, path: &'static str, message: Vec<u8>) -> Result<Vec<u8>, RuntimeCallError> {
        self.0.call(path, message).map_err(runtime_error)
    }
}

fn connect_runtime(
    address: SocketAddr,
    deadline: Duration,
) -> Result<Box<dyn RuntimeConnection>, RuntimeCallError> {
    let connection = GrpcConnection::open(address, deadline).map_err(runtime_error)?;
    Ok(Box::new(GrpcRuntime(connection)))
}

fn runtime_error(error: GrpcError) -> RuntimeCallError {
    match error {
        GrpcError::Absent => RuntimeCallError::Absent,
        GrpcError::Late => RuntimeCallError::Late,
        GrpcError::Unimplemented => RuntimeCallError::Unimplemented,
        GrpcError::Failed(message) => RuntimeCallError::Failed(message),
    }
}

/// Starts to query servers of the probe with this name.
///
/// # Errors
/// When the probe has no such server.
pub fn open_network(probe: &str, servers: &[(String, SocketAddr)]) -> anyhow::Result<LibraryService> {
    let entry = PROBES.iter().find(|entry| entry.name == probe);
    match entry.and_then(|entry| entry.open_network) {
        Some(open) => open(servers),
        None => bail!("{probe} queries no server"),
    }
}

/// Starts to query the driver of the probe with this name, and opens its library if there is one.
///
/// # Errors
/// When the library cannot be loaded, or the probe queries a library alone.
pub fn open_driver(
    probe: &str,
    library: Option<&Path>,
    driver: QueriedDriver,
) -> anyhow::Result<LibraryService> {
    let entry = PROBES.iter().find(|entry| entry.name == probe);
    match entry.and_then(|entry| entry.open_driver) {
        Some(open) => open(library, driver),
        None => bail!("{probe} queries a library alone"),
    }
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
            assert_eq!(entry.open_network.is_some(), record.network.is_some(), "{}", entry.name);
            assert_eq!(entry.blank.is_some(), !record.redactions.binary_files.is_empty(), "{}", entry.name);
            let settings = ProbeSettings {
                launcher: None,
                library_root: None,
                servers: BTreeMap::new(),
                pod_port: None,
                per_process: false,
                per_link: false,
                exporter: false,
            };
            assert_eq!((entry.construct)(settings).name(), entry.name);
        }
    }
}
