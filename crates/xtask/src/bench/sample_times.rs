//! How long samples take, by the metrics of the agent.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::{http::KeptConnection, process::ServingProcess};

/// How long samples took, by the metrics of the agent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SampleTimes {
    seconds: f64,
    samples: f64,
}

impl SampleTimes {
    /// Those of a probe, on a connection of its own, since the agent closes idle ones.
    pub(super) fn read(agent: &ServingProcess, probe: &str) -> anyhow::Result<SampleTimes> {
        let page = KeptConnection::open(agent.address())?.get("/metrics")?;
        let text = String::from_utf8_lossy(&page);
        let value = |name: &str| {
            let begin = format!("afd_probe_duration_seconds_{name}{{probe=\"{probe}\",step=\"sample\"}}");
            text.lines().find_map(|line| line.strip_prefix(&begin)?.trim().parse().ok())
        };
        let sum_and_count = value("sum").zip(value("count"));
        let (seconds, samples) =
            sum_and_count.context("the agent does not report how long its samples take")?;
        Ok(SampleTimes { seconds, samples })
    }

    /// The mean time of a sample since an earlier reading.
    pub(super) fn since(self, before: SampleTimes) -> anyhow::Result<Duration> {
        let samples = self.samples - before.samples;
        ensure!(samples > 0.0, "there was no sample");
        Ok(Duration::from_secs_f64((self.seconds - before.seconds) / samples))
    }
}
