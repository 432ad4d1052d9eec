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
use serde_json::Value;

use crate::probes;

/// Responds to a request to a vendor's library, and sends events.
pub type LibraryService = Box<dyn FnMut(&str, &EventSender) -> anyhow::Result<Value>>;

/// Serves requests to the library of a probe until the agent ends. The process confines itself before it loads the library.
///
/// # Errors
/// When the library cannot be loaded, or the process cannot be confined.
pub fn serve(probe: &str, library: &Path) -> anyhow::Result<()> {
    // An agent that was killed cannot close our standard input while the library hangs.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("binding this process to the agent")?;
    let record = vendors::by_probe(probe)
        .and_then(|record| record.library.as_ref())
        .with_context(|| format!("{probe} has no library"))?;
    let channel = ChildChannel::claim().context("claiming standard output")?;
    let sandbox = Sandbox::enter(&policy(record, library)).context("confining this process")?;
    channel.report_confinement(sandbox.to_string())?;
    let mut service =
        probes::open_library(probe, library).with_context(|| format!("loading {}", library.display()))?;
    channel.serve(|request, events| {
        // A driver that is loaded later makes device files which this process may not open.
        if request == DISCOVER && sandbox.has_new_device_files() {
            return Err(ServeError::Restart("there are new device files".to_owned()));
        }
        Ok(service(request, events)?)
    })
}

/// Serves requests to the driver of a probe by device nodes, where there is no library, until the agent ends. The process confines
/// itself to the nodes first.
///
/// # Errors
/// When the probe has no library for which the nodes stand in, or the process cannot be confined.
pub fn serve_nodes(probe: &str, nodes: Vec<(PciAddress, PathBuf)>) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("binding this process to the agent")?;
    let record = vendors::by_probe(probe)
        .and_then(|record| record.library.as_ref())
        .with_context(|| format!("{probe} has no library"))?;
    let channel = ChildChannel::claim().context("claiming standard output")?;
    let patterns: BTreeSet<String> = nodes.iter().filter_map(|(_, path)| numbered_files(path)).collect();
    let device_files: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let policy = SandboxPolicy {
        library: None,
        ports: &[],
        read_paths: &[],
        device_files: &device_files,
        shared_folders: &[],
        programs: &[],
        max_data_bytes: record.max_data_bytes,
    };
    let sandbox = Sandbox::enter(&policy).context("confining this process")?;
    channel.report_confinement(sandbox.to_string())?;
    let mut service = probes::open_nodes(probe, nodes)?;
    channel.serve(|request, events| {
        // A driver that is loaded again makes its device files again, which this process may not open.
        if request == DISCOVER && sandbox.has_new_device_files() {
            return Err(ServeError::Restart("there are new device files".to_owned()));
        }
        Ok(service(request, events)?)
    })
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
        read_paths: &[],
        device_files: &[],
        shared_folders: &[],
        programs: &[],
        max_data_bytes: record.max_data_bytes,
    };
    let sandbox = Sandbox::enter(&policy).context("confining this process")?;
    channel.report_confinement(sandbox.to_string())?;
    let mut service = probes::open_network(probe, servers)?;
    channel.serve(|request, events| Ok(service(request, events)?))
}

/// The pattern of all device files that differ in their number only.
fn numbered_files(path: &Path) -> Option<String> {
    let name = path.to_str()?.trim_end_matches(|c: char| c.is_ascii_digit());
    Some(format!("{name}*"))
}

fn policy<'a>(record: &VendorLibrary, library: &'a Path) -> SandboxPolicy<'a> {
    SandboxPolicy {
        library: Some(library),
        ports: &[],
        read_paths: record.read_paths,
        device_files: record.device_files,
        shared_folders: record.shared_folders,
        programs: record.programs,
        max_data_bytes: record.max_data_bytes,
    }
}
