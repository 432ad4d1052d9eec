//! What the host itself shows: modules, limits, disks and the distribution, and what to do about them.

use std::fs;

use afd_tests::{fixture::Fixture, output, stdout};
use serde_json::Value;

use super::explained;

/// What the kernel and the names of files show, without a library.
#[test]
fn a_library_of_another_version_than_the_driver_is_known_by_the_name_of_its_file() {
    let host = Fixture::named("nvidia-driver-mismatch").without_library().lay_out();
    let (ready, reasons) = explained(&host, "optimized-baseline", &["--no-libraries"]);
    assert_eq!(ready, Some(false));
    assert!(reasons.contains(&"DriverLibraryMismatch".to_owned()), "{reasons:?}");
}

#[test]
fn what_to_do_is_printed_for_the_distribution_of_the_host_and_for_all_where_it_is_not_known() {
    let fixes = |fixture: &str, arguments: &[&str]| {
        let host = Fixture::named(fixture).lay_out();
        stdout(&mut host.afd(["explain", "--fix"].iter().chain(arguments).copied()))
    };
    let ubuntu = fixes("nvidia-h200x8-infiniband", &["wide-ep"]);
    assert!(ubuntu.starts_with("Distribution: ubuntu 24.04, as Debian, Ubuntu.\n"), "{ubuntu}");
    assert!(ubuntu.contains("\n    apt-get install gdrdrv-dkms\n") && !ubuntu.contains("dnf"), "{ubuntu}");
    let small = fixes("nvidia-t4", &[]);
    let few = small
        .split("\nTooFewDevices\n")
        .nth(1)
        .and_then(|text| text.split("\n\n").next())
        .expect("there are few");
    let needs = |line: &str| few.lines().any(|text| text.starts_with("  ") && text.contains(line));
    assert!(needs("pd-disaggregation: ") && needs("wide-ep"), "each path has a message of its own: {few}");
    let amazon = fixes("nvidia-h100x8-efa", &["pd-disaggregation"]);
    assert!(amazon.contains("\nHugePagesMissing (pd-disaggregation)\n"), "{amazon}");
    assert!(amazon.contains("\n    echo 'vm.nr_hugepages = 5128'"), "{amazon}");
    let unknown = fixes("nvidia-a100x2-no-driver", &[]);
    assert!(unknown.contains("is not known") && unknown.contains("\nDriverMissing ("), "{unknown}");
    for title in [
        "Debian, Ubuntu",
        "RHEL",
        "OpenShift",
        "SLES",
        "Talos",
        "Bottlerocket",
        "Container-Optimized OS",
        "Amazon Linux",
    ] {
        assert!(unknown.contains(&format!("\n    {title}")), "{title}: {unknown}");
    }
    let arguments = ["explain", "--fix", "--output", "json"];
    let both = output(&mut Fixture::named("no-accelerator").lay_out().afd(arguments));
    assert_eq!(both.status.code(), Some(64), "the text is for people");
}

#[test]
fn notes_are_of_what_the_host_shows() {
    let notes = |fixture: &str, path: &str| -> Vec<String> {
        let host = Fixture::named(fixture).lay_out();
        let text = stdout(&mut host.afd(["explain", path, "--output", "json"]));
        let paths: Value = serde_json::from_str(&text).expect("the output is JSON");
        let notes = paths[0]["notes"].as_array().into_iter().flatten();
        notes.filter_map(|note| note["reason"].as_str().map(str::to_owned)).collect()
    };
    let infiniband = notes("nvidia-h200x8-infiniband", "wide-ep");
    for (reason, is_noted) in [
        ("GdrCopyMissing", true),
        ("PeerMappingOff", true),
        ("LockedMemoryLimited", true),
        ("DirectAccessMissing", false),
        ("LocalDiskSmall", false),
        ("RdmaUnused", false),
    ] {
        assert_eq!(infiniband.iter().any(|note| note == reason), is_noted, "{reason}: {infiniband:?}");
    }
    // What a host does not show is not noted.
    let bare = notes("amd-mi300x8-spx", "tiered-prefix-cache");
    assert!(!bare.iter().any(|note| note == "LocalDiskSmall" || note == "LockedMemoryLimited"), "{bare:?}");
}

#[test]
fn the_cores_of_a_host_are_compared_and_not_its_threads() {
    let note = |threads: Option<&str>| {
        let host = Fixture::named("amd-mi210x8-two-hives").copy();
        if let Some(threads) = threads {
            let folder = host.root().join("sys/devices/system/cpu/cpu0/topology");
            fs::create_dir_all(&folder).expect("a folder can be made");
            fs::write(folder.join("thread_siblings_list"), threads).expect("a file can be written");
        }
        let text = stdout(&mut host.afd(["explain", "optimized-baseline"]));
        let line = text.lines().find_map(|line| line.split_once("HostCpusBelowTested: "));
        line.map(|(_, message)| message.to_owned())
    };
    let message = |cores| {
        format!("the host has {cores} CPU cores; the guides are tested on hosts with 80 cores and more")
    };
    assert_eq!(note(Some("0,32\n")), Some(message(32)), "64 threads");
    assert_eq!(note(Some("0\n")), Some(message(64)));
    assert_eq!(note(None), None, "64 threads of an unknown number of cores");
}
