//! The rights of the cleanup job: what its account may do, and that nothing of them is left when it fails.

use std::fs;

use afd_publish::node::FIELD_MANAGER;
use afd_test_cluster::{Bed, KubernetesVersion, image::Image, succeed, until};
use afd_tests::chart::{chart, values_option};
use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Config, ResourceExt,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use super::{PREFIX, labels, refuse, traced, write, written_node};

const NAMESPACE: &str = "afd";
const ACCOUNT: &str = "afd-cleanup";
const NODE: &str = "node";
const IMAGE: &str = "localhost/afd:test";
const HELM_TIMEOUT: &str = "170s";

/// What the account may do by the policy of the chart.
pub(crate) async fn policy(version: KubernetesVersion) -> anyhow::Result<()> {
    let bed = Bed::builder().version(version).start().await?;
    let admin: Api<Node> = Api::all(bed.client().await?);
    written_node(&admin, NODE, "afd/afd", &labels()).await?;
    let foreign = json!({
        "metadata": { "labels": { "foreign": "1" }, "annotations": { "foreign": "1", format!("{PREFIX}/expect"): "any=8" } },
    });
    admin.patch(NODE, &PatchParams::default(), &Patch::Merge(&foreign)).await?;
    succeed(bed.kubectl()?.args(["create", "namespace", NAMESPACE]))?;
    for template in ["cleanup", "cleanuppolicy"] {
        let mut helm = bed.helm()?;
        helm.args(["template", NAMESPACE, "--namespace", NAMESPACE, "--show-only"]);
        helm.arg(format!("templates/{template}.yaml")).arg(chart());
        let file = bed.folder().join(format!("{template}.yaml"));
        fs::write(&file, succeed(&mut helm)?)?;
        succeed(bed.kubectl()?.args(["apply", "--validate=strict", "-f"]).arg(&file))?;
        succeed(bed.validate(version)?.arg("--quiet").arg(&file))?;
    }
    let kubeconfig = account_kubeconfig(&bed)?;
    let nodes = nodes_with(&kubeconfig).await?;
    let mut attempts = 0;
    until("the policy is in effect", async || {
        attempts += 1;
        let patch = json!({ "metadata": { "labels": { "example.com/attempt": attempts.to_string() } } });
        forbidden(
            "a label",
            nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop),
        )
    })
    .await?;
    let attempt = json!({ "metadata": { "labels": { "example.com/attempt": null } } });
    admin.patch(NODE, &PatchParams::default(), &Patch::Merge(&attempt)).await?;
    let metadata = |field: &str, key: &str, value: Value| json!({ "metadata": { field: { key: value } } });
    for (what, patch) in [
        ("a label of AFD", metadata("labels", &format!("{PREFIX}/count"), json!("99"))),
        ("a removed foreign label", metadata("labels", "foreign", Value::Null)),
        ("a label of a similar prefix", metadata("labels", &format!("{PREFIX}.evil/count"), json!("1"))),
        ("a removed foreign annotation", metadata("annotations", "foreign", Value::Null)),
        ("the removed expectation", metadata("annotations", &format!("{PREFIX}/expect"), Value::Null)),
        ("an annotation", metadata("annotations", &format!("{PREFIX}/report"), json!("{}"))),
        ("a finalizer", json!({ "metadata": { "finalizers": ["example.com/mine"] } })),
        ("unschedulable", json!({ "spec": { "unschedulable": true } })),
    ] {
        forbidden(what, nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))?;
    }
    for (what, status) in [
        ("a condition", json!({ "conditions": [{ "type": format!("{PREFIX}/Ready"), "status": "True" }] })),
        ("the kubelet's condition", json!({ "conditions": [{ "type": "Ready", "status": "True" }] })),
        ("capacity", json!({ "capacity": { "nvidia.com/gpu": "80" } })),
    ] {
        let patch = Patch::Strategic(json!({ "status": status }));
        forbidden(what, nodes.patch_status(NODE, &PatchParams::default(), &patch).await.map(drop))?;
    }
    owners(&admin, &nodes).await?;
    let mut command = afd_tests::afd(["cleanup", "--all-nodes", "--managed-by", "afd/afd", "--kubeconfig"]);
    let output = succeed(command.arg(&kubeconfig))?;
    ensure!(output.contains("from 1 Nodes"), "{output}");
    let left = managers(&admin).await?;
    let names: Vec<_> = left.iter().filter_map(|entry| entry["manager"].as_str()).collect();
    ensure!(names.contains(&"nfd-master") && !names.contains(&FIELD_MANAGER), "{left:?}");
    let node = admin.get(NODE).await?;
    ensure!(node.labels().len() == 4 && node.labels()["foreign"] == "1", "{:?}", node.labels());
    ensure!(node.annotations().len() == 2, "{:?}", node.annotations());

    // Owners that were lost: the keys are removed by patches of another kind.
    write(&admin, NODE, "afd/afd", &labels()).await?;
    let lost = json!({ "metadata": { "managedFields": [{}] } });
    admin.patch(NODE, &PatchParams::default(), &Patch::Merge(&lost)).await?;
    succeed(afd_tests::afd(["cleanup", "--all-nodes", "--kubeconfig"]).arg(&kubeconfig))?;
    let node = admin.get(NODE).await?;
    let own = node.labels().keys().chain(node.annotations().keys()).filter(|key| key.starts_with(PREFIX));
    let own: Vec<_> = own.collect();
    ensure!(own == [&format!("{PREFIX}/expect")], "{own:?}");
    Ok(())
}

