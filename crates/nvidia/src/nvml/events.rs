//! Events: errors that the driver reports when they occur, forwarded by a thread of its own.

mod ffi;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use afd_probe::library::events::forward_events;
use serde_json::{Value, json};

use self::ffi::NvmlEventSet;
use super::{
    ffi::{NvmlApi, NvmlHandle, NvmlReply},
    report::NvmlCode,
    table::call,
};

const TIMEOUT: NvmlCode = NvmlCode::named("TIMEOUT");

/// The GPUs whose events are forwarded.
#[derive(Default)]
pub(super) struct NvmlEventWatch {
    set: Option<Arc<NvmlEventSet>>,
    gpus: Arc<WatchedGpus>,
    is_forwarding: bool,
}

/// The GPUs of a set by handle. A GPU that is lost cannot be asked any more which one it is, so that is noted before.
#[derive(Default)]
struct WatchedGpus(Mutex<BTreeMap<usize, WatchedGpu>>);

struct WatchedGpu {
    bus_id: Value,
    kinds: u64,
}

impl WatchedGpus {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, WatchedGpu>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NvmlEventWatch {
    /// Adds the events of a GPU, unless they are watched already; the bits of the events that it reports.
    pub(super) fn add(&mut self, api: &NvmlApi, gpu: NvmlHandle, bus_id: Value) -> NvmlReply {
        let mut gpus = self.gpus.lock();
        if let Some(watched) = gpus.get(&gpu.key()) {
            return Ok(json!(watched.kinds));
        }
        let set = match &self.set {
            Some(set) => set,
            None => self.set.insert(Arc::new(api.event_set()?)),
        };
        let kinds = api.register_events(gpu, set)?;
        gpus.insert(gpu.key(), WatchedGpu { bus_id, kinds });
        Ok(json!(kinds))
    }

    /// Forwards the events of all GPUs that were added, and of those that are added later.
    pub(super) fn forward(&mut self, api: &Arc<NvmlApi>, forward: impl Fn(Value) + Send + 'static) {
        // A set without a GPU cannot be waited for.
        let Some(set) = self.set.as_ref().filter(|_| !self.is_forwarding && !self.gpus.lock().is_empty())
        else {
            return;
        };
        let (api, set, gpus) = (Arc::clone(api), Arc::clone(set), Arc::clone(&self.gpus));
        let wait = move |milliseconds| match api.wait(&set, milliseconds) {
            Ok(event) => {
                let watched = gpus.lock().get(&event.gpu.key()).map(|gpu| gpu.bus_id.clone());
                let ask = || Some(api.ask(event.gpu, call::PCI_INFO, &[]).ok()?["busId"].clone());
                Ok(Some(json!({
                    "busId": watched.or_else(ask),
                    "eventType": event.kind,
                    "eventData": event.value,
                    "gpuInstanceId": event.gpu_instance,
                    "computeInstanceId": event.compute_instance,
                })))
            }
            Err(TIMEOUT) => Ok(None),
            Err(code) => Err(code),
        };
        thread::spawn(move || forward_events(wait, forward));
        self.is_forwarding = true;
    }
}
