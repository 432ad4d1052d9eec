//! The driver of the fixture host: unloaded with its library, and loaded again.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::scene::Scene;

const VERSION: &str = "sys/module/nvidia/version";

/// A driver that is unloaded.
pub(crate) struct UnloadedDriver {
    links: Vec<(PathBuf, PathBuf)>,
    module: PathBuf,
    library: PathBuf,
    aside: PathBuf,
}

impl UnloadedDriver {
    /// Unloads the driver of all GPUs, and removes its library.
    pub(crate) fn unload(scene: &Scene) -> anyhow::Result<UnloadedDriver> {
        let root = scene.setup.host.root();
        let aside = scene.setup.bed.folder().join("aside");
        fs::create_dir_all(&aside)?;
        let mut links = Vec::new();
        for function in fs::read_dir(root.join("sys/bus/pci/devices"))? {
            let link = function?.path().join("driver");
            let Ok(target) = fs::read_link(&link) else { continue };
            fs::remove_file(&link)?;
            links.push((link, target));
        }
        let library = scene.nvml().library();
        fs::copy(&library, aside.join("library"))?;
        fs::remove_file(&library)?;
        let module = root.join(VERSION).parent().context("a file is in a folder")?.to_owned();
        fs::remove_dir_all(&module)?;
        Ok(UnloadedDriver { links, module, library, aside })
    }

    /// Loads a version of it.
    pub(crate) fn load(self, version: &str) -> anyhow::Result<()> {
        let UnloadedDriver { links, module, library, aside } = self;
        fs::create_dir(&module)?;
        fs::write(module.join("version"), format!("{version}\n"))?;
        for (link, target) in links {
            symlink(target, link)?;
        }
        // Complete before it has its name.
        let new = library.with_extension("new");
        fs::copy(aside.join("library"), &new)?;
        Ok(fs::rename(new, library)?)
    }
}

/// The processes of this machine that have a library mapped.
pub(crate) fn holders(library: &Path) -> anyhow::Result<Vec<String>> {
    let name = library.to_str().context("temporary paths are UTF-8")?;
    let processes = fs::read_dir("/proc")?.filter_map(|entry| Some(entry.ok()?.path()));
    let holds =
        |process: &PathBuf| fs::read_to_string(process.join("maps")).is_ok_and(|maps| maps.contains(name));
    Ok(processes.filter(holds).map(|process| process.display().to_string()).collect())
}
