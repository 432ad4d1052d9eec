//! The sources outside of the kernel: `afd probe tpu` queries them, since a server that hangs must not hold the agent's loop and
//! what a server sends is parsed in a process that has nothing to lose.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use afd_host::child::{Child, DroppedMessages, Launcher, RequestError};
use afd_model::{Missing, Problem, TpuSlice};
use afd_probe::{
    ProbeProcess,
    library::{DISCOVER, SAMPLE},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    NAME,
    holding::SourceValues,
    latest::LatestValues,
    machine::MachineMetadata,
    pods::{PodRuntime, PodRuntimes},
    report::{RuntimeValue, SourceAnswer, TpuRecording, TpuReport},
    servers::SourceAddresses,
};

/// The file of a recording with what the servers answered.
const RECORDING: &str = "tpu.json";
/// How long all of them may take, and the start of the process.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// How long the agent's loop waits for a response.
const LOOP_TIMEOUT: Duration = Duration::from_millis(100);
/// The process that queries the sources, and what they last reported.
#[derive(Debug)]
pub(crate) struct TpuSources {
    child: Child,
    addresses: SourceAddresses,
    /// The runtimes as they are given: where `tpu-env` names no port.
    given_runtimes: Vec<SocketAddr>,
    exporter: LatestValues,
    runtime: LatestValues,
    metadata: MachineMetadata,
    /// Ports of runtimes at which nothing listened when others answered.
    silent_ports: Vec<u16>,
    /// The runtimes within pods, by their addresses.
    pods: BTreeMap<SocketAddr, (PodRuntime, LatestValues)>,
    /// Why not every runtime within a pod is queried.
    pods_problem: Option<String>,
    /// Why the process did not answer, if it did not; until it does.
    failure: Option<String>,
}

impl TpuSources {
    /// Sources that processes of `launcher` query.
    pub(crate) fn new(launcher: &Launcher, addresses: SourceAddresses) -> TpuSources {
        TpuSources {
            child: off_the_loop(launcher).child(addresses.arguments()),
            given_runtimes: addresses.runtimes.clone(),
            addresses,
            exporter: LatestValues::new("the exporter of the TPU device plugin"),
            runtime: LatestValues::new("the TPU runtime of a workload"),
            metadata: MachineMetadata::default(),
            silent_ports: Vec::new(),
            pods: BTreeMap::new(),
            pods_problem: None,
            failure: None,
        }
    }

    /// Sets the ports at which the runtimes of this machine report; none where it does not say so.
    pub(crate) fn set_runtime_ports(&mut self, ports: &[u16]) {
        let of_ports = |given: &SocketAddr| {
            let given = given.ip();
            ports.iter().map(move |port| SocketAddr::new(given, *port))
        };
        let runtimes: Vec<SocketAddr> = match ports {
            [] => self.given_runtimes.clone(),
            _ => self.given_runtimes.first().into_iter().flat_map(of_ports).collect(),
        };
        if runtimes != self.addresses.runtimes {
            self.addresses.runtimes = runtimes;
            // The process may connect to the ports alone with which it was started.
            self.child.stop(self.addresses.arguments());
        }
    }

    /// Sets the runtimes within pods. Values of another container, or another pod of its name, at the same address end.
    pub(crate) fn set_pods(&mut self, found: PodRuntimes) {
        self.pods_problem = found.problem;
        let mut earlier = std::mem::take(&mut self.pods);
        let kept = |(address, runtime): (SocketAddr, PodRuntime)| {
            let values = earlier.remove(&address).filter(|(own, _)| *own == runtime);
            let values =
                values.map_or_else(|| LatestValues::of_pod(&runtime.container), |(_, values)| values);
            (address, (runtime, values))
        };
        self.pods = found.runtimes.into_iter().map(kept).collect();
        let addresses: Vec<SocketAddr> = self.pods.keys().copied().collect();
        if addresses != self.addresses.pods {
            self.addresses.pods = addresses;
            self.child.stop(self.addresses.arguments());
        }
    }

    /// The slice that the metadata server describes; what it may still describe is pending.
    pub(crate) fn metadata(&mut self, now: Instant) -> TpuSlice {
        if self.addresses.metadata.is_some() && self.metadata.is_due(now) {
            self.query_metadata(now);
        }
        self.metadata.slice()
    }

