//! Faults over time: since when each has been there, and which of them are problems of the node.

use std::{collections::BTreeMap, time::Duration};

use afd_model::reason::{ReasonClass, class_of};

use crate::graces::Graces;

/// A confirmed fault of a device by its own evidence, or a device that is missing. Faults of drivers, libraries and fabrics are none,
/// and neither is anything while the driver or the devices are being worked on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfirmedFault {
    /// The id of the device: `0000:18:00.0`, or `missing-1`.
    pub device: String,
    /// The reason in CamelCase.
    pub reason: String,
}

/// A fault that was observed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ObservedFault {
    /// What has it: the id of a device, or the name of a probe.
    pub(crate) subject: String,
    /// The reason in CamelCase.
    pub(crate) code: String,
    /// A sentence for people.
    pub(crate) message: String,
    /// Whether its own grace is over already, as that of a missing device is.
    pub(crate) is_confirmed: bool,
}

impl ObservedFault {
    /// The fault as one of a device, if it is one.
    pub(crate) fn of_device(&self) -> Option<ConfirmedFault> {
        let class = class_of(&self.code).unwrap_or(ReasonClass::DeviceFault);
        (class == ReasonClass::DeviceFault)
            .then(|| ConfirmedFault { device: self.subject.clone(), reason: self.code.clone() })
    }
}

/// All faults, by subject.
#[derive(Debug, Default)]
pub(crate) struct FaultTrack {
    faults: BTreeMap<String, TrackedFault>,
    /// Since when subjects had a fault when an earlier agent ended.
    earlier: BTreeMap<String, Duration>,
}

#[derive(Debug)]
struct TrackedFault {
    fault: ObservedFault,
    since: Duration,
    ended: Option<Duration>,
    is_problem: bool,
}

/// What the faults mean for the condition `Problem`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum FaultVerdict {
    /// There is none, and there was none for a while.
    None,
    /// One has begun or ended too recently.
    Undecided,
    /// These are problems, in the order in which they were observed.
    Problem(Vec<ObservedFault>),
}

impl FaultTrack {
    /// Takes in the faults of one observation. Those of a subject for which `is_frozen` holds neither begin nor end.
    pub(crate) fn observe(
        &mut self,
        observed: &[ObservedFault],
        is_frozen: impl Fn(&str) -> bool,
        now: Duration,
        graces: &Graces,
    ) -> FaultVerdict {
        for fault in observed.iter().filter(|fault| !is_frozen(&fault.subject)) {
            let earlier = self.earlier.remove(&fault.subject);
            let tracked = self.faults.entry(fault.subject.clone()).or_insert_with(|| TrackedFault {
                fault: fault.clone(),
                since: earlier.unwrap_or(now),
                ended: None,
                is_problem: false,
            });
            tracked.fault = fault.clone();
            tracked.ended = None;
            tracked.is_problem |= fault.is_confirmed || now.saturating_sub(tracked.since) >= graces.fault;
        }
        self.faults.retain(|subject, tracked| {
            let is_there = observed.iter().any(|fault| fault.subject == *subject);
            if is_there || is_frozen(subject) {
                return true;
            }
            let ended = *tracked.ended.get_or_insert(now);
            // One that was no problem yet has left no trace.
            tracked.is_problem && now.saturating_sub(ended) < graces.fault_end
        });
        let problems = observed.iter().filter(|fault| {
            let tracked = self.faults.get(&fault.subject);
            tracked.is_some_and(|tracked| tracked.is_problem)
        });
        let problems: Vec<ObservedFault> = problems.cloned().collect();
        if !problems.is_empty() {
            FaultVerdict::Problem(problems)
        } else if self.faults.is_empty() {
            FaultVerdict::None
        } else {
            FaultVerdict::Undecided
        }
    }

    /// The faults of devices themselves that there are, or were until a while ago, and whether each is a problem.
    pub(crate) fn of_devices(&self) -> impl Iterator<Item = (ConfirmedFault, bool)> {
        self.faults.values().filter_map(|tracked| Some((tracked.fault.of_device()?, tracked.is_problem)))
    }

    /// Restarts all graces.
    pub(crate) fn restart(&mut self, now: Duration) {
        for tracked in self.faults.values_mut() {
            tracked.since = now;
            if let Some(ended) = &mut tracked.ended {
                *ended = now;
            }
        }
    }

