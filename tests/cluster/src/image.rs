//! Container images made of a few programs, as tar files that containerd imports. No registry is involved.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::process::succeed;

/// The image of every pod's sandbox, and of containers that do nothing: it waits for SIGTERM.
pub const PAUSE: &str = "localhost/pause:1";

/// An image of one layer: programs and the libraries that they are linked to. Pods use it with `imagePullPolicy: Never`.
#[derive(Clone, Debug)]
pub struct Image {
    reference: String,
    files: Vec<(String, PathBuf)>,
    entrypoint: Vec<String>,
}

impl Image {
    /// An image that runs a program of this machine, which it contains at `/<name of the file>`.
    ///
    /// # Errors
    /// When the program's path has no name in UTF-8.
    pub fn new(reference: &str, program: &Path) -> anyhow::Result<Image> {
        let name = program.file_name().and_then(|name| name.to_str()).context("the program has no name")?;
        Ok(Image {
            reference: reference.to_owned(),
            files: vec![(name.to_owned(), program.to_owned())],
            entrypoint: vec![format!("/{name}")],
        })
    }

    /// Adds a file of this machine, at an absolute path in the image.
    ///
    /// # Errors
    /// When the path in the image is not absolute.
    pub fn with(mut self, file: &Path, to: &str) -> anyhow::Result<Image> {
        let name = to.strip_prefix('/').with_context(|| format!("{to} is not an absolute path"))?;
        self.files.push((name.to_owned(), file.to_owned()));
        Ok(self)
    }

    /// Adds the libraries that the first program is linked to.
    ///
    /// # Errors
    /// When `ldd` fails.
    pub fn with_libraries(self) -> anyhow::Result<Image> {
        let program = self.files.first().map(|(_, file)| file.clone()).context("an image has a program")?;
        let libraries = succeed(Command::new("ldd").arg(&program))?;
        let paths =
            libraries.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
        paths.map(str::to_owned).try_fold(self, |image, path| image.with(Path::new(&path), &path))
    }

    /// Writes the image as `docker save` would.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write(&self, to: &Path) -> anyhow::Result<()> {
        let layer = self.layer()?;
        let config = json!({
            "architecture": architecture()?,
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
        })
        .to_string();
        let config_name = format!("{}.json", digest(config.as_bytes()));
        let manifest =
            json!([{"Config": config_name, "RepoTags": [self.reference], "Layers": ["layer.tar"]}])
                .to_string();
        let file = File::create(to).with_context(|| format!("making {}", to.display()))?;
        let mut archive = tar::Builder::new(file);
        append(&mut archive, "manifest.json", manifest.as_bytes(), 0o644)?;
        append(&mut archive, &config_name, config.as_bytes(), 0o644)?;
        append(&mut archive, "layer.tar", &layer, 0o644)?;
        archive.into_inner().context("finishing an image")?;
        Ok(())
    }

    fn layer(&self) -> anyhow::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, file) in &self.files {
            let content = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
            append(&mut archive, name, &content, 0o755)?;
        }
        archive.into_inner().context("finishing a layer")
    }
}

fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    content: &[u8],
    mode: u32,
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, name, content).with_context(|| format!("adding {name} to an image"))
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// This machine's architecture by Go's name, which images use.
fn architecture() -> anyhow::Result<&'static str> {
    match env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("the name of {other} in images is not known"),
    }
}
