//! Mounts that a test makes in its bed; they are removed with it.

use std::{path::Path, process::Command};

use crate::process::succeed;

/// Makes a folder a shared mount, as the root of a real host is, whose later mounts a pod may see.
///
/// # Errors
/// When it cannot be mounted.
pub fn share(folder: &Path) -> anyhow::Result<()> {
    succeed(Command::new("mount").arg("--bind").args([folder, folder]))?;
    succeed(Command::new("mount").arg("--make-rshared").arg(folder))?;
    Ok(())
}
