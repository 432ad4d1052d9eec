//! `afd probe`: the process that queries a vendor's library for the agent.

use std::path::Path;

use afd_derive::vendors;
use afd_host::child::{self, EventSender};
use anyhow::{Context, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::probes;

/// Responds to a request to a vendor's library, and sends events.
pub type LibraryService = Box<dyn FnMut(&str, &EventSender) -> anyhow::Result<Value>>;

/// Serves requests to the library of a probe until the agent ends.
///
/// # Errors
/// When the library cannot be loaded, or the process has grown too large.
pub fn serve(probe: &str, library: &Path) -> anyhow::Result<()> {
    // An agent that was killed cannot close our standard input while the library hangs.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("binding this process to the agent")?;
    let max_resident_bytes = vendors::by_probe(probe)
        .and_then(|record| record.library.as_ref())
        .with_context(|| format!("{probe} has no library"))?
        .max_resident_bytes;
    let mut service =
        probes::open_library(probe, library).with_context(|| format!("loading {}", library.display()))?;
    child::serve(|request, events| {
        let value = service(request, events)?;
        let resident = resident_bytes()?;
        // The library leaks; the agent restarts the process.
        if resident > max_resident_bytes {
            bail!("the library made this process grow to {} MiB", resident >> 20);
        }
        Ok::<_, anyhow::Error>(value)
    })
}

fn resident_bytes() -> anyhow::Result<u64> {
    let pages = procfs::process::Process::myself()?.statm()?.resident;
    Ok(pages * procfs::page_size())
}
