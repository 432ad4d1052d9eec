//! `afd bridge`: the bridge of the cluster, see `afd-bridge`.

use std::hash::{BuildHasher, RandomState};

use afd_apiserver::MAX_LIST_BYTES;
use afd_bridge::{BridgeOptions, LeaseOptions};
use afd_publish::node::FIELD_MANAGER;
use anyhow::{Context, ensure};

use crate::{agent_metrics::AgentMetrics, args::BridgeArgs, cluster, run};

/// Runs the bridge until SIGTERM or SIGINT.
///
/// # Errors
/// When there is no client of the API server.
pub fn bridge(args: BridgeArgs) -> anyhow::Result<()> {
    ensure!(args.has_few_selectors(), "too many --pod-selector");
    let calls = AgentMetrics::new().node_counters().calls;
    let identity = args.identity.unwrap_or_else(|| format!("{:016x}", RandomState::new().hash_one(0_u8)));
    let options = BridgeOptions {
        prefix: args.label_prefix,
        selectors: args.pod_selector,
        rack_label: args.rack_label,
        writes_per_second: args.writes_per_second,
        taints: args.device_taints.effect(),
        max_taints: args.max_device_taints,
        agent_manager: FIELD_MANAGER,
        lease: LeaseOptions {
            namespace: args.lease_namespace,
            name: args.lease_name,
            identity,
            duration: args.lease_duration,
        },
    };
    if let Some(key) = options.selected_own_key() {
        anyhow::bail!(
            "--pod-selector has the key {key}, which the bridge writes: select pods by another one"
        );
    }
    run::block_on(async {
        let stop = run::stop_signal(Default::default()).context("listening for signals")?;
        let client = cluster::connect(args.kubeconfig.as_deref(), MAX_LIST_BYTES).await?.client;
        afd_bridge::run(client, calls, options, stop).await;
        Ok(())
    })
}
