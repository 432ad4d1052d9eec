//! Extracts the names of RDMA devices from the public PCI id list. The whole list would add 4 MiB to the binary, and 80,000
//! relocations to every start.

#![allow(clippy::disallowed_methods, reason = "a build script asks Cargo where to write, and writes there")]

use std::{env, fmt::Write, fs, path::Path};

/// The PCI ids of the vendors whose RDMA devices the kernel's `drivers/infiniband/hw` supports.
const VENDORS: [u16; 14] = [
    0x15b3, 0x14e4, 0x1425, 0x1d0f, 0x1ded, 0x8086, 0x19e5, 0x1dd8, 0x1414, 0x10df, 0x1077, 0x1137, 0x15ad,
    0x1da3,
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut lines = "\n".to_owned();
    for vendor in pci_ids::Vendors::iter().filter(|vendor| VENDORS.contains(&vendor.id())) {
        for device in vendor.devices() {
            writeln!(lines, "{:04x}:{:04x} {} {}", vendor.id(), device.id(), vendor.name(), device.name())?;
        }
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("rdma_names.txt"), lines)?;
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
