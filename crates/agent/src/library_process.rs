//! `afd probe`: the process that queries a vendor's library or servers for the agent.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use afd_derive::vendors::{self, VendorLibrary};
use afd_host::{
    child::{ChildChannel, EventSender, ServeError},
    sandbox::{Sandbox, SandboxPolicy},
};
use afd_model::PciAddress;
use afd_probe::library::DISCOVER;
use anyhow::Context;
use rustix::process::Signal;
use serde_json::value::RawValue;

use crate::{memory::UnusedMemory, probes};

/// Responds to a request to a vendor's library with JSON text, and sends events.
pub type LibraryService = Box<dyn FnMut(&str, &EventSender) -> anyhow::Result<Box<RawValue>>>;

/// By what the process queries a driver, each with the address of its device.
#[derive(Debug, Default)]
pub struct QueriedDriver {
    /// Device nodes.
    pub nodes: Vec<(PciAddress, PathBuf)>,
    /// Counters of the kernel, as the vendor describes them.
    pub counters: Vec<(PciAddress, String)>,
}

/// Serves requests to the library of a probe, or to its driver, until the agent ends. The process confines itself before it loads the
/// library.
///
/// # Errors
/// When the library cannot be loaded, or the process cannot be confined.
pub fn serve(probe: &str, library: Option<&Path>, driver: QueriedDriver) -> anyhow::Result<()> {
    // An agent that was killed cannot close our standard input while the library hangs.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("binding this process to the agent")?;
    let record = vendors::by_probe(probe)
        .and_then(|record| record.library.as_ref())
        .with_context(|| format!("{probe} has no library"))?;
    let channel = ChildChannel::claim().context("claiming standard output")?;
    let patterns: BTreeSet<String> =
        driver.nodes.iter().filter_map(|(_, path)| numbered_files(path)).collect();
    let mut device_files: Vec<&str> = patterns.iter().map(String::as_str).collect();
    if library.is_some() {
        device_files.extend(record.device_files);
    }
    let may_count = record.opens_counters && (library.is_some() || !driver.counters.is_empty());
    let policy = SandboxPolicy { may_count, ..policy(record, library, &device_files) };
    let sandbox = Sandbox::enter(&policy).context("confining this process")?;
    channel.report_confinement(sandbox.to_string())?;
    let mut memory = UnusedMemory::new();
    let mut service = match library {
        Some(library) if driver.nodes.is_empty() && driver.counters.is_empty() => {
            probes::open_library(probe, library)
        }
        _ => probes::open_driver(probe, library, driver),
    }
    .with_context(|| match library {
        Some(library) => format!("loading {}", library.display()),
        None => "querying the driver".to_owned(),
    })?;
    let respond = |request: &str, events: &EventSender| {
        // A driver that is loaded later makes device files which this process may not open.
        if request == DISCOVER && sandbox.has_new_device_files() {
            return Err(ServeError::Restart("there are new device files".to_owned()));
        }
        Ok(service(request, events)?)
    };
    let responded = |request: &str| {
        if request == DISCOVER {
            memory.request();
        }
        memory.return_unused();
    };
    channel.serve(respond, responded)
}

/// Serves requests to servers on the node until the agent ends. The process confines itself to their ports first.
///
/// # Errors
/// When a server is none of the probe's, or the process cannot be confined.
pub fn serve_network(probe: &str, servers: &[(String, SocketAddr)]) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("binding this process to the agent")?;
    let record = vendors::by_probe(probe)
        .and_then(|record| record.network.as_ref())
        .with_context(|| format!("{probe} queries no server"))?;
    let channel = ChildChannel::claim().context("claiming standard output")?;
    let ports: Vec<u16> = servers.iter().map(|(_, address)| address.port()).collect();
    let policy = SandboxPolicy {
        library: None,
        ports: &ports,
        may_count: false,
        read_paths: &[],
        device_files: &[],
        shared_folders: &[],
        programs: &[],
        max_data_bytes: record.max_data_bytes,
    };
    let sandbox = Sandbox::enter(&policy).context("confining this process")?;
    channel.report_confinement(sandbox.to_string())?;
    let mut service = probes::open_network(probe, servers)?;
    channel.serve(|request, events| Ok(service(request, events)?), |_| {})
}

/// The pattern of all device files that differ in their number only.
fn numbered_files(path: &Path) -> Option<String> {
    let name = path.to_str()?.trim_end_matches(|c: char| c.is_ascii_digit());
    Some(format!("{name}*"))
}

/// Without a library the process makes ioctls, and opens counters, alone.
fn policy<'a>(
    record: &VendorLibrary,
    library: Option<&'a Path>,
    device_files: &'a [&'a str],
) -> SandboxPolicy<'a> {
    let of_library = |paths: &'static [&'static str]| if library.is_some() { paths } else { &[] };
    SandboxPolicy {
        library,
        ports: &[],
        may_count: false,
        read_paths: of_library(record.read_paths),
        device_files,
        shared_folders: of_library(record.shared_folders),
        programs: of_library(record.programs),
        max_data_bytes: record.max_data_bytes,
    }
}
