//! ResourceSlices as the API serves them. Pure.
//!
//! `spec.devices[].attributes` in v1 and v1beta2, `spec.devices[].basic.attributes` in v1beta1 (API reference of
//! resource.k8s.io). Only what is used is decoded, so that an object with many attributes takes little memory.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::ClusterResourceScope};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The attributes that identify a device, and say whether it is healthy; all others are left out.
pub const USED_ATTRIBUTES: [&str; 7] =
    ["uuid", "type", "resource.kubernetes.io/pciBusID", "pciBusID", "pciAddr", "pciAddress", "health"];
/// The longest name or text that is read: the longest of the API is the name of a pool.
pub(super) const MAX_TEXT: usize = 253;
/// How many devices of a slice are read. The API allows 128.
const MAX_DEVICES: usize = 256;

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
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ResourceSlice {
    metadata: ObjectMeta,
    spec: SliceSpec,
}

/// What is kept of a slice.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SliceSpec {
    pub(super) driver: String,
    pub(super) pool: SlicePool,
    #[serde(default)]
    pub(super) devices: SliceDevices,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SlicePool {
    pub(super) name: String,
    #[serde(default)]
    pub(super) generation: i64,
    #[serde(default)]
    pub(super) resource_slice_count: i64,
}

/// The devices of a slice.
#[derive(Clone, Debug, Default)]
pub(super) struct SliceDevices {
    pub(super) read: Vec<SliceDevice>,
    /// How many are left out, because there are too many or their names are too long.
    pub(super) skipped: u64,
}

/// What is used of a device.
#[derive(Clone, Debug, Default)]
pub(super) struct SliceDevice {
    pub(super) name: String,
    /// By [`USED_ATTRIBUTES`]; shared with what is published.
    pub(super) attributes: Arc<BTreeMap<String, String>>,
    /// Whether it has a taint that prevents scheduling.
    pub(super) is_tainted: bool,
}

#[derive(Deserialize)]
struct WireDevice {
    name: String,
    #[serde(default)]
    attributes: WireAttributes,
    #[serde(default)]
    taints: Vec<WireTaint>,
    basic: Option<WireDeviceFields>,
}

#[derive(Deserialize)]
struct WireDeviceFields {
    #[serde(default)]
    attributes: WireAttributes,
    #[serde(default)]
    taints: Vec<WireTaint>,
}

#[derive(Default)]
struct WireAttributes(BTreeMap<String, String>);

#[derive(Deserialize)]
struct WireAttribute {
    string: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct WireTaint {
    #[serde(default)]
    effect: TaintEffect,
}

/// The effect of a taint; those of later versions do not prevent scheduling.
#[derive(Default, Deserialize)]
enum TaintEffect {
    NoSchedule,
    NoExecute,
    #[default]
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for SliceDevices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SliceDevices, D::Error> {
        struct DevicesVisitor;

        impl<'de> Visitor<'de> for DevicesVisitor {
            type Value = SliceDevices;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("devices")
            }

            fn visit_unit<E>(self) -> Result<SliceDevices, E> {
                Ok(SliceDevices::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<SliceDevices, A::Error> {
                let mut devices = SliceDevices::default();
                while devices.read.len() < MAX_DEVICES {
                    let Some(device) = elements.next_element::<WireDevice>()? else { return Ok(devices) };
                    if device.name.len() > MAX_TEXT {
                        devices.skipped = devices.skipped.saturating_add(1);
                    } else {
                        devices.read.push(device.into());
                    }
                }
                while elements.next_element::<IgnoredAny>()?.is_some() {
                    devices.skipped = devices.skipped.saturating_add(1);
                }
                Ok(devices)
            }
        }

        deserializer.deserialize_any(DevicesVisitor)
    }
}

impl From<WireDevice> for SliceDevice {
    fn from(device: WireDevice) -> SliceDevice {
        let WireDevice { name, attributes, taints, basic } = device;
        let fields = basic.unwrap_or(WireDeviceFields { attributes, taints });
        let is_tainted = fields.taints.iter().any(|taint| !matches!(taint.effect, TaintEffect::Other));
        SliceDevice { name, attributes: Arc::new(fields.attributes.0), is_tainted }
    }
}

impl<'de> Deserialize<'de> for WireAttributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WireAttributes, D::Error> {
        struct AttributesVisitor;

        impl<'de> Visitor<'de> for AttributesVisitor {
            type Value = WireAttributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("attributes by name")
            }

            fn visit_unit<E>(self) -> Result<WireAttributes, E> {
                Ok(WireAttributes::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<WireAttributes, A::Error> {
                let mut attributes = BTreeMap::new();
                while let Some(name) = entries.next_key::<Cow<'_, str>>()? {
                    if !USED_ATTRIBUTES.contains(&&*name) {
                        entries.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let WireAttribute { string, version } = entries.next_value()?;
                    if let Some(text) = string.or(version).filter(|text| text.len() <= MAX_TEXT) {
                        attributes.insert(name.into_owned(), text);
                    }
                }
                Ok(WireAttributes(attributes))
            }
        }

        deserializer.deserialize_any(AttributesVisitor)
    }
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

    pub(super) fn into_spec(self) -> SliceSpec {
        self.spec
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn devices(devices: &Value) -> SliceDevices {
        serde_json::from_value(devices.clone()).expect("they are devices")
    }

    #[test]
    fn attributes_and_taints_are_read_from_both_layouts() {
        let fields = json!({
            "attributes": {
                "uuid": { "string": "GPU-1" }, "cores": { "int": 4 }, "driverVersion": { "version": "580.1.0" },
                "type": { "version": "1.0.0" }, "pciBusID": { "string": "x".repeat(MAX_TEXT + 1) },
            },
            "taints": [{ "key": "a", "effect": "Later" }, { "key": "unhealthy", "effect": "NoSchedule" }],
        });
        let mut flat = fields.clone();
        flat["name"] = "gpu-0".into();
        for device in [flat, json!({ "name": "gpu-0", "basic": fields })] {
            let devices = devices(&json!([device]));
            let [device] = &devices.read[..] else { panic!("{devices:?}") };
            let attributes: Vec<_> =
                device.attributes.iter().map(|(name, text)| (&name[..], &text[..])).collect();
            assert_eq!(attributes, [("type", "1.0.0"), ("uuid", "GPU-1")], "only what is used");
            assert!(device.is_tainted);
        }
        let fine = devices(&json!([{ "name": "gpu-0", "taints": [{ "effect": "Later" }, {}] }]));
        assert!(!fine.read[0].is_tainted && fine.skipped == 0);
    }

    #[test]
    fn a_slice_has_a_bounded_number_of_devices() {
        let names = (0..MAX_DEVICES + 10).map(|number| json!({ "name": format!("gpu-{number}") }));
        let long = json!({ "name": "x".repeat(MAX_TEXT + 1) });
        let read = devices(&Value::from_iter(std::iter::once(long).chain(names)));
        assert_eq!((read.read.len(), read.skipped), (MAX_DEVICES, 11));
    }
}
