//! The status page at `/`: devices and their health, paths and why they are not ready, and a drawing of the topology.
//!
//! Self-contained HTML: no script, no external image, style or font. It is rendered when the inventory changes, and every
//! string that comes from the node is escaped.

use std::fmt::Write;

use afd_derive::paths::{PathAnswer, PathVerdict};
use afd_model::{Device, HealthState, Inventory};

use crate::{
    device_text::{driver, mebibytes, partitions, product, value_or_dash},
    explain, topology,
};

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";

const STYLE: &str = "<style>\n\
:root { color-scheme: light }\n\
body { margin: 0 auto; max-width: 90rem; padding: 1rem 1.5rem; background: #fff; color: #1b1f24; \
font: 1rem/1.5 system-ui, sans-serif }\n\
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2rem }\n\
.wide { overflow-x: auto }\n\
table { border-collapse: collapse; width: 100% }\n\
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid #d0d7de }\n\
td p { margin: 0; max-width: 60rem; overflow-wrap: anywhere }\n\
.good { color: #116329 } .poor { color: #7d4e00 } .bad { color: #a40e26 } .unknown { color: #57606a }\n\
svg { max-width: 100%; height: auto }\n\
</style>\n";

/// The page of a node; `node` is its name, if it has one.
pub fn html(inventory: &Inventory, paths: &[PathVerdict<'_>], node: Option<&str>) -> String {
    let title =
        node.map_or_else(|| "Accelerators".to_owned(), |node| format!("Accelerators of {}", escaped(node)));
    let mut text =
        format!("{HEAD}<title>{title}</title>\n{STYLE}</head>\n<body>\n<main>\n<h1>{title}</h1>\n");
    text += "<h2>Devices</h2>\n";
    if inventory.devices.is_empty() {
        text += "<p>No accelerators found.</p>\n";
    } else {
        let headers = ["Device", "Product", "Memory", "Driver", "NUMA node", "Partitions", "Health"];
        table(&mut text, &headers, inventory.devices.iter().map(device_row));
    }
    text += "<h2>llm-d paths</h2>\n";
    table(&mut text, &["Path", "Ready", "Why"], paths.iter().map(path_row));
    let _ =
        write!(text, "<h2>Topology</h2>\n<div class=\"wide\">\n{}</div>\n", topology::svg::draw(inventory));
    text += "</main>\n<footer>\n<p>Also here: <a href=\"/metrics\">metrics</a>, <a href=\"/inventory\">inventory</a>, \
             <a href=\"/compat/dcgm\">metrics of dcgm-exporter</a>, <a href=\"/healthz\">health of the agent</a>.</p>\n\
             </footer>\n</body>\n</html>\n";
    text
}

/// A table; the first cell of a row is its header.
fn table<const N: usize>(text: &mut String, headers: &[&str; N], rows: impl Iterator<Item = [String; N]>) {
    *text += "<div class=\"wide\">\n<table>\n<thead><tr>";
    for header in headers {
        let _ = write!(text, "<th scope=\"col\">{header}</th>");
    }
    *text += "</tr></thead>\n<tbody>\n";
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let _ = match column {
                0 => write!(text, "<tr><th scope=\"row\">{cell}</th>"),
                _ => write!(text, "<td>{cell}</td>"),
            };
        }
        *text += "</tr>\n";
    }
    *text += "</tbody>\n</table>\n</div>\n";
}

fn device_row(device: &Device) -> [String; 7] {
    let state = device.health.state;
    let class = match state {
        HealthState::Healthy => "good",
        HealthState::Degraded => "poor",
        HealthState::Failed => "bad",
        HealthState::Unknown => "unknown",
    };
    let reasons = device.health.reasons.iter().map(|reason| format!("{}: {}", reason.code, reason.message));
    [
        device.id.to_string(),
        escaped(&product(device)),
        device.memory_bytes.value().map_or_else(|| "-".to_owned(), |bytes| mebibytes(*bytes)),
        escaped(&driver(device)),
        value_or_dash(&device.numa_node),
        escaped(&partitions(device)),
        format!("<span class=\"{class}\">{}</span>{}", state.as_str(), paragraphs(reasons)),
    ]
}

fn path_row(verdict: &PathVerdict<'_>) -> [String; 3] {
    let class = match verdict.answer() {
        PathAnswer::Ready => "good",
        PathAnswer::NotReady => "bad",
        PathAnswer::Unknown => "unknown",
    };
    let answer = explain::answer(verdict.answer()).0;
    [
        escaped(&verdict.path.name),
        format!("<span class=\"{class}\">{answer}</span>"),
        paragraphs(explain::why(verdict).into_iter()),
    ]
}

fn paragraphs(texts: impl Iterator<Item = String>) -> String {
    texts.map(|text| format!("<p>{}</p>", escaped(&text))).collect()
}

/// A string with the characters that are special in HTML replaced by references.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use afd_derive::paths::PathRules;
    use afd_model::{Health, Known, Missing, Nic, PciAddress, Product, Variant, Vendor};

    use super::*;

    #[test]
    fn strings_of_the_node_are_escaped() {
        let hostile = "<script>alert('x')</script>&\"";
        let product = Product {
            name: hostile.to_owned(),
            model: Known::Value(hostile.to_owned()),
            architecture: Missing::Unrecognized.into(),
        };
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let device = Device {
            product: Known::Value(product),
            driver: Known::Value(hostile.to_owned()),
            health: Health::failed("GpuLost", hostile),
            ..Device::bare(address, Vendor::Nvidia, Variant::Gpu)
        };
        let nic = Nic {
            name: hostile.to_owned(),
            pci_address: Known::Value(address),
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
        let inventory = Inventory { devices: vec![device], nics: vec![nic], ..Inventory::default() };
        let rules = PathRules::built_in();
        let page = html(&inventory, &rules.verdicts(&inventory, false), Some(hostile));
        assert!(!page.contains("<script"), "{page}");
        assert!(
            page.contains("GpuLost: &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"),
            "{page}"
        );
    }

    #[test]
    fn the_page_is_self_contained() {
        let page = html(&Inventory::default(), &[], None);
        let links: Vec<&str> = page.split("href=\"").skip(1).collect();
        assert!(links.iter().all(|link| link.starts_with('/')) && !page.contains("src="), "{page}");
        assert!(page.contains("No accelerators found."));
    }
}
