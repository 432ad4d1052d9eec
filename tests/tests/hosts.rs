//! The binary on every fixture host: inventory, labels, metrics, table, topology and paths are as expected.
//!
//! `cargo xtask bless` accepts the current output.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use afd_tests::{fixture, fixture::Fixture, stdout, workspace};
use expect_test::expect_file;
use libtest_mimic::{Arguments, Failed, Trial};

/// How a device plugin can offer NVIDIA's MIG devices.
const MIG_STRATEGIES: [&str; 3] = ["none", "single", "mixed"];

/// A kind of output, the command that prints it, and the file with the expected output.
const OUTPUTS: [(&str, &[&str], &str); 11] = [
    ("inventory", &["show", "--output", "json"], "inventory.json"),
    ("labels", &["show", "--output", "labels"], "labels.txt"),
    (
        "labels-compat",
        &[
            "show", "--output", "labels", "--compat", "amd=on", "--compat", "gaudi=on", "--compat",
            "intel=on", "--compat", "tpu=on",
        ],
        "labels-compat.txt",
    ),
    ("metrics", &["show", "--output", "metrics", "--per-process"], "metrics.txt"),
    (
        "metrics-compat-amd",
        &["show", "--output", "metrics", "--per-process", "--compat-metrics", "amd"],
        "metrics-compat-amd.txt",
    ),
    (
        "metrics-compat-gaudi",
        &["show", "--output", "metrics", "--compat-metrics", "gaudi"],
        "metrics-compat-gaudi.txt",
    ),
    (
        "metrics-compat-intel",
        &["show", "--output", "metrics", "--compat-metrics", "intel"],
        "metrics-compat-intel.txt",
    ),
    (
        "metrics-compat-openshift",
        &["show", "--output", "metrics", "--compat-metrics", "openshift"],
        "metrics-compat-openshift.txt",
    ),
    ("table", &["show"], "table.txt"),
    ("topology", &["topology"], "topology.txt"),
    ("paths", &["explain"], "paths.txt"),
];

/// Hosts whose links are shown one by one: of each vendor of which a source reports them.
const HOSTS_WITH_LINKS: [&str; 4] =
    ["nvidia-h100x8-nvml", "amd-mi355x8-dpx", "intel-max1550-x2", "gaudi3-x8"];

fn main() {
    let mut trials = Vec::new();
    for fixture in fixture::all() {
        let trial = |output: &str,
                     print: fn(&Fixture, &[&str]) -> String,
                     arguments: &'static [&str],
                     file: &'static str| {
            let name = format!("{}::{output}", fixture.name);
            let fixture = fixture.clone();
            Trial::test(name, move || compare(&fixture, &print(&fixture, arguments), file))
        };
        trials.extend(OUTPUTS.map(|(output, arguments, file)| trial(output, printed, arguments, file)));
        if HOSTS_WITH_LINKS.contains(&fixture.name.as_str()) {
            trials.push(trial("metrics-links", links, &[], "metrics-links.txt"));
        }
        if fixture.has_nvml() {
            trials.push(trial("gfd", gfd_labels, &[], "gfd.txt"));
            trials.push(trial(
                "dcgm",
                printed,
                &["show", "--output", "dcgm", "--node-name", "node-7"],
                "dcgm.txt",
            ));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn printed(fixture: &Fixture, arguments: &[&str]) -> String {
    let host = fixture.lay_out();
    let root = host.root().to_string_lossy().into_owned();
    stdout(&mut host.afd(arguments.iter().copied())).replace(&root, "<root>")
}

/// The families of links, with each link.
fn links(fixture: &Fixture, _: &[&str]) -> String {
    let page = printed(fixture, &["show", "--output", "metrics", "--per-link"]);
    page.split_inclusive('\n').filter(|line| line.contains("accelerator_device_link_")).collect()
}

/// The labels of GPU Feature Discovery: without the configuration of the device plugin, and for each MIG strategy with one that
/// shares no device.
fn gfd_labels(fixture: &Fixture, _: &[&str]) -> String {
    let host = fixture.lay_out();
    let labels = |options: &[&str]| {
        let arguments = ["show", "--output", "labels", "--compat", "nvidia=on"];
        let labels = stdout(&mut host.afd(arguments.iter().chain(options).copied()));
        labels.split_inclusive('\n').filter(|line| line.starts_with("nvidia.com/")).collect::<String>()
    };
    let configuration = workspace().join("fixtures/vendor/nvidia-device-plugin.yaml");
    let configuration = format!("--nvidia-device-plugin-config={}", configuration.display());
    let of_strategy = |strategy: &str| {
        let labels = labels(&[&configuration, "--nvidia-mig-strategy", strategy]);
        format!("# MIG strategy {strategy}, nothing is shared\n{labels}")
    };
    format!(
        "# No configuration of the device plugin\n{}{}",
        labels(&[]),
        MIG_STRATEGIES.map(of_strategy).concat()
    )
}

fn compare(fixture: &Fixture, actual: &str, file: &str) -> Result<(), Failed> {
    // A new fixture has no expected files yet; blessing writes into an existing folder.
    if let Some(folder) = fixture.expected(file).parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::panic::catch_unwind(|| expect_file![fixture.expected(file)].assert_eq(actual))
        .map_err(|_| Failed::from(format!("{file} of {} is not as expected", fixture.name)))
}
