//! Which problems of probes last, for the annotation that people read: one that comes and goes is not worth a write each time.

use std::{collections::BTreeMap, time::Duration};

use afd_model::{Missing, Problem};

/// The problems of the last discoveries.
#[derive(Debug, Default)]
pub(crate) struct ProblemTrack {
    problems: BTreeMap<Problem, TrackedProblem>,
    has_observed: bool,
}

/// One problem over time.
#[derive(Debug)]
struct TrackedProblem {
    belief: ProblemBelief,
    /// Since when every discovery has had it.
    present_since: Duration,
    /// Since when no discovery has had it.
    absent_since: Option<Duration>,
}

/// What is believed of a problem.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ProblemBelief {
    /// A discovery has had it that was not the first; it may be gone with the next one.
    Unconfirmed,
    /// The first discovery of the agent had it, and every one since. It is believed: an agent that starts does not withdraw what
    /// an earlier one has reported.
    Inherited,
    /// Discoveries had it for long enough. It is believed until it has been absent for as long.
    Confirmed,
}

impl ProblemTrack {
    /// Takes in the problems of a discovery. One that comes or goes is believed after the grace, by a later discovery; that a source
    /// was waited for ends at once.
    pub(crate) fn observe(&mut self, problems: &[Problem], now: Duration, grace: Duration) {
        self.problems.retain(|problem, tracked| {
            if problems.contains(problem) {
                tracked.absent_since = None;
                if now.saturating_sub(tracked.present_since) >= grace {
                    tracked.belief = ProblemBelief::Confirmed;
                }
                return true;
            }
            let since = *tracked.absent_since.get_or_insert(now);
            tracked.belief == ProblemBelief::Confirmed
                && !ends_by_an_answer(problem)
                && now.saturating_sub(since) < grace
        });
        let belief = if self.has_observed { ProblemBelief::Unconfirmed } else { ProblemBelief::Inherited };
        self.has_observed = true;
        for problem in problems {
            if !self.problems.contains_key(problem) {
                let tracked = TrackedProblem { belief, present_since: now, absent_since: None };
                self.problems.insert(problem.clone(), tracked);
            }
        }
    }

    /// The problems that are believed.
    pub(crate) fn believed(&self) -> impl Iterator<Item = &Problem> {
        let believed =
            self.problems.iter().filter(|(_, tracked)| tracked.belief != ProblemBelief::Unconfirmed);
        believed.map(|(problem, _)| problem)
    }

    /// Restarts all graces.
    pub(crate) fn restart(&mut self, now: Duration) {
        for tracked in self.problems.values_mut() {
            tracked.present_since = now;
            tracked.absent_since = tracked.absent_since.map(|_| now);
        }
    }
}

/// Whether a problem is that a source was waited for. When it answers, everything else that it says is believed at once.
fn ends_by_an_answer(problem: &Problem) -> bool {
    matches!(problem.reason, Missing::Pending | Missing::Released)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn problem(fact: &str) -> Problem {
        Problem {
            probe: "test".to_owned(),
            device: None,
            fact: fact.to_owned(),
            reason: Missing::Unreadable,
            path: None,
            message: "EIO".to_owned(),
        }
    }

    /// What is believed after discoveries that had these problems, each at a second.
    fn believed_after(discoveries: &[(u64, &[&str])]) -> Vec<Vec<String>> {
        let mut track = ProblemTrack::default();
        let mut believed = Vec::new();
        for (second, facts) in discoveries {
            let problems: Vec<Problem> = facts.iter().map(|fact| problem(fact)).collect();
            track.observe(&problems, Duration::from_secs(*second), GRACE);
            believed.push(track.believed().map(|problem| problem.fact.clone()).collect());
        }
        believed
    }

    #[test]
    fn a_problem_that_comes_and_goes_changes_nothing() {
        let flapping: Vec<(u64, &[&str])> =
            (0..100).map(|number| (number * 60, if number % 2 == 1 { &["a"][..] } else { &[] })).collect();
        assert!(believed_after(&flapping).iter().all(Vec::is_empty));
    }

    #[test]
    fn a_problem_that_lasts_is_believed_and_ends_by_time() {
        let seen =
            [(0, &[][..]), (60, &["a"]), (61, &["a"]), (90, &["a"]), (120, &[]), (149, &[]), (150, &[])];
        let expected = [&[][..], &[], &[], &["a"], &["a"], &["a"], &[]];
        assert_eq!(believed_after(&seen), expected);
        let back = [(0, &[][..]), (60, &["a"]), (120, &["a"]), (180, &[]), (200, &["a"]), (240, &["a"])];
        let expected = [&[][..], &[], &["a"], &["a"], &["a"], &["a"]];
        assert_eq!(believed_after(&back), expected);
    }

    #[test]
    fn what_the_first_discovery_has_is_believed_while_it_lasts() {
        let seen = [(0, &["a", "b"][..]), (1, &["b"]), (2, &["a", "b"]), (40, &["b"]), (50, &[]), (80, &[])];
        let expected = [&["a", "b"][..], &["b"], &["b"], &["b"], &["b"], &[]];
        assert_eq!(believed_after(&seen), expected);
    }

    #[test]
    fn a_source_that_was_waited_for_is_no_problem_once_it_answers() {
        let mut track = ProblemTrack::default();
        let pending = Problem { reason: Missing::Pending, ..problem("library") };
        for second in [0, 60] {
            track.observe(std::slice::from_ref(&pending), Duration::from_secs(second), GRACE);
            assert_eq!(track.believed().count(), 1);
        }
        track.observe(&[], Duration::from_secs(61), GRACE);
        assert_eq!(track.believed().count(), 0);
    }

    #[test]
    fn graces_restart_after_a_suspension() {
        let mut track = ProblemTrack::default();
        let seconds = Duration::from_secs;
        track.observe(&[], seconds(0), GRACE);
        track.observe(&[problem("a")], seconds(1), GRACE);
        track.restart(seconds(1000));
        track.observe(&[problem("a")], seconds(1001), GRACE);
        assert_eq!(track.believed().count(), 0);
        track.observe(&[problem("a")], seconds(1030), GRACE);
        assert_eq!(track.believed().count(), 1);
    }
}
