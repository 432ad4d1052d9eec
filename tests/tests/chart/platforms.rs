//! The values of `daemonset/platforms`: each is valid, says where its facts are from, and fits what only that platform knows.

use std::{collections::BTreeSet, fs};

use afd_test_cluster::{Bed, succeed};
use afd_tests::workspace;
use anyhow::{Context, ensure};
use regex::Regex;
use serde_json::{Value, json};

use super::{NAMESPACE, agent, objects, of_kind, validate, ways};

/// What distinguishes the nodes of a platform from those of another one.
struct Platform {
    name: &'static str,
    /// The root of the kubelet.
    kubelet: &'static str,
    /// Roots of drivers that its hosts may have.
    drivers: &'static [&'static str],
    /// No folder can be created under these.
    read_only: &'static [&'static str],
    /// What every host has there, with a GPU or without.
    existing: &'static [&'static str],
    /// Pod Security enforces less than `privileged` where a namespace has no label.
    enforces_pod_security: bool,
    /// Pods of a system class need a quota outside of kube-system.
    limits_classes: bool,
    /// The SELinux type with which a container may connect to the kubelet's socket, where SELinux is enforced.
    se_linux: Option<&'static str>,
    /// Labels of nodes, and the DaemonSet that serves them.
    nodes: &'static [(&'static [(&'static str, &'static str)], &'static str)],
}

const OPERATOR: &[(&str, &str)] =
    &[("nvidia.com/gpu.deploy.container-toolkit", "true"), ("nvidia.com/gpu.deploy.driver", "true")];
const NFD: &[(&str, &str)] = &[("feature.node.kubernetes.io/pci-0302_10de.present", "true")];
const EKSCTL: &[(&str, &str)] = &[("k8s.amazonaws.com/accelerator", "nvidia-tesla-t4")];
const NO_GPU: &[(&str, &str)] = &[("kubernetes.io/os", "linux")];
const KUBELET: &str = "/var/lib/kubelet";

