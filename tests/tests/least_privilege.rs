//! What the agent's container can read and reach on a real kubelet, with the chart's default values: seen from its own mounts.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

use afd_test_cluster::{Bed, Suite, image::Image, succeed, until};
use afd_tests::chart::{chart, values_option};
use anyhow::{Context, ensure};
use serde_json::json;

const NAMESPACE: &str = "afd";

/// All of the host that the default installation mounts.
const OF_HOST: [&str; 8] = [
    "/proc/driver",
    "/proc/meminfo",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/random/boot_id",
    "/sys/bus",
    "/sys/class",
    "/sys/devices",
    "/sys/module",
];

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    Suite::new().test("the_agent_reads_no_secret_of_the_host_and_reaches_no_runtime", confined).main()
}

async fn confined() -> anyhow::Result<()> {
    let bed = Bed::builder().node().start().await?;
    bed.import(&Image::new("localhost/afd:test", &afd_tests::image_binary())?.with_libraries()?)?;
    let secret = bed.folder().join("secret");
    fs::write(&secret, "root's own")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    for profile in ["full", "labels"] {
        let values = json!({
            "image": { "repository": "localhost/afd", "tag": "test", "pullPolicy": "Never" },
            "profile": profile,
            "startSpreadSeconds": 0,
        });
        let mut helm = bed.helm()?;
        helm.args(["upgrade", "--install", NAMESPACE, "--namespace", NAMESPACE, "--create-namespace"]);
        helm.args(["--wait", "--timeout", "120s"]).arg(chart());
        if let Err(error) = succeed(helm.arg(values_option(bed.folder(), &values))) {
            let pods = succeed(bed.kubectl()?.args(["--namespace", NAMESPACE, "describe", "pods"]))?;
            return Err(error.context(pods));
        }
        let user = if profile == "full" { 0 } else { 65532 };
        let agent = until("the agent runs as its user", async || agent_of(user)).await?;
        check(&bed, agent, &secret, profile == "full").with_context(|| format!("with profile {profile}"))?;
    }
    Ok(())
}

/// The process id of the agent in the container that runs as a user.
fn agent_of(user: u32) -> anyhow::Result<u32> {
    let processes = fs::read_dir("/proc")?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_agent = |pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&arguments);
        let is_user = fs::metadata(format!("/proc/{pid}")).is_ok_and(|process| process.uid() == user);
        is_user && text.starts_with("/afd\0run\0") && text.contains("--host-root=/host")
    };
    pids.find(is_agent).context("there is no agent")
}

fn check(bed: &Bed, agent: u32, secret: &Path, asks_kubelet: bool) -> anyhow::Result<()> {
    let root = PathBuf::from(format!("/proc/{agent}/root"));
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    // What the container sees of the host is what the records list, and it cannot be written.
    let mounts = fs::read_to_string(format!("/proc/{agent}/mountinfo"))?;
    let of_host: Vec<(&str, &str)> = mounts
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            Some((fields.get(4)?.strip_prefix("/host")?, *fields.get(5)?))
        })
        .collect();
    let paths: BTreeSet<&str> = of_host.iter().map(|(path, _)| *path).collect();
    ensure!(paths == BTreeSet::from(OF_HOST), "{mounts}");
    ensure!(of_host.iter().all(|(_, options)| options.split(',').any(|option| option == "ro")), "{mounts}");

    // No path leads to root's own file: neither its path under the host root, nor any other.
    let file = fs::metadata(secret)?;
    ensure!(file.uid() == 0 && file.mode() & 0o777 == 0o600, "the secret is root's own");
    let runtime = bed.folder().join("containerd.sock");
    ensure!(fs::metadata(&runtime)?.file_type().is_socket(), "the runtime has a socket on the host");
    let host = inside(Path::new("/host"));
    for path in
        [secret, &runtime, Path::new("/etc/shadow"), Path::new("/root"), Path::new("/run"), Path::new("/dev")]
    {
        let seen = host.join(path.strip_prefix("/")?);
        ensure!(fs::symlink_metadata(&seen).is_err(), "{} exists", seen.display());
    }
    let (files, sockets) = walk(&root)?;
    ensure!(!files.contains(&(file.dev(), file.ino())), "the secret is somewhere in the container");
    let mut expected = BTreeSet::from(["run/afd/control.sock".to_owned()]);
    if asks_kubelet {
        expected.insert("pod-resources/kubelet.sock".to_owned());
    }
    ensure!(sockets == expected, "the container has the sockets {sockets:?}");

    // No right goes beyond the user's.
    let status = fs::read_to_string(format!("/proc/{agent}/status"))?;
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
        ensure!(status.contains(line), "{status}");
    }
    Ok(())
}

/// A file by its device and number.
type FileId = (u64, u64);

/// The files of a container apart from kernel file systems, and the names of the sockets.
fn walk(root: &Path) -> anyhow::Result<(BTreeSet<FileId>, BTreeSet<String>)> {
    let (mut files, mut sockets, mut folders) = (BTreeSet::new(), BTreeSet::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.strip_prefix(root)?.display().to_string();
            if ["proc", "sys", "host/sys", "host/proc"].contains(&name.as_str()) {
                continue;
            }
            let file = fs::symlink_metadata(&path)?;
            files.insert((file.dev(), file.ino()));
            if file.is_dir() {
                folders.push(path);
            } else if file.file_type().is_socket() {
                sockets.insert(name);
            }
        }
    }
    Ok((files, sockets))
}