    fn query_metadata(&mut self, now: Instant) {
        let answer = self.request(DISCOVER);
        self.metadata.take(answer, now);
    }

    fn request<T: DeserializeOwned>(&mut self, request: &'static str) -> Result<T, RequestError> {
        self.child.request(request, REQUEST_DEADLINE)
    }

    /// Queries the sources of values; whether they answered now.
    pub(crate) fn sample(&mut self, now: Instant) -> SourceNews {
        let mut news = SourceNews::default();
        if self.metadata.is_pending() {
            self.query_metadata(now);
            news.metadata = !self.metadata.is_pending();
            if !news.metadata {
                return news;
            }
        }
        if !self.addresses.have_values() {
            return news;
        }
        let report = self.request::<TpuReport>(SAMPLE);
        self.failure = match &report {
            Ok(_) => None,
            // The reason for both is the last failure, if there was one.
            Err(RequestError::Pending | RequestError::BackingOff(_)) => self.failure.take(),
            Err(error) => Some(failure(error)),
        };
        match report {
            Ok(report) => {
                self.exporter.take(report.exporter, now);
                if matches!(report.runtime, None | Some(SourceAnswer::Values(_))) {
                    self.silent_ports = report.silent_ports;
                }
                self.runtime.take(report.runtime, now);
                let mut answers: BTreeMap<SocketAddr, Option<SourceAnswer>> =
                    report.pods.into_iter().collect();
                for (address, (_, latest)) in &mut self.pods {
                    latest.take(answers.remove(address).flatten(), now);
                }
                news.values = true;
            }
            // Values end with a process that does not answer any more as they do with a source.
            Err(_) => {
                self.exporter.expire(now);
                self.runtime.expire(now);
                self.pods.values_mut().for_each(|(_, latest)| latest.expire(now));
            }
        }
        news
    }

    /// Ends the process: there is nothing to query the sources for.
    pub(crate) fn end(&mut self) {
        self.exporter.clear();
        self.runtime.clear();
        self.pods.clear();
        self.addresses.pods.clear();
        // The next process may connect to what is left.
        self.child.stop(self.addresses.arguments());
        self.failure = None;
        self.metadata.forget_pending();
    }

    /// The values of the exporter, or else of the runtimes.
    pub(crate) fn values(&self) -> SourceValues {
        let exporter = self.exporter.latest();
        if !exporter.is_empty() {
            return SourceValues {
                values: exporter.to_vec(),
                is_of_exporter: true,
                ..SourceValues::default()
            };
        }
        let mut all = SourceValues { values: self.runtime.latest().to_vec(), ..SourceValues::default() };
        if !self.silent_ports.is_empty() {
            all.silent.insert(None, self.silent_ports.clone());
        }
        for (address, (PodRuntime { container, .. }, latest)) in &self.pods {
            if latest.is_silent() {
                all.silent.entry(Some(container.clone())).or_default().push(address.port());
            }
            let of_container =
                |value: &RuntimeValue| RuntimeValue { container: Some(container.clone()), ..value.clone() };
            all.values.extend(latest.latest().iter().map(of_container));
        }
        all
    }

    /// Why there are no newer values, and why the slice is not known.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let of_pods = self.pods_problem.clone().filter(|_| self.exporter.latest().is_empty());
        let sources =
            [&self.exporter, &self.runtime].into_iter().chain(self.pods.values().map(|(_, latest)| latest));
        let of_sources = sources.filter_map(LatestValues::problem).chain(of_pods);
        let of_values = self.failure.iter().cloned().chain(of_sources).map(problem);
        let of_metadata = self.metadata.failure().map(|reason| {
            let message = format!("the metadata server of the machine: {reason}");
            Problem { fact: "slice".to_owned(), ..problem(message) }
        });
        of_values.chain(of_metadata).collect()
    }
}

impl ProbeProcess for TpuSources {
    fn recording(&self) -> Option<(&'static str, Value)> {
        let recording = TpuRecording {
            exporter: self.exporter.answer(),
            runtime: self.runtime.answer(),
            metadata: self.metadata.answer(),
        };
        (recording != TpuRecording::default()).then_some((RECORDING, serde_json::to_value(recording).ok()?))
    }

    fn restarts(&self) -> u64 {
        self.child.restarts()
    }