const PLATFORMS: [Platform; 9] = [
    Platform {
        name: "gke",
        kubelet: KUBELET,
        drivers: &["/home/kubernetes/bin/nvidia", "/run/nvidia/driver"],
        read_only: &["/usr", "/opt"],
        existing: &[],
        enforces_pod_security: false,
        limits_classes: true,
        se_linux: None,
        nodes: &[
            (&[("cloud.google.com/gke-accelerator", "nvidia-l4")], "host"),
            (OPERATOR, "runtime"),
            (NO_GPU, "none"),
        ],
    },
    Platform {
        name: "eks",
        kubelet: KUBELET,
        drivers: &["/", "/run/nvidia/driver"],
        read_only: &[],
        existing: &[],
        enforces_pod_security: false,
        limits_classes: false,
        se_linux: None,
        nodes: &[(EKSCTL, "host"), (NFD, "host"), (OPERATOR, "runtime"), (NO_GPU, "none")],
    },
    Platform {
        name: "aks",
        kubelet: KUBELET,
        drivers: &["/", "/run/nvidia/driver"],
        read_only: &[],
        existing: &[],
        enforces_pod_security: false,
        limits_classes: false,
        se_linux: None,
        nodes: &[
            (&[("kubernetes.azure.com/accelerator", "nvidia")], "host"),
            (OPERATOR, "runtime"),
            (NO_GPU, "none"),
        ],
    },
    Platform {
        name: "openshift",
        kubelet: KUBELET,
        drivers: &["/run/nvidia/driver"],
        read_only: &["/usr"],
        existing: &[],
        enforces_pod_security: true,
        limits_classes: false,
        se_linux: Some("spc_t"),
        nodes: &[(OPERATOR, "runtime"), (NFD, "none"), (NO_GPU, "none")],
    },
    Platform {
        name: "k3s",
        kubelet: KUBELET,
        drivers: &["/", "/run/nvidia/driver"],
        read_only: &[],
        existing: &[],
        enforces_pod_security: false,
        limits_classes: false,
        se_linux: None,
        nodes: &[
            (&[("nvidia.runtime", "k3s")], "runtime"),
            (NFD, "host"),
            (OPERATOR, "runtime"),
            (NO_GPU, "none"),
        ],
    },
    Platform {
        name: "rke2",
        kubelet: KUBELET,
        drivers: &["/", "/run/nvidia/driver"],
        read_only: &[],
        existing: &[],
        enforces_pod_security: true,
        limits_classes: false,
        se_linux: Some("spc_t"),
        nodes: &[(NFD, "host"), (OPERATOR, "runtime"), (NO_GPU, "none")],
    },
    Platform {
        name: "talos",
        kubelet: KUBELET,
        drivers: &["/usr/local/glibc"],
        read_only: &["/"],
        existing: &[],
        enforces_pod_security: true,
        limits_classes: false,
        se_linux: None,
        nodes: &[
            (
                &[("extensions.talos.dev/nvidia-container-toolkit-production", "570.211.01-v1.18.2")],
                "runtime",
            ),
            (NFD, "none"),
            (NO_GPU, "none"),
        ],
    },
    Platform {
        name: "bottlerocket",
        kubelet: KUBELET,
        drivers: &["/x86_64-bottlerocket-linux-gnu/sys-root"],
        read_only: &["/"],
        existing: &["/x86_64-bottlerocket-linux-gnu/sys-root"],
        enforces_pod_security: false,
        limits_classes: false,
        se_linux: Some("control_t"),
        nodes: &[(EKSCTL, "host"), (NFD, "host"), (NO_GPU, "none")],
    },
    Platform {
        name: "bare-metal",
        kubelet: KUBELET,
        drivers: &["/", "/run/nvidia/driver"],
        read_only: &[],
        existing: &[],
        enforces_pod_security: false,
        limits_classes: false,
        se_linux: None,
        nodes: &[(OPERATOR, "runtime"), (NFD, "host"), (NO_GPU, "none")],
    },
];

pub(crate) async fn platforms() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    succeed(bed.kubectl()?.args(["create", "namespace", NAMESPACE]))?;
    let folder = workspace().join("daemonset/platforms");
    let known: BTreeSet<String> =
        PLATFORMS.iter().map(|platform| format!("{}.yaml", platform.name)).collect();
    let found = fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<BTreeSet<String>>>()?;
    ensure!(found == known, "{found:?} are not the platforms that this test knows");
    let mut all = String::new();
    for platform in &PLATFORMS {
        let file = folder.join(format!("{}.yaml", platform.name));
        let text = fs::read_to_string(&file)?;
        every_setting_has_a_reason_and_a_source(&text).context(platform.name)?;
        let option = format!("--values={}", file.display());
        succeed(bed.helm()?.args(["lint", "--strict", &option]).arg(afd_tests::chart::chart()))?;
        let objects = objects(&bed, &[&option]).context(platform.name)?;
        fits(platform, &objects).context(platform.name)?;
        let standard = objects.iter().filter(|object| {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            !version.starts_with("monitoring.coreos.com") && !version.starts_with("security.openshift.io")
        });
        let documents: String = standard.map(|object| format!("---\n{object}\n")).collect();
        let rendered = bed.folder().join(format!("{}.yaml", platform.name));
        fs::write(&rendered, &documents)?;
        succeed(bed.kubectl()?.args(["apply", "--dry-run=server", "--validate=strict", "-f"]).arg(&rendered))
            .context(platform.name)?;
        all += &documents;
    }
    let file = bed.folder().join("platforms-all.yaml");
    fs::write(&file, all)?;
    validate(&bed, &file)
}

