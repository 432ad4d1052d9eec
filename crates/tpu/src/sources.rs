//! The sources outside of the kernel: `afd probe tpu` queries them, since a server that hangs must not hold the agent's loop and
//! what a server sends is parsed in a process that has nothing to lose.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use afd_host::child::{Child, DroppedMessages, Launcher, RequestError};
use afd_model::{Missing, Problem, TpuSlice};
use afd_probe::library::{DISCOVER, SAMPLE};
use serde::de::DeserializeOwned;

use crate::{
    NAME,
    machine::MachineMetadata,
    report::{RuntimeValue, SourceAnswer, TpuReport},
    servers::SourceAddresses,
};

/// How long all of them may take, and the start of the process.
const REQUEST_DEADLINE: Duration = Duration::from_secs(20);
/// How long the agent's loop waits for a response.
const LOOP_TIMEOUT: Duration = Duration::from_millis(100);
/// How long values count after the source that sent them has failed.
const MAX_AGE: Duration = Duration::from_secs(60);
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
        self.child.request(request, REQUEST_DEADLINE).and_then(|value| {
            serde_json::from_value(value)
                .map_err(|error| RequestError::Ended(format!("protocol error: {error}")))
        })
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
        if self.addresses.exporter.is_none() && self.addresses.runtimes.is_empty() {
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
                news.values = true;
            }
            // Values end with a process that does not answer any more as they do with a source.
            Err(_) => {
                self.exporter.expire(now);
                self.runtime.expire(now);
            }
        }
        news
    }

    /// Ends the process: there is nothing to query the sources for.
    pub(crate) fn end(&mut self) {
        self.child.stop(self.addresses.arguments());
        self.exporter.values = None;
        self.runtime.values = None;
        self.failure = None;
        self.metadata.forget_pending();
    }

    /// The values of the first source that has some.
    pub(crate) fn values(&self) -> &[RuntimeValue] {
        let sources = [&self.exporter, &self.runtime];
        let mut values = sources.iter().filter_map(|source| Some(source.values.as_ref()?.1.as_slice()));
        values.find(|values| !values.is_empty()).unwrap_or_default()
    }

    /// Ports of runtimes at which nothing listened when others sent these values.
    pub(crate) fn silent_ports(&self) -> &[u16] {
        &self.silent_ports
    }

    /// Why there are no newer values, and why the slice is not known.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let of_source =
            |source: &LatestValues| Some(format!("{}: {}", source.title, source.failure.as_ref()?));
        let of_sources = [&self.exporter, &self.runtime].into_iter().filter_map(of_source);
        let of_values = self.failure.iter().cloned().chain(of_sources).map(problem);
        let of_metadata = self.metadata.failure().map(|reason| {
            let message = format!("the metadata server of the machine: {reason}");
            Problem { fact: "slice".to_owned(), ..problem(message) }
        });
        of_values.chain(of_metadata).collect()
    }

    /// How often a process had to be started again.
    pub(crate) fn restarts(&self) -> u64 {
        self.child.restarts()
    }

    /// What was dropped of all that its processes have sent.
    pub(crate) fn dropped(&self) -> DroppedMessages {
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

/// The last values of a source.
#[derive(Debug)]
struct LatestValues {
    title: &'static str,
    values: Option<(Instant, Vec<RuntimeValue>)>,
    /// Why it has sent no newer ones.
    failure: Option<String>,
}

impl LatestValues {
    fn new(title: &'static str) -> LatestValues {
        LatestValues { title, values: None, failure: None }
    }

    fn take(&mut self, answer: Option<SourceAnswer>, now: Instant) {
        self.failure = None;
        match answer {
            Some(SourceAnswer::Values(values)) => self.values = Some((now, values)),
            Some(SourceAnswer::Failed(reason)) => {
                self.expire(now);
                self.failure = Some(reason);
            }
            None => self.values = None,
        }
    }

    fn expire(&mut self, now: Instant) {
        self.values.take_if(|(taken_at, _)| now.saturating_duration_since(*taken_at) >= MAX_AGE);
    }
}

#[cfg(test)]
mod tests {
    use afd_host::child::ChildRegistry;

    use super::*;
    use crate::report::RuntimeQuantity;

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

    #[test]
    fn values_of_a_source_that_fails_count_for_a_minute_and_those_of_an_absent_one_not_at_all() {
        let value = RuntimeValue {
            quantity: RuntimeQuantity::DutyCycle,
            container: None,
            device: 0,
            value: Some(1.0),
        };
        let (mut latest, start) = (LatestValues::new("x"), Instant::now());
        let failed = || Some(SourceAnswer::Failed("late".to_owned()));
        latest.take(Some(SourceAnswer::Values(vec![value.clone()])), start);
        latest.take(failed(), start + Duration::from_secs(59));
        assert!(latest.values.is_some() && latest.failure.is_some());
        latest.take(failed(), start + MAX_AGE);
        assert!(latest.values.is_none());
        latest.take(Some(SourceAnswer::Values(vec![value])), start);
        latest.take(None, start);
        assert!(latest.values.is_none() && latest.failure.is_none());
    }
}
