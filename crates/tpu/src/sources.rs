//! The sources outside of the kernel: `afd probe tpu` queries them, since a server that hangs must not hold the agent's loop and
//! what a server sends is parsed in a process that has nothing to lose.

use std::{
    ffi::OsString,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use afd_host::child::{Child, DroppedMessages, Launcher, RequestError};
use afd_model::{Missing, Problem};
use afd_probe::library::SAMPLE;

use crate::{
    NAME, exporter, http,
    report::{RuntimeValue, SourceAnswer, TpuReport},
};

/// The name of the exporter of GKE's device plugin among the sources.
pub const EXPORTER: &str = "exporter";
/// How long one source may take.
const SOURCE_DEADLINE: Duration = Duration::from_secs(1);
/// How long all of them may take, and the start of the process.
const REQUEST_DEADLINE: Duration = Duration::from_secs(20);
/// How long the agent's loop waits for a response.
const LOOP_TIMEOUT: Duration = Duration::from_millis(100);
/// How long values count after the source that sent them has failed.
const MAX_AGE: Duration = Duration::from_secs(60);

/// Addresses of the sources; one without an address is off.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SourceAddresses {
    /// The exporter of GKE's device plugin.
    pub exporter: Option<SocketAddr>,
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
                other => return Err(other.to_owned()),
            }
        }
        Ok(addresses)
    }

    /// Queries the sources, in the process of `afd probe tpu`.
    pub fn query(&self) -> TpuReport {
        TpuReport { exporter: self.exporter.and_then(query_exporter) }
    }

    /// The options of `afd probe tpu`.
    fn arguments(&self) -> Vec<OsString> {
        let connect = |address| ["--connect".into(), format!("{EXPORTER}={address}").into()];
        self.exporter.into_iter().flat_map(connect).collect()
    }
}

/// None: nothing listens, as on a node without the plugin.
fn query_exporter(address: SocketAddr) -> Option<SourceAnswer> {
    let body = match http::get(address, "/metrics", SOURCE_DEADLINE) {
        Ok(body) => body,
        Err(http::HttpError::Absent(_)) => return None,
        Err(error) => return Some(SourceAnswer::Failed(error.to_string())),
    };
    let parsed = match std::str::from_utf8(&body) {
        Ok(text) => exporter::parse(text),
        Err(_) => Err("it sends no UTF-8".to_owned()),
    };
    Some(parsed.map_or_else(SourceAnswer::Failed, SourceAnswer::Values))
}

/// The process that queries the sources, and what they last reported.
#[derive(Debug)]
pub(crate) struct TpuSources {
    child: Child,
    arguments: Vec<OsString>,
    exporter: LatestValues,
    /// Why the process did not answer, if it did not.
    failure: Option<String>,
}

impl TpuSources {
    /// Sources that processes of `launcher` query.
    pub(crate) fn new(launcher: &Launcher, addresses: &SourceAddresses) -> TpuSources {
        let own = ["probe".into(), NAME.into()];
        let arguments: Vec<OsString> = own.into_iter().chain(addresses.arguments()).collect();
        TpuSources {
            child: off_the_loop(launcher).child(arguments.clone()),
            arguments,
            exporter: LatestValues::new("the exporter of the TPU device plugin"),
            failure: None,
        }
    }

    /// Queries the sources; whether they answered now.
    pub(crate) fn sample(&mut self, now: Instant) -> bool {
        let report = self.child.request(SAMPLE, REQUEST_DEADLINE).and_then(|value| {
            serde_json::from_value::<TpuReport>(value)
                .map_err(|error| RequestError::Ended(format!("protocol error: {error}")))
        });
        self.failure = match &report {
            Ok(_) | Err(RequestError::Pending | RequestError::BackingOff(_)) => None,
            Err(error) => Some(error.to_string()),
        };
        match report {
            Ok(report) => {
                self.exporter.take(report.exporter, now);
                true
            }
            // Values end with a process that does not answer any more as they do with a source.
            Err(_) => {
                self.exporter.expire(now);
                false
            }
        }
    }

    /// Ends the process: there is nothing to query the sources for.
    pub(crate) fn end(&mut self) {
        self.child.stop(self.arguments.clone());
        self.exporter.values = None;
    }

    /// The values of the source.
    pub(crate) fn values(&self) -> &[RuntimeValue] {
        self.exporter.values.as_ref().map_or(&[], |(_, values)| values.as_slice())
    }

    /// Why there are no newer values.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let exporter = &self.exporter;
        let of_source = exporter.failure.as_ref().map(|failure| format!("{}: {failure}", exporter.title));
        self.failure.iter().cloned().chain(of_source).map(problem).collect()
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

/// The launcher, for requests of which the next sample takes a late response: the agent's loop does not wait for a server. A
/// command that samples once waits.
fn off_the_loop(launcher: &Launcher) -> Launcher {
    if launcher.timeout >= REQUEST_DEADLINE {
        return launcher.clone();
    }
    Launcher { timeout: launcher.timeout.min(LOOP_TIMEOUT), wake: Arc::new(|| ()), ..launcher.clone() }
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
    use super::*;
    use crate::report::RuntimeQuantity;

    #[test]
    fn values_of_a_source_that_fails_count_for_a_minute_and_those_of_an_absent_one_not_at_all() {
        let value =
            RuntimeValue { quantity: RuntimeQuantity::DutyCycle, container: None, device: 0, value: 1.0 };
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
