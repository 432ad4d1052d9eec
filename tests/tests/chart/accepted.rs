//! What the schema accepts, the programs accept: the arguments of every combination of values are parsed as agents and bridges parse them.

use afd_agent::args::Args;
use afd_test_cluster::Bed;
use anyhow::Context;
use clap::CommandFactory;
use serde_json::{Value, json};

use super::{arguments, daemonset};

/// Values that depend on each other.
fn combinations() -> Vec<Value> {
    vec![
        // The port is off, and what belongs to it is still set.
        json!({ "metrics": { "dcgmPort": 0, "dcgmWebConfigSecret": "door", "doorFailed": "keep" } }),
    ]
}

pub(crate) async fn accepted() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    for values in combinations() {
        parsed(&bed, &values).with_context(|| values.to_string())?;
    }
    Ok(())
}

/// The arguments of the agent for these values, which it accepts.
fn parsed(bed: &Bed, values: &Value) -> anyhow::Result<Vec<String>> {
    let set = daemonset(bed, values)?;
    let arguments = arguments(&set);
    Args::command().try_get_matches_from(["afd"].into_iter().chain(arguments.iter().copied()))?;
    Ok(arguments.into_iter().map(str::to_owned).collect())
}