async fn managers(admin: &Api<Node>) -> anyhow::Result<Vec<Value>> {
    let entries = admin.get(NODE).await?.metadata.managed_fields.unwrap_or_default();
    Ok(entries.into_iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}

/// Who owns what beside AFD's keys cannot be changed; what AFD owns can be given up.
async fn owners(admin: &Api<Node>, nodes: &Api<Node>) -> anyhow::Result<()> {
    let other = PatchParams { field_manager: Some("nfd-master".to_owned()), ..PatchParams::default() };
    // It owns a label under AFD's prefix as well, which stays.
    let labels = json!({ "feature.node.kubernetes.io/x": "1", format!("{PREFIX}/extra"): "1" });
    admin.patch(NODE, &other, &Patch::Merge(json!({ "metadata": { "labels": labels } }))).await?;
    let before = managers(admin).await?;
    let is_of = |entry: &Value, manager: &str| entry["manager"] == manager;
    let changed = |manager: &str, change: fn(&mut Value)| {
        let mut entries = before.clone();
        entries.iter_mut().filter(|entry| is_of(entry, manager)).for_each(change);
        entries
    };
    ensure!(before.iter().any(|entry| is_of(entry, "nfd-master")), "{before:?}");
    ensure!(before.iter().any(|entry| is_of(entry, FIELD_MANAGER)), "{before:?}");
    let without: Vec<_> = before.iter().filter(|entry| !is_of(entry, "nfd-master")).collect();
    let foreign = |entry: &mut Value| entry["fieldsV1"]["f:metadata"]["f:labels"]["f:foreign"] = json!({});
    for (what, entries) in [
        ("wiping all owners", json!([{}])),
        ("leaving a manager out", json!(without)),
        ("renaming a manager", json!(changed("nfd-master", |entry| entry["manager"] = json!("mine")))),
        ("widening the entry of a manager", json!(changed("nfd-master", foreign))),
        ("claiming a foreign label", json!(changed(FIELD_MANAGER, foreign))),
        (
            "emptying the entry of a manager",
            json!(changed("nfd-master", |entry| {
                entry["fieldsV1"] = json!({ "f:metadata": { "f:labels": { ".": {} } } });
            })),
        ),
    ] {
        let patch = Patch::Merge(json!({ "metadata": { "managedFields": entries } }));
        forbidden(what, nodes.patch(NODE, &PatchParams::default(), &patch).await.map(drop))?;
    }
    for manager in [FIELD_MANAGER, "mine"] {
        let claim = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE, "labels": { "foreign": "1" } } });
        let answer = nodes.patch(NODE, &PatchParams::apply(manager).force(), &Patch::Apply(&claim)).await;
        forbidden("owning a foreign label", answer.map(drop))?;
    }
    Ok(())
}

