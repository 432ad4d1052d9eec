//! Options of `afd bridge`.

use std::{path::PathBuf, time::Duration};

use afd_bridge::{DEFAULT_SELECTORS, DeviceTaintEffect, MAX_SELECTORS, PodSelector};
use afd_derive::labels::DEFAULT_PREFIX;
use clap::{Args, ValueEnum};

use super::values::{self, SecondsRange};

/// Options of `afd bridge`.
#[derive(Args, Clone, Debug)]
pub struct BridgeArgs {
    /// Prefix of the labels and annotations of Nodes.
    #[arg(long, value_name = "DOMAIN", default_value = DEFAULT_PREFIX, value_parser = values::domain)]
    pub label_prefix: String,
    /// Kubeconfig of the cluster, when not run in a pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Pods that opt in: key, !key, key=value or key!=value, separated by commas, which must all hold. Can be repeated: one of
    /// them is enough. A pod with the label PREFIX/bridge=false opts out.
    #[arg(long, value_name = "SELECTOR", default_values = DEFAULT_SELECTORS, value_parser = selector)]
    pub pod_selector: Vec<PodSelector>,
    /// Label of Nodes that is copied to topology.kubernetes.io/rack [default: PREFIX/fabric-domain].
    #[arg(long, value_name = "KEY")]
    pub rack_label: Option<String>,
    /// The most pods that are written in a second.
    #[arg(long, value_name = "NUMBER", default_value = "20", value_parser = rate)]
    pub writes_per_second: f64,
    /// The effect of DeviceTaintRules of failed devices.
    #[arg(long, value_enum, default_value_t = DeviceTaints::Off)]
    pub device_taints: DeviceTaints,
    /// The most DeviceTaintRules in the cluster at a time.
    #[arg(long, value_name = "NUMBER", default_value = "4")]
    pub max_device_taints: usize,
    /// Namespace of the Lease.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = values::domain)]
    pub lease_namespace: String,
    /// Name of the Lease.
    #[arg(long, value_name = "NAME", default_value = "afd-bridge", value_parser = values::domain)]
    pub lease_name: String,
    /// Seconds for which the Lease is valid after a renewal.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = SecondsRange::LEASE.parser())]
    pub lease_duration: Duration,
    /// Who this bridge is, such as the name of its pod [default: a random text].
    #[arg(long, value_name = "TEXT")]
    pub identity: Option<String>,
}

/// What DeviceTaintRules do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum DeviceTaints {
    /// There are none.
    Off,
    /// They show which devices would be affected.
    #[value(name = "None")]
    None,
    /// The devices are allocated to no further claim.
    #[value(name = "NoSchedule")]
    NoSchedule,
    /// And pods that use them are evicted.
    #[value(name = "NoExecute")]
    NoExecute,
}

impl DeviceTaints {
    /// The effect, if there are rules.
    pub fn effect(self) -> Option<DeviceTaintEffect> {
        match self {
            DeviceTaints::Off => None,
            DeviceTaints::None => Some(DeviceTaintEffect::None),
            DeviceTaints::NoSchedule => Some(DeviceTaintEffect::NoSchedule),
            DeviceTaints::NoExecute => Some(DeviceTaintEffect::NoExecute),
        }
    }
}

fn selector(text: &str) -> Result<PodSelector, String> {
    text.parse::<PodSelector>().map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=1000.0).contains(&rate) { Ok(rate) } else { Err("not between 0.1 and 1000".to_owned()) }
}

impl BridgeArgs {
    /// Whether there are not more selectors than watches.
    pub(crate) fn has_few_selectors(&self) -> bool {
        self.pod_selector.len() <= MAX_SELECTORS
    }
}
