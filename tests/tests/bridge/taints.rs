//! A device of a DRA driver that fails, from the agent's verdict to the scheduler's, and back.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use afd_model::FAILED_DEVICES_VERSION;
use afd_publish::node::FIELD_MANAGER;
use afd_test_cluster::{
    Bed, BedProcess, KubernetesVersion,
    plugins::{DraDevice, DraDriver},
    pods,
    proxy::{Credentials, Fault, FaultScope, Proxy},
    succeed, until,
};
use afd_tests::{agent::Agent, fixture::Fixture};
use anyhow::{Context, bail, ensure};
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    resource::v1::{DeviceClass, ResourceClaim, ResourceSlice},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    core::Request,
};
use serde_json::{Value, json};

use crate::setup::{ACCOUNT, NAMESPACE, install, kubeconfig};

const ADDRESS: &str = "127.0.0.1:9109";
const DRIVER: &str = "gpu.nvidia.com";
const ANNOTATION: &str = "accelerator.llm-d.ai/failed-devices";
const GENERATION: &str = "accelerator.llm-d.ai/bridge-generation";
/// The devices that fail.
const FAILED: usize = 2;
const SECOND: usize = 5;

pub(crate) async fn taints() -> anyhow::Result<()> {
    let bed = Bed::builder().version(KubernetesVersion::V1_37).node().start().await?;
    let client = bed.client().await?;
    let token = install(&bed, "NoSchedule")?;
    let host = Fixture::named("nvidia-h100x8-nvml").copy();
    let socket = bed.folder().join("control.sock");
    let mut agent = host.afd(["run", "--node-name", Bed::NODE, "--listen", ADDRESS, "--start-spread", "0"]);
    agent.args(["--sample-interval", "0.5", "--discovery-interval", "1", "--write-interval", "0.1"]);
    agent.args(["--fault-grace", "1", "--fault-end-grace", "1"]);
    agent.arg("--control-socket").arg(&socket).arg("--kubeconfig").arg(bed.kubeconfig());
    let _agent = bed.process("afd", agent)?;
    let devices = devices().await?;
    let driver = DraDriver::start(&bed, DRIVER).await?;
    driver.publish(&devices.iter().map(|(device, _)| device.clone()).collect::<Vec<_>>()).await?;
    let bridge = start(&bed, &token, "NoSchedule")?;

    let addresses: Vec<&str> = devices.iter().map(|(_, address)| address.as_str()).collect();
    let raise = |device: usize| {
        host.driver_root().raise(json!({ "device": device, "eventType": 8, "eventData": 79 }));
    };
    raise(FAILED);
    let rule = until("a failed device has a rule", async || {
        let [rule] = &rules(&client).await?[..] else {
            bail!("{:?}; the bridge: {}", annotation(&client).await?, bridge.tail())
        };
        Ok(rule.clone())
    })
    .await?;
    let node: Node = Api::all(client.clone()).get(Bed::NODE).await?;
    ensure!(rule["metadata"]["ownerReferences"][0]["uid"] == json!(node.uid()), "{rule}");
    let name = format!("gpu-{FAILED}");
    let selector = json!({ "driver": DRIVER, "pool": Bed::NODE, "device": name });
    ensure!(rule["spec"]["deviceSelector"] == selector, "{rule}");
    let taint = &rule["spec"]["taint"];
    ensure!(taint["effect"] == "NoSchedule" && taint["value"] == "Xid79", "{rule}");

    // Seven devices can be had, and the eighth cannot.
    class(&client).await?;
    pod(&client, "seven", 7).await?;
    pods::until_running(&client, "seven").await?;
    pod(&client, "eighth", 1).await?;
    let all_pods: Api<Pod> = Api::namespaced(client.clone(), pods::NAMESPACE);
    until("the scheduler refuses the failed device", async || {
        let conditions = all_pods.get("eighth").await?.status.and_then(|status| status.conditions);
        let refused = conditions.into_iter().flatten().find(|condition| condition.type_ == "PodScheduled");
        let refused = refused.context("it was not looked at")?;
        ensure!(refused.reason.as_deref() == Some("Unschedulable"), "{refused:?}");
        Ok(())
    })
    .await?;
    let claims: Api<ResourceClaim> = Api::namespaced(client.clone(), pods::NAMESPACE);
    let allocated = claims.get("seven").await?.status.and_then(|status| status.allocation?.devices?.results);
    let allocated: Vec<String> = allocated.into_iter().flatten().map(|result| result.device).collect();
    ensure!(allocated.len() == 7 && !allocated.contains(&name), "{allocated:?}");

    // One device at a time.
    raise(SECOND);
    until("both devices are reported", async || {
        let text = annotation(&client).await?.context("there is no annotation")?;
        ensure!(text.matches("Xid79").count() == 2, "{text}");
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(rules(&client).await?[..] == [rule.clone()], "there are more rules than the limit");

    // The slice is another one.
    let slices: Api<ResourceSlice> = Api::all(client.clone());
    let newer = json!({ "spec": { "pool": { "generation": 2 } } });
    let slice = format!("{}-{DRIVER}", Bed::NODE);
    slices.patch(&slice, &PatchParams::default(), &Patch::Merge(newer)).await?;
    let newer = until("the rule is for the new generation", async || {
        let [newer] = &rules(&client).await?[..] else { bail!("there is not one rule") };
        ensure!(newer["metadata"]["annotations"][GENERATION] == "2", "{newer}");
        Ok(newer.clone())
    })
    .await?;
    ensure!(newer["metadata"]["uid"] != rule["metadata"]["uid"], "the rule was changed");
    policy(&bed, &token, &newer)?;

    // What an administrator has made stays, and so does the bridge's while it is not running.
    for device in [FAILED, SECOND] {
        let mut clear = host.afd(["clear", addresses[device]]);
        succeed(clear.arg("--control-socket").arg(&socket))?;
    }
    until("there is no rule any more", async || {
        let rules = rules(&client).await?;
        ensure!(rules.is_empty() && annotation(&client).await?.is_none(), "{rules:?}");
        Ok(())
    })
    .await?;
    pods::until_running(&client, "eighth").await?;

    // What is left of a bridge that was removed.
    let mut bridge = bridge;
    raise(FAILED);
    until("the device has a rule again", async || {
        ensure!(rules(&client).await?.len() == 1);
        Ok(())
    })
    .await?;
    bridge.kill()?;
    let mut cleanup = afd_tests::afd(["cleanup", "--all-nodes", "--bridge", "--kubeconfig"]);
    let output = succeed(cleanup.arg(bed.kubeconfig()))?;
    ensure!(output.starts_with("Removed the labels of 0 pods and 1 DeviceTaintRules.\n"), "{output}");
    ensure!(rules(&client).await?.is_empty());

    // The pod that holds the failed device is evicted, and no other one.
    let token = install(&bed, "NoExecute")?;
    let bridge = start(&bed, &token, "NoExecute")?;
    until("the pod that holds the failed device is evicted", async || {
        let rules = rules(&client).await?;
        let held = claims.get("eighth").await?.status.and_then(|status| status.allocation);
        let pod = all_pods.get_opt("eighth").await?;
        ensure!(pod.is_none(), "{rules:?}\n{held:?}\nthe bridge: {}", bridge.tail());
        ensure!(rules[0]["spec"]["taint"]["effect"] == "NoExecute", "{rules:?}");
        Ok(())
    })
    .await?;
    let seven = all_pods.get("seven").await?;
    ensure!(seven.metadata.deletion_timestamp.is_none(), "the devices of this pod are well");
    Ok(())
}

/// A server that has DeviceTaintRules only in a version before v1, as Kubernetes 1.36 does.
pub(crate) async fn older_version() -> anyhow::Result<()> {
    const OLDER: &str = "resource.k8s.io/v1beta2";
    let bed = Bed::builder().version(KubernetesVersion::V1_37).serving(OLDER).start().await?;
    let client = bed.client().await?;
    let token = install(&bed, "NoSchedule")?;
    let failed =
        json!({ "driver": DRIVER, "pool": Bed::NODE, "generation": 1, "device": "gpu-0", "reason": "Xid79" });
    let failed = json!({ "v": FAILED_DEVICES_VERSION, "devices": [failed] }).to_string();
    let metadata = json!({ "name": Bed::NODE, "annotations": { ANNOTATION: failed } });
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata });
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.patch(Bed::NODE, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(&node)).await?;
    let pool = json!({ "name": Bed::NODE, "generation": 1, "resourceSliceCount": 1 });
    let spec =
        json!({ "driver": DRIVER, "nodeName": Bed::NODE, "pool": pool, "devices": [{ "name": "gpu-0" }] });
    let slice = serde_json::from_value(json!({ "metadata": { "name": "slice" }, "spec": spec }))?;
    Api::<ResourceSlice>::all(client.clone()).create(&PostParams::default(), &slice).await?;

    let begun = Instant::now();
    let proxy = Proxy::start(&bed, Credentials::AsSent)?;
    let scope = FaultScope::ExactPath("/apis/resource.k8s.io/v1");
    proxy.fail(scope, Fault::error_response(404, "NotFound"));
    let bridge = start_with(&bed, proxy.kubeconfig(&json!({ "token": token }))?, "NoSchedule")?;
    until("the failed device has a rule", async || {
        let rules = rules(&client).await?;
        let [rule] = &rules[..] else { bail!("{rules:?}; the bridge: {}", bridge.tail()) };
        ensure!(rule["spec"]["taint"]["value"] == "Xid79", "{rule}");
        Ok(())
    })
    .await?;
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { ANNOTATION: null } } }));
    nodes.patch(Bed::NODE, &PatchParams::default(), &patch).await?;
    until("the rule is deleted", async || {
        ensure!(rules(&client).await?.is_empty(), "the bridge: {}", bridge.tail());
        Ok(())
    })
    .await?;
    let requests = proxy.requests_since(begun);
    let written: Vec<_> =
        requests.iter().filter(|request| request.path.contains("devicetaintrules")).collect();
    ensure!(!written.is_empty() && written.iter().all(|request| request.path.contains(OLDER)), "{written:?}");
    Ok(())
}

