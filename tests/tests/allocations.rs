//! Devices that Kubernetes allocates: the real binary beside a real kubelet, with a device plugin and a DRA driver of the
//! test. What is offered, which pod holds it, and what the Node reports.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use afd_test_cluster::{
    Bed, BedProcess, Component, KubernetesVersion, Suite,
    plugins::{DevicePlugin, DraDevice, DraDriver},
    pods, until,
};
use afd_tests::{
    agent::Agent,
    fixture::{Fixture, FixtureHost},
};
use anyhow::{Context, ensure};
use k8s_openapi::api::{
    core::v1::{Node, NodeCondition},
    events::v1::Event,
    resource::v1::{DeviceClass, ResourceClaim},
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use serde_json::{Value, json};

const ADDRESS: &str = "127.0.0.1:9109";
const DOOR: &str = "127.0.0.1:9400";
const GPU: &str = "nvidia.com/gpu";
const DRIVER: &str = "gpu.nvidia.com";
const ALLOCATION: &str = "accelerator.llm-d.ai/allocation";
const CONDITION: &str = "accelerator.llm-d.ai/Ready";
const ALLOCATED: &str = "accelerator_device_allocation{";
/// So that an offer becomes a verdict within seconds, and after the kubelet was asked which devices it offers.
const SHORT_GRACES: [&str; 4] = ["--offer-grace", "12", "--smaller-offer-grace", "1"];
const UTILIZATION: &str = "DCGM_FI_DEV_GPU_UTIL{";

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    Suite::new()
        .test("pods_that_hold_devices_of_a_plugin_are_named_until_they_end", plugin)
        .test("a_device_that_is_unhealthy_for_its_plugin_changes_the_condition", unhealthy_device)
        .test("pods_with_claims_are_named_and_the_slices_compared", claims)
        .main()
}

/// A cluster with a kubelet, and the agent of its Node on a host with eight H100.
struct KubeletSetup {
    bed: Bed,
    client: Client,
    _host: FixtureHost,
    _agent: BedProcess,
}

impl KubeletSetup {
    /// With options for how long an offer is no verdict.
    async fn start(graces: &[&str]) -> anyhow::Result<KubeletSetup> {
        let bed = Bed::builder().version(KubernetesVersion::V1_37).node().start().await?;
        let client = bed.client().await?;
        let host = Fixture::named("nvidia-h100x8-nvml").lay_out();
        let mut command =
            host.afd(["run", "--node-name", Bed::NODE, "--listen", ADDRESS, "--start-spread", "0"]);
        command
            .args(["--pod-resources", "/var/lib/kubelet/pod-resources", "--sample-interval", "0.5"])
            .args(["--write-interval", "0.1", "--read-pods", "--dcgm-listen", DOOR])
            .args(graces)
            .arg("--kubeconfig")
            .arg(bed.kubeconfig());
        let agent = bed.process("afd", command)?;
        Ok(KubeletSetup { bed, client, _host: host, _agent: agent })
    }

    async fn node(&self) -> anyhow::Result<Node> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        Ok(nodes.get(Bed::NODE).await?)
    }

    /// The number of allocatable GPUs of the Node.
    async fn allocatable(&self) -> anyhow::Result<String> {
        let allocatable = self.node().await?.status.and_then(|status| status.allocatable);
        Ok(allocatable.context("nothing is allocatable")?.get(GPU).context("there is no GPU")?.0.clone())
    }

    async fn until_allocatable(&self, count: &str) -> anyhow::Result<()> {
        until(&format!("{count} GPUs are allocatable"), async || {
            let allocatable = self.allocatable().await?;
            ensure!(allocatable == count, "{allocatable} are");
            Ok(())
        })
        .await
    }

    async fn until_allocation(&self, value: &str) -> anyhow::Result<Node> {
        until(&format!("{ALLOCATION} is {value}"), async || {
            let node = self.node().await?;
            ensure!(node.labels().get(ALLOCATION).map(String::as_str) == Some(value), "{:?}", node.labels());
            Ok(node)
        })
        .await
    }

    async fn until_condition(&self, status: &str, reason: &str) -> anyhow::Result<NodeCondition> {
        until(&format!("the condition is {status}, {reason}"), async || {
            let conditions =
                self.node().await?.status.and_then(|status| status.conditions).unwrap_or_default();
            let condition = conditions.into_iter().find(|condition| condition.type_ == CONDITION);
            let condition = condition.context("there is none")?;
            ensure!(
                condition.status == status && condition.reason.as_deref() == Some(reason),
                "it is {condition:?}"
            );
            Ok(condition)
        })
        .await
    }

    async fn until_event(&self, reason: &str, note: &str) -> anyhow::Result<()> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let uid = self.node().await?.uid();
        until(&format!("there is an Event with the reason {reason}"), async || {
            let list = events.list(&Default::default()).await?;
            let ours = list.items.iter().filter(|event| {
                event.reason.as_deref() == Some(reason)
                    && event.note.as_ref().is_some_and(|text| text.contains(note))
                    && event.regarding.as_ref().is_some_and(|node| node.uid == uid)
            });
            ensure!(ours.count() == 1, "there are {:?}", list.items);
            Ok(())
        })
        .await
    }
}

