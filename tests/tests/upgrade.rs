//! Other values of the chart, other versions of the agent and Nodes that lost what was recorded of them: with the chart's policy in
//! force on a real API server, and an agent that has the token of its pod. Nothing is refused for good, and nothing is left behind.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "tests lay out hosts, start programs and print what they measured"
)]

#[path = "chart/setup.rs"]
#[expect(dead_code, reason = "the tests of the policy use the rest")]
mod setup;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_test_cluster::{KubernetesVersion, Suite};
use afd_tests::fixture::{Fixture, FixtureHost};
use anyhow::ensure;
use k8s_openapi::api::core::v1::Node;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use setup::{ALIAS, CONDITION, COUNT, NODE, PROBLEM, PolicySetup, condition_types, create_node};

const PREFIX: &str = "accelerator.llm-d.ai";
const EXPECT: &str = "accelerator.llm-d.ai/expect";
const FIELD_MANAGER: &str = "accelerator-feature-discovery";
/// How soon a Node that was created again must be labelled.
const SOON: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    Suite::new()
        .parallel(2)
        .test("a_set_that_is_switched_off_is_removed_and_comes_back", switched_sets)
        .test("what_is_under_a_former_prefix_is_removed", changed_prefix)
        .test("an_older_agent_removes_what_a_newer_one_wrote", downgrade)
        .test("a_node_without_its_owners_is_put_right", lost_owners)
        .test("a_node_that_is_created_again_is_labelled_within_a_minute", created_again)
        .main()
}

fn host() -> FixtureHost {
    Fixture::named("nvidia-h100x8-nvml").lay_out()
}

/// The keys of labels, annotations and conditions under a prefix.
fn under<'n>(node: &'n Node, prefix: &str) -> Vec<&'n str> {
    let keys = node.labels().keys().chain(node.annotations().keys()).map(String::as_str);
    let prefix = format!("{prefix}/");
    keys.chain(condition_types(node)).filter(|key| key.starts_with(&prefix)).collect()
}

fn is_complete(node: &Node, prefix: &str) -> bool {
    let has = |name: &str| node.labels().get(&format!("{prefix}/{name}")).map(String::as_str) == Some("8");
    let conditions = condition_types(node);
    has("count")
        && has("healthy")
        && node.annotations().contains_key(&format!("{prefix}/report"))
        && ["Ready", "Problem"].iter().all(|kind| conditions.contains(&&format!("{prefix}/{kind}")[..]))
}

/// The labels of the set, which no other manager wrote.
fn of_the_set(node: &Node) -> usize {
    node.labels().keys().filter(|key| key.starts_with("nvidia.com/") && !key.ends_with("/foreign")).count()
}

async fn switched_sets() -> anyhow::Result<()> {
    let setup = PolicySetup::new(KubernetesVersion::V1_34).await?;
    let host = host();
    let foreign = json!({ "nvidia.com/foreign": "1" });
    setup.patch_as("operator", json!({ "metadata": { "labels": foreign } })).await?;
    for round in 0..2 {
        setup.upgrade("compat.nvidia=auto")?;
        let mut agent = setup.start(&host, &["--compat", "nvidia=auto"])?;
        let node = setup
            .until_node("the set is there", |node| is_complete(node, PREFIX) && of_the_set(node) > 15)
            .await?;
        let count = of_the_set(&node);
        agent.kill()?;
        setup.upgrade("compat.nvidia=off")?;
        let mut agent = setup.start(&host, &["--compat", "nvidia=off"])?;
        let node = setup.until_node("the set is gone", |node| of_the_set(node) == 0).await?;
        ensure!(is_complete(&node, PREFIX), "round {round}: own keys are lost: {:?}", node.metadata);
        ensure!(node.labels().contains_key("nvidia.com/foreign") && count > 15, "{:?}", node.labels());
        // A change of an own label is still corrected.
        setup.patch_as("other", json!({ "metadata": { "labels": { COUNT: "3" } } })).await?;
        setup.until_node("the label is corrected", |node| is_complete(node, PREFIX)).await?;
        agent.kill()?;
    }
    Ok(())
}

async fn changed_prefix() -> anyhow::Result<()> {
    const PREFIXES: [&str; 4] = ["one.example.com", "two.example.com", "two.example.com.evil", PREFIX];
    let setup = PolicySetup::new(KubernetesVersion::V1_37).await?;
    let host = host();
    setup.patch_as("kubectl-annotate", setup::annotation(EXPECT, json!("nvidia/10de:2330=8"))).await?;
    setup.upgrade(&format!("conditionAlias={ALIAS}"))?;
    let mut agent = setup.start(&host, &["--condition-alias", ALIAS])?;
    setup
        .until_node("the first prefix is complete", |node| {
            is_complete(node, PREFIX) && condition_types(node).contains(&ALIAS)
        })
        .await?;
    agent.kill()?;
    let mut former = PREFIX;
    for (index, prefix) in PREFIXES.into_iter().enumerate() {
        // The alias changes, too, and is removed in the end.
        let alias = format!("Alias{index}");
        let with_alias = prefix != PREFIX;
        let value = if with_alias { &alias[..] } else { "" };
        setup.upgrade(&format!("labelPrefix={prefix},conditionAlias={value}"))?;
        let mut options = vec!["--label-prefix", prefix];
        if with_alias {
            options.extend(["--condition-alias", &alias]);
        }
        let mut agent = setup.start(&host, &options)?;
        let node = setup
            .until_node(&format!("only {prefix} is left"), |node| {
                let left: Vec<_> = under(node, former).into_iter().filter(|key| *key != EXPECT).collect();
                is_complete(node, prefix) && left.is_empty()
            })
            .await?;
        let aliases: Vec<_> = condition_types(&node)
            .into_iter()
            .filter(|kind| kind.starts_with('A'))
            .map(str::to_owned)
            .collect();
        let expected = if with_alias { vec![alias.clone()] } else { vec![] };
        ensure!(aliases == expected, "{aliases:?} instead of {expected:?}");
        ensure!(node.annotations()[EXPECT] == "nvidia/10de:2330=8", "{:?}", node.annotations());
        ensure!(of_the_set(&node) > 15 && node.labels()["foreign"] == "label", "{:?}", node.labels());
        agent.kill()?;
        former = prefix;
    }
    Ok(())
}

