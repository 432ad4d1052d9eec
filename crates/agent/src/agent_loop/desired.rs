//! What the Node should show.

use afd_derive::offer::Offered;
use afd_model::{Decision, FAILED_DEVICES};
use afd_track::{Believed, Conditions};

use super::AgentLoop;
use crate::incidents::INCIDENTS;

/// What the desired state of the Node is computed from.
#[derive(PartialEq)]
pub(super) struct DesiredInputs {
    believed: Believed,
    offered: Offered,
    conditions: Conditions,
    incidents: Decision<String>,
    failed_devices: Decision<String>,
}

impl AgentLoop<'_> {
    /// Publishes the desired state of the Node, if it has changed.
    pub(super) fn publish_desired(&mut self, offered: Offered, conditions: Conditions) {
        let believed = self.tracker.believed();
        if !believed.is_settled {
            return;
        }
        let incidents = self.incidents.annotation(&self.parts.probes, self.tracker.boot_id());
        let key = self.node_options.key(FAILED_DEVICES);
        let failed_devices = self.parts.reports.failed_devices(&conditions.failed, &key, believed.inherits);
        let inputs =
            DesiredInputs { believed: believed.clone(), offered, conditions, incidents, failed_devices };
        if self.desired_for.as_ref() == Some(&inputs) {
            return;
        }
        let DesiredInputs { believed, offered, conditions, incidents, failed_devices } = &inputs;
        let memory = [(INCIDENTS, incidents.clone()), (FAILED_DEVICES, failed_devices.clone())];
        let desired = Some(self.node_options.desired(believed, offered, conditions, memory));
        self.desired_for = Some(inputs);
        self.parts.outputs.desired.send_if_modified(|last| {
            let changed = *last != desired;
            *last = desired;
            changed
        });
    }
}
