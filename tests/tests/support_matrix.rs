//! Which source reports what of whose devices: the table of docs/support.md, from what the fixtures show. `cargo xtask bless` rewrites it.
//!
//! A fact counts as the kernel's where the binary shows it without any library, server or ioctl.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use afd_derive::{
    families::{Family, MetricSubject},
    vendors::{self, VENDORS, VendorRecord},
};
use afd_model::Inventory;
use afd_tests::{
    afd,
    fixture::{self, Fixture},
    stdout, workspace,
};
use expect_test::expect_file;

/// The table stands between these lines.
const BEGIN: &str = "<!-- generated: `cargo xtask bless` -->\n";
const END: &str = "<!-- end -->\n";

/// Device families that no fixture can show: they need a kubelet, a DRA driver, events, or two samples.
const OF_A_RUNNING_AGENT: [Family; 4] =
    [Family::Allocation, Family::PublishedHealth, Family::LastXid, Family::MemoryBandwidthRatio];

/// The families that were shown of each vendor's devices, by the vendor's probe.
type Shown = BTreeSet<(&'static str, &'static str)>;

/// The record of each device of a fixture.
fn records(fixture: &Fixture) -> BTreeMap<String, &'static VendorRecord> {
    let text = fs::read_to_string(fixture.expected("inventory.json")).expect("the expected file can be read");
    let inventory: Inventory = serde_json::from_str(&text).expect("an inventory can be read back");
    let record = |device| vendors::of_device(device).expect("a fixture's device has a record");
    inventory.devices.iter().map(|device| (device.id.to_string(), record(device))).collect()
}

/// Adds what a page shows of the devices of a host.
fn add(shown: &mut Shown, records: &BTreeMap<String, &'static VendorRecord>, page: &str) {
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.split_once('{') else { continue };
        let device = rest.split_once("device=\"").and_then(|(_, rest)| rest.split('"').next());
        let Some(record) = device.and_then(|device| records.get(device)) else { continue };
        let family = Family::ALL.iter().map(|family| family.spec()).find(|spec| spec.name == name);
        let Some(spec) = family.filter(|spec| spec.subject == MetricSubject::Device) else { continue };
        // A verdict is one that says something.
        let is_verdict = line.ends_with(" 1") && !line.contains("state=\"unknown\"");
        if spec.name != Family::Health.spec().name || is_verdict {
            shown.insert((record.probe, spec.name));
        }
    }
}

/// What the kernel's files show alone, and what all sources show.
fn shown() -> (Shown, Shown) {
    let (mut kernel, mut all) = (Shown::new(), Shown::new());
    for fixture in fixture::all() {
        let records = records(&fixture);
        let expected = fs::read_to_string(fixture.expected("metrics.txt")).expect("the file can be read");
        add(&mut all, &records, &expected);
        // Few hosts have this one.
        let links = fs::read_to_string(fixture.expected("metrics-links.txt")).unwrap_or_default();
        add(&mut all, &records, &links);
        let host = fixture.lay_out();
        let mut show = afd(["show", "--output", "metrics", "--no-libraries", "--per-link", "--host-root"]);
        let page = stdout(show.arg(host.root()));
        add(&mut kernel, &records, &page);
    }
    (kernel, all)
}

fn table((kernel, all): &(Shown, Shown)) -> String {
    let titles = VENDORS.map(|record| record.title).join(" | ");
    let mut table = format!("| family | {titles} |\n|---|{}\n", "---|".repeat(VENDORS.len()));
    for family in Family::ALL.iter().filter(|family| !OF_A_RUNNING_AGENT.contains(family)) {
        let spec = family.spec();
        if spec.subject != MetricSubject::Device {
            continue;
        }
        let cell = |record: &VendorRecord| {
            let key = (record.probe, spec.name);
            match (kernel.contains(&key), all.contains(&key)) {
                (true, _) => "kernel",
                (false, true) => record.library.as_ref().map_or("server", |library| library.title),
                (false, false) => "-",
            }
        };
        table += &format!("| `{}` | {} |\n", spec.name, VENDORS.map(cell).join(" | "));
    }
    table
}

#[test]
fn the_support_matrix_is_what_the_fixtures_show() {
    let path = workspace().join("docs/support.md");
    let text = fs::read_to_string(&path).expect("the page can be read");
    let (before, rest) = text.split_once(BEGIN).expect("the table has a beginning");
    let (_, after) = rest.split_once(END).expect("the table has an end");
    let shown = shown();
    expect_file![path].assert_eq(&format!("{before}{BEGIN}\n{}\n{END}{after}", table(&shown)));

    // What the kernel shows, all sources show: no library takes anything away.
    let lost: Vec<_> = shown.0.difference(&shown.1).collect();
    assert!(lost.is_empty(), "shown without the library alone: {lost:?}");
}
