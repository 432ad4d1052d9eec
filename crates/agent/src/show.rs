//! `afd show`: this node now.

use std::{fmt::Write, path::Path};

use afd_derive::{
    compat::{CompatOptions, CompatSet},
    labels::LabelOptions,
    paths::{self, Rules},
    series::InCluster,
};
use afd_model::{Device, HealthState, Inventory, Known, Nic, Partitioning, PortState};
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use crate::{
    render::{self, Turn},
    survey::Survey,
};

/// How text for people is dressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Style {
    /// Whether a person looks at it: its width is the terminal's then.
    terminal: bool,
    /// Whether it may be coloured.
    color: bool,
}

impl Style {
    /// For a terminal or not, with colour unless the user does not want any (<https://no-color.org>).
    pub fn of_terminal(terminal: bool, no_color: bool) -> Style {
        Style { terminal, color: terminal && !no_color }
    }

    /// Whether it may be coloured.
    pub(crate) fn color(self) -> bool {
        self.color
    }
}

/// The inventory as JSON, with a line end.
///
/// # Errors
/// When it cannot be encoded.
pub fn json(inventory: &Inventory) -> serde_json::Result<String> {
    serde_json::to_string_pretty(inventory).map(|text| text + "\n")
}

/// The labels, our own and those in vendors' spellings, one `key=value` a line.
pub fn labels(
    inventory: &Inventory,
    options: &LabelOptions,
    compat: &CompatOptions,
    rules: &Rules,
) -> String {
    let mut labels = afd_derive::labels::labels(inventory, options, None);
    labels.extend(paths::labels(inventory, &rules.ask(inventory, options.include_integrated), options));
    labels.extend(afd_derive::compat::labels(inventory, options, compat));
    labels.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

/// The metrics of one sample, without the agent's own: our own, or those of the vendors' sets if any are asked for.
///
/// # Errors
/// When they cannot be encoded.
pub fn metrics(
    survey: &mut Survey,
    sets: &[CompatSet],
    rules: &Rules,
    include_integrated: bool,
) -> anyhow::Result<String> {
    let inventory = survey.discover();
    let sampling = survey.sample();
    if sets.is_empty() {
        let paths = rules.ask(&inventory, include_integrated);
        let turn =
            Turn { inventory: &inventory, paths: &paths, sampling: &sampling, cluster: InCluster::default() };
        return Ok(String::from_utf8(render::metrics(turn, &[])?)?);
    }
    let turn = Turn { inventory: &inventory, paths: &[], sampling: &sampling, cluster: InCluster::default() };
    let pages: Result<Vec<_>, _> = sets.iter().map(|set| render::compat_metrics(*set, turn, None)).collect();
    Ok(String::from_utf8(pages?.concat())?)
}

/// The metrics of dcgm-exporter, of one sample.
///
/// # Errors
/// When they cannot be encoded.
pub fn dcgm(survey: &mut Survey, node: Option<&str>) -> anyhow::Result<String> {
    let inventory = survey.discover();
    let sampling = survey.sample();
    let turn = Turn { inventory: &inventory, paths: &[], sampling: &sampling, cluster: InCluster::default() };
    Ok(String::from_utf8(render::dcgm(turn, node)?)?)
}

/// A table for people.
pub fn table(inventory: &Inventory, root: &Path, style: Style) -> String {
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
        "\nLooked at {} and {} beneath {}{}, for devices of NVIDIA, AMD, Intel (GPU and Gaudi) and Google (TPU).",
        counted(scanned.pci_functions, "PCI function"),
        counted(scanned.rdma_devices, "RDMA device"),
        root.display(),
        inventory.kernel_release.value().map(|release| format!(" (Linux {release})")).unwrap_or_default(),
    );
    text
}

/// A table without lines.
pub(crate) fn new_table<const N: usize>(style: Style, header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    if style.terminal {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
    }
    table
}

fn device_row(device: &Device, style: Style) -> Vec<Cell> {
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
    vec![
        Cell::new(device.id),
        Cell::new(product(device)),
        Cell::new(
            device.memory_bytes.value().map_or_else(|| told(&device.memory_bytes), |bytes| mebibytes(*bytes)),
        ),
        Cell::new(driver(device)),
        Cell::new(told(&device.numa_node)),
        Cell::new(partitions(device)),
        match color.filter(|_| style.color) {
            Some(color) => health.fg(color),
            None => health,
        },
    ]
}

/// The driver and its version.
pub(crate) fn driver(device: &Device) -> String {
    match (&device.driver, &device.driver_version) {
        (Known::Value(driver), Known::Value(version)) => format!("{driver} {version}"),
        (driver, _) => told(driver),
    }
}

/// The product, or the ids of one that the table lacks.
pub(crate) fn product(device: &Device) -> String {
    let name = device.product_name().map_or_else(
        || {
            let id = |id: &Known<afd_model::PciId>| id.value().map_or("????".to_owned(), ToString::to_string);
            format!("unrecognized {}:{}", id(&device.pci.vendor_id), id(&device.pci.device_id))
        },
        str::to_owned,
    );
    let integrated = if device.integrated { " (integrated)" } else { "" };
    let function = if device.virtual_function { " (virtual function)" } else { "" };
    name + integrated + function
}

/// How many partitions there are, and how they were cut.
pub(crate) fn partitions(device: &Device) -> String {
    match device.partitioning.value() {
        Some(Partitioning::Xcp { compute, memory }) => {
            let mode =
                memory.value().map_or_else(|| compute.to_string(), |memory| format!("{compute}/{memory}"));
            format!("{} {mode}", device.partitions.len().max(1))
        }
        Some(Partitioning::Mig) => {
            let mut profiles: Vec<&str> = device
                .partitions
                .iter()
                .map(|partition| partition.profile.value().map_or("?", String::as_str))
                .collect();
            profiles.sort_unstable();
            profiles.dedup();
            format!("{} MIG {}", device.partitions.len(), profiles.join(", "))
        }
        Some(Partitioning::Sriov { functions }) => format!("{functions} SR-IOV"),
        Some(Partitioning::Whole) => "whole".to_owned(),
        None if device.partitions.is_empty() => "-".to_owned(),
        None => device.partitions.len().to_string(),
    }
}

fn nic_row(inventory: &Inventory, nic: &Nic) -> Vec<String> {
    let active = nic.ports.iter().filter(|port| port.state.value() == Some(&PortState::Active)).count();
    let mut ports = format!("{active}/{} active", nic.ports.len());
    if let Some(port) = nic.ports.first() {
        if let Some(protocol) = port.protocol.value() {
            let _ = write!(ports, " {}", protocol.as_str());
        }
        if let Some(rate) = port.rate_bits_per_second.value() {
            let _ = write!(ports, " {} Gb/s", *rate as f64 / 1e9);
        }
    }
    vec![
        nic.name.clone(),
        told(&nic.pci_address),
        told(&nic.product),
        told(&nic.numa_node),
        ports,
        afd_derive::rdma::nearest_device(inventory, nic)
            .map_or_else(|| "-".to_owned(), |device| device.id.to_string()),
    ]
}

/// A value, or a dash where there is none.
pub(crate) fn told<T: ToString>(fact: &Known<T>) -> String {
    fact.value().map_or_else(|| "-".to_owned(), ToString::to_string)
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn counted(count: u32, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
