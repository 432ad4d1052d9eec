//! ResourceSlices as the API serves them, and what they publish together. Pure.
//!
//! `spec.devices[].attributes` in v1 and v1beta2, `spec.devices[].basic.attributes` in v1beta1 (API reference of
//! resource.k8s.io).

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::ClusterResourceScope};
use serde::{Deserialize, Serialize};

use super::{PublishedDevice, PublishedDevices};

/// A version of the API group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ResourceApiVersion {
    V1,
    V1Beta2,
    V1Beta1,
}

impl ResourceApiVersion {
    /// The newest first.
    pub(super) const ALL: [ResourceApiVersion; 3] =
        [ResourceApiVersion::V1, ResourceApiVersion::V1Beta2, ResourceApiVersion::V1Beta1];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            ResourceApiVersion::V1 => "v1",
            ResourceApiVersion::V1Beta2 => "v1beta2",
            ResourceApiVersion::V1Beta1 => "v1beta1",
        }
    }
}

/// The fields of a ResourceSlice that are used here.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct ResourceSlice {
    metadata: ObjectMeta,
    spec: ResourceSliceSpec,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct ResourceSliceSpec {
    driver: String,
    pool: ResourcePool,
    #[serde(default)]
    devices: Vec<SliceDevice>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourcePool {
    name: String,
    #[serde(default)]
    generation: i64,
    #[serde(default)]
    resource_slice_count: i64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct SliceDevice {
    name: String,
    #[serde(flatten)]
    flat: SliceDeviceFields,
    basic: Option<SliceDeviceFields>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct SliceDeviceFields {
    #[serde(default)]
    attributes: BTreeMap<String, DeviceAttribute>,
    #[serde(default)]
    taints: Vec<DeviceTaint>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct DeviceAttribute {
    string: Option<String>,
    version: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct DeviceTaint {
    #[serde(default)]
    effect: String,
}

impl Resource for ResourceSlice {
    type DynamicType = ResourceApiVersion;
    type Scope = ClusterResourceScope;

    fn kind(_: &ResourceApiVersion) -> Cow<'_, str> {
        "ResourceSlice".into()
    }

    fn group(_: &ResourceApiVersion) -> Cow<'_, str> {
        "resource.k8s.io".into()
    }

    fn version(version: &ResourceApiVersion) -> Cow<'_, str> {
        version.as_str().into()
    }

    fn plural(_: &ResourceApiVersion) -> Cow<'_, str> {
        "resourceslices".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl ResourceSlice {
    pub(super) fn name(&self) -> String {
        self.metadata.name.clone().unwrap_or_default()
    }

    pub(super) fn resource_version(&self) -> String {
        self.metadata.resource_version.clone().unwrap_or_default()
    }
}

/// What slices publish together: of each pool the newest generation, if all of its slices exist.
pub(super) fn published<'a>(slices: impl Iterator<Item = &'a ResourceSlice>) -> PublishedDevices {
    let mut pools: BTreeMap<(&str, &str), Vec<&ResourceSliceSpec>> = BTreeMap::new();
    for slice in slices {
        let spec = &slice.spec;
        pools.entry((&spec.driver, &spec.pool.name)).or_default().push(spec);
    }
    let mut published = PublishedDevices::default();
    for ((driver, pool), specs) in pools {
        let newest = specs.iter().map(|spec| spec.pool.generation).max().unwrap_or_default();
        let specs: Vec<_> = specs.into_iter().filter(|spec| spec.pool.generation == newest).collect();
        let expected = specs.iter().map(|spec| spec.pool.resource_slice_count).max().unwrap_or_default();
        if i64::try_from(specs.len()) != Ok(expected) {
            published.incomplete.insert(driver.to_owned());
            continue;
        }
        published.drivers.insert(driver.to_owned());
        let devices = specs.iter().flat_map(|spec| &spec.devices);
        published.devices.extend(devices.map(|device| device.published(driver, pool)));
    }
    published.devices.sort();
    published
}

impl SliceDevice {
    fn published(&self, driver: &str, pool: &str) -> PublishedDevice {
        let fields = self.basic.as_ref().unwrap_or(&self.flat);
        let text =
            |attribute: &DeviceAttribute| attribute.string.clone().or_else(|| attribute.version.clone());
        let attributes = fields.attributes.iter();
        PublishedDevice {
            driver: driver.to_owned(),
            pool: pool.to_owned(),
            name: self.name.clone(),
            attributes: attributes.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect(),
            allocatable: !fields.taints.iter().any(DeviceTaint::prevents_scheduling),
        }
    }
}

impl DeviceTaint {
    fn prevents_scheduling(&self) -> bool {
        matches!(self.effect.as_str(), "NoSchedule" | "NoExecute")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, pool: Value, devices: Value) -> ResourceSlice {
        let spec = json!({ "driver": "gpu.nvidia.com", "nodeName": "n", "pool": pool, "devices": devices });
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("it is a slice")
    }

    fn names(slices: &[ResourceSlice]) -> Vec<String> {
        published(slices.iter()).devices.into_iter().map(|device| device.name).collect()
    }

    #[test]
    fn attributes_and_taints_are_read_from_both_layouts() {
        let fields = json!({
            "attributes": { "uuid": { "string": "GPU-1" }, "cores": { "int": 4 }, "driverVersion": { "version": "580.1.0" } },
            "taints": [{ "key": "unhealthy", "effect": "NoSchedule" }],
        });
        let mut flat = fields.clone();
        flat["name"] = "gpu-0".into();
        for device in [flat, json!({ "name": "gpu-0", "basic": fields })] {
            let pool = json!({ "name": "n", "generation": 1, "resourceSliceCount": 1 });
            let published = published([slice("a", pool, json!([device]))].iter());
            let [device] = &published.devices[..] else { panic!("{published:?}") };
            let attributes: Vec<_> =
                device.attributes.iter().map(|(name, text)| (&name[..], &text[..])).collect();
            assert_eq!(attributes, [("driverVersion", "580.1.0"), ("uuid", "GPU-1")]);
            assert!(!device.allocatable);
        }
    }

    #[test]
    fn only_the_newest_complete_generation_of_a_pool_counts() {
        let pool =
            |generation, count| json!({ "name": "n", "generation": generation, "resourceSliceCount": count });
        let old = slice("old", pool(1, 1), json!([{ "name": "gpu-9" }]));
        let first = slice("a", pool(2, 2), json!([{ "name": "gpu-0" }]));
        let second = slice("b", pool(2, 2), json!([{ "name": "gpu-1" }]));
        assert_eq!(names(&[old.clone(), first.clone(), second]), ["gpu-0", "gpu-1"]);
        let incomplete = published([old, first].iter());
        assert!(incomplete.devices.is_empty() && incomplete.incomplete.contains("gpu.nvidia.com"));
    }
}