    /// Since when each subject has had its fault.
    pub(crate) fn since(&self) -> BTreeMap<String, Duration> {
        self.faults.iter().map(|(subject, tracked)| (subject.clone(), tracked.since)).collect()
    }

    /// Continues graces that began before this agent was started.
    pub(crate) fn restore(&mut self, since: BTreeMap<String, Duration>) {
        self.earlier = since;
    }

    /// When the next verdict may change by time alone.
    pub(crate) fn deadline(&self, now: Duration, graces: &Graces) -> Option<Duration> {
        let deadlines = self.faults.values().map(|tracked| match tracked.ended {
            Some(ended) => ended + graces.fault_end,
            None => tracked.since + graces.fault,
        });
        deadlines.filter(|deadline| *deadline > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fault(subject: &str, is_confirmed: bool) -> ObservedFault {
        ObservedFault {
            subject: subject.to_owned(),
            code: "GpuLost".to_owned(),
            message: "it is lost".to_owned(),
            is_confirmed,
        }
    }

    #[test]
    fn a_fault_is_a_problem_after_its_grace_and_for_a_while_after_its_end() {
        let (mut track, graces) = (FaultTrack::default(), Graces::default());
        let lost = [fault("a", false)];
        let mut at = |seconds: u32, faults: &[ObservedFault]| {
            track.observe(faults, |_| false, SECOND * seconds, &graces)
        };
        assert_eq!(at(0, &[]), FaultVerdict::None);
        assert_eq!(at(1, &lost), FaultVerdict::Undecided);
        assert_eq!(at(120, &lost), FaultVerdict::Undecided);
        assert_eq!(at(121, &lost), FaultVerdict::Problem(lost.to_vec()));
        assert_eq!(at(130, &[]), FaultVerdict::Undecided);
        assert_eq!(at(200, &lost), FaultVerdict::Problem(lost.to_vec()), "it is back: no new grace");
        assert_eq!(at(210, &[]), FaultVerdict::Undecided);
        assert_eq!(at(509, &[]), FaultVerdict::Undecided);
        assert_eq!(at(510, &[]), FaultVerdict::None);
    }

    #[test]
    fn a_short_fault_leaves_no_trace_and_a_confirmed_one_needs_no_grace() {
        let (mut track, graces) = (FaultTrack::default(), Graces::default());
        track.observe(&[fault("a", false)], |_| false, SECOND, &graces);
        assert_eq!(track.observe(&[], |_| false, SECOND * 2, &graces), FaultVerdict::None);
        let missing = [fault("missing", true)];
        assert_eq!(
            track.observe(&missing, |_| false, SECOND * 3, &graces),
            FaultVerdict::Problem(missing.to_vec())
        );
    }

    #[test]
    fn a_fault_counts_for_others_from_its_confirmation_until_a_while_after_its_end() {
        let (mut track, graces) = (FaultTrack::default(), Graces::default());
        let lost = [fault("a", false)];
        let mut problems = |seconds: u32, faults: &[ObservedFault]| {
            track.observe(faults, |_| false, SECOND * seconds, &graces);
            let problems = track.of_devices().filter(|(_, is_problem)| *is_problem);
            problems.map(|(fault, _)| fault.reason).collect::<Vec<_>>()
        };
        assert!(problems(0, &lost).is_empty(), "it is not confirmed");
        assert_eq!(problems(120, &lost), ["GpuLost"]);
        assert_eq!(problems(121, &[]), ["GpuLost"], "its source may only be silent");
        assert_eq!(problems(420, &[]), ["GpuLost"]);
        assert!(problems(421, &[]).is_empty());
    }

    #[test]
    fn a_frozen_subject_neither_gets_nor_loses_a_fault() {
        let (mut track, graces) = (FaultTrack::default(), Graces::default());
        let lost = [fault("a", true)];
        assert_eq!(track.observe(&lost, |_| true, SECOND, &graces), FaultVerdict::None);
        track.observe(&lost, |_| false, SECOND * 2, &graces);
        for second in [3, 10_000] {
            assert_eq!(track.observe(&[], |_| true, SECOND * second, &graces), FaultVerdict::Undecided);
        }
    }
}
