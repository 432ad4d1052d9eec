//! What Level Zero costs: the agent with the fake library on a host of eight GPUs with two tiles each, made of a fixture with two.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, thread};

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    CYCLE, IDLE, SETTLE, budgets,
    figures::{Figure, kibibytes, milliseconds, percent, share},
    large_host,
    process::ServingProcess,
    sample_times::SampleTimes,
};

const DEVICES: usize = 8;
/// The GPU of the fixture that the others are copies of, and where it is in sysfs.
const MODEL: &str = "sys/devices/pci0000:28/0000:28:01.0/0000:29:00.0";
/// The bus of the first copy, in a PCI domain of their own.
const DOMAIN: u64 = 0xfe;
const FIRST_BUS: usize = 1;

/// A host of eight GPUs with the fake library.
pub(crate) struct LevelZeroHost {
    folder: TempDir,
}

impl LevelZeroHost {
    /// Made of the fixture.
    pub(crate) fn new(library: &Path, fixture: &Path) -> anyhow::Result<LevelZeroHost> {
        let folder = TempDir::new().context("making a temporary folder")?;
        let libraries = folder.path().join("usr/lib64");
        let recording = lay_out(fixture, &folder.path().join("root"))?;
        fs::create_dir_all(&libraries)?;
        fs::copy(library, libraries.join("libze_loader.so.1"))
            .with_context(|| format!("{} was not built", library.display()))?;
        fs::write(libraries.join("levelzero.json"), serde_json::to_vec(&recording)?)?;
        Ok(LevelZeroHost { folder })
    }

    /// The agent on this host.
    pub(crate) fn command(&self, afd: &Path) -> Command {
        let mut command = Command::new(afd);
        command.args(["run", "--no-kubernetes", "--listen", "127.0.0.1:0", "--host-root"]);
        command.arg(self.folder.path().join("root")).arg("--intel-root").arg(self.folder.path());
        command
    }
}

/// Memory, CPU while idle and sampling of an agent that uses the library.
pub(super) fn measure(afd: &Path, library: &Path, fixture: &Path) -> anyhow::Result<Vec<Figure>> {
    let host = LevelZeroHost::new(library, fixture)?;
    let agent = ServingProcess::agent(host.command(afd))?;
    thread::sleep(SETTLE);
    let (process, child) = (agent.process(), agent.process().child()?);
    let before = (process.cpu_time()?, child.cpu_time()?, SampleTimes::read(&agent, "intel")?);
    thread::sleep(IDLE);
    let idle_agent = process.cpu_time()?.saturating_sub(before.0);
    let idle_child = child.cpu_time()?.saturating_sub(before.1);
    let sampled = SampleTimes::read(&agent, "intel")?.since(before.2)?;
    let (memory, child_memory) = (process.most_memory(CYCLE)?, child.memory()?);
    Ok(vec![
        Figure::at_most(
            "8 GPUs of 2 tiles with Level Zero: resident memory of the agent",
            memory.resident,
            budgets::RESIDENT_WITH_LIBRARY_KIBIBYTES,
            kibibytes,
        )
        .with_detail(&format!("({} anonymous)", kibibytes(memory.anonymous))),
        Figure::at_most(
            "8 GPUs of 2 tiles with Level Zero: resident memory of the child process",
            child_memory.resident,
            budgets::CHILD_RESIDENT_KIBIBYTES,
            kibibytes,
        )
        .with_detail(&format!("({} anonymous)", kibibytes(child_memory.anonymous))),
        Figure::at_most(
            "CPU of the agent while idle, of one core",
            share(idle_agent, IDLE),
            budgets::IDLE_PERCENT,
            percent,
        ),
        Figure::at_most(
            "CPU of the child process, of one core",
            share(idle_child, IDLE),
            budgets::CHILD_PERCENT,
            percent,
        ),
        Figure::at_most(
            "a sample of 8 GPUs of 2 tiles by Level Zero, mean",
            sampled,
            budgets::SAMPLE,
            milliseconds,
        ),
    ])
}

/// Lays the fixture out with eight GPUs; the recording of the library that lists them.
fn lay_out(fixture: &Path, root: &Path) -> anyhow::Result<Value> {
    let text = fs::read(fixture.join("libraries/levelzero.json")).context("reading the recording")?;
    let mut recording: Value = serde_json::from_slice(&text).context("reading the recording")?;
    fs::create_dir(root)?;
    large_host::copy(&fixture.join("root"), root).context("copying the fixture")?;
    let devices = recording["devices"].as_array_mut().context("the recording has no devices")?;
    for bus in (FIRST_BUS..).take(DEVICES.saturating_sub(devices.len())) {
        let address = format!("{DOMAIN:04x}:{bus:02x}:00.0");
        let function = format!("sys/devices/pci{DOMAIN:04x}:00/{address}");
        fs::create_dir_all(root.join(&function))?;
        large_host::copy(&root.join(MODEL), &root.join(&function))?;
        symlink(format!("../../../../{function}"), root.join("sys/bus/pci/devices").join(address))?;
        let mut device = devices.first().context("the recording has no devices")?.clone();
        let own = &mut device["answers"]["zesDevicePciGetProperties"]["value"]["address"];
        (own["domain"], own["bus"]) = (DOMAIN.into(), bus.into());
        devices.push(device);
    }
    ensure!(devices.len() == DEVICES, "the recording has {} devices", devices.len());
    Ok(recording)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn a_host_of_two_gpus_is_completed() {
        let workspace = Workspace::find().expect("the test runs in the workspace");
        let folder = TempDir::new().expect("a temporary folder can be made");
        let root = folder.path().join("root");
        let recording = lay_out(&workspace.root.join("fixtures/hosts/intel-max1550-x2"), &root);
        let devices = recording.expect("it can be laid out")["devices"].as_array().map(Vec::len);
        assert_eq!(devices, Some(DEVICES));
        let own = root.join("sys/bus/pci/devices/00fe:06:00.0/drm/card1/gt/gt1");
        assert!(own.is_dir(), "it has two tiles");
    }
}