/// A newer agent is one that writes more: keys that the older one and its policy do not know.
async fn downgrade() -> anyhow::Result<()> {
    let setup = PolicySetup::new(KubernetesVersion::V1_37).await?;
    let host = host();
    let labels = json!({
        COUNT: "7", "accelerator.llm-d.ai/newer": "1", "newer.llm-d.ai/key": "1", "nvidia.com/newer.key": "1",
        "llm-d.ai/newer": "1",
    });
    let annotations = json!({ "accelerator.llm-d.ai/newer": "1", "newer.llm-d.ai/annotation": "1" });
    let apply = PatchParams::apply(FIELD_MANAGER).force();
    let newer = json!({ "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": NODE, "labels": labels, "annotations": annotations } });
    setup.nodes.patch(NODE, &apply, &Patch::Apply(&newer)).await?;
    let conditions = json!([
        { "type": "accelerator.llm-d.ai/Newer", "status": "True" },
        { "type": "NewerAlias", "status": "True" },
        { "type": CONDITION, "status": "Unknown", "reason": "NewerReason" },
    ]);
    let newer = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE },
        "status": { "conditions": conditions } });
    setup.nodes.patch_status(NODE, &apply, &Patch::Apply(&newer)).await?;
    let _agent = setup.start(&host, &[])?;
    let is_new = |key: &str| key.to_lowercase().contains("newer");
    setup
        .until_node("nothing of the newer agent is left", |node| {
            let mut keys = node.labels().keys().chain(node.annotations().keys()).map(String::as_str);
            is_complete(node, PREFIX) && !keys.any(is_new) && !condition_types(node).into_iter().any(is_new)
        })
        .await
        .map(drop)
}

/// Nodes that were restored from a backup: without owners, or with the tool that restored them as the owner.
async fn lost_owners() -> anyhow::Result<()> {
    const STALE: [&str; 2] = ["accelerator.llm-d.ai/product.Old", "accelerator.llm-d.ai/path.old"];
    let setup = PolicySetup::new(KubernetesVersion::V1_37).await?;
    let host = host();
    setup.patch_as("kubectl-annotate", setup::annotation(EXPECT, json!("nvidia/10de:2330=8"))).await?;
    for wiped in [true, false] {
        let stale = json!({ "metadata": {
            "labels": { STALE[0]: "8", STALE[1]: "true", COUNT: "3", "velero.io/restored": "1" },
            "annotations": { "accelerator.llm-d.ai/report": "old" },
        } });
        setup.patch_as("velero-server", stale).await?;
        let problem = json!({ "status": { "conditions": [
            { "type": PROBLEM, "status": "True", "reason": "DeviceMissing", "message": "of another machine" },
        ] } });
        let restorer =
            PatchParams { field_manager: Some("velero-server".to_owned()), ..PatchParams::default() };
        setup.nodes.patch_status(NODE, &restorer, &Patch::Strategic(problem)).await?;
        if wiped {
            setup.patch_as("restore", json!({ "metadata": { "managedFields": [{}] } })).await?;
        }
        let mut agent = setup.start(&host, &[])?;
        let node = setup
            .until_node("the Node is put right", |node| {
                is_complete(node, PREFIX) && STALE.iter().all(|key| !node.labels().contains_key(*key))
            })
            .await?;
        ensure!(node.labels()["velero.io/restored"] == "1", "{:?}", node.labels());
        ensure!(node.annotations()[EXPECT] == "nvidia/10de:2330=8", "{:?}", node.annotations());
        let owner = if wiped { "the owners were wiped" } else { "another manager was the owner" };
        setup
            .until_node(owner, |node| {
                let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
                let mut problems = conditions.filter(|condition| condition.type_ == PROBLEM);
                problems.all(|condition| condition.status == "False")
            })
            .await?;
        agent.kill()?;
    }
    Ok(())
}

/// The agent's pod goes on, and with it a token that names the uid of the Node that was deleted.
async fn created_again() -> anyhow::Result<()> {
    let setup = PolicySetup::new(KubernetesVersion::V1_37).await?;
    let host = host();
    let _agent = setup.start(&host, &[])?;
    let first = setup.until_node("the Node is complete", |node| is_complete(node, PREFIX)).await?;
    setup.nodes.delete(NODE, &DeleteParams::default()).await?;
    create_node(&setup.nodes, NODE).await?;
    let created = Instant::now();
    let second = setup.until_node("the new Node is complete", |node| is_complete(node, PREFIX)).await?;
    println!("a Node that was created again was complete after {:.1?}", created.elapsed());
    ensure!(created.elapsed() < SOON * 10, "it took {:?}", created.elapsed());
    ensure!(first.uid() != second.uid(), "it is the same Node");
    Ok(())
}
