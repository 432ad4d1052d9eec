//! What the table of paths does not show: which devices share a fabric, and the weight and bandwidth of their links.

use std::collections::BTreeMap;

use afd_model::{DeviceId, Inventory, Link};

use super::TopologyPlan;

/// Pairs of devices per line.
const PAIRS_PER_LINE: usize = 14;

/// Lines about fabrics and links, in which devices have the numbers of the table of paths. Empty if no fabric and no link is
/// known.
pub(super) fn lines(plan: &TopologyPlan<'_>, inventory: &Inventory) -> Vec<String> {
    let numbers: BTreeMap<DeviceId, usize> =
        plan.devices.iter().enumerate().map(|(index, device)| (device.id, index + 1)).collect();
    let mut lines = domains(plan);
    let mut classes: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for link in &inventory.links {
        if let (Some(a), Some(b)) = (numbers.get(&link.a), numbers.get(&link.b)) {
            let (a, b) = (a.min(b), a.max(b));
            classes.entry(class_of(link)).or_default().push(format!("{a}-{b}"));
        }
    }
    let all: usize = classes.values().map(Vec::len).sum();
    for (class, pairs) in classes {
        if pairs.len() == all && all > PAIRS_PER_LINE {
            lines.push(format!("{class}: each of the {all} linked pairs"));
        } else {
            let rows: Vec<String> = pairs.chunks(PAIRS_PER_LINE).map(|row| row.join(" ")).collect();
            lines.push(format!("{class}: {}", rows.first().map_or("", String::as_str)));
            lines.extend(rows.into_iter().skip(1).map(|row| format!("  {row}")));
        }
    }
    lines
}

/// Groups of devices that reach each other over their own links.
fn domains(plan: &TopologyPlan<'_>) -> Vec<String> {
    let mut domains: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (index, device) in plan.devices.iter().enumerate() {
        if let Some(domain) = device.link_domain.value() {
            domains.entry(domain).or_default().push((index + 1).to_string());
        }
    }
    let line = |(domain, devices): (&str, Vec<String>)| format!("fabric {domain}: {}", devices.join(" "));
    domains.into_iter().map(line).collect()
}

/// The description of all links of the same kind, weight and bandwidth.
fn class_of(link: &Link) -> String {
    let weight = link.weight.value().map(|weight| format!(", weight {weight}")).unwrap_or_default();
    let bandwidth = link.bandwidth_bytes_per_second.value();
    let bandwidth = bandwidth.map(|bytes| format!(", {} GB/s", *bytes as f64 / 1e9)).unwrap_or_default();
    format!("{}{weight}{bandwidth}", link.kind.as_str())
}

#[cfg(test)]
mod tests {
    use afd_model::{Device, Known, LinkKind, Missing, PciAddress, Variant, Vendor};

    use super::*;

    fn device(bus: u8, domain: &str) -> Device {
        let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
        let link_domain = Known::Value(domain.to_owned());
        Device { link_domain, ..Device::bare(address, Vendor::Amd, Variant::Gpu) }
    }

    #[test]
    fn fabrics_and_links_have_the_numbers_of_the_table() {
        let devices = vec![device(1, "7"), device(2, "7"), device(3, "8")];
        let link = |a: usize, b: usize, weight, bandwidth| Link {
            a: devices[a].id,
            b: devices[b].id,
            kind: LinkKind::Xgmi,
            weight: Known::Value(weight),
            bandwidth_bytes_per_second: bandwidth,
        };
        let links =
            vec![link(0, 1, 15, Known::Value(50_000_000_000)), link(1, 2, 41, Missing::NotExposed.into())];
        let inventory = Inventory { links, devices, ..Inventory::default() };
        assert_eq!(
            lines(&TopologyPlan::new(&inventory), &inventory),
            ["fabric 7: 1 2", "fabric 8: 3", "xgmi, weight 15, 50 GB/s: 1-2", "xgmi, weight 41: 2-3"]
        );
        assert!(lines(&TopologyPlan::new(&Inventory::default()), &Inventory::default()).is_empty());
    }
}
