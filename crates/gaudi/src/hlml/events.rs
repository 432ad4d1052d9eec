//! Events: errors that the driver reports when they occur, forwarded by a thread of its own.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use afd_probe::library::events::forward_events;
use serde_json::{Value, json};

use super::{
    HlmlResult, HlmlStatus,
    ffi::{HlmlApi, HlmlDevice, HlmlEventSet},
};

/// Errors after which a device has to be reset.
pub(crate) const CRITICAL: u64 = 1 << 1;
/// Errors of the memory that ECC cannot correct: of SRAM and DRAM.
pub(crate) const MEMORY_EVENTS: u64 = 1 | 1 << 3;
/// The events that are registered. Those of corrected errors and of clocks are many, and their values are sampled.
const REGISTERED: u64 = CRITICAL | MEMORY_EVENTS;

const TIMEOUT: HlmlStatus = HlmlStatus::named("TIMEOUT");

/// The devices whose events are forwarded.
#[derive(Default)]
pub(super) struct HlmlEventWatch {
    set: Option<Arc<HlmlEventSet>>,
    devices: Arc<WatchedDevices>,
    is_forwarding: bool,
}

/// The address of each device of a set by its handle: one that is lost cannot be asked any more.
#[derive(Default)]
struct WatchedDevices(Mutex<BTreeMap<usize, Value>>);

impl WatchedDevices {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HlmlEventWatch {
    /// Registers the events of a device, unless they are.
    pub(super) fn add(&mut self, api: &HlmlApi, device: HlmlDevice, bus_id: Value) -> HlmlResult {
        let mut devices = self.devices.lock();
        if let Entry::Vacant(unregistered) = devices.entry(device.key()) {
            let set = match &self.set {
                Some(set) => set,
                None => self.set.insert(Arc::new(api.event_set()?)),
            };
            api.register_events(device, REGISTERED, set)?;
            unregistered.insert(bus_id);
        }
        Ok(json!(REGISTERED))
    }

    /// Forwards the events of all devices that were added, and of those that are added later.
    pub(super) fn forward(&mut self, api: &Arc<HlmlApi>, forward: impl Fn(Value) + Send + 'static) {
        let has_devices = !self.devices.lock().is_empty();
        let Some(set) = self.set.as_ref().filter(|_| has_devices && !self.is_forwarding) else { return };
        let (api, set, devices) = (Arc::clone(api), Arc::clone(set), Arc::clone(&self.devices));
        let wait = move |milliseconds| match api.wait(&set, milliseconds) {
            Ok((device, kind)) => {
                let bus_id = devices.lock().get(&device.key()).cloned();
                Ok(Some(json!({ "busId": bus_id, "eventType": kind })))
            }
            Err(TIMEOUT) => Ok(None),
            Err(code) => Err(code),
        };
        thread::spawn(move || forward_events(wait, forward));
        self.is_forwarding = true;
    }
}
