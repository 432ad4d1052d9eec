//! A fixture host with as many PCI functions as a large server.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// PCI functions of the whole host.
pub(super) const FUNCTIONS: usize = 500;

/// What a function that is no accelerator has in sysfs: an Intel system peripheral.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("vendor", "0x8086\n"),
    ("device", "0x09a2\n"),
    ("class", "0x088000\n"),
    ("revision", "0x04\n"),
    ("subsystem_vendor", "0x8086\n"),
    ("subsystem_device", "0x0000\n"),
    ("numa_node", "0\n"),
    ("current_link_width", "0\n"),
    ("uevent", "PCI_CLASS=88000\nPCI_ID=8086:09A2\nPCI_SUBSYS_ID=8086:0000\n"),
];

/// A copy of the fixture, filled up to [`FUNCTIONS`] in a PCI domain of its own.
pub(super) fn lay_out(fixture: &Path) -> anyhow::Result<TempDir> {
    let folder = TempDir::new().context("making a temporary folder")?;
    copy(fixture, folder.path()).with_context(|| format!("copying {}", fixture.display()))?;
    let bus = folder.path().join("sys/bus/pci/devices");
    let present = bus
        .read_dir()
        .with_context(|| format!("listing the PCI functions of {}", fixture.display()))?
        .count();
    ensure!(present <= FUNCTIONS, "the fixture has more than {FUNCTIONS} PCI functions");
    for number in 0..FUNCTIONS - present {
        let address = format!("00ff:{:02x}:{:02x}.{}", number / 256, number / 8 % 32, number % 8);
        let function = format!("sys/devices/pci00ff:00/{address}");
        let directory = folder.path().join(&function);
        fs::create_dir_all(&directory)?;
        for (name, content) in ATTRIBUTES {
            fs::write(directory.join(name), content)?;
        }
        symlink(format!("../../../../{function}"), bus.join(address))?;
    }
    Ok(folder)
}

/// Copies a tree, links as links.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in from.read_dir()? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(source.read_link()?, target)?;
        } else {
            fs::copy(source, target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_host_is_filled_up() {
        let fixture = TempDir::new().expect("a temporary folder can be made");
        fs::create_dir_all(fixture.path().join("sys/bus/pci/devices/0000:01:00.0"))
            .expect("a folder can be made");
        let host = lay_out(fixture.path()).expect("the host can be laid out");
        let functions = host.path().join("sys/bus/pci/devices");
        assert_eq!(functions.read_dir().expect("the bus can be listed").count(), FUNCTIONS);
        let last =
            fs::read_to_string(functions.join("00ff:01:1e.2/class")).expect("the last function has a class");
        assert_eq!(last, "0x088000\n");
    }
}
