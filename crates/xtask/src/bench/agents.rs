//! Many agents before one real API server, in one process, and how fast a device becomes a label.

use crate::{
    cluster, setup,
    steps::{Workspace, run},
};

/// Runs the tests that print these figures, with so many agents. They run as a release would.
pub(crate) fn agents(workspace: &Workspace, count: usize) -> anyhow::Result<()> {
    setup::install_missing(&setup::TESTS)?;
    let programs = cluster::programs(workspace)?;
    let test = |arguments: &str| {
        run(workspace
            .cargo("test --release --package afd-tests")
            .args(arguments.split(' '))
            .envs([
                ("AFD_AGENTS", count.to_string().as_str()),
                ("AFD_IDLE_SECONDS", "330"),
                ("AFD_BED_LIMIT", "1200"),
            ])
            .env(cluster::PROGRAMS, &programs))
    };
    test("--test many_agents -- --ignored")?;
    test("--test kubernetes -- --ignored label_latency")
}
