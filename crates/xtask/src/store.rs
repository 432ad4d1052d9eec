//! Folders that are made once and kept, each under a name with a digest of what it is made from.

use std::{
    fs,
    fs::File,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::workspace::Workspace;

/// The folder that holds those of one purpose, made first where it is missing.
pub(crate) fn open(workspace: &Workspace, purpose: &str) -> anyhow::Result<PathBuf> {
    let store = workspace.tools().join(purpose);
    fs::create_dir_all(&store).with_context(|| format!("making {}", store.display()))?;
    Ok(store)
}

/// A folder of the store, filled first where it is missing. It gets its name when it is complete.
pub(crate) fn make(
    store: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let folder = store.join(name);
    if !folder.is_dir() {
        let filling =
            tempfile::tempdir_in(store).with_context(|| format!("making a folder in {}", store.display()))?;
        let inside = filling.path().join(name);
        fs::create_dir(&inside).with_context(|| format!("making {}", inside.display()))?;
        fill(&inside).with_context(|| format!("making {name}"))?;
        match fs::rename(&inside, &folder) {
            // Another process has made it in the meantime.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            done => done.with_context(|| format!("naming {}", folder.display()))?,
        }
    }
    // `.ci/run` removes what has not been used for two weeks.
    let used = File::open(&folder).and_then(|file| file.set_modified(SystemTime::now()));
    used.with_context(|| format!("noting the use of {}", folder.display()))?;
    Ok(folder)
}

/// A digest of sources.
pub(crate) fn key(sources: impl IntoIterator<Item = String>) -> String {
    let mut digest = Sha256::new();
    for source in sources {
        digest.update(source);
        digest.update([0]);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_folder_is_filled_once_and_does_not_exist_after_a_failure() {
        let store = tempfile::tempdir().expect("a temporary folder can be made");
        make(store.path(), "set", |_| bail!("no")).expect_err("filling fails");
        assert!(!store.path().join("set").exists());
        let folder = make(store.path(), "set", |folder| Ok(fs::write(folder.join("program"), "")?));
        assert!(folder.expect("filling works").join("program").exists());
        make(store.path(), "set", |_| bail!("filled twice")).expect("it exists");
        assert_eq!(fs::read_dir(store.path()).expect("the store can be read").count(), 1);
    }
}
