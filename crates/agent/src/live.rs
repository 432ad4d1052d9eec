//! What the page at `/`, `/live` and `afd top` show at one time: each device with its present values, the pods that hold it, and
//! everything that is wrong.
//!
//! It is made of the inventory, the last sample and what the cluster reports, and is plain data: nothing here reads a file.
//! A value that is not known keeps its reason.

pub(crate) mod format;
mod values;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use afd_derive::vendors;
use afd_model::{
    Condition, Device, Health, HealthReason, HealthState, Inventory, Known, Missing, Partition, Problem,
    Sample, UnitId,
};
use afd_track::Conditions;
use serde::{Deserialize, Serialize};

use self::values::Readings;
pub use self::values::UnitValues;
use crate::{
    device_text::{driver, mebibytes, partitions, product},
    explain,
    render::PageInputs,
};

/// What is shown at one time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct LiveReport {
    /// Name of the node, if it has one.
    pub node: Option<String>,
    /// When the devices were sampled, in Unix time; none where the clock cannot be read.
    pub sampled_at: Option<f64>,
    /// Seconds between two samples.
    pub interval_seconds: f64,
    /// The age in seconds from which on the source counts as stuck.
    pub stale_after_seconds: f64,
    /// The devices.
    pub devices: Vec<LiveUnit>,
    /// Devices that are expected and not there.
    pub missing: Vec<LiveMissing>,
    /// The conditions of the Node that are decided.
    pub conditions: Vec<LiveCondition>,
    /// llm-d's paths.
    pub paths: Vec<LivePath>,
    /// What could not be read, one sentence each.
    pub problems: Vec<String>,
}

/// A device or a partition.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LiveUnit {
    /// The PCI address of a device, the name of a partition.
    pub id: String,
    /// The product of a device, the profile of a partition.
    pub name: String,
    /// Facts that rarely change, for people.
    pub facts: Vec<String>,
    /// Whether it can take work; none of a partition for which no source reports that.
    pub health: Option<HealthState>,
    /// The evidence.
    pub reasons: Vec<HealthReason>,
    /// Its present values.
    pub values: UnitValues,
    /// The pods that hold it, as `namespace/pod`.
    pub pods: Known<Vec<String>>,
    /// Its partitions.
    #[serde(default)]
    pub partitions: Vec<LiveUnit>,
}

/// A device that is expected and not there.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LiveMissing {
    /// Its identity: `missing-1`.
    pub id: String,
    /// Its product, where that is known.
    pub product: Option<String>,
    /// What is known of where it was.
    pub message: String,
}

/// A condition of the Node.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LiveCondition {
    /// `Ready` or `Problem`, which are types under the label prefix.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The reason in CamelCase.
    pub reason: String,
    /// The message.
    pub message: String,
}

/// A path of llm-d.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LivePath {
    /// Its name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Whether the node can serve it; none where a fact is not known.
    pub ready: Option<bool>,
    /// Why not, and what is noted.
    pub why: Vec<String>,
}

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct LiveInputs<'t> {
    /// The inventory, the paths, the sample, and what the cluster reports.
    pub page: PageInputs<'t>,
    /// The conditions.
    pub conditions: Option<&'t Conditions>,
    /// Name of the node, if it has one.
    pub node: Option<&'t str>,
    /// When the devices were sampled, in Unix time.
    pub sampled_at: Option<f64>,
    /// The time between two samples.
    pub interval: Duration,
    /// The age from which on the source counts as stuck.
    pub stale_after: Duration,
}

impl LiveReport {
    /// The report of a sample.
    pub fn new(inputs: LiveInputs<'_>) -> LiveReport {
        let PageInputs { inventory, paths, sampling, cluster, door: _, detail: _ } = inputs.page;
        let problems: BTreeSet<&Problem> = inventory.problems.iter().chain(&sampling.problems).collect();
        let source = UnitSource {
            samples: by_unit(&sampling.samples),
            problems: &problems,
            pods: cluster.allocations.map(|allocations| {
                let mut pods: BTreeMap<UnitId, BTreeSet<String>> = BTreeMap::new();
                for held in allocations {
                    pods.entry(held.unit).or_default().insert(format!("{}/{}", held.namespace, held.pod));
                }
                pods
            }),
        };
        let conditions = inputs.conditions.into_iter();
        let conditions = conditions.flat_map(|own| [("Ready", &own.ready), ("Problem", &own.problem)]);
        LiveReport {
            node: inputs.node.map(str::to_owned),
            sampled_at: inputs.sampled_at,
            interval_seconds: inputs.interval.as_secs_f64(),
            stale_after_seconds: inputs.stale_after.as_secs_f64(),
            devices: inventory.devices.iter().map(|device| source.device(device)).collect(),
            missing: missing(inventory),
            conditions: conditions
                .filter_map(|(kind, own)| Some(LiveCondition::new(kind, own.value()?)))
                .collect(),
            paths: paths
                .iter()
                .map(|verdict| LivePath {
                    name: verdict.path.name.clone(),
                    title: verdict.path.title.clone(),
                    ready: verdict.answer().ready(),
                    why: explain::why(verdict),
                })
                .collect(),
            problems: problems.iter().map(|problem| sentence(problem)).collect(),
        }
    }

