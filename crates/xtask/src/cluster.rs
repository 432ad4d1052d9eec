//! The programs of a Kubernetes cluster for `tests/cluster`: built from Go modules, unpacked from Debian packages without
//! installing them, and a validator of manifests from PyPI; and custom resource definitions from Go modules. Each set is made
//! once and kept in the folder of tools, under a name with a digest of what it is made from.

mod crds;
mod debian;
mod go;
mod validator;

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{steps::Steps, store, workspace::Workspace};

/// The variable that names the folder with all programs to the tests.
pub(crate) const PROGRAMS: &str = "AFD_CLUSTER_PROGRAMS";

/// The purpose under which they are kept.
const STORE: &str = "cluster";

/// What can be tested where a cluster cannot be built.
const WITHOUT_CLUSTER: &str = "The tests of the crates alone run without: \
                               cargo test --workspace --exclude afd-test-cluster --exclude afd-tests";

/// A folder of programs, with its name among all of them.
pub(crate) type ProgramSet = (String, PathBuf);

/// The folder with all programs of a cluster, made first where it is missing: a folder for each of
/// `tests/cluster/modules`, `crds`, `debian`, and `kubernetes-validate`.
pub(crate) fn programs(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let mut sets = installed(steps, workspace)?;
    sets.extend(built(steps, workspace)?);
    joined(workspace, sets)
}

/// What comes from Go modules: a set of programs for each, and custom resource definitions.
pub(crate) fn built(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<Vec<ProgramSet>> {
    let store = store::open(workspace, STORE)?;
    let folder = workspace.root.join("tests/cluster");
    let mut sets = go::modules(steps, &store, &folder.join("modules"))?;
    sets.push(("crds".to_owned(), crds::definitions(&store, &folder.join("crds"))?));
    Ok(sets)
}

/// The tools of one Go module, which is a folder of the checkout.
pub(crate) fn go_tools(steps: &Steps<'_>, workspace: &Workspace, module: &str) -> anyhow::Result<PathBuf> {
    let store = store::open(workspace, STORE)?;
    go::module(steps, &store, &workspace.root.join(module))
}

/// The programs that come from packages.
pub(crate) fn installed(steps: &Steps<'_>, workspace: &Workspace) -> anyhow::Result<Vec<ProgramSet>> {
    let store = store::open(workspace, STORE)?;
    Ok(vec![
        ("debian".to_owned(), debian::unpacked(steps, &store)?),
        ("kubernetes-validate".to_owned(), validator::validator(steps, &store)?),
    ])
}

/// A folder with a link to each set.
pub(crate) fn joined(workspace: &Workspace, mut sets: Vec<ProgramSet>) -> anyhow::Result<PathBuf> {
    sets.sort();
    let key = store::key(sets.iter().map(|(_, set)| set.to_string_lossy().into_owned()));
    store::make(&store::open(workspace, STORE)?, &format!("all-{key}"), |folder: &Path| {
        sets.iter().try_for_each(|(name, set)| {
            symlink(set, folder.join(name)).with_context(|| format!("linking {}", set.display()))
        })
    })
}