fn start(bed: &Bed, token: &str, effect: &str) -> anyhow::Result<BedProcess> {
    start_with(bed, kubeconfig(bed, token)?, effect)
}

fn start_with(bed: &Bed, kubeconfig: PathBuf, effect: &str) -> anyhow::Result<BedProcess> {
    let mut command = afd_tests::afd(["bridge", "--lease-namespace", NAMESPACE, "--lease-name", ACCOUNT]);
    command.args(["--lease-duration", "6", "--device-taints", effect, "--max-device-taints", "1"]);
    command.arg("--kubeconfig").arg(kubeconfig);
    bed.process("bridge", command)
}

/// The devices as the DRA driver publishes them, with their PCI addresses, in the order of the library.
async fn devices() -> anyhow::Result<Vec<(DraDevice, String)>> {
    until("the devices are published", async || {
        let page = Agent::try_get_from(ADDRESS, "/metrics").context("it does not serve yet")?;
        let infos = page.text().lines().filter(|line| line.starts_with("accelerator_device_info{"));
        let value = |line: &str, label: &str| {
            let (_, rest) = line.split_once(&format!("{label}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let mut found: Vec<(String, String)> = infos
            .filter_map(|line| {
                Some((value(line, "{device").or_else(|| value(line, ",device"))?, value(line, "uuid")?))
            })
            .collect();
        found.sort();
        ensure!(found.len() == 8, "{found:?}");
        let device = |(number, (address, uuid)): (usize, (String, String))| {
            let attributes = vec![("uuid".to_owned(), uuid), ("type".to_owned(), "gpu".to_owned())];
            (DraDevice { name: format!("gpu-{number}"), attributes }, address)
        };
        Ok(found.into_iter().enumerate().map(device).collect())
    })
    .await
}

/// All DeviceTaintRules, without what the server writes of them by itself.
async fn rules(client: &Client) -> anyhow::Result<Vec<Value>> {
    let request = Request::new("/apis/resource.k8s.io/v1/devicetaintrules").list(&ListParams::default())?;
    let list: Value = client.request(request).await?;
    let mut rules = list["items"].as_array().cloned().unwrap_or_default();
    for rule in &mut rules {
        let rule = rule.as_object_mut().context("it is an object")?;
        rule.remove("status");
        // The objects of a list do not have them.
        rule.insert("apiVersion".to_owned(), json!("resource.k8s.io/v1"));
        rule.insert("kind".to_owned(), json!("DeviceTaintRule"));
        let metadata = rule.get_mut("metadata").and_then(Value::as_object_mut).context("it has metadata")?;
        metadata.retain(|field, _| !["managedFields", "resourceVersion"].contains(&&field[..]));
    }
    Ok(rules)
}

async fn annotation(client: &Client) -> anyhow::Result<Option<String>> {
    let node: Node = Api::all(client.clone()).get(Bed::NODE).await?;
    Ok(node.annotations().get(ANNOTATION).cloned())
}

async fn class(client: &Client) -> anyhow::Result<()> {
    let selector = json!({ "cel": { "expression": format!("device.driver == '{DRIVER}'") } });
    let class = json!({ "metadata": { "name": DRIVER }, "spec": { "selectors": [selector] } });
    let classes: Api<DeviceClass> = Api::all(client.clone());
    classes.create(&PostParams::default(), &serde_json::from_value(class)?).await?;
    Ok(())
}

/// A pod with a claim of its name for some devices.
async fn pod(client: &Client, name: &str, count: u32) -> anyhow::Result<()> {
    let request = json!({ "name": "gpus", "exactly": { "deviceClassName": DRIVER, "count": count } });
    let claim = json!({ "metadata": { "name": name }, "spec": { "devices": { "requests": [request] } } });
    let claims: Api<ResourceClaim> = Api::namespaced(client.clone(), pods::NAMESPACE);
    claims.create(&PostParams::default(), &serde_json::from_value(claim)?).await?;
    let spec = json!({ "resourceClaims": [{ "name": "gpus", "resourceClaimName": name }] });
    let container = json!({ "resources": { "claims": [{ "name": "gpus" }] } });
    pods::create(client, name, spec, container).await
}

/// What the bridge's token may not do with rules.
fn policy(bed: &Bed, token: &str, own: &Value) -> anyhow::Result<()> {
    let kubeconfig = kubeconfig(bed, token)?;
    let as_bridge = |arguments: &[&str], rule: &Value| -> anyhow::Result<String> {
        let file = bed.folder().join("rule.json");
        fs::write(&file, rule.to_string())?;
        let output = bed
            .kubectl()?
            .args(arguments)
            .arg("-f")
            .arg(&file)
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .output()?;
        ensure!(!output.status.success(), "{arguments:?} was allowed: {rule}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let changed = |change: fn(&mut Value)| {
        let mut rule = own.clone();
        let metadata = json!({
            "name": "mine",
            "labels": own["metadata"]["labels"],
            "ownerReferences": own["metadata"]["ownerReferences"],
        });
        rule["metadata"] = metadata;
        change(&mut rule);
        rule
    };
    for (what, rule) in [
        ("every device", changed(|rule| rule["spec"]["deviceSelector"] = json!({}))),
        (
            "all devices of a driver",
            changed(|rule| {
                rule["spec"]["deviceSelector"] = json!({ "driver": DRIVER });
            }),
        ),
        ("another taint", changed(|rule| rule["spec"]["taint"]["key"] = json!("example.com/mine"))),
        ("another effect", changed(|rule| rule["spec"]["taint"]["effect"] = json!("NoExecute"))),
        ("no owner", changed(|rule| rule["metadata"]["ownerReferences"] = json!([]))),
        ("no marker", changed(|rule| rule["metadata"]["labels"] = json!({}))),
    ] {
        let error = as_bridge(&["create", "--validate=false"], &rule)?;
        ensure!(error.contains("ValidatingAdmissionPolicy"), "{what}: {error}");
    }
    // One of an administrator.
    let foreign = changed(|rule| rule["metadata"]["labels"] = json!({}));
    let file = bed.folder().join("foreign.json");
    fs::write(&file, foreign.to_string())?;
    succeed(bed.kubectl()?.args(["create", "-f"]).arg(&file))?;
    let error = as_bridge(&["delete", "--wait=false"], &foreign)?;
    ensure!(error.contains("ValidatingAdmissionPolicy"), "{error}");
    succeed(bed.kubectl()?.args(["delete", "-f"]).arg(&file)).map(drop)
}