    /// The devices in short: how many there are and how they are.
    pub(crate) fn summary(&self) -> Vec<(Option<HealthState>, String)> {
        let number = self.devices.len();
        let mut parts = vec![(None, format!("{number} device{}", if number == 1 { "" } else { "s" }))];
        for state in [HealthState::Failed, HealthState::Degraded, HealthState::Unknown, HealthState::Healthy]
        {
            let number = self.devices.iter().filter(|device| device.health == Some(state)).count();
            if number > 0 {
                let unknown = if state == HealthState::Unknown { "health " } else { "" };
                parts.push((Some(state), format!("{number} {unknown}{}", state.as_str())));
            }
        }
        if !self.missing.is_empty() {
            parts.insert(1, (Some(HealthState::Failed), format!("{} missing", self.missing.len())));
        }
        parts
    }
}

impl LiveCondition {
    fn new(kind: &str, condition: &Condition) -> LiveCondition {
        LiveCondition {
            kind: kind.to_owned(),
            status: condition.status.as_str().to_owned(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        }
    }
}

/// What is known of all devices and partitions.
struct UnitSource<'t> {
    samples: BTreeMap<UnitId, Readings<'t>>,
    problems: &'t BTreeSet<&'t Problem>,
    /// None while the kubelet has not reported.
    pods: Option<BTreeMap<UnitId, BTreeSet<String>>>,
}

impl UnitSource<'_> {
    fn device(&self, device: &Device) -> LiveUnit {
        let unit = UnitId::from(device.id);
        let memory = device.memory_bytes.value().map(|bytes| mebibytes(*bytes));
        let numa = device.numa_node.value().map(|node| format!("NUMA node {node}"));
        let partitions_text = Some(partitions(device)).filter(|text| text != "-" && text != "whole");
        LiveUnit {
            id: device.id.to_string(),
            name: product(device),
            facts: [Some(driver(device)).filter(|driver| driver != "-"), memory, numa, partitions_text]
                .into_iter()
                .flatten()
                .collect(),
            health: Some(device.health.state),
            reasons: device.health.reasons.clone(),
            values: self.values(unit, device, device.memory_bytes),
            pods: self.pods(unit),
            partitions: device.partitions.iter().map(|partition| self.partition(device, partition)).collect(),
        }
    }

    fn partition(&self, device: &Device, partition: &Partition) -> LiveUnit {
        let Health { state, reasons } = &partition.health;
        let unit = UnitId::from(partition.id);
        LiveUnit {
            id: partition.name.to_string(),
            name: partition.profile.value().cloned().unwrap_or_default(),
            facts: partition.memory_bytes.value().map(|bytes| mebibytes(*bytes)).into_iter().collect(),
            health: Some(*state).filter(|state| *state != HealthState::Unknown),
            reasons: reasons.clone(),
            values: self.values(unit, device, partition.memory_bytes),
            pods: self.pods(unit),
            partitions: Vec::new(),
        }
    }

    fn values(&self, unit: UnitId, device: &Device, memory: Known<u64>) -> UnitValues {
        let readings = self.samples.get(&unit).cloned().unwrap_or_default();
        UnitValues::new(&readings, memory, |facts| self.why_missing(device, facts))
    }

    /// Why a device has no value: the problem with the first of these facts that has one.
    fn why_missing(&self, device: &Device, facts: &[&str]) -> Missing {
        let own = self.problems.iter().filter(|problem| problem.device == Some(device.id));
        let probe = vendors::of_device(device).map(|record| record.probe);
        let of_probe = || {
            let all = self.problems.iter().filter(|problem| problem.device.is_none());
            all.filter(|problem| Some(problem.probe.as_str()) == probe)
        };
        let named = |fact: &&str| {
            own.clone().find(|problem| problem.fact == **fact).or_else(|| {
                let mut shared = of_probe();
                shared.find(|problem| problem.fact == **fact)
            })
        };
        let found = facts.iter().find_map(named);
        let undriven = device.driver.missing().filter(|missing| *missing == Missing::DriverNotBound);
        found.map(|problem| problem.reason).or(undriven).unwrap_or(Missing::NotExposed)
    }

    fn pods(&self, unit: UnitId) -> Known<Vec<String>> {
        match &self.pods {
            Some(pods) => {
                Known::Value(pods.get(&unit).map(|pods| pods.iter().cloned().collect()).unwrap_or_default())
            }
            None => Missing::NotExposed.into(),
        }
    }
}

fn by_unit(samples: &[Sample]) -> BTreeMap<UnitId, Readings<'_>> {
    let mut units: BTreeMap<UnitId, Readings<'_>> = BTreeMap::new();
    for sample in samples {
        units.entry(sample.unit).or_default().add(sample);
    }
    units
}

fn missing(inventory: &Inventory) -> Vec<LiveMissing> {
    let missing = inventory.missing.iter().map(|missing| LiveMissing {
        id: missing.id.clone(),
        product: missing.product.clone(),
        message: missing.message.clone(),
    });
    missing.collect()
}

fn sentence(problem: &Problem) -> String {
    let device = problem.device.map(|device| format!(" {device}")).unwrap_or_default();
    let path = problem.path.as_deref().map(|path| format!(" {path}:")).unwrap_or_default();
    format!("{}{device} {}:{path} {}", problem.probe, problem.fact, problem.message)
}

#[cfg(test)]
pub(crate) mod tests;
