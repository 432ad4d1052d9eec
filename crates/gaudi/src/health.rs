//! The health of a device, from what the kernel and HLML report.
//!
//! A device is healthy if its driver, or HLML, reports that it is operational and no rule of [`RULES`] applies. The health of a
//! device whose status nothing reports is unknown unless a rule applies. A device recovers when no rule applies any more.

mod rules;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use afd_model::{Device, DeviceId, Health, HealthState};

pub use self::rules::{GaudiRule, RULES};
use crate::{
    control::operations::{DEVICE_STATUS, PENDING_ROWS},
    hlml::{
        HlmlAnswers, LOST,
        calls::{ROWS_PENDING, STATUS, UNCORRECTED},
        is_link_up, ports,
    },
    interpret::{self, GaudiStatus},
};

/// What one discovery read for the health of a device.
#[derive(Clone, Debug, Default)]
pub(crate) struct GaudiEvidence {
    /// What the driver says.
    pub(crate) status: Option<GaudiStatus>,
    /// What the library last reported, if it answers.
    pub(crate) library: LibraryEvidence,
    /// Whether it answers.
    pub(crate) is_answering: bool,
    /// Whether the library reported it now, and not earlier.
    pub(crate) is_fresh: bool,
    /// Hard and soft resets since the driver was loaded.
    pub(crate) resets: Option<u64>,
    /// Whether a critical error is open.
    pub(crate) has_critical_error: bool,
}

/// What HLML reported in a discovery.
#[derive(Clone, Debug, Default)]
pub(crate) struct LibraryEvidence {
    status: Option<GaudiStatus>,
    is_lost: bool,
    is_unlisted: bool,
    are_rows_pending: bool,
    uncorrected: Option<u64>,
    internal_up: u32,
    internal_down: Vec<u8>,
}

/// How long a link is down until that is a fault: after a reset the links are trained again.
const LINK_SETTLING: Duration = Duration::from_secs(30);

/// What earlier discoveries learnt of a device.
#[derive(Clone, Debug, Default)]
pub(crate) struct GaudiHistory {
    /// Discoveries in succession in which the library had lost a device that the driver does not reset.
    lost: u32,
    /// The uncorrected errors of the first discovery after the last reset, and the number of resets then.
    baseline: Option<(u64, Option<u64>)>,
    /// The uncorrected errors since.
    grown: u64,
    /// Since when each internal port has been seen down.
    down_since: BTreeMap<u8, Instant>,
    /// Those of them that have been down for [`LINK_SETTLING`].
    down: Vec<u8>,
    /// Whether the internal ports are down, and are not going up after a reset.
    are_ports_unused: bool,
    /// Whether an internal port was ever up.
    was_up: bool,
}

impl LibraryEvidence {
    /// What answers say of a device.
    pub(crate) fn of(answers: &HlmlAnswers) -> LibraryEvidence {
        let text: Option<String> = answers.known(STATUS).into_value();
        let mut evidence = LibraryEvidence {
            status: text.and_then(|text| interpret::status(&text).ok()).or_else(|| {
                answers.known(DEVICE_STATUS.call).into_value().and_then(interpret::numbered_status)
            }),
            is_lost: answers.errors().any(|(_, code)| code == LOST),
            are_rows_pending: answers.known::<u32>(ROWS_PENDING).into_value() == Some(1)
                || answers.known::<u32>(PENDING_ROWS.call).into_value().is_some_and(|rows| rows > 0),
            uncorrected: answers.known(UNCORRECTED).into_value().filter(|count| *count != u64::MAX),
            ..LibraryEvidence::default()
        };
        for (port, _) in ports(answers).into_iter().filter(|(_, external)| !external) {
            match is_link_up(answers, port) {
                Some(true) => evidence.internal_up += 1,
                Some(false) => evidence.internal_down.push(port),
                None => {}
            }
        }
        evidence
    }
}

impl LibraryEvidence {
    /// What is known of a device that the library does not list.
    pub(crate) fn unlisted() -> LibraryEvidence {
        LibraryEvidence { is_lost: true, is_unlisted: true, ..LibraryEvidence::default() }
    }
}

impl GaudiEvidence {
    /// What the device does: by the driver, else by the library.
    pub(crate) fn status(&self) -> Option<GaudiStatus> {
        self.status.or(self.library.status)
    }

    /// Whether it is known to accept work.
    pub(crate) fn is_operational(&self) -> bool {
        self.status() == Some(GaudiStatus::Operational)
    }

    /// Whether the library does not list the device, although the driver does not reset it.
    pub(crate) fn is_unlisted(&self) -> bool {
        self.library.is_unlisted && !self.is_in_reset()
    }

    /// Whether the driver resets the device, so that the library is expected to fail.
    pub(crate) fn is_in_reset(&self) -> bool {
        use GaudiStatus::{InCreation, InReleaseReset, InReset};
        matches!(self.status(), Some(InReset | InCreation | InReleaseReset))
    }
}

impl GaudiHistory {
    /// Whether none of the internal ports is in use. Those of all devices are down for a while when all were reset.
    pub(crate) fn are_ports_unused(&self) -> bool {
        self.are_ports_unused
    }

