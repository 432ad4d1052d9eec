//! The control groups of a bed, which have its name: one in each hierarchy of version 1, or one of version 2.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;

const ROOT: &str = "/sys/fs/cgroup";

/// Controllers of version 2 without which the kubelet does not start.
const KUBELET_NEEDS: &str = "+cpu +cpuset +memory +pids";

/// Makes the control groups of a bed.
pub(crate) fn make(name: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        fs::create_dir(&group).with_context(|| {
            format!(
                "making the control group {} (is {ROOT} read-only? a container needs to be privileged)",
                group.display()
            )
        })?;
    }
    if is_unified() {
        for group in [PathBuf::from(ROOT), Path::new(ROOT).join(name)] {
            fs::write(group.join("cgroup.subtree_control"), KUBELET_NEEDS)
                .with_context(|| format!("enabling {KUBELET_NEEDS} in {}", group.display()))?;
        }
    }
    Ok(())
}

/// Removes the control groups of a bed with all their children. They must not contain processes.
pub(crate) fn remove(name: &str) -> anyhow::Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        remove_tree(&group).with_context(|| format!("removing the control group {}", group.display()))?;
    }
    Ok(())
}

/// The existing control groups of a name.
pub(crate) fn existing(name: &str) -> anyhow::Result<Vec<PathBuf>> {
    Ok(hierarchies()?
        .into_iter()
        .map(|hierarchy| hierarchy.join(name))
        .filter(|group| group.exists())
        .collect())
}

/// The folders under which control groups are made.
fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    if is_unified() {
        return Ok(vec![ROOT.into()]);
    }
    let mut hierarchies = Vec::new();
    for entry in fs::read_dir(ROOT).with_context(|| format!("reading {ROOT}"))? {
        let entry = entry.with_context(|| format!("reading {ROOT}"))?;
        // `cpu` and the like may be links to a hierarchy of several controllers.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            hierarchies.push(entry.path());
        }
    }
    Ok(hierarchies)
}

fn is_unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// The files of a control group cannot and need not be removed.
fn remove_tree(group: &Path) -> io::Result<()> {
    let children = match fs::read_dir(group) {
        Ok(children) => children,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for child in children {
        let child = child?;
        if child.file_type()?.is_dir() {
            remove_tree(&child.path())?;
        }
    }
    fs::remove_dir(group)
}
