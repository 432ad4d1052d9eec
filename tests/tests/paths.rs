//! Which llm-d paths a node can serve: the rules on fixture hosts, rules of users, and mistakes in rules.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "paths/host.rs"]
mod host;

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use afd_tests::{
    agent::Agent,
    fixture::{Fixture, FixtureHost},
    output, stdout, workspace,
};
use expect_test::expect;
use serde_json::Value;
use tempfile::TempDir;

/// Whether a path is ready, and the reasons against it.
fn explained(host: &FixtureHost, path: &str, more: &[&str]) -> (Option<bool>, Vec<String>) {
    let arguments = ["explain", path, "--output", "json"].into_iter().chain(more.iter().copied());
    let text = stdout(&mut host.afd(arguments));
    let paths: Value = serde_json::from_str(&text).expect("the output is JSON");
    let requirements = paths[0]["requirements"].as_array().expect("a path has requirements");
    let unmet = requirements.iter().filter(|requirement| requirement["holds"] == false);
    let reasons = unmet.map(|requirement| requirement["reason"].as_str().unwrap_or_default().to_owned());
    (paths[0]["ready"].as_bool(), reasons.collect())
}

fn labels(host: &FixtureHost, more: &[&str]) -> String {
    stdout(&mut host.afd(["show", "--output", "labels"].iter().chain(more).copied()))
}

/// Eight H100 on a host with eight active InfiniBand ports, and a host with what NVML reports of them.
fn h100_with_rdma() -> (FixtureHost, FixtureHost) {
    (Fixture::named("nvidia-h100x8").lay_out(), Fixture::named("nvidia-h100x8-nvml").lay_out())
}

fn driver_root(host: &FixtureHost) -> String {
    host.driver_root().path().to_string_lossy().into_owned()
}

#[test]
fn fixture_hosts_are_ready_for_the_expected_paths() {
    for (host, path, ready, reasons) in [
        ("nvidia-h100x8-nvml", "optimized-baseline", Some(true), &[][..]),
        ("nvidia-h100x8-nvml", "pd-disaggregation", Some(false), &["RdmaMissing"]),
        ("nvidia-h100x8-nvml", "wide-ep", Some(false), &["DeviceMemoryTooSmall", "RdmaMissing"]),
        ("nvidia-h100x8-one-lost", "optimized-baseline", Some(true), &[]),
        (
            "nvidia-h100x8-one-lost",
            "wide-ep",
            Some(false),
            &["TooFewDevices", "DeviceMemoryTooSmall", "RdmaMissing"],
        ),
        (
            "nvidia-h100x8-one-lost",
            "agentic-serving",
            Some(false),
            &["TooFewDevices", "DeviceMemoryTooSmall", "RdmaMissing"],
        ),
        ("nvidia-a100x2-no-driver", "optimized-baseline", Some(false), &["DriverMissing", "TooFewDevices"]),
        ("nvidia-a100x8-mig-mixed", "optimized-baseline", Some(true), &[]),
        ("nvidia-a100x8-mig-single", "optimized-baseline", Some(false), &["TooFewDevices"]),
        ("nvidia-gb200x4-clique", "wide-ep", Some(true), &[]),
        (
            "nvidia-t4",
            "multimodal-serving",
            Some(false),
            &["ComputeCapabilityTooLow", "TooFewDevices", "DeviceMemoryTooSmall"],
        ),
        ("amd-mi300x8-spx", "optimized-baseline", Some(true), &[]),
        ("amd-mi300x8-spx", "pd-disaggregation", Some(false), &["RdmaMissing"]),
        ("amd-mi300x8-cpx-nps4", "optimized-baseline", Some(false), &["TooFewDevices"]),
        ("amd-mi300x8-spx", "multimodal-serving", Some(false), &["AcceleratorNotCovered"]),
        ("gaudi3-x8", "optimized-baseline", Some(true), &[]),
        ("gaudi3-x8", "pd-disaggregation", Some(false), &["AcceleratorNotCovered"]),
        ("intel-max1550-x2", "pd-disaggregation", Some(true), &[]),
        ("intel-max1550-x2", "tiered-prefix-cache", Some(false), &["TooFewDevices"]),
        ("tpu-v6e-x8", "pd-disaggregation", Some(true), &[]),
        ("tpu-v5e-x8", "pd-disaggregation", Some(false), &["AcceleratorNotCovered"]),
        ("tpu-7x-x4", "agentic-serving", Some(true), &[]),
        ("mixed-nvidia-amd", "optimized-baseline", Some(true), &[]),
        ("mixed-nvidia-amd", "predicted-latency-routing", Some(false), &["MixedProducts"]),
        ("no-accelerator", "optimized-baseline", Some(false), &["NoAccelerator"]),
        ("amd-strix-halo", "optimized-baseline", Some(false), &["NoAccelerator"]),
    ] {
        let actual = explained(&Fixture::named(host).lay_out(), path, &[]);
        assert_eq!(actual, (ready, reasons.iter().map(ToString::to_string).collect()), "{path} on {host}");
    }
}

