//! The servers that are queried for what the kernel does not report: the side of `afd probe tpu`.

use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::{
    NAME, exporter, http,
    metadata::ServerMetadata,
    report::{MetadataAnswer, RuntimeValue, SourceAnswer, TpuReport},
    runtime::{self, ConnectRuntime, RuntimeCallError},
};

/// The name of the exporter of GKE's device plugin among the sources.
pub const EXPORTER: &str = "exporter";
/// The name of the runtime of a workload.
pub const RUNTIME: &str = "runtime";
/// The name of a runtime within a pod.
const RUNTIME_OF_POD: &str = "pod";
/// The name of the metadata server of the machine.
pub const METADATA_SERVER: &str = "metadata";
/// How long one source of values may take.
const SOURCE_DEADLINE: Duration = Duration::from_secs(1);
/// The stack of a thread that queries a runtime within a pod.
const STACK_BYTES: usize = 512 << 10;
/// How long the metadata server may take for all that is read of it, once.
const METADATA_DEADLINE: Duration = Duration::from_secs(3);
/// The header by which the metadata server and its clients know each other.
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");

/// Addresses of the sources; one without an address is off.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SourceAddresses {
    /// The exporter of GKE's device plugin.
    pub exporter: Option<SocketAddr>,
    /// The runtimes of workloads.
    pub runtimes: Vec<SocketAddr>,
    /// The runtimes within pods.
    pub pods: Vec<SocketAddr>,
    /// The metadata server of the machine.
    pub metadata: Option<SocketAddr>,
}

impl SourceAddresses {
    /// The addresses of sources by their names.
    ///
    /// # Errors
    /// With a name that is none of a source.
    pub fn from_named(servers: &[(String, SocketAddr)]) -> Result<SourceAddresses, String> {
        let mut addresses = SourceAddresses::default();
        for (name, address) in servers {
            match name.as_str() {
                EXPORTER => addresses.exporter = Some(*address),
                RUNTIME => addresses.runtimes.push(*address),
                RUNTIME_OF_POD => addresses.pods.push(*address),
                METADATA_SERVER => addresses.metadata = Some(*address),
                other => return Err(other.to_owned()),
            }
        }
        Ok(addresses)
    }

    /// Queries the sources of values, in the process of `afd probe tpu`.
    pub fn query(&self, connect: ConnectRuntime) -> TpuReport {
        let exporter = self.exporter.and_then(query_exporter);
        let has_values = matches!(&exporter, Some(SourceAnswer::Values(values)) if !values.is_empty());
        if has_values {
            return TpuReport { exporter, ..TpuReport::default() };
        }
        // All pods at the same time, and beside the runtimes of the host: one that hangs costs its own deadline and delays nothing.
        thread::scope(|scope| {
            let start = |address: &SocketAddr| {
                let address = *address;
                let thread = thread::Builder::new().stack_size(STACK_BYTES);
                (address, thread.spawn_scoped(scope, move || query_pod(address, connect)))
            };
            let pods: Vec<_> = self.pods.iter().map(start).collect();
            let (runtime, silent_ports) = query_runtimes(&self.runtimes, connect);
            let answer = |(address, query): (SocketAddr, io::Result<thread::ScopedJoinHandle<'_, _>>)| {
                let failed = |reason: String| Some(SourceAnswer::Failed(reason));
                let answer = match query {
                    Ok(query) => query.join().unwrap_or_else(|_| failed("its query failed".to_owned())),
                    Err(error) => failed(format!("it cannot be queried ({error})")),
                };
                (address, answer)
            };
            TpuReport { exporter, runtime, silent_ports, pods: pods.into_iter().map(answer).collect() }
        })
    }

    /// Queries the metadata server, in the process of `afd probe tpu`.
    pub fn query_metadata(&self) -> MetadataAnswer {
        let off = || MetadataAnswer::Failed("it is not queried".to_owned());
        self.metadata.map_or_else(off, query_metadata)
    }

    /// Whether there is a source of values.
    pub(crate) fn have_values(&self) -> bool {
        self.exporter.is_some() || !self.runtimes.is_empty() || !self.pods.is_empty()
    }

    /// The options of `afd probe tpu`.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let named = |name: &'static str| move |address: &SocketAddr| (name, *address);
        let all = self.exporter.iter().map(named(EXPORTER));
        let all = all.chain(self.runtimes.iter().map(named(RUNTIME)));
        let all = all.chain(self.pods.iter().map(named(RUNTIME_OF_POD)));
        let all = all.chain(self.metadata.iter().map(named(METADATA_SERVER)));
        let options =
            all.flat_map(|(name, address)| ["--connect".into(), format!("{name}={address}").into()]);
        ["probe".into(), NAME.into()].into_iter().chain(options).collect()
    }
}

