//! A recording shows the same as the host, and contains no secret.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{fs, path::Path};

use afd_model::Inventory;
use afd_tests::{afd, fixture, fixture::Fixture, output, stdout};

fn show(root: &Path) -> Inventory {
    let root = root.to_string_lossy();
    serde_json::from_str(&stdout(&mut afd(["show", "--output", "json", "--host-root", &root])))
        .expect("the inventory is JSON")
}

#[test]
fn a_recording_of_every_host_shows_the_same() {
    for fixture in fixture::all().into_iter().filter(|fixture| fixture.name != "unhappy") {
        let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
        let copy = folder.path().join("copy");
        let host = fixture.lay_out();
        stdout(host.afd(["record", "--no-redact"]).arg(&copy));
        assert_eq!(show(&copy.join("root")), show(host.root()), "{}", fixture.name);
    }
}

#[test]
fn a_redacted_recording_contains_no_secret_and_shows_the_same_number_of_devices() {
    for name in ["nvidia-h100x8", "amd-mi300x8-cpx-nps4"] {
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
        let manifest =
            fs::read_to_string(folder.path().join("copy/host.toml")).expect("there is a host.toml");
        assert!(manifest.contains("redacted = true") && manifest.contains("absent = ["), "{manifest}");
    }
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