fn lines(path: &str, family: &str) -> Vec<String> {
    // A starting agent does not accept connections yet.
    let Some(response) = Agent::try_get_from(ADDRESS, path) else { return Vec::new() };
    response.text().lines().filter(|line| line.starts_with(family)).map(str::to_owned).collect()
}

async fn until_lines(what: &str, path: &str, family: &str, count: usize) -> anyhow::Result<Vec<String>> {
    until(what, async || {
        let lines = lines(path, family);
        ensure!(lines.len() == count, "there are {lines:?}");
        Ok(lines)
    })
    .await
}

/// The UUIDs of the devices, as the agent reports them.
async fn uuids() -> anyhow::Result<Vec<String>> {
    let infos = until_lines("the devices are published", "/metrics", "accelerator_device_info{", 8).await?;
    let uuid = |line: &String| Some(line.split_once("uuid=\"")?.1.split_once('"')?.0.to_owned());
    infos.iter().map(|line| uuid(line).context("a device has a UUID")).collect()
}

/// Waits for values of the family `accelerator_resource_devices` of a resource, by state.
async fn until_counts(resource: &str, wanted: [(&str, u32); 3]) -> anyhow::Result<()> {
    until(&format!("{resource} is counted"), async || {
        let family = format!("accelerator_resource_devices{{resource=\"{resource}\",");
        let lines = lines("/metrics", &family);
        let count = |state: &str| {
            let line = lines.iter().find(|line| line.contains(&format!("state=\"{state}\"")))?;
            line.rsplit(' ').next()?.parse::<u32>().ok()
        };
        ensure!(wanted.iter().all(|(state, number)| count(state) == Some(*number)), "{lines:?}");
        Ok(())
    })
    .await
}

fn resources(count: u32) -> Value {
    json!({ "resources": { "limits": { GPU: count.to_string() } } })
}

async fn plugin() -> anyhow::Result<()> {
    // That a kubelet that restarts offers less is believed later.
    let mut setup = KubeletSetup::start(&["--offer-grace", "4"]).await?;
    setup.until_allocation("none").await?;
    setup.until_condition("False", "NotAllocatable").await?;
    setup.until_event("NotAllocatable", "no device plugin").await?;
    let mut plugin = DevicePlugin::start(GPU, uuids().await?).await?;
    let before = setup.until_allocation("device-plugin").await?;
    setup.until_condition("True", "AllHealthy").await?;
    setup.until_event("AllHealthy", "can take work").await?;
    until_counts(GPU, [("discovered", 8), ("allocatable", 8), ("allocated", 0)]).await?;

    pods::create(&setup.client, "decode", json!({}), resources(2)).await?;
    pods::until_running(&setup.client, "decode").await?;
    let allocated = until_lines("the pod is named", "/metrics", ALLOCATED, 2).await?;
    let holder = "namespace=\"default\",pod=\"decode\",container=\"pause\",resource=\"nvidia.com/gpu\",mechanism=\"device-plugin\"";
    ensure!(allocated.iter().all(|line| line.contains(holder)), "{allocated:?}");
    let named =
        lines("/compat/dcgm", UTILIZATION).iter().filter(|line| line.contains("pod=\"decode\"")).count();
    ensure!(named == 2, "/compat/dcgm names the pod {named} times");
    until_counts(GPU, [("discovered", 8), ("allocatable", 8), ("allocated", 2)]).await?;

    // A kubelet that has just started knows neither its pods nor its plugins.
    setup.bed.kill(Component::Kubelet)?;
    setup.bed.restart(Component::Kubelet).await?;
    setup.until_allocatable("0").await?;
    ensure_allocated(&allocated).await?;
    plugin.register().await?;
    setup.until_allocatable("8").await?;
    ensure_allocated(&allocated).await?;
    let after = setup.node().await?;
    ensure!(before.labels() == after.labels(), "labels changed to {:?}", after.labels());
    setup.until_condition("True", "AllHealthy").await?;
    let writes = lines("/metrics", "afd_label_writes_total ");
    ensure!(writes == ["afd_label_writes_total 2"], "one write for each change: {writes:?}");

    pods::delete(&setup.client, "decode").await?;
    until_lines("no pod holds a device", "/metrics", ALLOCATED, 0).await?;
    ensure!(
        lines("/compat/dcgm", UTILIZATION).iter().all(|line| line.contains("pod=\"\"")),
        "/compat/dcgm names a pod"
    );
    ensure_partner_is_credited(&setup.client).await
}

