//! Events: errors that the driver reports when they occur, forwarded by a thread of its own.

mod ffi;

use std::{collections::BTreeSet, sync::Arc, thread, time::Duration};

use serde_json::{Value, json};

use self::ffi::NvmlEventSet;
use super::{
    ffi::{NvmlApi, NvmlHandle},
    report::NvmlCode,
    table::call,
};

/// How long one call waits for an event.
const WAIT_MILLISECONDS: u32 = 5000;
/// Pause after a failed wait.
const ERROR_BACKOFF: Duration = Duration::from_secs(5);
const TIMEOUT: NvmlCode = NvmlCode::named("TIMEOUT");

/// The GPUs whose events are forwarded.
#[derive(Default)]
pub(super) struct NvmlEventWatch {
    set: Option<Arc<NvmlEventSet>>,
    bus_ids: BTreeSet<String>,
}

impl NvmlEventWatch {
    /// Forwards the events of these GPUs, and of those of earlier calls. Without events, discovery still reads the recovery action.
    pub(super) fn add(
        &mut self,
        api: &Arc<NvmlApi>,
        gpus: impl Iterator<Item = (Option<String>, NvmlHandle)>,
        forward: impl Fn(Value) + Send + 'static,
    ) {
        let is_running = self.set.is_some();
        let set = match &self.set {
            Some(set) => Arc::clone(set),
            None => match api.event_set() {
                Ok(set) => Arc::clone(self.set.insert(Arc::new(set))),
                Err(_) => return,
            },
        };
        for (bus_id, gpu) in gpus {
            let bus_id = bus_id.unwrap_or_default();
            if !self.bus_ids.contains(&bus_id) && api.register_events(gpu, &set).is_ok() {
                self.bus_ids.insert(bus_id);
            }
        }
        if self.bus_ids.is_empty() {
            self.set = None;
        } else if !is_running {
            let api = Arc::clone(api);
            thread::spawn(move || forward_events(&api, &set, &forward));
        }
    }
}

fn forward_events(api: &NvmlApi, set: &NvmlEventSet, forward: &dyn Fn(Value)) {
    loop {
        match api.wait(set, WAIT_MILLISECONDS) {
            Ok(event) => forward(json!({
                "busId": api.ask(event.gpu, call::PCI_INFO, &[]).ok().map(|pci| pci["busId"].clone()),
                "eventType": event.kind,
                "eventData": event.value,
                "gpuInstanceId": event.gpu_instance,
                "computeInstanceId": event.compute_instance,
            })),
            Err(TIMEOUT) => {}
            Err(code) => {
                forward(json!({ "error": code }));
                thread::sleep(ERROR_BACKOFF);
            }
        }
    }
}
