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
    /// The faults when an earlier agent ended, until their subjects are judged again.
    earlier: BTreeMap<String, FaultTimes>,
}

/// When a fault began and ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FaultTimes {
    pub(crate) since: Duration,
    pub(crate) ended: Option<Duration>,
    pub(crate) is_problem: bool,
}

#[derive(Debug)]
struct TrackedFault {
    fault: ObservedFault,
    times: FaultTimes,
}

impl FaultTimes {
    /// Takes in that the fault is not there; returns whether it still counts. One that was no problem yet leaves no trace.
    fn end(&mut self, now: Duration, graces: &Graces) -> bool {
        let ended = *self.ended.get_or_insert(now);
        self.is_problem && now.saturating_sub(ended) < graces.fault_end
    }
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
    /// Takes in the faults of one observation. Those of a subject for which `is_frozen` holds neither begin nor end; those that an
    /// earlier agent saw do not end while `is_open` holds: the subject is not judged yet.
    pub(crate) fn observe(
        &mut self,
        observed: &[ObservedFault],
        is_frozen: impl Fn(&str) -> bool,
        is_open: impl Fn(&str) -> bool,
        now: Duration,
        graces: &Graces,
    ) -> FaultVerdict {
        for fault in observed.iter().filter(|fault| !is_frozen(&fault.subject)) {
            let counts = |times: &FaultTimes| {
                times.ended.is_none_or(|ended| now.saturating_sub(ended) < graces.fault_end)
            };
            let earlier = self.earlier.remove(&fault.subject).filter(counts);
            let tracked = self.faults.entry(fault.subject.clone()).or_insert_with(|| TrackedFault {
                fault: fault.clone(),
                times: earlier.unwrap_or(FaultTimes { since: now, ended: None, is_problem: false }),
            });
            tracked.fault = fault.clone();
            let times = &mut tracked.times;
            times.ended = None;
            times.is_problem |= fault.is_confirmed || now.saturating_sub(times.since) >= graces.fault;
        }
        self.faults.retain(|subject, tracked| {
            let is_there = observed.iter().any(|fault| fault.subject == *subject);
            is_there || is_frozen(subject) || tracked.times.end(now, graces)
        });
        self.earlier.retain(|subject, times| {
            let is_judged = times.ended.is_some() || !is_frozen(subject) && !is_open(subject);
            !is_judged || times.end(now, graces)
        });
        let problems = observed.iter().filter(|fault| {
            let tracked = self.faults.get(&fault.subject);
            tracked.is_some_and(|tracked| tracked.times.is_problem)
        });
        let problems: Vec<ObservedFault> = problems.cloned().collect();
        if !problems.is_empty() {
            FaultVerdict::Problem(problems)
        } else if self.faults.is_empty() && self.earlier.is_empty() {
            FaultVerdict::None
        } else {
            FaultVerdict::Undecided
        }
    }

    /// The faults of devices themselves that there are, or were until a while ago, and whether each is a problem.
    pub(crate) fn of_devices(&self) -> impl Iterator<Item = (ConfirmedFault, bool)> {
        self.faults
            .values()
            .filter_map(|tracked| Some((tracked.fault.of_device()?, tracked.times.is_problem)))
    }