/// The pods that the door names.
fn pods_at_the_door() -> Vec<String> {
    let Some(response) = Agent::try_get_from(DOOR, "/metrics") else { return Vec::new() };
    let lines = response.text().lines().filter(|line| line.starts_with(UTILIZATION));
    let pod = |line: &str| Some(line.split_once("pod=\"")?.1.split_once('"')?.0.to_owned());
    lines.filter_map(pod).filter(|pod| !pod.is_empty()).collect()
}

/// Fast model actuation: the pod that serves is not the one that holds the device. Both name each other, and the one that serves names
/// the device; it is credited beside the holder, at the door alone.
async fn ensure_partner_is_credited(client: &Client) -> anyhow::Result<()> {
    let paired = |name: &str, partner: &str, devices: &str| {
        json!({
            "name": name,
            "labels": { "dual-pods.llm-d.ai/dual": partner },
            "annotations": { "dual-pods.llm-d.ai/accelerators": devices },
        })
    };
    pods::create_with(client, paired("requester", "launcher", ""), json!({}), resources(1)).await?;
    pods::until_running(client, "requester").await?;
    let held = until_lines("the holder is named", "/metrics", ALLOCATED, 1).await?;
    let uuid = held[0].split_once("uuid=\"").and_then(|(_, rest)| rest.split_once('"'));
    let uuid = uuid.context("the device has a UUID")?.0;
    // It names the holder, which does not name it.
    pods::create_with(client, paired("thief", "requester", uuid), json!({}), json!({})).await?;
    let devices = format!("GPU-0,{uuid}");
    pods::create_with(client, paired("launcher", "requester", &devices), json!({}), json!({})).await?;
    for name in ["thief", "launcher"] {
        pods::until_running(client, name).await?;
    }
    until("the door names the pod that serves", async || {
        let mut named = pods_at_the_door();
        named.sort();
        ensure!(named == ["launcher", "requester"], "it names {named:?}");
        Ok(())
    })
    .await?;
    let elsewhere = lines("/compat/dcgm", UTILIZATION).join("\n") + &lines("/metrics", ALLOCATED).join("\n");
    ensure!(elsewhere.contains("requester") && !elsewhere.contains("launcher"), "{elsewhere}");
    pods::delete(client, "requester").await?;
    until("the door names no pod", async || {
        ensure!(pods_at_the_door().is_empty(), "it names {:?}", pods_at_the_door());
        Ok(())
    })
    .await
}

