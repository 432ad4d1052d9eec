//! A recording shows the same as the host, and contains no secret.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use afd_model::Inventory;
use afd_tests::{
    afd,
    fake_runtime::{FakeRuntime, duty_cycles},
    fake_server::{FakeAnswer, FakeServer},
    fixture,
    fixture::Fixture,
    output, stdout,
};

fn show(root: &Path) -> Inventory {
    let root = root.to_string_lossy();
    inventory(&mut afd(["show", "--output", "json", "--host-root", &root]))
}

fn inventory(command: &mut Command) -> Inventory {
    serde_json::from_str(&stdout(command)).expect("the inventory is JSON")
}

#[test]
fn a_recording_of_every_host_shows_the_same() {
    for fixture in fixture::all() {
        let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
        // The user that may not read everything makes it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
        let copy = folder.path().join("copy");
        let host = fixture.lay_out();
        stdout(host.afd(["record", "--no-redact"]).arg(&copy));
        let before = if fixture.name == "unhappy" {
            // Root can read more.
            inventory(&mut host.afd(["show", "--output", "json"]))
        } else {
            show(host.root())
        };
        assert_eq!(show(&copy.join("root")), before, "{}", fixture.name);
    }
}

#[test]
fn a_redacted_recording_contains_no_secret_and_shows_the_same_number_of_devices() {
    for name in ["nvidia-h100x8", "amd-mi300x8-cpx-nps4", "amd-mi210x8-two-hives", "nvidia-gb200x4-clique"] {
        let host = Fixture::named(name).lay_out();
        let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
        stdout(host.afd(["record"]).arg(folder.path().join("copy")));
        let (before, after) = (show(host.root()), show(&folder.path().join("copy/root")));
        assert_eq!(before.devices.len(), after.devices.len());
        assert_eq!(before.problems, after.problems, "{name}");
        let text = serde_json::to_string(&after).expect("an inventory is JSON");
        for device in &before.devices {
            for secret in [&device.uuid, &device.serial].into_iter().filter_map(|known| known.value()) {
                assert!(!text.contains(secret.as_str()), "{secret} of {name} is in the recording");
            }
        }
        // What is shared by the machines of a fabric or rack names it.
        let files = everything_in(&folder.path().join("copy"));
        let domains = before.devices.iter().flat_map(|device| [&device.link_domain, &device.fabric_domain]);
        for domain in domains.filter_map(|known| known.value()).filter(|domain| domain.len() > 8) {
            assert!(!files.contains(domain.as_str()), "{domain} of {name} is in the recording");
        }
        let manifest =
            fs::read_to_string(folder.path().join("copy/host.toml")).expect("there is a host.toml");
        assert!(manifest.contains("redacted = true") && manifest.contains("absent = ["), "{manifest}");
    }
}

/// All paths, targets of links and contents.
fn everything_in(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).expect("the recording can be listed") {
        let path = entry.expect("the recording can be listed").path();
        text += &format!("{}\n", path.display());
        if let Ok(target) = fs::read_link(&path) {
            text += &format!("{}\n", target.display());
        } else if path.is_dir() {
            text += &everything_in(&path);
        } else {
            text += &String::from_utf8_lossy(&fs::read(&path).expect("the recording can be read"));
        }
    }
    text
}

#[test]
fn a_redacted_recording_names_no_host_no_proxy_and_no_bus_of_a_virtual_machine() {
    let host = Fixture::named("nvidia-wsl2").copy();
    let write = |path: &str, content: &[u8]| {
        let path = host.root().join(path);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder can be made");
        fs::write(path, content).expect("a file can be written");
    };
    write("etc/systemd/system/containerd.service", b"[Service]\nExecStart=/bin/x --token secret\n");
    let drop_ins = "etc/systemd/system/containerd.service.d";
    let drop_in =
        "[Service]\nEnvironment=\"HTTP_PROXY=http://secret:secret@secret:3128\"\nLimitMEMLOCK=64M\n";
    write(&format!("{drop_ins}/http-proxy.conf"), drop_in.as_bytes());
    symlink("last.conf", host.root().join(drop_ins).join("last.conf")).expect("a link can be made");
    write(
        "proc/driver/nvidia/version",
        b"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.71.05  Release Build  (root@secret)  Fri\n",
    );
    let (_, function) = host.pci_link("0x008e");
    let function = host.root().join("sys/bus/pci/devices").join(function);
    let guid = function.ancestors().find_map(|folder| {
        let name = folder.file_name()?.to_str()?;
        (name.len() == 36).then(|| name.to_owned())
    });
    let guid = guid.expect("the function is on a virtual bus");
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let copy = folder.path().join("copy");
    stdout(host.afd(["record"]).arg(&copy));
    let text = everything_in(&copy);
    for secret in ["secret", &guid] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is in the recording");
    }
    assert!(text.contains("LimitMEMLOCK=64M"));
    assert_eq!(show(&copy.join("root")), show(host.root()));
}