    /// Whether a fault that an earlier agent saw may still count.
    pub(crate) fn has_earlier(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// Restarts all graces.
    pub(crate) fn restart(&mut self, now: Duration) {
        let own = self.faults.values_mut().map(|tracked| &mut tracked.times);
        for times in own.chain(self.earlier.values_mut()) {
            times.since = now;
            if let Some(ended) = &mut times.ended {
                *ended = now;
            }
        }
    }

    /// When the fault of each subject began and ended.
    pub(crate) fn times(&self) -> BTreeMap<String, FaultTimes> {
        let mut times = self.earlier.clone();
        times.extend(self.faults.iter().map(|(subject, tracked)| (subject.clone(), tracked.times)));
        times
    }

    /// Continues graces that began before this agent was started.
    pub(crate) fn restore(&mut self, times: BTreeMap<String, FaultTimes>) {
        self.earlier = times;
    }

    /// When the next verdict may change by time alone.
    pub(crate) fn deadline(&self, now: Duration, graces: &Graces) -> Option<Duration> {
        let own = self.faults.values().map(|tracked| &tracked.times);
        let deadlines = own.chain(self.earlier.values()).map(|times| match times.ended {
            Some(ended) => ended + graces.fault_end,
            None => times.since + graces.fault,
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
            track.observe(faults, |_| false, |_| false, SECOND * seconds, &graces)
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
        track.observe(&[fault("a", false)], |_| false, |_| false, SECOND, &graces);
        assert_eq!(track.observe(&[], |_| false, |_| false, SECOND * 2, &graces), FaultVerdict::None);
        let missing = [fault("missing", true)];
        assert_eq!(
            track.observe(&missing, |_| false, |_| false, SECOND * 3, &graces),
            FaultVerdict::Problem(missing.to_vec())
        );
    }

    #[test]
    fn a_fault_counts_for_others_from_its_confirmation_until_a_while_after_its_end() {
        let (mut track, graces) = (FaultTrack::default(), Graces::default());
        let lost = [fault("a", false)];
        let mut problems = |seconds: u32, faults: &[ObservedFault]| {
            track.observe(faults, |_| false, |_| false, SECOND * seconds, &graces);
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
        assert_eq!(track.observe(&lost, |_| true, |_| false, SECOND, &graces), FaultVerdict::None);
        track.observe(&lost, |_| false, |_| false, SECOND * 2, &graces);
        for second in [3, 10_000] {
            assert_eq!(
                track.observe(&[], |_| true, |_| false, SECOND * second, &graces),
                FaultVerdict::Undecided
            );
        }
    }

    #[test]
    fn a_restart_neither_begins_nor_ends_a_fault() {
        let graces = Graces::default();
        let lost = [fault("a", false)];
        // The fault began at 0 and is a problem from 120 on.
        let restarted = |last: u32, is_there: bool| {
            let mut track = FaultTrack::default();
            track.observe(&lost, |_| false, |_| false, Duration::ZERO, &graces);
            track.observe(&lost, |_| false, |_| false, SECOND * 120, &graces);
            if !is_there {
                track.observe(&[], |_| false, |_| false, SECOND * last, &graces);
            }
            let times = track.times();
            let mut next = FaultTrack::default();
            next.restore(times.clone());
            assert_eq!(next.times(), times, "a second restart forgets nothing");
            next
        };
        let at = |track: &mut FaultTrack, second: u32, faults: &[ObservedFault], is_open: bool| {
            track.observe(faults, |_| false, |_| is_open, SECOND * second, &graces)
        };
        let mut track = restarted(130, true);
        assert_eq!(at(&mut track, 131, &[], true), FaultVerdict::Undecided, "it is not judged yet");
        assert_eq!(at(&mut track, 132, &lost, false), FaultVerdict::Problem(lost.to_vec()));
        let mut track = restarted(130, true);
        assert_eq!(at(&mut track, 131, &[], false), FaultVerdict::Undecided, "it has ended now");
        assert_eq!(at(&mut track, 430, &[], false), FaultVerdict::Undecided);
        assert_eq!(at(&mut track, 431, &[], false), FaultVerdict::None);
        assert_eq!(
            at(&mut track, 500_000, &lost, false),
            FaultVerdict::Undecided,
            "a later one is another one"
        );
        let mut track = restarted(130, false);
        assert_eq!(at(&mut track, 140, &[], false), FaultVerdict::Undecided, "it ended a moment ago");
        assert_eq!(at(&mut track, 150, &lost, false), FaultVerdict::Problem(lost.to_vec()), "it is back");
        let mut track = restarted(130, false);
        assert_eq!(at(&mut track, 430, &[], true), FaultVerdict::None);
        assert_eq!(at(&mut track, 431, &lost, false), FaultVerdict::Undecided);
    }
}