/// Fails unless the allocations stay the same for longer than the agent's interval of asking the kubelet.
async fn ensure_allocated(allocated: &[String]) -> anyhow::Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        let now = lines("/metrics", ALLOCATED);
        ensure!(now == allocated, "after the start of the kubelet {now:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn unhealthy_device() -> anyhow::Result<()> {
    let setup = KubeletSetup::start(&SHORT_GRACES).await?;
    let uuids = uuids().await?;
    let plugin = DevicePlugin::start(GPU, uuids.clone()).await?;
    let before = setup.until_allocation("device-plugin").await?;
    setup.until_condition("True", "AllHealthy").await?;
    plugin.set_health(&uuids[3], false);
    let condition = setup.until_condition("False", "NotAllocatable").await?;
    let message = condition.message.unwrap_or_default();
    let infos = lines("/metrics", "accelerator_device_info{");
    let line = infos.iter().find(|line| line.contains(&uuids[3])).context("the device is published")?;
    let address = line
        .split_once("device=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .context("a device has an address")?
        .0;
    ensure!(
        message.contains("7 are allocatable as nvidia.com/gpu") && message.contains(address),
        "the message is {message}"
    );
    setup.until_event("NotAllocatable", "7 are allocatable").await?;
    plugin.set_health(&uuids[3], true);
    setup.until_condition("True", "AllHealthy").await?;
    let after = setup.node().await?;
    ensure!(before.labels() == after.labels(), "labels changed to {:?}", after.labels());
    Ok(())
}

/// The devices in the ResourceSlice of NVIDIA's DRA driver, with the attributes that matter here.
fn published(uuids: &[String]) -> Vec<DraDevice> {
    let device = |(number, uuid): (usize, &String)| DraDevice {
        name: format!("gpu-{number}"),
        attributes: vec![("uuid".to_owned(), uuid.clone()), ("type".to_owned(), "gpu".to_owned())],
    };
    uuids.iter().enumerate().map(device).collect()
}

async fn claims() -> anyhow::Result<()> {
    let setup = KubeletSetup::start(&SHORT_GRACES).await?;
    let devices = published(&uuids().await?);
    let driver = DraDriver::start(&setup.bed, DRIVER).await?;
    driver.publish(&devices).await?;
    setup.until_allocation("dra").await?;
    setup.until_condition("True", "AllHealthy").await?;
    until_counts(DRIVER, [("discovered", 8), ("allocatable", 8), ("allocated", 0)]).await?;

    claim(&setup.client).await?;
    let spec = json!({ "resourceClaims": [{ "name": "gpus", "resourceClaimName": "two" }] });
    let container = json!({ "resources": { "claims": [{ "name": "gpus" }] } });
    pods::create(&setup.client, "prefill", spec, container).await?;
    pods::until_running(&setup.client, "prefill").await?;
    let allocated = until_lines("the pod is named", "/metrics", ALLOCATED, 2).await?;
    let holder = "pod=\"prefill\",container=\"pause\",resource=\"gpu.nvidia.com/two\",mechanism=\"dra\"";
    ensure!(allocated.iter().all(|line| line.contains(holder)), "{allocated:?}");
    let named =
        lines("/compat/dcgm", UTILIZATION).iter().filter(|line| line.contains("pod=\"prefill\"")).count();
    ensure!(named == 2, "/compat/dcgm names the pod {named} times");
    until_counts(DRIVER, [("discovered", 8), ("allocatable", 8), ("allocated", 2)]).await?;
    pods::delete(&setup.client, "prefill").await?;
    until_lines("no pod holds a device", "/metrics", ALLOCATED, 0).await?;

    driver.publish(&devices[..7]).await?;
    let condition = setup.until_condition("False", "NotAllocatable").await?;
    ensure!(
        condition
            .message
            .as_deref()
            .is_some_and(|message| message.starts_with("the DRA driver gpu.nvidia.com does not publish")),
        "{condition:?}"
    );
    // A device plugin that offers the same devices.
    driver.publish(&devices).await?;
    setup.until_condition("True", "AllHealthy").await?;
    let _plugin = DevicePlugin::start(GPU, uuids().await?).await?;
    setup.until_allocation("both").await?;
    setup.until_condition("True", "OfferedTwice").await?;
    Ok(())
}

/// A claim for two devices of the driver.
async fn claim(client: &Client) -> anyhow::Result<()> {
    let selector = json!({ "cel": { "expression": format!("device.driver == '{DRIVER}'") } });
    let class = json!({ "metadata": { "name": DRIVER }, "spec": { "selectors": [selector] } });
    let classes: Api<DeviceClass> = Api::all(client.clone());
    classes.create(&PostParams::default(), &serde_json::from_value(class)?).await?;
    let request = json!({ "name": "gpus", "exactly": { "deviceClassName": DRIVER, "count": 2 } });
    let claim = json!({ "metadata": { "name": "two" }, "spec": { "devices": { "requests": [request] } } });
    let claims: Api<ResourceClaim> = Api::namespaced(client.clone(), pods::NAMESPACE);
    claims.create(&PostParams::default(), &serde_json::from_value(claim)?).await?;
    Ok(())
}