    fn observe(&mut self, evidence: &GaudiEvidence, has_reset: bool, now: Instant) {
        if evidence.is_fresh {
            self.observe_links(&evidence.library, has_reset, now);
        }
        if evidence.is_fresh || evidence.is_in_reset() {
            let is_lost = evidence.library.is_lost && !evidence.is_in_reset();
            self.lost = if is_lost { self.lost.saturating_add(1) } else { 0 };
        }
        // The library is silent about a device in reset: what it counted before is not of after the reset.
        if !evidence.is_fresh {
            let before = self.baseline.and_then(|(_, resets)| resets);
            if before.zip(evidence.resets).is_some_and(|(before, now)| before != now) {
                self.grown = 0;
            }
            return;
        }
        let Some(count) = evidence.library.uncorrected else { return };
        match self.baseline {
            // A reset ends the fault, and a counter that fell is of another load of the driver or of another device.
            Some((first, resets))
                if count >= first && (resets == evidence.resets || evidence.resets.is_none()) =>
            {
                self.grown = count - first;
            }
            _ => {
                self.baseline = Some((count, evidence.resets));
                self.grown = 0;
            }
        }
    }
}

impl GaudiHistory {
    /// Notes which ports are down. A reset of a device takes down the links of the others with it: while one is reset, and until
    /// links have had time to be trained, no port that was up counts as down.
    fn observe_links(&mut self, library: &LibraryEvidence, has_reset: bool, now: Instant) {
        let down = &library.internal_down;
        self.was_up |= library.internal_up > 0;
        self.down.retain(|port| down.contains(port));
        if has_reset {
            self.down_since.retain(|port, _| self.down.contains(port));
            self.are_ports_unused = false;
            return;
        }
        self.down_since.retain(|port, _| down.contains(port));
        for port in down {
            self.down_since.entry(*port).or_insert(now);
        }
        let has_settled = |since: &Instant| now.saturating_duration_since(*since) >= LINK_SETTLING;
        self.down =
            self.down_since.iter().filter(|(_, since)| has_settled(since)).map(|(port, _)| *port).collect();
        let are_all_down = library.internal_up == 0 && !down.is_empty();
        self.are_ports_unused = are_all_down && (!self.was_up || self.down.len() == down.len());
    }
}

/// Sets the health of all devices, by the evidence of this discovery and by what is known from earlier ones.
pub(crate) fn judge(
    devices: &mut [Device],
    evidence: &BTreeMap<DeviceId, GaudiEvidence>,
    histories: &mut BTreeMap<DeviceId, GaudiHistory>,
    now: Instant,
) {
    let has_reset = evidence.values().any(GaudiEvidence::is_in_reset);
    histories.retain(|id, _| devices.iter().any(|device| device.id == *id));
    for device in devices {
        let Some(evidence) = evidence.get(&device.id) else { continue };
        let history = histories.entry(device.id).or_default();
        history.observe(evidence, has_reset, now);
        // A missing driver takes precedence.
        if device.health.state != HealthState::Failed {
            device.health = verdict(evidence, history);
        }
    }
}

fn verdict(evidence: &GaudiEvidence, history: &GaudiHistory) -> Health {
    let verdicts: Vec<Health> = RULES.iter().filter_map(|rule| rule.verdict(evidence, history)).collect();
    if verdicts.is_empty() && evidence.status().is_none() {
        Health::unknown()
    } else {
        Health::worst_of(verdicts)
    }
}

/// The text of `docs/health-gaudi.md`.
pub fn markdown() -> String {
    let mut text = "# Health of Gaudi accelerators\n\n\
         Generated from the table in `crates/gaudi/src/health/rules.rs` by `cargo xtask bless`.\n\n\
         AFD evaluates the rules at each discovery (`--discovery-interval`), from the attribute `status` of the driver and, if it is\n\
         installed, from HLML, else from the driver's ioctl. A device is *healthy* if one of them reports that it is operational and\n\
         no rule below applies; where none reports a status its health is *unknown* unless a rule applies. A device recovers when\n\
         no rule applies any more. What HLML or the ioctl reported counts while it answers. If several rules apply, the most severe\n\
         state counts: failed, then unknown, then degraded.\n\n\
         The driver resets a device after every workload (`reset_upon_device_release`, on by default from Gaudi 2 on). While it does,\n\
         the last verdict stays for 120 seconds: no label and no condition changes between two jobs. While a device is being reset\n\
         HLML answers no call for it, and the ioctl few, which is no problem; nor is that the links of other devices with it are down.\n\n\
         | reason | state | condition | source | action |\n|---|---|---|---|---|\n\
         | `DriverMissing` | failed | no kernel driver is bound to the device | PCI | load the driver; check the kernel log |\n"
        .to_owned();
    for rule in RULES {
        let row = [rule.code, rule.state.as_str(), rule.condition, rule.source, rule.action];
        text += &format!("| `{}` | {} | {} | {} | {} |\n", row[0], row[1], row[2], row[3], row[4]);
    }
    text
}

#[cfg(test)]
mod tests;
