//! Many agents on one real API server, in one process, and how fast a device becomes a label.

use crate::{cluster, setup, steps::Steps, workspace::Workspace};

/// Runs the tests that print these figures, with this many agents, in the release profile.
pub(crate) fn agents(steps: &Steps<'_>, workspace: &Workspace, count: usize) -> anyhow::Result<()> {
    setup::install_missing(steps, &setup::TESTS)?;
    let programs = cluster::programs(steps, workspace)?;
    let test = |name: &str, arguments: &str| {
        let mut command = workspace.cargo("test --release --package afd-tests");
        let variables = [
            ("AFD_AGENTS", count.to_string().as_str()),
            ("AFD_IDLE_SECONDS", "330"),
            ("AFD_BED_LIMIT", "1200"),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        command.args(arguments.split(' ')).envs(variables).env(cluster::PROGRAMS, &programs);
        steps.run(name, &mut command)
    };
    test("many agents", "--test many_agents -- --ignored")?;
    test("latency", "--test kubernetes -- --ignored label_latency")
}
