//! How many accelerators a cloud provider's instance types have, where it is certain that the machine is of one.

use std::sync::LazyLock;

use afd_model::NodeFacts;
use serde::Deserialize;

use crate::expected::Expectation;

const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// The table, each row with the public page that it is from.
static TABLE: LazyLock<InstanceTypes> = LazyLock::new(|| {
    toml::from_str(include_str!("../data/instance-types.toml")).expect("a test parses the table")
});

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceTypes {
    #[serde(rename = "type")]
    types: Vec<InstanceType>,
    #[serde(default, rename = "family")]
    families: Vec<InstanceFamily>,
    #[serde(default, rename = "label")]
    labels: Vec<CountLabel>,
}

/// One instance type.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(test), expect(dead_code, reason = "the source is for readers and tests"))]
#[serde(deny_unknown_fields)]
struct InstanceType {
    provider: Provider,
    name: String,
    probe: String,
    count: u32,
    source: String,
}

/// Instance types whose names end in the number of devices: `a3-highgpu-8g`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(test), expect(dead_code, reason = "the source is for readers and tests"))]
#[serde(deny_unknown_fields)]
struct InstanceFamily {
    provider: Provider,
    prefix: String,
    suffix: String,
    probe: String,
    source: String,
}

/// A label of the provider whose value is the number of devices.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(test), expect(dead_code, reason = "the source is for readers and tests"))]
#[serde(deny_unknown_fields)]
struct CountLabel {
    provider: Provider,
    key: String,
    probe: String,
    source: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Provider {
    Aws,
    Azure,
    Gcp,
}

impl Provider {
    /// The provider of a Node, by `spec.providerID`.
    fn of(node: &NodeFacts) -> Option<Provider> {
        let id = node.provider_id.as_deref()?;
        let providers = [("aws://", Provider::Aws), ("azure://", Provider::Azure), ("gce://", Provider::Gcp)];
        providers.into_iter().find(|(scheme, _)| id.starts_with(scheme)).map(|(_, provider)| provider)
    }
}

/// How many devices the machine of a Node has; none where the provider or the type is not certain. `machine` is the machine type
/// as the firmware reports it.
pub(crate) fn expected(node: &NodeFacts, machine: Option<&str>) -> Option<Expectation> {
    let provider = Provider::of(node)?;
    let name = node.labels.get(INSTANCE_TYPE)?;
    // EC2 reports the type as the machine's product name; anything else is a virtual machine within the instance.
    if provider == Provider::Aws && machine != Some(name) {
        return None;
    }
    let of_type = TABLE.types.iter().find(|row| row.provider == provider && row.name == *name);
    let of_label = || {
        let mut labels = TABLE.labels.iter().filter(|row| row.provider == provider);
        labels.find_map(|row| Some((row.probe.as_str(), node.labels.get(&row.key)?.parse().ok()?)))
    };
    let of_family = || {
        let mut families = TABLE.families.iter().filter(|row| row.provider == provider);
        families.find_map(|row| Some((row.probe.as_str(), row.count(name)?)))
    };
    let (probe, count) =
        of_type.map(|row| (row.probe.as_str(), row.count)).or_else(of_label).or_else(of_family)?;
    Some(Expectation::InstanceType { probe, count, name: name.clone() })
}

impl InstanceFamily {
    fn count(&self, name: &str) -> Option<u32> {
        let rest = name.strip_prefix(self.prefix.as_str())?.strip_suffix(self.suffix.as_str())?;
        rest.rsplit('-').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn node(provider_id: &str, labels: &[(&str, &str)]) -> NodeFacts {
        NodeFacts {
            provider_id: Some(provider_id.to_owned()),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..NodeFacts::default()
        }
    }

    fn count(provider_id: &str, labels: &[(&str, &str)], machine: Option<&str>) -> Option<u32> {
        match expected(&node(provider_id, labels), machine)? {
            Expectation::InstanceType { count, .. } => Some(count),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_row_has_a_source_and_a_name_of_its_own() {
        let mut names = BTreeMap::new();
        for row in &TABLE.types {
            assert!(row.source.starts_with("https://") && row.count > 0, "{row:?}");
            assert!(names.insert((row.provider as u8, &row.name), row.count).is_none(), "{row:?}");
        }
        assert!(TABLE.families.iter().all(|row| row.source.starts_with("https://")));
        assert!(TABLE.labels.iter().all(|row| row.source.starts_with("https://")));
    }

    #[test]
    fn a_type_counts_only_where_the_provider_is_certain() {
        let p5 = [(INSTANCE_TYPE, "p5.48xlarge")];
        let id = "aws:///us-east-1a/i-0123456789abcdef0";
        assert_eq!(count(id, &p5, Some("p5.48xlarge")), Some(8));
        assert_eq!(count(id, &p5, Some("HVM domU")), None);
        assert_eq!(count("kind://docker/kind/kind-worker", &p5, Some("p5.48xlarge")), None);
        assert_eq!(count(id, &[(INSTANCE_TYPE, "m5.large")], Some("m5.large")), None);
    }

    #[test]
    fn a_family_has_the_number_in_its_name() {
        let count = |name| count("gce://project/zone/name", &[(INSTANCE_TYPE, name)], None);
        assert_eq!(count("a3-highgpu-8g"), Some(8));
        assert_eq!(count("a3-highgpu-x"), None);
        assert_eq!(count("n1-standard-8"), None);
    }
}