/// Above each setting is a comment; each group names the source of its facts.
fn every_setting_has_a_reason_and_a_source(text: &str) -> anyhow::Result<()> {
    let key = Regex::new("^ *[A-Za-z][A-Za-z0-9./-]*:( .*)?$")?;
    let mut comment = String::new();
    for (index, line) in text.lines().enumerate() {
        let is_key = key.is_match(line);
        let has_value = line.trim_end().split_once(':').is_some_and(|(_, value)| !value.is_empty());
        ensure!(!is_key || !has_value || !comment.is_empty(), "line {} has no reason: {line}", index + 1);
        match line.trim_start().strip_prefix('#') {
            Some(words) => comment += words,
            // The comment of a group is that of its first field.
            None if is_key && !has_value => {}
            None => comment.clear(),
        }
    }
    // Blocks are separated by empty lines; the first one is the title.
    for block in text.split("\n\n").skip(1) {
        ensure!(block.contains("# Source: "), "no source of:\n{block}");
    }
    Ok(())
}

fn fits(platform: &Platform, objects: &[Value]) -> anyhow::Result<()> {
    let namespace = of_kind(objects, "Namespace").first().map(|one| one["metadata"]["labels"].clone());
    let level = namespace.map(|labels| labels["pod-security.kubernetes.io/enforce"].clone());
    ensure!(
        !platform.enforces_pod_security || level == Some(json!("privileged")),
        "the namespace enforces {level:?}"
    );
    let sets = of_kind(objects, "DaemonSet");
    for set in &sets {
        let pod = &set["spec"]["template"]["spec"];
        let class = &pod["priorityClassName"];
        let quota = of_kind(objects, "ResourceQuota");
        let quota =
            quota.first().map(|one| &one["spec"]["scopeSelector"]["matchExpressions"][0]["values"][0]);
        ensure!(!platform.limits_classes || quota == Some(class), "{class} is refused: {quota:?}");
        let container = agent(set);
        let own_type = container["securityContext"]["seLinuxOptions"]["type"].as_str();
        ensure!(own_type == platform.se_linux, "the SELinux type is {own_type:?}");
        for volume in pod["volumes"].as_array().into_iter().flatten() {
            let Some(path) = volume["hostPath"]["path"].as_str() else { continue };
            host_path(platform, container, volume, path)?;
        }
    }
    for (labels, expected) in platform.nodes {
        let node = labels.iter().copied().collect();
        let serving: Vec<&Value> = sets.iter().copied().filter(|set| ways::serves(set, &node)).collect();
        let [set] = serving.as_slice() else {
            anyhow::bail!("{} DaemonSets serve {labels:?}", serving.len())
        };
        let way = &set["spec"]["selector"]["matchLabels"]["accelerator.llm-d.ai/nvidia"];
        ensure!(way == expected, "{labels:?} is served by {way}");
    }
    Ok(())
}

/// Each path that is mounted is one that the hosts have, or that the kubelet can create.
fn host_path(platform: &Platform, container: &Value, volume: &Value, path: &str) -> anyhow::Result<()> {
    let mounts = container["volumeMounts"].as_array().context("there are mounts")?;
    let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).context("it is mounted")?;
    ensure!(mount["readOnly"] == true, "{path} can be written");
    if path.starts_with("/sys/") || path.starts_with("/proc/") {
        return Ok(());
    }
    if path.ends_with("/pod-resources") {
        ensure!(path == format!("{}/pod-resources", platform.kubelet), "{path}");
        return Ok(());
    }
    let is_driver = platform.drivers.contains(&path) || (path == "/usr" && platform.drivers.contains(&"/"));
    ensure!(is_driver, "{path} is not on these hosts");
    // The root of all these hosts is a shared mount: a container sees what is mounted there later.
    let is_later = volume["hostPath"]["type"] == "DirectoryOrCreate";
    let propagation = if is_later { json!("HostToContainer") } else { Value::Null };
    ensure!(mount["mountPropagation"] == propagation, "{path}: {mount}");
    let is_read_only = platform.read_only.iter().any(|own| path.starts_with(own));
    let is_created = is_later && !platform.existing.contains(&path);
    ensure!(!is_created || !is_read_only, "{path} cannot be created");
    Ok(())
}
