//! `afd show --output table`: devices, NICs and problems.

use std::{fmt::Write, path::Path};

use afd_derive::vendors::VENDORS;
use afd_model::{Device, HealthState, Inventory, Nic, NicPort, PortState};
use comfy_table::{Cell, Color};

use crate::{
    device_text::{driver, mebibytes, partitions, product, value_or_dash},
    text_table::{TextStyle, new_table},
};

/// The inventory of the host under `root` as tables.
pub fn table(inventory: &Inventory, root: &Path, style: TextStyle) -> String {
    let mut text = String::new();
    if inventory.devices.is_empty() {
        text += "No accelerators found.\n";
    } else {
        let mut table =
            new_table(style, ["DEVICE", "PRODUCT", "MEMORY", "DRIVER", "NUMA", "PARTITIONS", "HEALTH"]);
        for device in &inventory.devices {
            table.add_row(device_row(device, style));
        }
        let _ = writeln!(text, "{}", table.trim_fmt());
    }
    if !inventory.nics.is_empty() {
        let mut table = new_table(style, ["NIC", "PCI", "PRODUCT", "NUMA", "PORTS", "NEAREST DEVICE"]);
        for nic in &inventory.nics {
            table.add_row(nic_row(inventory, nic));
        }
        let _ = write!(text, "\n{}\n", table.trim_fmt());
    }
    if !inventory.problems.is_empty() {
        let _ = writeln!(text, "\nProblems:");
        for problem in &inventory.problems {
            let device = problem.device.map(|device| format!(" {device}")).unwrap_or_default();
            let path = problem.path.as_deref().map(|path| format!(" {path}:")).unwrap_or_default();
            let _ = writeln!(text, "  {}{device} {}:{path} {}", problem.probe, problem.fact, problem.message);
        }
    }
    let scanned = inventory.scanned;
    let _ = writeln!(
        text,
        "\nScanned {} and {} under {}{} for {}.",
        counted(scanned.pci_functions, "PCI function"),
        counted(scanned.rdma_devices, "RDMA device"),
        root.display(),
        inventory.kernel_release.value().map(|release| format!(" (Linux {release})")).unwrap_or_default(),
        enumerated(&VENDORS.map(|record| record.title)),
    );
    text
}

fn device_row(device: &Device, style: TextStyle) -> Vec<Cell> {
    let state = device.health.state;
    let reasons: Vec<&str> = device.health.reasons.iter().map(|reason| reason.code.as_str()).collect();
    let health = format!("{} {}", state.as_str(), reasons.join(", "));
    let color = match state {
        HealthState::Healthy => Some(Color::Green),
        HealthState::Degraded => Some(Color::Yellow),
        HealthState::Failed => Some(Color::Red),
        HealthState::Unknown => None,
    };
    let health = Cell::new(health.trim_end());
    let memory = device.memory_bytes.value().map_or_else(|| "-".to_owned(), |bytes| mebibytes(*bytes));
    vec![
        Cell::new(device.id),
        Cell::new(product(device)),
        Cell::new(memory),
        Cell::new(driver(device)),
        Cell::new(value_or_dash(&device.numa_node)),
        Cell::new(partitions(device)),
        match color.filter(|_| style.color()) {
            Some(color) => health.fg(color),
            None => health,
        },
    ]
}

fn nic_row(inventory: &Inventory, nic: &Nic) -> Vec<String> {
    let mut ports = active_ports(&nic.ports);
    if let Some(port) = nic.ports.first() {
        if let Some(protocol) = port.protocol.value() {
            let _ = write!(ports, " {}", protocol.as_str());
        }
        if let Some(rate) = port.rate_bits_per_second.value() {
            let _ = write!(ports, " {} Gb/s", *rate as f64 / 1e9);
        }
    }
    let nearest = afd_derive::rdma::nearest_device(inventory, nic);
    vec![
        nic.name.clone(),
        value_or_dash(&nic.pci_address),
        value_or_dash(&nic.product),
        value_or_dash(&nic.numa_node),
        ports,
        nearest.map_or_else(|| "-".to_owned(), |device| device.id.to_string()),
    ]
}

/// `1/2 active`; `?/1 active` where the state of no port is known, and `1/2 active, 1 not known` where that of some is not.
fn active_ports(ports: &[NicPort]) -> String {
    let count = |is_counted: fn(&NicPort) -> bool| ports.iter().filter(|port| is_counted(port)).count();
    let active = count(|port| port.state.value() == Some(&PortState::Active));
    match (count(|port| port.state.value().is_none()), ports.len()) {
        (0, all) => format!("{active}/{all} active"),
        (unknown, all) if unknown == all => format!("?/{all} active"),
        (unknown, all) => format!("{active}/{all} active, {unknown} not known"),
    }
}

fn counted(count: u32, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `a, b and c`.
fn enumerated(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use afd_model::{Known, Missing};

    use super::*;

    #[test]
    fn a_port_of_unknown_state_is_not_counted_as_inactive() {
        let ports = |states: &[Known<PortState>]| {
            let port = |state: &Known<PortState>| NicPort {
                number: 1,
                state: *state,
                link_layer: Known::default(),
                protocol: Known::default(),
                rate_bits_per_second: Known::default(),
            };
            active_ports(&states.iter().map(port).collect::<Vec<_>>())
        };
        let (active, down) = (Known::Value(PortState::Active), Known::Value(PortState::Down));
        let unknown = Known::from(Missing::Malformed);
        assert_eq!(ports(&[]), "0/0 active");
        assert_eq!(ports(&[active, down]), "1/2 active");
        assert_eq!(ports(&[unknown]), "?/1 active");
        assert_eq!(ports(&[active, unknown, down]), "1/3 active, 1 not known");
        assert_eq!(ports(&[unknown, unknown]), "?/2 active");
    }
}
