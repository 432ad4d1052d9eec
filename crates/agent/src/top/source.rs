//! Where the reports come from: an agent, or the probes of this program.

use std::{
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use afd_derive::{
    paths::PathRules,
    series::{InCluster, SeriesDetail},
};
use afd_model::{Inventory, Sampling};
use tokio::signal::unix::{SignalKind, signal};

use super::http::AgentUrl;
use crate::{
    clock,
    live::{LiveInputs, LiveReport},
    probes::Probes,
    render::{DoorPage, PageInputs},
    run::block_on,
    visible::visible_live,
};

/// The time after which the own probes discover again.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(60);
/// The time between two samples of which the second one has values that need two.
const SAMPLE_GAP: Duration = Duration::from_secs(1);
/// The shortest time between two requests.
const MIN_INTERVAL: Duration = Duration::from_millis(200);

/// A report, and how old it was when it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct SourcedReport {
    /// The report; its text controls no terminal.
    pub report: LiveReport,
    /// Its age.
    pub age: Duration,
}

/// What the observing threads send.
#[derive(Clone, Debug)]
pub enum TopEvent {
    /// A report.
    Report(Box<SourcedReport>),
    /// There was none.
    Failed(String),
    /// A signal asks the program to end.
    End,
}

/// Where reports come from.
pub(super) enum LiveSource {
    Agent(AgentUrl),
    Own(Box<OwnSource>),
}

/// The probes of this program.
pub(super) struct OwnSource {
    probes: Probes,
    interval: Duration,
    rules: PathRules,
    discovered: Option<(Instant, Inventory)>,
}

impl LiveSource {
    /// For people.
    pub(super) fn title(&self) -> String {
        match self {
            LiveSource::Agent(url) => url.url(),
            LiveSource::Own(own) => format!("host root {}", own.probes.host().root().display()),
        }
    }

    /// Sends reports from a thread of their own, and the end that a signal requests from another one.
    pub(super) fn follow(self, interval: Option<Duration>) -> anyhow::Result<Receiver<TopEvent>> {
        let (sender, observations) = mpsc::channel();
        let signals = sender.clone();
        thread::Builder::new().spawn(move || await_signal(&signals))?;
        thread::Builder::new().spawn(move || match self {
            LiveSource::Agent(url) => follow_agent(&url, interval, &sender),
            LiveSource::Own(own) => own.follow(&sender),
        })?;
        Ok(observations)
    }
}

fn follow_agent(url: &AgentUrl, interval: Option<Duration>, sender: &Sender<TopEvent>) {
    let mut wait = interval.unwrap_or(SAMPLE_GAP);
    loop {
        let observation = match url.read() {
            Ok(read) => {
                let seconds = read.report.interval_seconds;
                wait = interval.or_else(|| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(wait);
                TopEvent::Report(Box::new(read))
            }
            Err(error) => TopEvent::Failed(error.to_string()),
        };
        if sender.send(observation).is_err() {
            return;
        }
        thread::sleep(wait.max(MIN_INTERVAL));
    }
}

/// Sends the end when a signal requests it.
fn await_signal(sender: &Sender<TopEvent>) {
    let received = block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
        Ok(())
    });
    if received.is_ok() {
        let _ = sender.send(TopEvent::End);
    }
}

impl OwnSource {
    pub(super) fn new(probes: Probes, interval: Duration) -> OwnSource {
        OwnSource { probes, interval, rules: PathRules::built_in(), discovered: None }
    }

    fn follow(mut self, sender: &Sender<TopEvent>) {
        let mut wait = SAMPLE_GAP.min(self.interval);
        while sender.send(TopEvent::Report(Box::new(self.observe()))).is_ok() {
            thread::sleep(wait.max(MIN_INTERVAL));
            wait = self.interval;
        }
    }

    /// A report with the values that need two samples.
    pub(super) fn observe_twice(&mut self) -> SourcedReport {
        let first = self.observe();
        if first.report.devices.is_empty() {
            return first;
        }
        thread::sleep(SAMPLE_GAP);
        self.observe()
    }

    fn observe(&mut self) -> SourcedReport {
        let is_due = |at: &Instant| at.elapsed() >= DISCOVERY_INTERVAL;
        if self.discovered.as_ref().is_none_or(|(at, _)| is_due(at)) {
            self.discovered = Some((Instant::now(), self.probes.discover()));
        }
        let sampling = self.probes.sample(None);
        let report = match &self.discovered {
            Some((_, inventory)) => report(inventory, &sampling, &self.rules, self.interval),
            None => LiveReport::default(),
        };
        if sampling.rediscover || sampling.has_news {
            self.discovered = None;
        }
        let visible = serde_json::to_value(&report).and_then(visible_live);
        SourcedReport { report: visible.unwrap_or_default(), age: Duration::ZERO }
    }
}

fn report(inventory: &Inventory, sampling: &Sampling, rules: &PathRules, interval: Duration) -> LiveReport {
    let paths = rules.verdicts(inventory, false);
    LiveReport::new(LiveInputs {
        page: PageInputs {
            inventory,
            paths: &paths,
            sampling,
            cluster: InCluster::default(),
            door: DoorPage::default(),
            detail: SeriesDetail::default(),
        },
        conditions: None,
        node: None,
        sampled_at: clock::wall_seconds(),
        interval,
        stale_after: interval * 6 + Duration::from_secs(10),
    })
}
