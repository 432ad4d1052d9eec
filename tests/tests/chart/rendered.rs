//! What the chart renders for some values.

use afd_agent::args::Args;
use anyhow::{Context, ensure};
use clap::CommandFactory;

/// A container runtime is asked for GPUs by a variable, or by a mount where it ignores the variable.
pub(crate) fn visible_devices(render: &impl Fn(&[&str]) -> anyhow::Result<String>) -> anyhow::Result<()> {
    const MOUNT: &str = "/var/run/nvidia-container-devices/all";
    let with = |values: &str| render(&["--set", values]);
    ensure!(!with("nvidia.visibleDevices=mount")?.contains(MOUNT), "no runtime is asked");
    let by_variable = with("nvidia.runtimeClassName=nvidia")?;
    ensure!(by_variable.contains("value: all") && !by_variable.contains(MOUNT), "{by_variable}");
    let by_mount = with("nvidia.runtimeClassName=nvidia,nvidia.visibleDevices=mount")?;
    let folder = "- name: NVIDIA_VISIBLE_DEVICES\n          value: /var/run/nvidia-container-devices\n";
    ensure!(by_mount.contains(MOUNT) && by_mount.contains(folder), "{by_mount}");
    Ok(())
}

/// What OpenShift allows the agent is what its pod asks for.
pub(crate) fn openshift(render: &impl Fn(&[&str]) -> anyhow::Result<String>) -> anyhow::Result<()> {
    for (values, expected) in [
        (
            "profile=full,seLinuxType=spc_t",
            ["Network: true", "PrivilegedContainer: false", "{type: RunAsAny}", "[ALL]", "{type: RunAsAny}"],
        ),
        (
            "profile=labels,hostNetwork=false,nvidia.driverRoot=/",
            [
                "Network: false",
                "PrivilegedContainer: true",
                "{type: MustRunAsNonRoot}",
                "[]",
                "{type: MustRunAs}",
            ],
        ),
    ] {
        let text = render(&["--set", "openshift.scc=true", "--set", values])?;
        let [network, privileged, user, drop, context] = expected;
        for line in [
            "kind: SecurityContextConstraints".to_owned(),
            "- system:serviceaccount:afd:afd".to_owned(),
            "allowHostDirVolumePlugin: true".to_owned(),
            format!("allowHost{network}"),
            format!("allow{privileged}"),
            format!("runAsUser: {user}"),
            format!("requiredDropCapabilities: {drop}"),
            format!("seLinuxContext: {context}"),
        ] {
            ensure!(text.lines().any(|own| own == line), "{line} is not in {text}");
        }
    }
    ensure!(!render(&[])?.contains("SecurityContextConstraints"));
    let prometheus = "- kind: ServiceAccount\n  name: prometheus-k8s\n  namespace: openshift-monitoring\n";
    ensure!(!render(&[])?.contains(prometheus), "the cluster's Prometheus has a right");
    let text = render(&["--set", "openshift.monitoring=true"])?;
    ensure!(text.contains(prometheus) && text.contains("resources: [services, endpoints, pods]"), "{text}");
    ensure!(render(&["--set", "seLinuxType=spc_t"])?.contains("seLinuxOptions:\n            type: spc_t\n"));
    Ok(())
}

/// How the agents exclude each other, and which Nodes the cleanup job leaves alone.
pub(crate) fn claim_and_cleanup(render: &impl Fn(&[&str]) -> anyhow::Result<String>) -> anyhow::Result<()> {
    let has = |text: &str, line: &str| text.lines().any(|own| own.trim() == line);
    let text = render(&[])?;
    ensure!(has(&text, "- \"--managed-by=afd/afd\"") && !text.contains("--node-lock"), "{text}");
    let text = render(&["--set", "hostNetwork=false"])?;
    ensure!(has(&text, "- --node-lock=file"), "{text}");
    // The hooks are not part of the manifests.
    let job = |values: &str| render(&["--no-hooks=false", "--set", values]);
    let text = job("nodeSelector.pool=gpu")?;
    ensure!(has(&text, "- cleanup") && text.matches("pool: gpu").count() == 2, "{text}");
    ensure!(text.matches("--managed-by=afd/afd").count() == 2, "{text}");
    let text = job("cleanup.nodeSelector.pool=any,cleanup.otherReleases=true")?;
    ensure!(has(&text, "pool: any") && text.matches("--managed-by=afd/afd").count() == 1, "{text}");
    let text = job("admissionPolicy.enabled=false")?;
    ensure!(!text.contains("kind: ValidatingAdmissionPolicy"), "{text}");
    Ok(())
}

