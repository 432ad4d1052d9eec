//! The topology as a tree and a table of paths.

use std::fmt::Write;

use afd_model::Inventory;

use super::{DevicePath, TopologyPlan, device_line, nic_line};

/// Draws the node as text.
pub fn draw(inventory: &Inventory) -> String {
    let plan = TopologyPlan::new(inventory);
    let mut text = String::new();
    for group in &plan.numa_groups {
        let cpus = group.cpus.map(|cpus| format!(" (CPUs {cpus})")).unwrap_or_default();
        let _ = writeln!(text, "{}{cpus}", group.title);
        for branch in &group.branches {
            if let Some(root_port) = branch.root_port {
                let _ = writeln!(text, "  root port {root_port}");
            }
            let indent = if branch.root_port.is_some() { "    " } else { "  " };
            for device in &branch.devices {
                let _ = writeln!(text, "{indent}device {} {}", device.id, device_line(device));
            }
            for nic in &branch.nics {
                let address =
                    nic.pci_address.value().map(|address| format!(" {address}")).unwrap_or_default();
                let _ = writeln!(text, "{indent}nic    {}{address} {}", nic.name, nic_line(nic));
            }
        }
    }
    if plan.devices.is_empty() {
        text += "No accelerators found.\n";
    }
    if plan.devices.len() > 1 {
        text += &paths(&plan);
    }
    text
}

fn paths(plan: &TopologyPlan<'_>) -> String {
    let mut text = "\nPaths between devices\n".to_owned();
    let width = plan.devices.iter().map(|device| device.id.to_string().len()).max().unwrap_or(0);
    let _ = write!(text, "{:width$}  ", "");
    for number in 1..=plan.devices.len() {
        let _ = write!(text, " {number:>7}");
    }
    text.push('\n');
    for (index, from) in plan.devices.iter().enumerate() {
        let _ = write!(text, "{:width$} {:>2}", from.id.to_string(), index + 1);
        for to in &plan.devices {
            let word = if from.id == to.id { "-" } else { plan.path(from, to).as_str() };
            let _ = write!(text, " {word:>7}");
        }
        text.push('\n');
    }
    for line in &plan.fabric {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "{}", DevicePath::LEGEND);
    text
}
