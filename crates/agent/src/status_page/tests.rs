use afd_model::{Health, Known, Missing, Nic, reason::REASONS};

use super::{html::escaped, *};
use crate::{
    args::Args,
    live::{
        LiveReport,
        tests::{device, inventory, report},
    },
};

/// The whole page, with links to documentation at an address if one is given.
fn page(inventory: &Inventory, node: Option<&str>, docs: Option<&str>) -> String {
    use clap::Parser;
    let mut arguments = vec!["afd", "run", "--no-kubernetes"];
    arguments.extend(docs.into_iter().flat_map(|docs| ["--docs-url", docs]));
    let args = Args::try_parse_from(arguments).expect("the arguments are valid");
    let crate::args::Command::Run(run) = args.command else { panic!("it is `afd run`") };
    let frame = PageFrame::new(inventory, node);
    let part = part(&LiveReport { node: None, ..report(inventory) }, run.http.docs_url.as_ref());
    [frame.head, part, frame.tail].concat()
}

#[test]
fn strings_of_the_node_are_escaped() {
    let hostile = "<script>alert('x')</script>&\"";
    let mut first = device(1, hostile);
    first.driver = Known::Value(hostile.to_owned());
    first.health = Health::failed("GpuLost", hostile);
    let mut second = device(2, "X");
    second.health = Health::failed(hostile, hostile);
    let nic = Nic {
        name: hostile.to_owned(),
        pci_address: Known::Value(first.pci.address),
        vendor_id: Missing::NotExposed.into(),
        device_id: Missing::NotExposed.into(),
        product: Missing::NotExposed.into(),
        driver: Missing::NotExposed.into(),
        firmware_version: Missing::NotExposed.into(),
        numa_node: Missing::NotExposed.into(),
        upstream: Vec::new(),
        virtual_function: false,
        of_accelerator: false,
        ports: Vec::new(),
    };
    let inventory = Inventory { devices: vec![first, second], nics: vec![nic], ..inventory() };
    let page = page(&inventory, Some(hostile), Some("/docs/PAGE.html"));
    assert_eq!(page.matches("<script").count(), 1, "there is one script, of the page itself: {page}");
    assert!(
        page.contains("GpuLost</a>: &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"),
        "{page}"
    );
    assert!(page.contains(&format!("<p>{}: ", escaped(hostile))), "a reason by any name: {page}");
}

#[test]
fn the_page_is_self_contained_and_its_code_is_small() {
    let page = page(&Inventory::default(), None, None);
    let links: Vec<&str> = page.split("href=\"").skip(1).collect();
    let is_relative = |link: &&str| !link.starts_with('/') && !link.contains("//") || link.starts_with('#');
    let all_relative = links.iter().filter_map(|link| link.split('"').next()).all(|link| is_relative(&link));
    assert!(all_relative && !page.contains("src="), "{links:?}");
    assert!(page.contains("No accelerators found."));
    let code = compact(STYLE).len() + compact(SCRIPT).len();
    assert!(code < 10 * 1024, "the style and the script have {code} bytes");
}

#[test]
fn the_policy_allows_the_code_of_the_page_and_nothing_else() {
    let frame = PageFrame::new(&inventory(), Some("gpu-7"));
    assert!(frame.policy.starts_with("default-src 'none'; script-src 'sha256-"), "{}", frame.policy);
    assert_eq!(frame.policy.matches("'sha256-").count(), 3, "a script and two styles: {}", frame.policy);
    assert!(!frame.policy.contains("unsafe"), "{}", frame.policy);
}

#[test]
fn a_device_has_its_values_its_reasons_and_its_pods() {
    let page = page(&inventory(), Some("gpu-7"), None);
    for expected in [
        "<h1>Accelerators of gpu-7</h1>",
        "<main data-t=\"1764395412.25\" data-i=\"5\" data-s=\"40\">",
        "<b class=\"bad\">1 failed</b>",
        "datetime=\"2025-11-29T05:50:12Z\"",
        "<td data-l=\"Utilization\" class=\"num\">35 %<svg class=\"spark\" data-k=\"0000:19:00.0 Utilization\" \
         data-v=\"0.35\" data-m=\"1\" ",
        "20.0 GiB / 80.0 GiB<svg",
        "<td data-l=\"Power\" class=\"num\">–<small>permission denied</small></td>",
        "<td data-l=\"Temperature\" class=\"num\">–<small>not exposed</small></td>",
        "<p>serving/vllm-0</p>",
        "<span class=\"bad\">failed</span><p><a href=\"#reason-gpulost\">GpuLost</a>: the device has fallen off the bus",
        "<tr class=\"part\"><th scope=\"row\"><span class=\"id\">gi3-ci0</span><small>1g.10gb</small></th>",
        "missing-1<small>Accelerator X80</small>",
        "<a href=\"#reason-devicemissing\">DeviceMissing</a>: was at 0000:39:00.0",
        "<dt id=\"reason-gpulost\">GpuLost</dt><dd>the device has fallen off the bus or cannot be reached. What to do: ",
        "<li>pci 0000:29:00.0 power_watts: /sys/power: permission denied</li>",
    ] {
        assert!(page.contains(expected), "{expected} is missing: {page}");
    }
}

#[test]
fn reasons_and_paths_link_to_the_documentation() {
    let page = page(&inventory(), None, Some("https://docs.example.com/PAGE.html"));
    for expected in [
        "https://docs.example.com/conditions.html#reason-gpulost",
        "https://docs.example.com/paths.html#pathoptimized-baseline-optimized-baseline",
        "https://docs.example.com/alerts.html#acceleratorprobeproblems",
    ] {
        assert!(page.contains(&format!("<a href=\"{expected}\">")), "{expected} is missing: {page}");
    }
}

#[test]
fn every_reason_has_an_anchor_of_its_own() {
    let anchors: std::collections::BTreeSet<String> =
        REASONS.iter().map(|row| afd_model::reason::anchor(row.code)).collect();
    assert_eq!(anchors.len(), REASONS.len());
}
