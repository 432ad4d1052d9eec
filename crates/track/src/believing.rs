//! From what was observed to what is believed of the devices.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use afd_model::{Device, Inventory, Known};

use crate::{
    Believed, Graces, Observation, Track,
    expected::{GoneDevice, PresentDevice},
    presence,
    vendor::{TrackedVendor, VendorTrack},
    verdicts::VendorView,
};

/// Returns the known inventory if it is equal, so that it is held once and equal pointers mean that nothing changed.
fn shared<'i>(new: Inventory, known: impl IntoIterator<Item = &'i Arc<Inventory>>) -> Arc<Inventory> {
    let same = known.into_iter().find(|known| ***known == new).map(Arc::clone);
    same.unwrap_or_else(|| Arc::new(new))
}

impl Track {
    pub(crate) fn believe(&mut self, observation: &Observation<'_>) -> Believed {
        let (now, graces) = (observation.now, self.options.graces);
        let mut devices = Vec::with_capacity(self.presence.devices.len());
        let mut leaving = BTreeSet::new();
        let views: Vec<VendorView<'_>> =
            self.vendors
                .iter()
                .map(|vendor| VendorView {
                    vendor,
                    maintenance: vendor.maintenance(now, &graces),
                    is_any_leaving: self.presence.devices.values().any(|tracked| {
                        tracked.absent_since.is_some() && vendor.vendor.covers(&tracked.observed)
                    }),
                    now,
                    graces: &graces,
                })
                .collect();
        for (id, tracked) in &mut self.presence.devices {
            let view = views.iter().find(|view| view.vendor.vendor.covers(&tracked.observed));
            devices.push(match view {
                Some(view) => tracked.believed(view),
                None => tracked.observed.clone(),
            });
            if tracked.absent_since.is_some() {
                leaving.insert(*id);
            }
        }
        let released = views.iter().filter(|view| view.must_release()).map(|view| view.vendor.vendor.probe);
        let released = released.collect();
        let present = self.present_devices(&devices);
        let is_settled = self.learn(&present, now, &graces, observation);
        let expectation = self.node.expectation(&self.surroundings, observation.node);
        let mut gone = self.gone.clone();
        // The Node remembers devices as well that this agent has seen.
        let is_seen = |device: &GoneDevice| {
            device.uuid.is_some() && self.gone.iter().any(|seen| seen.uuid == device.uuid)
        };
        gone.extend(self.node.gone(&present).into_iter().filter(|device| !is_seen(device)));
        let vendors: Vec<TrackedVendor> = self.vendors.iter().map(|vendor| vendor.vendor).collect();
        let mut missing =
            if is_settled { expectation.missing(&present, &gone, &vendors) } else { Vec::new() };
        missing.iter_mut().for_each(|missing| self.node.name(missing));
        self.how_to_change = expectation.how_to_change();
        let expected = observation.node.map(|_| expectation.numbers(&present, &vendors));
        drop(present);
        // What is confirmed again soon is not worth a write.
        let is_lasting = |since: &Duration| now.saturating_sub(*since) >= graces.library;
        let unconfirmed = self.vendors.iter().filter_map(VendorTrack::unconfirmed_since).filter(is_lasting);
        let unconfirmed = unconfirmed.min();
        let mut inventory = Inventory { devices, missing, ..self.surroundings.clone() };
        inventory.problems.extend(self.node.problems().cloned());
        let problems = self.problems.believed().chain(self.node.problems()).cloned().collect();
        let for_node = Inventory { problems, ..inventory.clone() };
        if !leaving.is_empty() {
            inventory.devices.retain(|device| !leaving.contains(&device.id));
            self.observe_links(&mut inventory.devices);
        }
        let inventory = shared(inventory, [&self.believed.inventory]);
        let for_node = shared(for_node, [&inventory, &self.believed.for_node]);
        Believed {
            inventory,
            for_node,
            is_settled,
            inherits: self.node.inherits(),
            memory: self.node.memory(unconfirmed, observation),
            expected,
            released,
        }
    }

    /// Puts the numbers of links back that were observed: without a device that is leaving.
    fn observe_links(&self, devices: &mut [Device]) {
        for device in devices {
            let tracked = self.presence.devices.get(&device.id);
            let observed = tracked.map(|tracked| tracked.observed.linked_devices);
            if let Some(observed) = observed.filter(Known::is_known) {
                device.linked_devices = observed;
            }
        }
    }

    /// The devices that count for expectations.
    fn present_devices<'d>(&self, devices: &'d [Device]) -> Vec<PresentDevice<'d>> {
        let is_expected = |device: &&Device| {
            self.presence.devices.get(&device.id).is_some_and(presence::TrackedDevice::is_expected_to_stay)
        };
        let probe_of = |device: &Device| {
            self.vendors.iter().find(|vendor| vendor.vendor.covers(device)).map(|vendor| vendor.vendor.probe)
        };
        let present = devices.iter().filter(is_expected);
        present.filter_map(|device| Some(PresentDevice { device, probe: probe_of(device)? })).collect()
    }

    /// Raises expectations; returns whether what the Node remembers has been compared with the devices for long enough.
    fn learn(
        &mut self,
        present: &[PresentDevice<'_>],
        now: Duration,
        graces: &Graces,
        observation: &Observation<'_>,
    ) -> bool {
        if !self.options.has_node {
            return true;
        }
        if observation.node.is_none() || !self.node.is_identified() {
            return false;
        }
        let presence = &self.presence;
        let present_since = |present: &PresentDevice<'_>| {
            let tracked = presence.devices.get(&present.device.id)?;
            tracked.absent_since.is_none().then_some(tracked.present_since)
        };
        let there: Vec<PresentDevice<'_>> =
            present.iter().copied().filter(|present| present_since(present).is_some()).collect();
        let expectation = self.node.expectation(&self.surroundings, observation.node);
        let is_complete = expectation.missing(present, &[], &[]).is_empty() && self.node.is_complete(present);
        let lacking = expectation.missing(&there, &[], &[]).len();
        let since = self.lacking.filter(|(before, _)| lacking <= *before).map_or(now, |(_, since)| since);
        self.lacking = (lacking > 0).then_some((lacking, since));
        let has_stayed = |present: &PresentDevice<'_>| {
            present_since(present).is_some_and(|since| now.saturating_sub(since) >= graces.learning)
        };
        self.node.compare_instance_type(present, has_stayed, &self.surroundings, observation);
        if self.node.learn(present, has_stayed) {
            self.is_refitted = true;
        }
        is_complete || self.settles_at(now).is_none_or(|at| now >= at)
    }

    /// Until when devices that the Node remembers may still appear.
    pub(crate) fn settles_at(&self, now: Duration) -> Option<Duration> {
        let lacking = self.lacking.map(|(_, since)| since);
        let since = [self.started, lacking].into_iter().flatten().min();
        since.map(|since| since + self.options.graces.removal_at(now))
    }
}
