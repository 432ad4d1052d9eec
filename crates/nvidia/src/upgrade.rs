//! Whether the driver is about to be replaced, as the GPU operator says by labels of the Node.
//!
//! Its upgrade controller (k8s-operator-libs, package `upgrade`) takes a node through the states below. Its driver manager
//! (k8s-driver-manager), which unloads the driver, sets the labels `nvidia.com/gpu.deploy.*` of all that may hold it to
//! `paused-for-driver-upgrade` meanwhile, also where no controller is in charge.

const STATE: &str = "nvidia.com/gpu-driver-upgrade-state";
const DEPLOY: &str = "nvidia.com/gpu.deploy.";
const PAUSED: &str = "paused-for-driver-upgrade";

/// The states in which the driver may not be held: what uses it is being ended, its pod is restarted, or that has failed
/// and somebody has to put it right. Before them (`upgrade-required`, `cordon-required`, `wait-for-jobs-required`) programs
/// may run for hours yet, and after them (`validation-required`, `uncordon-required`, `upgrade-done`) the new driver is there.
const AWAY: [&str; 6] = [
    "pod-deletion-required",
    "drain-required",
    "node-maintenance-required",
    "post-maintenance-required",
    "pod-restart-required",
    "upgrade-failed",
];

/// Whether a Node with these labels is about to have its driver replaced.
pub fn is_near<'l>(labels: impl IntoIterator<Item = (&'l str, &'l str)>) -> bool {
    labels.into_iter().any(|(key, value)| {
        (key == STATE && AWAY.contains(&value)) || (key.starts_with(DEPLOY) && value == PAUSED)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_let_go_when_it_is_to_be_unloaded_and_not_while_programs_run() {
        for state in ["pod-deletion-required", "drain-required", "pod-restart-required", "upgrade-failed"] {
            assert!(is_near([("a", "b"), (STATE, state)]), "{state}");
        }
        for state in ["", "upgrade-required", "wait-for-jobs-required", "validation-required", "upgrade-done"]
        {
            assert!(!is_near([(STATE, state)]), "{state}");
        }
        assert!(is_near([("nvidia.com/gpu.deploy.device-plugin", "paused-for-driver-upgrade")]));
        assert!(!is_near([("nvidia.com/gpu.deploy.device-plugin", "true")]));
        assert!(!is_near([("amd.com/gpu-driver-upgrade-state", "pod-restart-required")]));
    }
}