#[test]
fn a_node_with_rdma_is_explained() {
    let (host, nvml) = h100_with_rdma();
    let root = driver_root(&nvml);
    let arguments = ["explain", "pd-disaggregation", "--nvidia-driver-root", &root];
    expect![[r#"
        Prefill/decode disaggregation: yes
        https://github.com/llm-d/llm-d/tree/main/guides/pd-disaggregation
        Pods: prefill with 1 and decode with 4 GPUs (NVIDIA, AMD), 1 GPU (Intel), 8 chips of TPU v6e or 4 of TPU 7x; GPUs of NVIDIA and AMD over RDMA, of Intel over TCP or RDMA.

        Required:
          yes      node.count > 0
                   source: llm-d guides: model servers for CPUs are not part of these paths
          yes      node.driven > 0
                   source: a container cannot use a device without its vendor's driver
          yes      node.computing > 0
                   source: CUDA: compute mode prohibited (cudaComputeModeProhibited); NVIDIA vGPU software user guide
          yes      node.variant != 'hpu'
                   source: llm-d guides/*/guide.yaml: a missing cell means unsupported
          yes      versionAtLeast(node.compute, '8.0')
                   source: llm-d docs/infrastructure/README.md (hardware), docker/Dockerfile.cuda
          yes      versionAtLeast(node.driver_version, '525.60.13')
                   source: NVIDIA CUDA release notes, minor version compatibility; llm-d docs/infrastructure/README.md
          yes      node.usable >= 4
                   source: llm-d guides/pd-disaggregation/guide.yaml: 1P (TP=1) + 1D (TP=4)
          yes      node.memory_bytes >= 72600000000
                   source: llm-d guides/pd-disaggregation/guide.yaml: openai/gpt-oss-120b, prefill TP=1
          yes      node.rdma != 'none'
                   source: llm-d guides/pd-disaggregation, docs/infrastructure/rdma
          yes      node.host.rdma_device_files > 0
                   source: llm-d guides/pd-disaggregation: /dev/infiniband; Linux drivers/infiniband/core/uverbs_main.c
          yes      node.host.memory_bytes >= 64 * 1073741824
                   source: llm-d guides/pd-disaggregation/modelserver/gpu, modelserver/xpu

        Not checked:
          - GPUDirect RDMA of AMD's GPUs, and with EFA
          - IPC_LOCK of the container, or a limit of locked memory (memlock) of its own
          - the resource with which pods request the RDMA devices
          - that the network connects the NICs of all nodes (cross-rail)
          - memory, CPUs and devices that other pods hold
          - DRA with the driver gpu.intel.com, by which pods request Intel's GPUs
          - DRANet, and a NIC on the PCIe root of the GPU, where Intel's GPUs transfer over RDMA (UCX ib,rc,ze_copy) and not over TCP
    "#]].assert_eq(&stdout(&mut host.afd(arguments)));
    assert!(labels(&host, &["--nvidia-driver-root", &root]).contains("/path.pd-disaggregation=true\n"));
}

#[test]
fn intel_gpus_need_a_driver_for_containers_and_the_memory_of_a_pod_and_no_rdma() {
    let host = Fixture::named("intel-max1550-x2").copy();
    for (gib, wide_ep, baseline) in [(200, true, true), (100, false, true), (11, false, false)] {
        let text = format!("MemTotal: {} kB\n", gib << 20);
        fs::write(host.root().join("proc/meminfo"), text).expect("a file can be written");
        let ready = |path: &str| explained(&host, path, &[]).0;
        assert_eq!((ready("wide-ep"), ready("optimized-baseline")), (Some(wide_ep), Some(baseline)), "{gib}");
    }
    fs::write(host.root().join("proc/meminfo"), "MemTotal: 268435456 kB\n").expect("a file can be written");
    assert_eq!(explained(&host, "pd-disaggregation", &[]), (Some(true), Vec::new()), "over TCP");
    for address in ["0000:29:00.0", "0000:99:00.0"] {
        let function = fs::canonicalize(host.root().join("sys/bus/pci/devices").join(address));
        let driver = function.expect("it is there").join("driver");
        fs::remove_file(&driver).expect("a driver is bound");
        symlink("../../../../bus/pci/drivers/vfio-pci", driver).expect("a link can be made");
        let (ready, reasons) = explained(&host, "pd-disaggregation", &[]);
        let is_last = address == "0000:99:00.0";
        assert_eq!(ready, Some(!is_last), "{reasons:?}");
        assert_eq!(reasons.contains(&"DriverMissing".to_owned()), is_last, "{reasons:?}");
    }
}

#[test]
fn a_host_of_a_larger_slice_serves_no_path_of_the_guides() {
    let host = Fixture::named("tpu-7x-x4").copy();
    let folder = host.root().join("etc/tpu");
    fs::create_dir_all(&folder).expect("a folder can be made");
    for (topology, ready) in [("2x2x1", true), ("2x2x2", false)] {
        let text = format!("TOPOLOGY: {topology}\nCHIPS_PER_HOST_BOUNDS: 2,2,1\n");
        fs::write(folder.join("tpu-env"), text).expect("a file can be written");
        let (is_ready, reasons) = explained(&host, "optimized-baseline", &[]);
        assert_eq!((is_ready, reasons.is_empty()), (Some(ready), ready), "{topology}: {reasons:?}");
    }
}

#[test]
fn an_unknown_fact_gives_no_label_and_no_series() {
    let host = Fixture::named("nvidia-h100x8").lay_out();
    assert_eq!(
        explained(&host, "optimized-baseline", &[]),
        (None, Vec::new()),
        "only NVML reports the MIG mode"
    );
    let text = stdout(&mut host.afd(["explain"]));
    assert!(text.contains(" optimized-baseline            unknown  node.usable is not known\n"), "{text}");
    assert!(!labels(&host, &[]).contains("path.optimized-baseline"));
    let metrics = stdout(&mut host.afd(["show", "--output", "metrics"]));
    assert!(!metrics.contains("path=\"optimized-baseline\""), "{metrics}");
}

/// A rule that compares with a name that no product has never holds, or always.
#[test]
fn the_names_in_the_rules_are_those_of_the_product_tables() {
    let mut tables = String::new();
    for vendor in fs::read_dir(workspace().join("crates")).expect("there are crates") {
        let source = vendor.expect("it can be listed").path().join("src");
        let files = fs::read_dir(source.join("products")).into_iter().flatten().flatten();
        for file in files.map(|file| file.path()).chain([source.join("products.rs")]) {
            tables += &fs::read_to_string(file).unwrap_or_default();
        }
    }
    let rules = fs::read_to_string(workspace().join("crates/derive/src/paths/rules.toml"));
    let rules: toml::Table = rules.expect("the rules are there").parse().expect("they are TOML");
    let mut compared = 0;
    for requirement in rules["requirement"].as_array().expect("there are requirements") {
        let expressions = ["when", "require"].into_iter().filter_map(|key| requirement.get(key)?.as_str());
        let terms = expressions.flat_map(|text| text.split("&&")).flat_map(|text| text.split("||"));
        let is_name = |term: &&str| term.contains("node.architecture") || term.contains("node.model");
        for term in terms.filter(is_name) {
            for name in term.split('\'').skip(1).step_by(2) {
                assert!(tables.contains(&format!("\"{name}\"")), "{term}: no product has the name {name}");
                compared += 1;
            }
        }
    }
    assert!(compared > 10, "{compared} names");
}

#[test]
fn rdma_ports_without_device_files_are_not_usable() {
    let host = Fixture::named("nvidia-h100x8").copy();
    fs::remove_dir_all(host.root().join("dev/infiniband")).expect("the folder can be removed");
    let actual = explained(&host, "pd-disaggregation", &[]);
    assert_eq!(actual, (Some(false), vec!["RdmaDeviceFilesMissing".to_owned()]));
}

#[test]
fn each_reason_is_a_series_of_the_running_agent() {
    let host = Fixture::named("nvidia-h100x8-nvml").lay_out();
    let agent = Agent::start(host.afd(["run", "--no-kubernetes"]));
    agent.until("the facts of NVML are known", |agent| {
        let metrics = agent.get("/metrics");
        metrics.text().contains("accelerator_path_ready{path=\"optimized-baseline\"} 1")
            && metrics.text().contains("accelerator_path_reason{path=\"wide-ep\",reason=\"RdmaMissing\"} 1")
            && metrics
                .text()
                .contains("accelerator_path_reason{path=\"wide-ep\",reason=\"DeviceMemoryTooSmall\"} 1")
    });
}

/// A file of rules in a temporary folder.
fn rules(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let file = folder.path().join("rules.toml");
    fs::write(&file, text).expect("the file can be written");
    (folder, file)
}

#[test]
fn users_add_paths_and_requirements() {
    let (_folder, file) = rules(
        r#"
        [[path]]
        name = "fast-lane"
        title = "Our low-latency pool"

        [[requirement]]
        paths = ["fast-lane", "optimized-baseline"]
        require = "node.ports.exists(port, port.active && port.rate_bits_per_second >= 400000000000)"
        reason = "NicTooSlow"
        message = "none of {size(node.ports)} ports has 400 Gb/s"
        "#,
    );
    let file = file.to_string_lossy();
    let more = ["--path-rules", file.as_ref()];
    let with_ports = Fixture::named("nvidia-h100x8").lay_out();
    assert!(labels(&with_ports, &more).contains("/path.fast-lane=true\n"));
    let without = Fixture::named("amd-mi300x8-spx").lay_out();
    let slow = (Some(false), vec!["NicTooSlow".to_owned()]);
    assert_eq!(explained(&without, "fast-lane", &more), slow);
    assert_eq!(explained(&without, "optimized-baseline", &more), slow);
    let text = stdout(&mut without.afd(["explain", "fast-lane"].iter().chain(&more).copied()));
    assert!(text.contains("NicTooSlow: none of 0 ports has 400 Gb/s\n"), "{text}");
    let metrics = stdout(&mut without.afd(["show", "--output", "metrics"].iter().chain(&more).copied()));
    assert!(metrics.contains("accelerator_path_reason{path=\"fast-lane\",reason=\"NicTooSlow\"} 1\n"));
}

#[test]
fn every_mistake_in_a_rule_file_is_reported_with_its_position() {
    let (_folder, file) = rules(
        r#"[[path]]
name = "Fast lane!"
titel = "Our pool"

[[path]]
name = "wide-ep"
title = "Ours"

[[requirement]]
paths = ["wide-epp"]
require = "node.cuont > 1 && node.devices.exists(d, d.memory_bytes > '1')"
reason = "too slow"
message = "it has {node.devices}"

[[requirement]]
paths = ["wide-ep"]
when = "node.vendor = 'nvidia'"
require = 8
reason = "TooSlow"
message = "{node.rdma"

[[rule]]
"#,
    );
    let host = Fixture::named("no-accelerator").lay_out();
    let path = file.to_string_lossy();
    let error = |command: &[&str]| {
        let arguments = command.iter().copied().chain(["--path-rules", path.as_ref()]);
        let output = output(&mut host.afd(arguments));
        assert_eq!(output.status.code(), Some(64), "{command:?}");
        String::from_utf8_lossy(&output.stderr).replace(path.as_ref(), "rules.toml")
    };
    let explain = error(&["explain"]);
    assert_eq!(error(&["show", "--output", "labels"]), explain);
    assert_eq!(error(&["run", "--no-kubernetes"]), explain);
    expect![[r#"
        afd: the path rules have mistakes
        rules.toml:1:1: `title` is missing
        rules.toml:2:8: "Fast lane!" cannot be part of the label path.<name>
        rules.toml:3:1: unknown key `titel`; the keys are guide, name, not_checked, pods, title
        rules.toml:6:8: there is a path "wide-ep" already
        rules.toml:10:10: unknown path "wide-epp"
        rules.toml:11:16: a node has no `cuont`
        rules.toml:11:68: a number is compared with a string
        rules.toml:12:10: "too slow" is not in CamelCase, such as RdmaMissing
        rules.toml:13:20: a list cannot be inserted into a message
        rules.toml:17:21: Syntax error: token recognition error at: '= '
        rules.toml:17:23: Syntax error: extraneous input ''nvidia'' expecting <EOF>
        rules.toml:18:11: `require` must be a string
        rules.toml:20:12: unclosed brace
        rules.toml:22:3: unknown key rule; the keys are [[path]], [[requirement]] and [[note]]
    "#]]
    .assert_eq(&explain);
}

#[test]
fn a_rule_file_that_is_missing_or_not_toml_is_a_usage_error() {
    let host = Fixture::named("no-accelerator").lay_out();
    let explain = |file: &str| {
        let output = output(&mut host.afd(["explain", "--path-rules", file]));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (_folder, file) = rules("[[path]]\nname = \ntitle = ]\n");
    let (code, error) = explain(&file.to_string_lossy());
    assert_eq!(code, Some(64));
    assert!(
        error.contains("rules.toml:2:") && error.contains("rules.toml:3:"),
        "two lines are wrong: {error}"
    );
    let (code, error) = explain("/no/such/file");
    assert_eq!(code, Some(64));
    assert!(error.contains("the path rules /no/such/file cannot be read: No such file"), "{error}");
}

#[test]
fn an_unknown_path_is_a_usage_error() {
    let host = Fixture::named("no-accelerator").lay_out();
    let output = output(&mut host.afd(["explain", "wide-epp"]));
    assert_eq!(output.status.code(), Some(64));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.starts_with("afd: there is no path \"wide-epp\"; there are optimized-baseline, "),
        "{error}"
    );
}