/// The bridge: its options, who opts in by its policy, and that it is never installed without one.
pub(crate) fn bridge(render: &impl Fn(&[&str]) -> anyhow::Result<String>) -> anyhow::Result<()> {
    ensure!(!render(&[])?.contains("afd-bridge"), "it is off by default");
    let refused = render(&["--set", "bridge.enabled=true,admissionPolicy.enabled=false"]);
    let error = format!("{:#}", refused.err().context("it is installed without a policy")?);
    ensure!(error.contains("bridge.enabled needs admissionPolicy.enabled"), "{error}");
    // Without a heartbeat its rules would be deleted, and created again with the next one.
    for (heartbeat, is_accepted) in [
        ("heartbeatIntervalSeconds=0", false),
        ("heartbeatIntervalSeconds=86400", false),
        ("heartbeatIntervalSeconds=10800", false),
        ("writeIntervalSeconds=10800", false),
        ("heartbeatIntervalSeconds=1", true),
        ("heartbeatIntervalSeconds=8940,writeIntervalSeconds=60", true),
    ] {
        let values = format!("bridge.enabled=true,bridge.deviceTaints=None,{heartbeat}");
        let error = render(&["--set", &values]).err().map(|error| format!("{error:#}")).unwrap_or_default();
        let is_refused = error.contains("bridge.deviceTaints: heartbeatIntervalSeconds must not");
        ensure!(error.is_empty() == is_accepted && is_refused != is_accepted, "{heartbeat}: {error}");
        render(&["--set", &format!("bridge.enabled=true,{heartbeat}")])?;
    }
    let selectors = "bridge.podSelectors={a/b,!c\\,d=e\\,f!=g}";
    let more = "bridge.enabled=true,bridge.deviceTaints=None,bridge.maxDeviceTaints=7,bridge.rackLabel=x/rack,bridge.writesPerSecond=3";
    let text = render(&["--show-only", "templates/bridge.yaml", "--set", more, "--set", selectors])?;
    let (_, arguments) = text.split_once("args:\n").context("the container has arguments")?;
    let (arguments, _) = arguments.split_once("env:").context("the container has variables")?;
    let arguments: Vec<&str> = arguments
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("- ")?.trim_matches('"')))
        .collect();
    let mut command = Args::command();
    command.build();
    let known = command.find_subcommand("bridge").context("there is a command bridge")?;
    for option in known.get_arguments().filter_map(|option| option.get_long()) {
        let is_given = arguments.iter().any(|given| given.starts_with(&format!("--{option}=")));
        let is_global =
            known.get_arguments().any(|own| own.get_long() == Some(option) && own.is_global_set());
        // The chart has a service account, and the Lease its usual duration.
        let is_left_out = is_global || ["kubeconfig", "lease-duration", "help"].contains(&option);
        ensure!(is_given != is_left_out, "--{option} in {arguments:?}");
    }
    Args::command().try_get_matches_from(["afd"].into_iter().chain(arguments.iter().copied()))?;
    let with_constraints = "bridge.enabled=true,openshift.scc=true,cleanup.enabled=false";
    let role = render(&["--show-only", "templates/bridge.yaml", "--set", with_constraints])?;
    ensure!(role.contains("resourceNames: [nonroot-v2]"), "restricted-v2 refuses its user: {role}");
    ensure!(!text.contains("nonroot-v2"), "{text}");
    let policy = render(&["--show-only", "templates/bridgepolicy.yaml", "--set", more, "--set", selectors])?;
    // Of no release, so that Helm refuses a second bridge.
    let of_cluster = "name: accelerator-feature-discovery-bridge\n";
    ensure!(policy.contains(&format!("metadata:\n  {of_cluster}")), "{policy}");
    // What the bridge of another release keeps writing is left alone, and without its policy the job has no right.
    for (values, is_cleaned) in [
        ("bridge.enabled=true", true),
        ("cleanup.otherReleases=true", true),
        ("bridge.enabled=false", false),
        ("cleanup.otherReleases=true,admissionPolicy.enabled=false", false),
    ] {
        let text = render(&["--no-hooks=false", "--set", values])?;
        ensure!(text.contains("        - --bridge\n") == is_cleaned, "{values}: {text}");
        let (_, role) = text
            .split_once("kind: ClusterRole\nmetadata:\n  name: afd-cleanup.afd\n")
            .context("it has a role")?;
        let (role, _) = role.split_once("---").context("it has a binding")?;
        ensure!(
            role.contains("devicetaintrules") == is_cleaned && role.contains("pods") == is_cleaned,
            "{role}"
        );
        ensure!(text.contains("name: afd-bridge-cleanup.afd\n") == is_cleaned, "{values}: {text}");
    }
    let opts_in = "('a/b' in variables.labels) || (!('c' in variables.labels) && ('d' in variables.labels";
    ensure!(policy.contains(opts_in), "{policy}");
    Ok(())
}