/// A kubeconfig with a token of the account.
fn account_kubeconfig(bed: &Bed) -> anyhow::Result<std::path::PathBuf> {
    let token = succeed(bed.kubectl()?.args(["--namespace", NAMESPACE, "create", "token", ACCOUNT]))?;
    let config = Kubeconfig::read_from(bed.kubeconfig())?;
    let mut config = serde_json::to_value(&config)?;
    for user in config["users"].as_array_mut().into_iter().flatten() {
        user["user"] = json!({ "token": token.trim() });
    }
    let path = bed.folder().join("cleanup.kubeconfig");
    fs::write(&path, config.to_string())?;
    Ok(path)
}

async fn nodes_with(kubeconfig: &std::path::Path) -> anyhow::Result<Api<Node>> {
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?;
    config.default_retry = false;
    Ok(Api::all(Client::try_from(config)?))
}

fn forbidden(what: &str, answer: kube::Result<()>) -> anyhow::Result<()> {
    match answer {
        // RBAC refuses as well, until the role is in effect.
        Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => Ok(()),
        Ok(()) => bail!("{what} was allowed"),
        Err(error) => Err(error).with_context(|| format!("{what} was not refused by the policy")),
    }
}

/// What is there with the name of the cleanup job, by kind.
fn left(bed: &Bed) -> anyhow::Result<Vec<String>> {
    const KINDS: &str = "serviceaccounts,clusterroles,clusterrolebindings,jobs,\
                         validatingadmissionpolicies,validatingadmissionpolicybindings";
    let mut get = bed.kubectl()?;
    get.args(["--namespace", NAMESPACE, "get", KINDS, "--output", "name"]);
    let found = succeed(&mut get)?;
    // What all namespaces share has the namespace in its name.
    let is_own = |name: &&str| {
        name.ends_with(&format!("/{ACCOUNT}")) || name.ends_with(&format!("/{ACCOUNT}.{NAMESPACE}"))
    };
    Ok(found.lines().filter(is_own).map(str::to_owned).collect())
}

/// A job whose writes another policy refuses, so that it fails, by the real Helm and a real kubelet.
pub(crate) async fn failed_job() -> anyhow::Result<()> {
    let bed = Bed::builder().node().start().await?;
    bed.import(&Image::new(IMAGE, &afd_tests::image_binary())?.with_libraries()?)?;
    let admin: Api<Node> = Api::all(bed.client().await?);
    write(&admin, Bed::NODE, "afd/afd", &labels()).await?;
    let condition = format!("request.userInfo.username != 'system:serviceaccount:{NAMESPACE}:{ACCOUNT}'");
    refuse(&bed, &condition, true)?;
    let values = json!({
        "image": { "repository": "localhost/afd", "tag": "test", "pullPolicy": "Never" },
        // No agent, which would remove these labels.
        "nodeSelector": { "no": "node" },
        "cleanup": { "nodeSelector": { "kubernetes.io/os": "linux" } },
    });
    let values = values_option(bed.folder(), &values);
    let install = || -> anyhow::Result<()> {
        let mut helm = bed.helm()?;
        helm.args(["install", NAMESPACE, "--namespace", NAMESPACE, "--create-namespace"]);
        succeed(helm.arg(&values).arg(chart())).map(drop)
    };
    let uninstall = || -> anyhow::Result<std::process::Output> {
        let mut helm = bed.helm()?;
        helm.args(["uninstall", NAMESPACE, "--namespace", NAMESPACE, "--wait", "--timeout", HELM_TIMEOUT]);
        Ok(helm.output()?)
    };
    install()?;
    let output = uninstall()?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(!output.status.success(), "the job did not fail: {text}");
    ensure!(text.contains("1 Nodes could not be cleaned"), "Helm does not print the log: {text}");
    until("only the job is left", async || {
        let left = left(&bed)?;
        ensure!(left == [format!("job.batch/{ACCOUNT}")], "{left:?}");
        Ok(())
    })
    .await?;
    ensure!(traced(&admin).await? == [Bed::NODE]);

    refuse(&bed, &condition, false)?;
    install()?;
    let output = uninstall()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Helm prints logs to standard error.
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(text.contains("from 1 Nodes"), "Helm does not print what was removed: {text}");
    ensure!(traced(&admin).await?.is_empty() && left(&bed)?.is_empty(), "{:?}", left(&bed)?);
    Ok(())
}
