//! The responses of the PodResources API as holds and references: pure.

use std::collections::BTreeSet;

use crate::v1::{AllocatableResourcesResponse, ContainerDevices, ListPodResourcesResponse};

/// What the kubelet reports.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KubeletReport {
    /// All holds, sorted.
    pub holds: Vec<DeviceHold>,
    /// The healthy devices of all device plugins, held or not, sorted. None where the kubelet does not serve them, or has
    /// just started and its plugins may not have registered yet.
    pub allocatable: Option<Vec<DeviceReference>>,
    /// Whether a device that is not in `holds` is held by no pod. A kubelet that has just started does not know yet.
    pub complete: bool,
}

/// A container's hold on a device.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DeviceHold {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// The device.
    pub device: DeviceReference,
}

/// A device by the name that its device plugin or DRA driver gives it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum DeviceReference {
    /// A device of a device plugin.
    Plugin {
        /// The extended resource.
        resource: String,
        /// Id of the device.
        id: String,
    },
    /// A device of a DRA driver.
    Dra {
        /// The driver.
        driver: String,
        /// The claim that it is allocated to.
        claim: String,
        /// Name of the device in the driver's ResourceSlices.
        device: String,
    },
}

/// Every device of every container. One resource may have several entries, one for each NUMA node.
pub(crate) fn holds(response: ListPodResourcesResponse) -> Vec<DeviceHold> {
    let mut holds = BTreeSet::new();
    for pod in response.pod_resources {
        for container in pod.containers {
            let hold = |device| DeviceHold {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                container: container.name.clone(),
                device,
            };
            holds.extend(container.devices.into_iter().flat_map(plugin_devices).map(hold));
            for dynamic in &container.dynamic_resources {
                for resource in &dynamic.claim_resources {
                    holds.insert(hold(DeviceReference::Dra {
                        driver: resource.driver_name.clone(),
                        claim: dynamic.claim_name.clone(),
                        device: resource.device_name.clone(),
                    }));
                }
            }
        }
    }
    holds.into_iter().collect()
}

/// Every healthy device of every plugin.
pub(crate) fn allocatable(response: AllocatableResourcesResponse) -> Vec<DeviceReference> {
    let devices: BTreeSet<DeviceReference> = response.devices.into_iter().flat_map(plugin_devices).collect();
    devices.into_iter().collect()
}

fn plugin_devices(devices: ContainerDevices) -> impl Iterator<Item = DeviceReference> {
    let resource = devices.resource_name;
    devices.device_ids.into_iter().map(move |id| DeviceReference::Plugin { resource: resource.clone(), id })
}
