//! The node of a bed: configuration and command lines of containerd, runc, CNI and the kubelet.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use serde_json::json;

use crate::{control_plane::flag, image::PAUSE, init::NODE_ADDRESS, pki::Pki, programs::ClusterPrograms};

/// The node's name.
pub(crate) const NODE: &str = "bed";

/// Where the kubelet serves its health check.
pub(crate) const KUBELET: &str = "http://127.0.0.1:10448";

/// The folder of Debian's programs among the programs of a cluster.
const DEBIAN: &str = "debian";

pub(crate) fn containerd(programs: &ClusterPrograms, folder: &Path) -> anyhow::Result<Command> {
    let program = programs.other(DEBIAN, "usr/bin/containerd")?;
    let runc = programs.other(DEBIAN, "usr/sbin/runc")?;
    let host_local = programs.other(DEBIAN, "usr/lib/cni/host-local")?;
    let plugins = host_local.parent().context("a program is in a folder")?;
    let config = folder.join("containerd.toml");
    write(&config, &containerd_config(folder, &runc, plugins))?;
    let networks = folder.join("cni");
    fs::create_dir(&networks).with_context(|| format!("making {}", networks.display()))?;
    write(&networks.join("10-bed.conflist"), &network(folder))?;
    let mut command = Command::new(&program);
    // It searches PATH for its shim.
    let shim = program.parent().context("a program is in a folder")?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([shim.to_owned()].into_iter().chain(env::split_paths(&path)));
    command.arg("--config").arg(config).env("PATH", path.context("extending PATH")?);
    Ok(command)
}

/// A command of containerd's client, `ctr`.
pub(crate) fn ctr(programs: &ClusterPrograms, folder: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(programs.other(DEBIAN, "usr/bin/ctr")?);
    command.arg("--address").arg(socket(folder)).args(["--namespace", "k8s.io"]);
    Ok(command)
}

pub(crate) fn kubelet(
    programs: &ClusterPrograms,
    folder: &Path,
    pki: &Pki,
    group: &str,
) -> anyhow::Result<Command> {
    let config = folder.join("kubelet.json");
    write(&config, &kubelet_config(folder, pki, group))?;
    let mut command = Command::new(programs.kubernetes("kubelet")?);
    command
        .arg(flag("config", config))
        .arg(flag("kubeconfig", pki.kubeconfig("node")))
        .arg(flag("cert-dir", folder.join("kubelet-pki")))
        .args(["--root-dir=/var/lib/kubelet", &format!("--hostname-override={NODE}")])
        .arg(format!("--node-ip={NODE_ADDRESS}"));
    Ok(command)
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("containerd.sock")
}

/// For containerd 1.6 and 1.7. `restrict_oom_score_adj` is for machines without CAP_SYS_RESOURCE; the disabled plugin
/// would write to /opt.
fn containerd_config(folder: &Path, runc: &Path, plugins: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
grpc = {{ address = "{folder}/containerd.sock" }}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  cni = {{ bin_dir = "{plugins}", conf_dir = "{folder}/cni" }}
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    options = {{ BinaryName = "{runc}", Root = "{folder}/containerd/runc", SystemdCgroup = false }}
"#,
        plugins = plugins.display(),
        runc = runc.display(),
    )
}

/// Point-to-point: no bridge, no packet filter.
fn network(folder: &Path) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "bed",
        "plugins": [{"type": "ptp", "ipMasq": false, "ipam": {
            "type": "host-local",
            "dataDir": folder.join("containerd/addresses"),
            "ranges": [[{"subnet": "10.244.7.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }}],
    })
    .to_string()
}

fn kubelet_config(folder: &Path, pki: &Pki, group: &str) -> String {
    let never = json!({
        "memory.available": "1Mi",
        "nodefs.available": "0%", "nodefs.inodesFree": "0%",
        "imagefs.available": "0%", "imagefs.inodesFree": "0%",
    });
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{group}"),
        "failSwapOn": false,
        "address": NODE_ADDRESS,
        "port": 10450,
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10448,
        "containerRuntimeEndpoint": format!("unix://{}", socket(folder).display()),
        "podLogsDir": folder.join("podlogs"),
        "volumePluginDir": folder.join("volume-plugins"),
        "tlsCertFile": pki.file("node.crt"),
        "tlsPrivateKeyFile": pki.file("node.key"),
        "authorization": {"mode": "Webhook"},
        "authentication": {
            "anonymous": {"enabled": false},
            "x509": {"clientCAFile": pki.file("ca.crt")},
            "webhook": {"enabled": true},
        },
        "makeIPTablesUtilChains": false,
        "resolvConf": "",
        // A full disk of the machine is not what is tested.
        "evictionHard": never,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "2s",
        "syncFrequency": "5s",
    })
    .to_string()
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
