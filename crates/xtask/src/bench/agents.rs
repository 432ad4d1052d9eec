//! Many agents and many Nodes on one real API server, and how fast a device becomes a label.

use crate::{cluster, setup, steps::Steps, workspace::Workspace};

/// Runs the tests that print the figures of many agents, in the release profile. The agents that are processes are as many as memory
/// allows, up to a tenth, or `AFD_AGENT_PROCESSES`.
pub(crate) fn agents(steps: &Steps<'_>, workspace: &Workspace, count: usize) -> anyhow::Result<()> {
    let variables = [("AFD_AGENTS", count.to_string()), ("AFD_IDLE_SECONDS", "330".to_owned())];
    measure(
        steps,
        workspace,
        "many agents",
        "--test many_agents -- --ignored --exact many_agents",
        &variables,
    )?;
    measure(steps, workspace, "latency", "--test kubernetes -- --ignored label_latency", &[])
}

/// Runs the test that prints the figures of `afd nodes`, in the release profile.
pub(crate) fn nodes(steps: &Steps<'_>, workspace: &Workspace, count: usize) -> anyhow::Result<()> {
    let variables = [("AFD_NODES", count.to_string())];
    measure(steps, workspace, "many nodes", "--test many_agents -- --ignored --exact many_nodes", &variables)
}

fn measure(
    steps: &Steps<'_>,
    workspace: &Workspace,
    name: &str,
    arguments: &str,
    variables: &[(&str, String)],
) -> anyhow::Result<()> {
    setup::install_missing(steps, &setup::TESTS)?;
    let programs = cluster::programs(steps, workspace)?;
    let mut command = workspace.cargo("test --release --package afd-tests");
    command.args(arguments.split(' ')).envs(variables.iter().cloned());
    // The suite ends the cluster of a test after ten minutes otherwise.
    command.env("AFD_BED_LIMIT", "3600").env(cluster::PROGRAMS, &programs);
    steps.run(name, &mut command)
}
