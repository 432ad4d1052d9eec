//! ResourceSlices as the API has them, and what they say together: pure.
//!
//! `spec.devices[].attributes` in v1 and v1beta2, `spec.devices[].basic.attributes` in v1beta1 (API reference of
//! resource.k8s.io).

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::ClusterResourceScope};
use serde::{Deserialize, Serialize};

use super::{Published, PublishedDevice};

/// A version of the API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Version {
    V1,
    V1Beta2,
    V1Beta1,
}

impl Version {
    /// The best first.
    pub(super) const ALL: [Version; 3] = [Version::V1, Version::V1Beta2, Version::V1Beta1];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::V1Beta2 => "v1beta2",
            Version::V1Beta1 => "v1beta1",
        }
    }
}

/// A ResourceSlice, as far as it matters here.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Slice {
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Spec {
    driver: String,
    pool: Pool,
    #[serde(default)]
    devices: Vec<Device>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pool {
    name: String,
    #[serde(default)]
    generation: i64,
    #[serde(default)]
    resource_slice_count: i64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Device {
    name: String,
    #[serde(flatten)]
    flat: Described,
    basic: Option<Described>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Described {
    #[serde(default)]
    attributes: BTreeMap<String, Attribute>,
    #[serde(default)]
    taints: Vec<Taint>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Attribute {
    string: Option<String>,
    version: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Taint {
    #[serde(default)]
    effect: String,
}

impl Resource for Slice {
    type DynamicType = Version;
    type Scope = ClusterResourceScope;

    fn kind(_: &Version) -> Cow<'_, str> {
        "ResourceSlice".into()
    }

    fn group(_: &Version) -> Cow<'_, str> {
        "resource.k8s.io".into()
    }

    fn version(version: &Version) -> Cow<'_, str> {
        version.as_str().into()
    }

    fn plural(_: &Version) -> Cow<'_, str> {
        "resourceslices".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Slice {
    pub(super) fn name(&self) -> String {
        self.metadata.name.clone().unwrap_or_default()
    }

    pub(super) fn version(&self) -> String {
        self.metadata.resource_version.clone().unwrap_or_default()
    }
}

/// What slices say together: of each pool the newest generation, and only if all of its slices are there.
pub(super) fn published<'a>(slices: impl Iterator<Item = &'a Slice>) -> Published {
    let mut pools: BTreeMap<(&str, &str), Vec<&Spec>> = BTreeMap::new();
    for slice in slices {
        let spec = &slice.spec;
        pools.entry((&spec.driver, &spec.pool.name)).or_default().push(spec);
    }
    let mut published = Published::default();
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
        published.devices.extend(devices.map(|device| device.of(driver, pool)));
    }
    published.devices.sort();
    published
}

impl Device {
    fn of(&self, driver: &str, pool: &str) -> PublishedDevice {
        let described = self.basic.as_ref().unwrap_or(&self.flat);
        let text = |attribute: &Attribute| attribute.string.clone().or_else(|| attribute.version.clone());
        let attributes = described.attributes.iter();
        PublishedDevice {
            driver: driver.to_owned(),
            pool: pool.to_owned(),
            name: self.name.clone(),
            attributes: attributes.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect(),
            allocatable: !described.taints.iter().any(Taint::keeps_pods_away),
        }
    }
}

impl Taint {
    fn keeps_pods_away(&self) -> bool {
        matches!(self.effect.as_str(), "NoSchedule" | "NoExecute")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, pool: Value, devices: Value) -> Slice {
        let spec = json!({ "driver": "gpu.nvidia.com", "nodeName": "n", "pool": pool, "devices": devices });
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("it is a slice")
    }

    fn names(slices: &[Slice]) -> Vec<String> {
        published(slices.iter()).devices.into_iter().map(|device| device.name).collect()
    }

    #[test]
    fn attributes_and_taints_are_read_in_both_shapes() {
        let described = json!({
            "attributes": { "uuid": { "string": "GPU-1" }, "cores": { "int": 4 }, "driverVersion": { "version": "580.1.0" } },
            "taints": [{ "key": "unhealthy", "effect": "NoSchedule" }],
        });
        let mut flat = described.clone();
        flat["name"] = "gpu-0".into();
        for device in [flat, json!({ "name": "gpu-0", "basic": described })] {
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
    fn only_the_newest_generation_of_a_pool_counts_and_only_whole() {
        let pool =
            |generation, count| json!({ "name": "n", "generation": generation, "resourceSliceCount": count });
        let old = slice("old", pool(1, 1), json!([{ "name": "gpu-9" }]));
        let first = slice("a", pool(2, 2), json!([{ "name": "gpu-0" }]));
        let second = slice("b", pool(2, 2), json!([{ "name": "gpu-1" }]));
        assert_eq!(names(&[old.clone(), first.clone(), second]), ["gpu-0", "gpu-1"]);
        let half = published([old, first].iter());
        assert!(half.devices.is_empty() && half.incomplete.contains("gpu.nvidia.com"));
    }
}
