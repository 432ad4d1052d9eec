//! `afd probe`: the process that asks a vendor's library for the agent.

use std::path::Path;

use afd_amd::smi::Smi;
use afd_host::child::{self, EventSender};
use afd_nvidia::nvml::{self, Nvml};
use anyhow::{Context, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::args::LibraryVendor;

/// A library that takes more than this leaks; the agent starts the process anew.
const MOST_MEMORY_BYTES: u64 = 256 << 20;

/// Answers requests until the agent is gone.
///
/// # Errors
/// When the library cannot be loaded, or the process has grown too large.
pub fn serve(vendor: LibraryVendor, library: &Path) -> anyhow::Result<()> {
    // An agent that was killed cannot close our input while the library hangs.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("tying this process to the agent")?;
    let path = library.as_os_str();
    let refused = |error| anyhow::anyhow!("loading {}: {error}", library.display());
    match vendor {
        LibraryVendor::Nvidia => {
            let mut nvml = Nvml::open(path).map_err(refused)?;
            answer(|ask, tell| nvidia(&mut nvml, ask, tell))
        }
        LibraryVendor::Amd => {
            let mut smi = Smi::open(path).map_err(refused)?;
            answer(|ask, _| amd(&mut smi, ask))
        }
    }
}

fn answer(mut answer: impl FnMut(&str, &EventSender) -> anyhow::Result<Value>) -> anyhow::Result<()> {
    child::serve(|ask, tell| {
        let value = answer(ask, tell)?;
        let resident = resident_bytes()?;
        if resident > MOST_MEMORY_BYTES {
            bail!("the library made this process grow to {} MiB", resident >> 20);
        }
        Ok::<_, anyhow::Error>(value)
    })
}

fn nvidia(library: &mut Nvml, ask: &str, tell: &EventSender) -> anyhow::Result<Value> {
    let report = match ask {
        nvml::DISCOVER => {
            let report = library.discover();
            let tell = tell.clone();
            library.watch(move |event| tell.send(event));
            report
        }
        nvml::SAMPLE => library.sample(false),
        nvml::SAMPLE_WITH_PROCESSES => library.sample(true),
        other => bail!("nobody knows how to answer {other:?}"),
    };
    Ok(serde_json::to_value(report)?)
}

fn amd(smi: &mut Smi, ask: &str) -> anyhow::Result<Value> {
    let report = match ask {
        "discover" => smi.discover(),
        "sample" => smi.sample(),
        other => bail!("nobody knows how to answer {other:?}"),
    };
    Ok(serde_json::to_value(report)?)
}

fn resident_bytes() -> anyhow::Result<u64> {
    let pages = procfs::process::Process::myself()?.statm()?.resident;
    Ok(pages * procfs::page_size())
}