#[test]
fn nothing_is_left_of_a_recording_that_cannot_be_written() {
    let host = Fixture::named("nvidia-h100x8").lay_out();
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    // So long that `root` fits into the longest path of the kernel, and what is deep under it does not.
    let mut directory = folder.path().to_owned();
    while directory.as_os_str().len() < 4050 {
        let room = 4050 - directory.as_os_str().len();
        directory.push("d".repeat((room - 1).clamp(1, 200)));
    }
    fs::create_dir_all(&directory).expect("a folder can be made");
    let output = output(host.afd(["record"]).arg(&directory));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("File name too long"), "{error}");
    assert_eq!(fs::read_dir(&directory).expect("it can be listed").count(), 0);
}

#[test]
fn a_redacted_recording_does_not_name_the_fabric() {
    let host = Fixture::named("nvidia-gb200x4-clique").lay_out();
    host.driver_root().update(|recording| {
        for device in recording["devices"].as_array_mut().expect("devices are a list") {
            let fabric = &mut device["answers"]["nvmlDeviceGetGpuFabricInfoV"]["value"];
            fabric["clusterUuid"] = "c0ffee00afd0400080000000000000c1".into();
        }
    });
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    stdout(host.afd(["record"]).arg(folder.path().join("copy")));
    let recorded =
        fs::read_to_string(folder.path().join("copy/libraries/nvml.json")).expect("it is recorded");
    assert!(!recorded.contains("c0ffee"), "{recorded}");
    assert_eq!(recorded.matches("\"clusterUuid\": \"000000000000000000000000000000").count(), 4);
}

#[test]
fn a_directory_that_is_not_empty_is_refused() {
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    fs::write(folder.path().join("precious"), "1").expect("a file can be written");
    let host = Fixture::named("no-accelerator").lay_out();
    let output = output(host.afd(["record"]).arg(folder.path()));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the directory is not empty"));
}

/// The exporter, else the runtime of the machine, and its metadata server.
#[test]
fn what_servers_answered_is_recorded_without_names_and_replayed() {
    let series = |family: &str| -> String {
        let line = |(pod, device): (&str, u8)| {
            format!(
                "{family}{{accelerator_id=\"4711-{device}\",make=\"cloud-tpu\",namespace=\"secret-team\",pod=\"{pod}\",\
                 container=\"secret-main\",model=\"secret-model\"}} {device}0\n"
            )
        };
        [("secret-pod", 4), ("secret-pod", 5), ("secret-pod", 6), ("secret-pod", 7)].map(line).concat()
    };
    let exporter = FakeServer::start(FakeAnswer::Text(["duty_cycle", "memory_used"].map(series).concat()));
    let duty = [(8, 10.0), (9, 20.0), (10, 30.0), (11, 40.0)];
    let runtime =
        FakeRuntime::spawn([("tpu.runtime.tensorcore.dutycycle.percent", duty_cycles(&duty))].into());
    let tpu_env = "TPU_ACCELERATOR_TYPE: v5p-16\nTOPOLOGY: 2x2x2\nCHIPS_PER_HOST_BOUNDS: 2,2,1\nHOST_BOUNDS: 1,1,2\nWORKER_ID: 1\n\
                   ENABLE_ICI_RESILIENCY: true\nNODE_ID: secret-slice\nZONE: secret-zone-1b\nPROJECT: secret-project\nTOKEN: secret\n";
    let path = "/computeMetadata/v1/instance/attributes/tpu-env".to_owned();
    let texts = [(path, tpu_env.to_owned())].into();
    let metadata = FakeServer::start(FakeAnswer::Paths { header: "Metadata-Flavor: Google", texts });
    let host = Fixture::named("tpu-v5p-x4").lay_out();
    let (exporter, runtime, metadata) =
        (exporter.address.to_string(), runtime.to_string(), metadata.address.to_string());
    for exporter in [exporter.as_str(), "off"] {
        let options =
            ["--tpu-exporter", exporter, "--tpu-runtime", &runtime, "--tpu-metadata-server", &metadata];
        let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
        let copy = folder.path().join("copy");
        stdout(host.afd(["record"]).args(options).arg(&copy));
        let recorded = fs::read_to_string(copy.join("libraries/tpu.json")).expect("it is recorded");
        assert!(!recorded.contains("secret") && !recorded.contains("4711"), "{recorded}");
        let replayed = Fixture::in_folder(copy).lay_out();
        for (output, known) in [
            ("metrics", "accelerator_device_utilization_ratio{"),
            ("labels", "tpu.google.com/topology=2x2x2"),
        ] {
            let arguments = ["show", "--output", output, "--compat", "tpu=on"];
            let known_of = |text: &str| -> Vec<String> {
                // The name of the slice is replaced.
                let lines = text.lines().filter(|line| !line.contains("fabric-domain=")).map(str::to_owned);
                lines.collect()
            };
            let (before, after) = (
                known_of(&stdout(host.afd(arguments).args(options))),
                known_of(&stdout(&mut replayed.afd(arguments))),
            );
            assert_eq!(after, before, "{output}");
            assert!(after.iter().any(|line| line.starts_with(known)), "{known} is not in {after:?}");
        }
    }
}
