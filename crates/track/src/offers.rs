//! Offers over time: when less than before is believed, and for how long an incomplete offer is no verdict.

use std::time::Duration;

use afd_model::{OfferVerdict, Offers};

use crate::graces::Graces;

/// What is believed of the offers.
#[derive(Debug, Default)]
pub(crate) struct OfferTrack {
    accepted: Option<Offers>,
    smaller_since: Option<Duration>,
    incomplete_since: Option<Duration>,
}

/// What an offer means for the condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum OfferCause {
    /// Nothing speaks against the devices.
    None,
    /// It is not known yet, or not for long enough.
    Undecided,
    /// Devices are not offered, with a message.
    Incomplete(String),
    /// Devices are offered twice, with a message.
    Duplicate(String),
    /// The API server has not reported the offers within the grace.
    Unknown,
}

impl OfferTrack {
    /// Takes in what is offered now; none before the API server has reported all of it.
    pub(crate) fn observe(&mut self, offers: Option<&Offers>, now: Duration, graces: &Graces) {
        let Some(offers) = offers else { return };
        if self.accepted.as_ref().is_some_and(|accepted| is_smaller(offers, accepted)) {
            let since = *self.smaller_since.get_or_insert(now);
            // A kubelet or a plugin that restarts offers nothing for some seconds.
            if now.saturating_sub(since) < graces.smaller_offer {
                return;
            }
        }
        self.smaller_since = None;
        self.accepted = Some(offers.clone());
    }

    /// The offers that are believed.
    pub(crate) fn accepted(&self) -> Option<&Offers> {
        self.accepted.as_ref()
    }

    /// Restarts all graces.
    pub(crate) fn restart(&mut self) {
        self.smaller_since = None;
        self.incomplete_since = None;
    }

    /// Since when the offer has been incomplete or unknown.
    pub(crate) fn incomplete_since(&self) -> Option<Duration> {
        self.incomplete_since
    }

    /// Continues a grace that began before this agent was started.
    pub(crate) fn restore(&mut self, incomplete_since: Option<Duration>) {
        self.incomplete_since = incomplete_since;
    }

    /// What the verdict on the believed offers means now.
    pub(crate) fn judge(&mut self, verdict: &OfferVerdict, now: Duration, graces: &Graces) -> OfferCause {
        match verdict {
            OfferVerdict::Complete => {
                self.incomplete_since = None;
                return OfferCause::None;
            }
            OfferVerdict::Duplicate(message) => {
                self.incomplete_since = None;
                return OfferCause::Duplicate(message.clone());
            }
            OfferVerdict::Unknown | OfferVerdict::Incomplete(_) => {}
        }
        let since = *self.incomplete_since.get_or_insert(now);
        if now.saturating_sub(since) < graces.offer_at(now) {
            return OfferCause::Undecided;
        }
        match verdict {
            OfferVerdict::Incomplete(message) => OfferCause::Incomplete(message.clone()),
            _ => OfferCause::Unknown,
        }
    }

    /// When the grace of an incomplete offer ends.
    pub(crate) fn deadline(&self, now: Duration, graces: &Graces) -> Option<Duration> {
        let incomplete = self.incomplete_since.map(|since| since + graces.offer_at(now));
        let smaller = self.smaller_since.map(|since| since + graces.smaller_offer);
        [incomplete, smaller].into_iter().flatten().filter(|deadline| *deadline > now).min()
    }
}

/// Whether less of anything is offered than before.
fn is_smaller(now: &Offers, before: &Offers) -> bool {
    let fewer_resources = before.resources.iter().flatten().any(|(name, before)| {
        let now = now.resources.as_ref().and_then(|now| now.get(name)).copied().unwrap_or_default();
        now.capacity < before.capacity || now.allocatable < before.allocatable
    });
    let units = |offers: &Offers| {
        offers.published.as_ref().map(|published| published.units.clone()).unwrap_or_default()
    };
    fewer_resources || !units(before).is_subset(&units(now))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use afd_model::ResourceCount;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn offers(count: u64) -> Offers {
        let count = ResourceCount { capacity: count, allocatable: count };
        Offers { resources: Some(BTreeMap::from([("amd.com/gpu".to_owned(), count)])), ..Offers::default() }
    }

    #[test]
    fn a_smaller_offer_is_accepted_after_a_delay_and_a_larger_one_at_once() {
        let (mut track, graces) = (OfferTrack::default(), Graces::default());
        let mut at = |seconds: u32, count| {
            track.observe(Some(&offers(count)), SECOND * seconds, &graces);
            track
                .accepted()
                .and_then(|accepted| Some(accepted.resources.as_ref()?["amd.com/gpu"].allocatable))
        };
        assert_eq!(at(1000, 0), Some(0));
        assert_eq!(at(1001, 1), Some(1));
        assert_eq!(at(1010, 0), Some(1), "the kubelet may have restarted");
        assert_eq!(at(1020, 1), Some(1));
        assert_eq!(at(1030, 0), Some(1));
        assert_eq!(at(1059, 0), Some(1));
        assert_eq!(at(1060, 0), Some(0));
    }

    #[test]
    fn an_incomplete_offer_is_a_verdict_after_its_grace() {
        let (mut track, graces) = (OfferTrack::default(), Graces::default());
        let incomplete = OfferVerdict::Incomplete("none".to_owned());
        let mut at = |seconds: u32, verdict: &OfferVerdict| track.judge(verdict, SECOND * seconds, &graces);
        assert_eq!(at(1000, &incomplete), OfferCause::Undecided);
        assert_eq!(at(1119, &incomplete), OfferCause::Undecided);
        assert_eq!(at(1120, &incomplete), OfferCause::Incomplete("none".to_owned()));
        assert_eq!(at(1121, &OfferVerdict::Complete), OfferCause::None);
        assert_eq!(at(1122, &OfferVerdict::Unknown), OfferCause::Undecided);
        let mut after_boot = OfferTrack::default();
        assert_eq!(after_boot.judge(&incomplete, SECOND, &graces), OfferCause::Undecided);
        assert_eq!(after_boot.judge(&incomplete, SECOND * 299, &graces), OfferCause::Undecided);
        assert!(matches!(after_boot.judge(&incomplete, SECOND * 300, &graces), OfferCause::Incomplete(_)));
    }
}
