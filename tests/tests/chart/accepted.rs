//! What the chart accepts, the programs accept: the arguments of agents and bridges are parsed as these parse them.

use std::fs;

use afd_agent::args::Args;
use afd_test_cluster::Bed;
use afd_tests::chart::values_option;
use anyhow::{Context, ensure};
use clap::CommandFactory;
use serde_json::{Value, json};

use super::{arguments, insert, objects, of_kind, render};

/// Values that depend on each other.
fn combinations() -> Vec<Value> {
    vec![
        // The port is off, and what belongs to it is still set.
        json!({ "metrics": { "dcgmPort": 0, "dcgmWebConfigSecret": "door", "doorFailed": "keep" } }),
        json!({ "nvidia": { "driverRoot": "/" }, "amd": { "driverRoot": "/" }, "libraries": false }),
    ]
}

/// A value, some that the chart accepts, and some that it refuses as the program does.
fn edges() -> Vec<(&'static str, Vec<Value>, Vec<Value>)> {
    let servers = || {
        let accepted = ["off", "1.2.3.4:1", "255.255.255.255:65535", "[::]:80", "[::1]:80", "[fe80::1:2]:80"];
        let more = ["[1:2:3:4:5:6:7:8]:80", "[1:2:3:4:5:6:7::]:80", "[::FFFF]:80", "[::ffff:1.2.3.4]:80"];
        let refused =
            ["1.2.3:99999", "1.2.3.4:65536", "1.2.3:80", "1.2.3.256:80", "1.2.3.4.5:80", "[1.2.3.4]:80"];
        let of_ipv6 = [
            "[1]:80",
            "[:::]:80",
            "[1::2::3]:80",
            "[1:2:3:4:5:6:7:8:9]:80",
            "[1:2:3:4:5:6:7::8]:80",
            "[g::]:80",
        ];
        (
            [&accepted[..], &more].concat().into_iter().map(Value::from).collect::<Vec<_>>(),
            [&refused[..], &of_ipv6].concat().into_iter().map(Value::from).collect::<Vec<_>>(),
        )
    };
    let [exporter, runtime, metadata] = [servers(), servers(), servers()];
    let addresses = |list: &[&str]| list.iter().map(|text| json!(text)).collect::<Vec<_>>();
    let long = "a".repeat(64);
    vec![
        ("tpu.exporter", exporter.0, exporter.1),
        ("tpu.runtime", runtime.0, runtime.1),
        ("tpu.metadataServer", metadata.0, metadata.1),
        (
            "metrics.address",
            addresses(&["127.0.0.1", "[::]", "[fe80::1]", "[::ffff:1.2.3.4]"]),
            addresses(&["1.2.3", "300.1.1.1", "[1]", "[::1", "::1", "[1::2::3]"]),
        ),
        (
            "heartbeatIntervalSeconds",
            vec![json!(0), json!(1), json!(1.5), json!(86400)],
            vec![json!(0.5), json!(-1), json!(86401)],
        ),
        (
            "bridge.podSelectors",
            vec![
                json!(["a", "!a", "a=", "a!=", "a=b", "a.b/c!=d_e"]),
                json!(["a,!b,c=d,e/f!=g"]),
                json!([&long[1..]]),
            ],
            [
                "!a=b",
                "!a!=b",
                "a,!b=c",
                "a=-b",
                "a=b-",
                "a==b",
                "a,",
                "-a",
                &long,
                "llm-d.ai/accelerator-model",
                "!topology.kubernetes.io/zone",
            ]
            .map(|selector| json!([selector]))
            .into(),
        ),
        (
            "expect",
            ["off", "any=999999999", "nvidia/10de:2330=8,any=9"].map(Value::from).into(),
            ["any=9999999999", "any", "any=-1"].map(Value::from).into(),
        ),
    ]
}

pub(crate) async fn accepted() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    for values in combinations() {
        parsed(&bed, &values)?;
    }
    for (path, accepted, refused) in edges() {
        let with = |value: &Value| {
            let mut values = json!({ "bridge": { "enabled": true } });
            insert(&mut values, path, value.clone());
            values
        };
        for value in &accepted {
            parsed(&bed, &with(value))?;
        }
        for value in &refused {
            let rendered = objects(&bed, &[&values_option(bed.folder(), &with(value))]);
            ensure!(rendered.is_err(), "the chart accepts {path}: {value}");
        }
    }
    booleans(&bed)
}

/// The arguments of the agents and bridges for these values, which they accept.
fn parsed(bed: &Bed, values: &Value) -> anyhow::Result<Vec<String>> {
    let objects =
        objects(bed, &[&values_option(bed.folder(), values)]).with_context(|| values.to_string())?;
    let mut all = Vec::new();
    for object in of_kind(&objects, "DaemonSet").into_iter().chain(of_kind(&objects, "Deployment")) {
        let arguments = arguments(object);
        let parsed =
            Args::command().try_get_matches_from(["afd"].into_iter().chain(arguments.iter().copied()));
        parsed.with_context(|| values.to_string())?;
        all.extend(arguments.into_iter().map(str::to_owned));
    }
    ensure!(!all.is_empty(), "{values}: there are no arguments");
    Ok(all)
}

/// Without quotes `on` and `off` are booleans in a values file.
fn booleans(bed: &Bed) -> anyhow::Result<()> {
    let file = bed.folder().join("booleans.yaml");
    let values = "compat: {nvidia: off, amd: on}\ntpu: {exporter: off, runtime: off, metadataServer: off}\n\
                  expect: off\nbridge: {enabled: true, deviceTaints: off}\n";
    fs::write(&file, values)?;
    let text = render(bed, &["--values", file.to_str().context("the path is UTF-8")?])?;
    let arguments = [
        "--compat=nvidia=off",
        "--compat=amd=on",
        "--compat=gaudi=auto",
        "--tpu-exporter=off",
        "--tpu-runtime=off",
        "--tpu-metadata-server=off",
        "--expect=off",
        "--device-taints=off",
    ];
    for argument in arguments {
        ensure!(text.contains(&format!("- \"{argument}\"\n")), "{argument} is not in {text}");
    }
    // The policy allows no label of a set that is off.
    const LABEL: &str = "nvidia.com/gpu.machine";
    ensure!(!text.contains(LABEL) && render(bed, &[])?.contains(LABEL), "{text}");
    ensure!(!text.contains("verbs: [list, delete, create]"), "{text}");
    let quoted = values.replace("off", "\"off\"").replace(": on", ": \"on\"");
    fs::write(&file, quoted)?;
    ensure!(
        render(bed, &["--values", file.to_str().context("the path is UTF-8")?])? == text,
        "quotes matter"
    );
    Ok(())
}
