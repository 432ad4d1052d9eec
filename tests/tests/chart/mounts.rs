//! Which paths of the host the chart mounts for which values, and as which user the agent reads them.

use afd_test_cluster::Bed;
use afd_tests::chart::values_option;
use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{agent, daemonset, render};

/// The paths of the host that the chart mounts for values.
fn host_paths(bed: &Bed, values: &Value) -> anyhow::Result<Vec<String>> {
    let set = daemonset(bed, values)?;
    let volumes = set["spec"]["template"]["spec"]["volumes"].as_array().context("there are volumes")?;
    let mounts = agent(&set)["volumeMounts"].as_array().context("there are mounts")?;
    let mut paths = Vec::new();
    for volume in volumes {
        let Some(path) = volume["hostPath"]["path"].as_str() else { continue };
        let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).context("it is mounted")?;
        ensure!(mount["readOnly"] == true, "{path} can be written");
        ensure!(volume["hostPath"]["type"].is_string(), "the type of {path} is not checked");
        paths.push(path.to_owned());
    }
    paths.sort();
    Ok(paths)
}

pub(crate) async fn mounts() -> anyhow::Result<()> {
    let bed = Bed::builder().start().await?;
    let read = [
        "/proc/driver",
        "/proc/meminfo",
        "/proc/sys/kernel/osrelease",
        "/proc/sys/kernel/random/boot_id",
        "/sys/bus",
        "/sys/class",
        "/sys/devices",
        "/sys/module",
    ];
    let with = |more: &[&str]| {
        let mut paths: Vec<String> = read.iter().chain(more).map(|path| (*path).to_owned()).collect();
        paths.sort();
        paths
    };
    let pods = "/var/lib/kubelet/pod-resources";
    for (values, more) in [
        (json!({}), &[pods][..]),
        (json!({ "profile": "labels" }), &[]),
        (json!({ "nvidia": { "runtimeClassName": "nvidia" } }), &[pods]),
        (json!({ "nvidia": { "driverRoot": "/" } }), &[pods, "/usr"]),
        (json!({ "nvidia": { "driverRoot": "/run/nvidia/driver/" } }), &[pods, "/run/nvidia/driver"]),
        (json!({ "amd": { "driverRoot": "/" } }), &[pods, "/opt", "/usr"]),
        (json!({ "gaudi": { "driverRoot": "/" } }), &[pods, "/usr"]),
        (json!({ "amd": { "debugfs": true } }), &[pods, "/sys/kernel/debug"]),
        (json!({ "tpu": { "metadata": true } }), &[pods, "/etc/tpu"]),
    ] {
        let paths = host_paths(&bed, &values)?;
        ensure!(paths == with(more), "with {values} it mounts {paths:#?}");
    }
    // Without libraries no root of theirs is used, and nothing needs a privilege.
    let every_root = json!({ "libraries": false, "openshift": { "scc": true }, "nvidia": { "driverRoot": "/" }, "amd": { "driverRoot": "/" },
        "intel": { "driverRoot": "/run/intel" }, "gaudi": { "driverRoot": "/" } });
    let paths = host_paths(&bed, &every_root)?;
    ensure!(paths == with(&[pods]), "without libraries it mounts {paths:#?}");
    let set = daemonset(&bed, &every_root)?;
    let own = &agent(&set)["securityContext"];
    ensure!(own["privileged"].is_null() && own["capabilities"] == json!({ "drop": ["ALL"] }), "{own}");
    ensure!(!super::arguments(&set).iter().any(|argument| argument.contains("-root=/host/")), "{set}");
    let scc = render(&bed, &[&values_option(bed.folder(), &every_root)])?;
    ensure!(scc.contains("allowPrivilegedContainer: false"), "{scc}");
    let fewer = host_paths(&bed, &json!({ "skipHostPaths": ["/proc/driver"], "profile": "labels" }))?;
    ensure!(fewer.len() + 1 == read.len(), "{fewer:#?}");
    let same = host_paths(&bed, &json!({ "skipHostPaths": ["/proc/driver/"], "profile": "labels" }))?;
    ensure!(same == fewer, "{same:#?}");
    // Also what no value mounts now.
    let unmounted = json!(["/opt", "/etc/tpu", "/run/nvidia/driver/"]);
    let all = host_paths(&bed, &json!({ "skipHostPaths": unmounted, "profile": "labels" }))?;
    ensure!(all.len() == read.len(), "{all:#?}");
    for near in ["/proc/drivers", "/sys", "/sys/bus/pci", "/"] {
        let refused = daemonset(&bed, &json!({ "skipHostPaths": [near] })).err();
        let error = format!("{:#}", refused.with_context(|| format!("the chart accepts {near}"))?);
        ensure!(error.contains(&format!("skipHostPaths: {near} is never mounted")), "{error}");
    }
    // A host whose root is no shared mount refuses propagation.
    for (propagates, count) in [(true, 1), (false, 0)] {
        let values =
            json!({ "nvidia": { "driverRoot": "/run/nvidia/driver" }, "mountPropagation": propagates });
        let set = daemonset(&bed, &values)?;
        let mounts = agent(&set)["volumeMounts"].as_array().context("there are mounts")?;
        let later = mounts.iter().filter(|mount| mount["mountPropagation"] == "HostToContainer").count();
        ensure!(later == count, "{mounts:#?}");
    }
    // User 0 is for the socket of the kubelet alone, and has no capability but the one that counts.
    for (profile, is_root) in [("labels", false), ("full", true)] {
        let set = daemonset(&bed, &json!({ "profile": profile }))?;
        let context = &agent(&set)["securityContext"];
        ensure!((context["runAsUser"] == 0) == is_root, "{context}");
        ensure!(context["capabilities"] == json!({ "drop": ["ALL"] }), "{context}");
    }
    let counting = |root: &str| json!({ "intel": { "engineCounters": true, "driverRoot": root } });
    let context = |set: &Value| agent(set)["securityContext"].clone();
    let own = context(&daemonset(&bed, &counting(""))?);
    ensure!(own["capabilities"] == json!({ "drop": ["ALL"], "add": ["PERFMON"] }), "{own}");
    let privileged = context(&daemonset(&bed, &counting("/"))?);
    ensure!(privileged["capabilities"].is_null() && privileged["privileged"] == true, "{privileged}");
    let scc = render(&bed, &["--set", "intel.engineCounters=true,openshift.scc=true"])?;
    ensure!(scc.contains("allowedCapabilities: [\"PERFMON\"]"), "{scc}");
    for refused in ["profile=labels", "libraries=false"] {
        let switches = format!("intel.engineCounters=true,{refused}");
        ensure!(render(&bed, &["--set", &switches]).is_err(), "{refused}: nothing would be counted");
    }
    Ok(())
}