    fn dropped(&self) -> DroppedMessages {
        self.child.dropped()
    }
}

/// What has come from the sources.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SourceNews {
    /// Values.
    pub(crate) values: bool,
    /// The answer of the metadata server, or that there is none.
    pub(crate) metadata: bool,
}

/// The launcher, for requests of which the next sample takes a late response: the agent's loop does not wait for a server. A
/// command that samples once waits.
fn off_the_loop(launcher: &Launcher) -> Launcher {
    if launcher.timeout >= REQUEST_DEADLINE {
        return launcher.clone();
    }
    Launcher { timeout: launcher.timeout.min(LOOP_TIMEOUT), wake: Arc::new(|| ()), ..launcher.clone() }
}

/// Why the process did not answer, in words for one that loads no library.
pub(crate) fn failure(error: &RequestError) -> String {
    const PROCESS: &str = "the process that queries the servers";
    match error {
        RequestError::Ended(status) => format!("{PROCESS} ended ({status})"),
        RequestError::Killed(reason) => format!("{PROCESS} was killed: {reason}"),
        RequestError::NotEnded(_) => format!("{PROCESS} was killed and has not ended"),
        RequestError::BackingOff(_) => format!("{PROCESS} failed; it is restarted after a back-off"),
        RequestError::Start(error) => format!("{PROCESS} could not be started ({error})"),
        RequestError::TimedOut { .. } => format!("{PROCESS} did not answer in time and was killed"),
        RequestError::Pending | RequestError::Released => error.to_string(),
    }
}

/// A problem of a source.
pub(crate) fn problem(message: String) -> Problem {
    Problem {
        probe: NAME.to_owned(),
        device: None,
        fact: "runtime".to_owned(),
        reason: Missing::Unreadable,
        path: None,
        message,
    }
}

#[cfg(test)]
mod tests {
    use afd_host::child::ChildRegistry;

    use super::*;
    use crate::report::RuntimeContainer;

    #[test]
    fn a_process_after_the_end_may_connect_to_no_pod_and_another_pod_of_a_name_has_no_values_yet() {
        let launcher = Launcher::new("/bin/false".into(), Duration::ZERO, ChildRegistry::adopting_orphans());
        let mut sources = TpuSources::new(&launcher, SourceAddresses::default());
        let address = SocketAddr::from(([10, 0, 0, 7], 8431));
        let container = RuntimeContainer {
            namespace: "ml".to_owned(),
            pod: "a".to_owned(),
            container: "main".to_owned(),
        };
        let set = |sources: &mut TpuSources, uid: &str| {
            let runtime = PodRuntime { container: container.clone(), uid: uid.to_owned() };
            sources.set_pods(PodRuntimes { runtimes: [(address, runtime)].into(), problem: None });
        };
        let is_silent = |sources: &TpuSources| sources.pods[&address].1.is_silent();
        set(&mut sources, "1");
        let values = Some(SourceAnswer::Values(Vec::new()));
        sources.pods.values_mut().for_each(|(_, latest)| latest.take(values.clone(), Instant::now()));
        set(&mut sources, "1");
        assert!(!is_silent(&sources));
        set(&mut sources, "2");
        assert!(is_silent(&sources));
        assert!(format!("{:?}", sources.child).contains("10.0.0.7"));
        sources.end();
        assert!(!format!("{:?}", sources.child).contains("10.0.0.7"));
    }

    #[test]
    fn a_process_that_fails_is_a_problem_until_it_answers() {
        let launcher = Launcher::new("/bin/false".into(), Duration::ZERO, ChildRegistry::adopting_orphans());
        let exporter = Some(SocketAddr::from(([127, 0, 0, 1], 1)));
        let addresses = SourceAddresses { exporter, ..SourceAddresses::default() };
        let mut sources = TpuSources::new(&launcher, addresses);
        let start = Instant::now();
        while sources.problems().is_empty() {
            assert!(start.elapsed() < Duration::from_mins(1), "it ends at once");
            sources.sample(start);
        }
        for _ in 0..10 {
            sources.sample(start);
            let problems = sources.problems();
            assert_eq!(problems.len(), 1, "it is restarted after a back-off");
            let message = &problems[0].message;
            assert!(message.starts_with("the process that queries the servers ended ("), "{message}");
        }
        sources.end();
        assert!(sources.problems().is_empty());
    }
}
