//! Command lines of etcd, kube-apiserver, kube-scheduler and kube-controller-manager.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{init::NODE_ADDRESS, pki::Pki, programs::ClusterPrograms};

/// Where etcd serves its clients, and `/health`.
pub(crate) const ETCD: &str = "http://127.0.0.1:12379";

/// Where the scheduler and the controller manager serve their health checks.
pub(crate) const SCHEDULER: &str = "https://127.0.0.1:10359";
pub(crate) const CONTROLLER_MANAGER: &str = "https://127.0.0.1:10357";

pub(crate) fn etcd(programs: &ClusterPrograms, folder: &Path) -> Command {
    const ANY_PORT: &str = "http://127.0.0.1:0";
    let mut command = Command::new(&programs.etcd);
    command
        .arg(flag("data-dir", folder.join("etcd")))
        .args([
            "--name=bed",
            &format!("--listen-client-urls={ETCD}"),
            &format!("--advertise-client-urls={ETCD}"),
        ])
        .args([format!("--listen-peer-urls={ANY_PORT}"), format!("--initial-advertise-peer-urls={ANY_PORT}")])
        // This data need not survive a power failure.
        .args([&format!("--initial-cluster=bed={ANY_PORT}"), "--unsafe-no-fsync", "--log-level=warn"]);
    command
}

pub(crate) fn api_server(
    programs: &ClusterPrograms,
    folder: &Path,
    pki: &Pki,
    served: Option<&str>,
) -> Command {
    let mut command = Command::new(&programs.kube_apiserver);
    command
        .args(["--bind-address=0.0.0.0", "--secure-port=443", "--profiling=false"])
        .args([format!("--advertise-address={NODE_ADDRESS}"), format!("--etcd-servers={ETCD}")])
        .arg(flag("cert-dir", folder.join("kube-apiserver")))
        .arg(flag("tls-cert-file", pki.file("serving.crt")))
        .arg(flag("tls-private-key-file", pki.file("serving.key")))
        .arg(flag("client-ca-file", pki.file("ca.crt")))
        .arg(flag("kubelet-client-certificate", pki.file("kubelet-client.crt")))
        .arg(flag("kubelet-client-key", pki.file("kubelet-client.key")))
        .arg(flag("kubelet-certificate-authority", pki.file("ca.crt")))
        .arg("--kubelet-preferred-address-types=InternalIP,Hostname")
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(flag("service-account-key-file", pki.file("sa.pub")))
        .arg(flag("service-account-signing-key-file", pki.file("sa.key")))
        .args(["--service-cluster-ip-range=10.96.0.0/24", "--endpoint-reconciler-type=none"])
        .args(["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"])
        .args(served.map(|version| format!("--runtime-config={version}=true")))
        .arg("--allow-privileged=true");
    command
}

pub(crate) fn scheduler(program: PathBuf, folder: &Path, pki: &Pki) -> Command {
    let mut command = component(program, pki, "scheduler");
    command.arg("--secure-port=10359").arg(flag("cert-dir", folder.join("kube-scheduler")));
    command
}

pub(crate) fn controller_manager(program: PathBuf, folder: &Path, pki: &Pki) -> Command {
    let mut command = component(program, pki, "controller-manager");
    command
        .arg("--secure-port=10357")
        .arg(flag("cert-dir", folder.join("kube-controller-manager")))
        .arg("--use-service-account-credentials=true")
        .arg(flag("service-account-private-key-file", pki.file("sa.key")))
        .arg(flag("root-ca-file", pki.file("ca.crt")));
    command
}

fn component(program: PathBuf, pki: &Pki, client: &str) -> Command {
    let mut command = Command::new(program);
    for name in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
        command.arg(flag(name, pki.kubeconfig(client)));
    }
    command
        .args(["--bind-address=127.0.0.1", "--leader-elect=false"])
        .arg(flag("tls-cert-file", pki.file("serving.crt")))
        .arg(flag("tls-private-key-file", pki.file("serving.key")));
    command
}

/// `--name=file`.
pub(crate) fn flag(name: &str, file: PathBuf) -> std::ffi::OsString {
    let mut flag = std::ffi::OsString::from(format!("--{name}="));
    flag.push(file);
    flag
}
