//! Debounces shrinking offers: the Node is not updated at once when less is offered than before.

use std::time::{Duration, Instant};

use afd_derive::offer::{self, Offered};
use afd_model::{Inventory, Offers};

use crate::cluster_view::ClusterView;

/// How long an offer must have been smaller before the Node shows it: a kubelet or a plugin that restarts offers nothing
/// for some seconds.
const SHRINK_DELAY: Duration = Duration::from_secs(30);

/// Holds smaller offers back until they have been smaller for a while.
#[derive(Debug, Default)]
pub struct OfferDebounce {
    accepted: Option<Offers>,
    smaller_since: Option<Instant>,
}

impl OfferDebounce {
    /// The offers that the Node may show now; none before the API server has reported them.
    pub fn update(
        &mut self,
        view: &ClusterView,
        inventory: &Inventory,
        include_integrated: bool,
        now: Instant,
    ) -> Option<Offered> {
        if !view.complete {
            return None;
        }
        if let Some(accepted) = self.accepted.as_ref().filter(|accepted| is_smaller(&view.offers, accepted)) {
            let since = *self.smaller_since.get_or_insert(now);
            if now.duration_since(since) < SHRINK_DELAY {
                return Some(offer::offered(inventory, accepted, include_integrated));
            }
        }
        self.smaller_since = None;
        self.accepted = Some(view.offers.clone());
        Some(offer::offered(inventory, &view.offers, include_integrated))
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

    use afd_model::{Device, PciAddress, PublishedOffers, ResourceCount, Variant, Vendor};

    use super::*;

    fn view(count: u64) -> ClusterView {
        let count = ResourceCount { capacity: count, allocatable: count };
        let offers = Offers {
            resources: Some(BTreeMap::from([("amd.com/gpu".to_owned(), count)])),
            published: Some(PublishedOffers::default()),
            ..Offers::default()
        };
        ClusterView { allocations: Vec::new(), counts: Vec::new(), offers, complete: true }
    }

    #[test]
    fn a_smaller_offer_is_accepted_after_a_delay_and_a_larger_one_at_once() {
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let inventory = Inventory {
            devices: vec![Device::bare(address, Vendor::Amd, Variant::Gpu)],
            ..Inventory::default()
        };
        let (mut debounce, start) = (OfferDebounce::default(), Instant::now());
        let mut at = |seconds, count| {
            let offered =
                debounce.update(&view(count), &inventory, false, start + Duration::from_secs(seconds));
            offered.and_then(|offered| offered.allocation)
        };
        assert_eq!(at(0, 0), Some("none"));
        assert_eq!(at(1, 1), Some("device-plugin"));
        assert_eq!(at(10, 0), Some("device-plugin"), "the kubelet may have restarted");
        assert_eq!(at(20, 1), Some("device-plugin"));
        assert_eq!(at(30, 0), Some("device-plugin"));
        assert_eq!(at(59, 0), Some("device-plugin"));
        assert_eq!(at(60, 0), Some("none"));
    }

    #[test]
    fn there_is_no_offer_before_the_api_server_has_reported_all() {
        let incomplete = ClusterView { complete: false, ..view(1) };
        let offered =
            OfferDebounce::default().update(&incomplete, &Inventory::default(), false, Instant::now());
        assert_eq!(offered, None);
    }
}
