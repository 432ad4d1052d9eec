//! What the chart renders for some values.

use anyhow::ensure;

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
