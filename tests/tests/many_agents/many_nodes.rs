//! `cargo xtask bench --nodes 15000`: what `afd nodes` costs in a large cluster, beside kubectl.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use afd_test_cluster::Bed;
use afd_tests::{afd, measured::measured};
use anyhow::ensure;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;

use crate::{fleet, number};

/// The variable with the number of Nodes.
const NODES: &str = "AFD_NODES";
/// Images that the kubelet lists of each Node, its default maximum.
const IMAGES: usize = 50;
const ROUNDS: usize = 3;

pub(crate) async fn measured_views() -> anyhow::Result<()> {
    let count = number(NODES)?;
    let bed = Bed::builder().start().await?;
    let nodes: Api<Node> = Api::all(bed.client().await?);
    let mut fixture = fleet::fixture_nodes()?;
    for node in &mut fixture {
        let name = |image: usize| {
            format!("registry.example/library/image-{image}@sha256:{}", "0123456789abcdef".repeat(4))
        };
        let images =
            (0..IMAGES).map(|image| json!({ "names": [name(image), name(image)], "sizeBytes": 123_456_789 }));
        node["status"]["images"] = images.collect();
    }
    let begin = Instant::now();
    let created = stream::iter(0..count).map(async |number| {
        fleet::create(&nodes, &fixture[number % fixture.len()], &format!("node-{number:05}")).await
    });
    created.buffer_unordered(32).try_collect::<()>().await?;
    println!(
        "{count} Nodes like those of fixtures/fleet, with {IMAGES} images each, created in {:.0?}:",
        begin.elapsed()
    );
    let own = |arguments: &str| {
        let mut command = afd(arguments.split(' '));
        command.arg("--kubeconfig").arg(bed.kubeconfig());
        command
    };
    let kubectl = |arguments: &str| -> anyhow::Result<Command> {
        let mut command = bed.kubectl()?;
        command.args(arguments.split(' '));
        Ok(command)
    };
    println!("| command | time | memory, at most |\n|---|---|---|");
    for _ in 0..ROUNDS {
        let commands = [
            ("afd nodes", own("nodes")),
            ("afd nodes -o json", own("nodes -o json")),
            ("afd nodes --drift", own("nodes --drift")),
            ("afd nodes --explain pd-disaggregation", own("nodes --explain pd-disaggregation")),
            ("afd generate kueue", own("generate kueue")),
            ("kubectl get nodes", kubectl("get nodes")?),
            ("kubectl get nodes -o json", kubectl("get nodes -o json")?),
        ];
        for (name, mut command) in commands {
            let (output, time, memory) = measured(command.stdout(Stdio::null()).stderr(Stdio::piped()))?;
            ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            println!("| `{name}` | {:.2} s | {:.1} MiB |", time.as_secs_f64(), memory as f64 / 1024.0);
        }
    }
    Ok(())
}