/// None: nothing listens, as on a node without the plugin.
fn query_exporter(address: SocketAddr) -> Option<SourceAnswer> {
    let body = match http::get(address, "/metrics", None, SOURCE_DEADLINE) {
        Ok(body) => body,
        Err(http::HttpError::Absent(_)) => return None,
        Err(error) => return Some(SourceAnswer::Failed(error.to_string())),
    };
    let parsed = match std::str::from_utf8(&body) {
        Ok(text) => exporter::parse(text),
        Err(_) => Err("its response is not UTF-8".to_owned()),
    };
    Some(parsed.map_or_else(SourceAnswer::Failed, SourceAnswer::Values))
}

/// None: nothing listens, as long as no workload has started its runtime. Without one of several runtimes it is not certain whose
/// the others' values are: the ports at which nothing listens are part of the answer.
fn query_runtimes(addresses: &[SocketAddr], connect: ConnectRuntime) -> (Option<SourceAnswer>, Vec<u16>) {
    let mut all: Option<Vec<RuntimeValue>> = None;
    let mut silent_ports = Vec::new();
    for address in addresses {
        match query_runtime(*address, SOURCE_DEADLINE, connect) {
            Ok(values) => all.get_or_insert_default().extend(values),
            Err(RuntimeCallError::Absent) => silent_ports.push(address.port()),
            Err(error) => {
                let reason = format!("port {}: {error}", address.port());
                return (Some(SourceAnswer::Failed(reason)), Vec::new());
            }
        }
    }
    match all {
        Some(values) => (Some(SourceAnswer::Values(values)), silent_ports),
        None => (None, Vec::new()),
    }
}

fn query_runtime(
    address: SocketAddr,
    deadline: Duration,
    connect: ConnectRuntime,
) -> Result<Vec<RuntimeValue>, RuntimeCallError> {
    connect(address, deadline).and_then(|mut runtime| runtime::read(&mut *runtime))
}

/// None: nothing listens.
fn query_pod(address: SocketAddr, connect: ConnectRuntime) -> Option<SourceAnswer> {
    match query_runtime(address, SOURCE_DEADLINE, connect) {
        Ok(values) => Some(SourceAnswer::Values(values)),
        Err(RuntimeCallError::Absent) => None,
        Err(error) => Some(SourceAnswer::Failed(error.to_string())),
    }
}

fn query_metadata(address: SocketAddr) -> MetadataAnswer {
    let started = Instant::now();
    let value = |name: &str| {
        let path = format!("/computeMetadata/v1/instance/{name}");
        let remaining = METADATA_DEADLINE.saturating_sub(started.elapsed());
        match http::get(address, &path, Some(FLAVOR), remaining.max(Duration::from_millis(1))) {
            Ok(body) => Ok(String::from_utf8_lossy(&body).into_owned()),
            Err(http::HttpError::NotFound) => Ok(String::new()),
            Err(error) => Err(error),
        }
    };
    let read = || -> Result<ServerMetadata, http::HttpError> {
        Ok(ServerMetadata {
            kube_labels: value("attributes/kube-labels")?,
            tpu_env: value("attributes/tpu-env")?,
            topology_ids: value("attributes/accelerator_topology_id")?,
            machine_type: value("machine-type")?,
        })
    };
    match read() {
        Ok(metadata) => MetadataAnswer::Slice(Box::new(metadata.slice())),
        Err(error) => MetadataAnswer::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::RuntimeConnection;

    /// A runtime without any metric.
    struct IdleRuntime;

    impl RuntimeConnection for IdleRuntime {
        fn call(&mut self, _path: &'static str, _message: Vec<u8>) -> Result<Vec<u8>, RuntimeCallError> {
            Ok(Vec::new())
        }
    }

    /// The pod 10.0.0.6 hangs, all other runtimes answer.
    fn connect(
        address: SocketAddr,
        deadline: Duration,
    ) -> Result<Box<dyn RuntimeConnection>, RuntimeCallError> {
        if address.ip().to_string() == "10.0.0.6" {
            thread::sleep(deadline);
            return Err(RuntimeCallError::Late);
        }
        Ok(Box::new(IdleRuntime))
    }

    #[test]
    fn a_pod_that_hangs_delays_neither_other_pods_nor_the_host_by_more_than_one_deadline() {
        let hanging = (1..=15).map(|port| SocketAddr::from(([10, 0, 0, 6], port)));
        let other = SocketAddr::from(([10, 0, 0, 7], 8431));
        let addresses = SourceAddresses {
            runtimes: vec![SocketAddr::from(([127, 0, 0, 1], 8431))],
            pods: hanging.chain([other]).collect(),
            ..SourceAddresses::default()
        };
        let started = Instant::now();
        let report = addresses.query(connect);
        assert!(started.elapsed() < 7 * SOURCE_DEADLINE, "one after the other they take 15");
        let answered = Some(SourceAnswer::Values(Vec::new()));
        assert_eq!((&report.runtime, &report.pods[15]), (&answered, &(other, answered.clone())));
        assert!(matches!(report.pods[0].1, Some(SourceAnswer::Failed(_))));
    }
}
