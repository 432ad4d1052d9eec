//! The values of the platforms, installed one after the other on a real kubelet: the Node has the labels that the platform sets, and the
//! host has the driver where the platform's hosts have it.

use std::{fs, path::Path};

use afd_test_cluster::{Bed, image::Image, mounts, succeed, until};
use afd_tests::{
    chart::{chart, values_option},
    fixture::{Fixture, FixtureHost},
    workspace,
};
use anyhow::{Context, ensure};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Namespace, Node},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{HELM_TIMEOUT, setup::IMAGE};

const NAMESPACE: &str = "afd";
const MEMORY: &str = "nvidia.com/gpu.memory";
const MODEL: &str = "accelerator.llm-d.ai/model";
const TOOLKIT: &str = "nvidia.com/gpu.deploy.container-toolkit";
const DRIVER: &str = "nvidia.com/gpu.deploy.driver";

/// A platform, the labels of its Node, the DaemonSet that serves it, and where its hosts have NVML.
struct Installed {
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
    way: &'static str,
    libraries: Option<&'static str>,
}

/// Those that can be installed here. OpenShift has kinds of its own; a runtime of NVIDIA, as Talos has it, is not installed. The first
/// one has no library, since its facts would be kept.
const PLATFORMS: [Installed; 8] = [
    Installed { name: "talos", labels: &[], way: "none", libraries: None },
    Installed {
        name: "gke",
        labels: &[("cloud.google.com/gke-accelerator", "nvidia-h100-80gb")],
        way: "host",
        libraries: Some("home/kubernetes/bin/nvidia/lib64"),
    },
    Installed {
        name: "bottlerocket",
        labels: &[("k8s.amazonaws.com/accelerator", "nvidia-h100")],
        way: "host",
        libraries: Some("x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla"),
    },
    Installed {
        name: "bare-metal",
        labels: &[(TOOLKIT, "false"), (DRIVER, "true")],
        way: "container",
        libraries: Some("run/nvidia/driver/usr/lib64"),
    },
    Installed {
        name: "rke2",
        labels: &[(TOOLKIT, "false"), (DRIVER, "pre-installed")],
        way: "host",
        libraries: Some("usr/lib64"),
    },
    Installed {
        name: "eks",
        labels: &[("k8s.amazonaws.com/accelerator", "nvidia-h100")],
        way: "host",
        libraries: Some("usr/lib64"),
    },
    Installed {
        name: "aks",
        labels: &[("kubernetes.azure.com/accelerator", "nvidia")],
        way: "host",
        libraries: Some("usr/lib64"),
    },
    Installed {
        name: "k3s",
        labels: &[("feature.node.kubernetes.io/pci-0302_10de.present", "true")],
        way: "host",
        libraries: Some("usr/lib64"),
    },
];

pub(crate) async fn platforms() -> anyhow::Result<()> {
    let bed = Bed::builder().node().start().await?;
    bed.import(&Image::new(IMAGE, &afd_tests::image_binary())?.with_libraries()?)?;
    let client = bed.client().await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let before = nodes.get(Bed::NODE).await?.labels().clone();
    let mut current: Option<FixtureHost> = None;
    for (index, platform) in PLATFORMS.iter().enumerate() {
        let own: Value = platform.labels.iter().copied().collect();
        patch_labels(&nodes, &own).await?;
        // A host of its own, so that no other place has the library.
        let host = current.take().map_or_else(|| host(platform), Ok)?;
        install(&bed, platform.name, &host).with_context(|| platform.name.to_owned())?;
        serves(&client, platform).await?;
        until(&format!("the node has the labels of {}", platform.name), async || {
            let node = nodes.get(Bed::NODE).await?;
            let label = |key: &str| node.labels().get(key).map(String::as_str);
            ensure!(label(MODEL) == Some("H100"), "{:?}", node.labels());
            let memory = platform.libraries.map(|_| "81559");
            ensure!(label(MEMORY) == memory, "{MEMORY} is {:?}", label(MEMORY));
            Ok(())
        })
        .await?;
        if platform.name == "talos" {
            let namespace = namespaces.get(NAMESPACE).await?;
            let level = namespace.labels().get("pod-security.kubernetes.io/enforce").map(String::as_str);
            ensure!(level == Some("privileged"), "the namespace enforces {level:?}");
        }
        let none: Value = platform.labels.iter().map(|(key, _)| (*key, Value::Null)).collect();
        patch_labels(&nodes, &none).await?;
        if PLATFORMS.get(index + 1).is_some_and(|next| next.libraries == platform.libraries) {
            current = Some(host);
            continue;
        }
        // The next one has to find the library itself.
        succeed(bed.helm()?.args([
            "uninstall",
            NAMESPACE,
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout",
            HELM_TIMEOUT,
        ]))?;
        until(&format!("nothing of {} is left", platform.name), async || {
            let node = nodes.get(Bed::NODE).await?;
            ensure!(*node.labels() == before, "{:?}", node.labels());
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until the node has an agent of the DaemonSet that is meant for it, and of no other one.
async fn serves(client: &Client, platform: &Installed) -> anyhow::Result<()> {
    let sets: Api<DaemonSet> = Api::namespaced(client.clone(), NAMESPACE);
    let name = format!("{NAMESPACE}-nvidia-{}", platform.way);
    until(&format!("{name} serves the node of {}", platform.name), async || {
        let all = sets.list(&ListParams::default()).await?;
        let ready = |set: &DaemonSet| set.status.as_ref().map_or(0, |status| status.number_ready);
        let serving: Vec<String> =
            all.items.iter().filter(|set| ready(set) > 0).map(ResourceExt::name_any).collect();
        ensure!(serving == [name.clone()], "{serving:?}");
        Ok(())
    })
    .await
}

async fn patch_labels(nodes: &Api<Node>, labels: &Value) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
    nodes.patch(Bed::NODE, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// A host with eight H100 whose root is a shared mount, and the library in one place.
fn host(platform: &Installed) -> anyhow::Result<FixtureHost> {
    let host = Fixture::named("nvidia-h100x8-nvml").copy();
    host.add_mounted_paths();
    fs::create_dir_all(host.root().join("usr"))?;
    if let Some(place) = platform.libraries {
        let to = host.root().join(place);
        fs::create_dir_all(&to)?;
        for file in fs::read_dir(host.driver_root().path().join("usr/lib64"))? {
            let file = file?;
            fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    mounts::share(host.root())?;
    Ok(host)
}

fn install(bed: &Bed, name: &str, host: &FixtureHost) -> anyhow::Result<()> {
    let values = json!({
        "image": { "repository": "localhost/afd", "tag": "test", "pullPolicy": "Never" },
        "startSpreadSeconds": 0,
        "discoveryIntervalSeconds": 1,
        "writeIntervalSeconds": 1,
        "readinessProbe": { "periodSeconds": 1 },
        "hostRoot": host.root(),
    });
    let platform = workspace().join("daemonset/platforms").join(format!("{name}.yaml"));
    ensure!(Path::exists(&platform), "{} is missing", platform.display());
    let mut helm = bed.helm()?;
    helm.args([
        "upgrade",
        "--install",
        NAMESPACE,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--take-ownership",
    ]);
    helm.args(["--wait", "--timeout", HELM_TIMEOUT]).arg(chart());
    helm.arg(format!("--values={}", platform.display())).arg(values_option(bed.folder(), &values));
    if let Err(error) = succeed(&mut helm) {
        let pods = succeed(bed.kubectl()?.args(["--namespace", NAMESPACE, "describe", "pods"]))?;
        return Err(error.context(pods));
    }
    Ok(())
}
