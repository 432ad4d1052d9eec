//! A tree of files, packed so that equal files give equal bytes: sorted, of root, and of one time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

/// A file that everybody can read.
pub(super) const READABLE: u32 = 0o644;
/// A program, or a folder.
pub(super) const EXECUTABLE: u32 = 0o755;

/// Files by their path, which is relative, each with its permissions.
#[derive(Clone, Debug, Default)]
pub(super) struct FileTree(BTreeMap<PathBuf, (u32, Vec<u8>)>);

impl FileTree {
    /// Adds a file.
    pub(super) fn add(&mut self, path: impl Into<PathBuf>, mode: u32, content: impl Into<Vec<u8>>) {
        self.0.insert(path.into(), (mode, content.into()));
    }

    /// The bytes of all files.
    pub(super) fn bytes(&self) -> usize {
        self.0.values().map(|(_, content)| content.len()).sum()
    }

    /// The folders that contain the files, each after the one that it is in.
    fn folders(&self) -> BTreeSet<&Path> {
        let parents = self.0.keys().flat_map(|path| path.ancestors().skip(1));
        parents.filter(|folder| *folder != Path::new("")).collect()
    }

    /// A tar archive with everything at one time, in seconds since 1970.
    pub(super) fn tar(&self, time: u64) -> anyhow::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut append = |path: &Path, kind: tar::EntryType, mode: u32, content: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(time);
            header.set_size(content.len() as u64);
            archive
                .append_data(&mut header, path, content)
                .with_context(|| format!("packing {}", path.display()))
        };
        for folder in self.folders() {
            append(folder, tar::EntryType::Directory, EXECUTABLE, &[])?;
        }
        for (path, (mode, content)) in &self.0 {
            append(path, tar::EntryType::Regular, *mode, content)?;
        }
        archive.into_inner().context("packing files")
    }

    /// Writes the files under a folder, with permissions that no setting of the user changes.
    pub(super) fn write(&self, root: &Path) -> anyhow::Result<()> {
        let permit = |path: &Path, mode| {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(path, permissions).with_context(|| format!("permitting {}", path.display()))
        };
        fs::create_dir_all(root).with_context(|| format!("making {}", root.display()))?;
        permit(root, EXECUTABLE)?;
        for folder in self.folders() {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
            permit(&folder, EXECUTABLE)?;
        }
        for (path, (mode, content)) in &self.0 {
            let path = root.join(path);
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            permit(&path, *mode)?;
        }
        Ok(())
    }
}

/// Bytes that gzip has compressed, without a name and a time. The program takes a tenth of the time of a library that was compiled
/// without optimisation, as this one is.
pub(super) fn gzip(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut file = tempfile::tempfile().context("making a temporary file")?;
    file.write_all(content).and_then(|()| file.rewind()).context("writing a temporary file")?;
    let mut gzip = Command::new("gzip");
    let output = gzip.args(["--no-name", "--best"]).stdin(file).output().context("starting gzip")?;
    ensure!(output.status.success(), "gzip failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(order: [usize; 3]) -> FileTree {
        let files = [("b/program", EXECUTABLE), ("a", READABLE), ("b/c/text", READABLE)];
        let mut tree = FileTree::default();
        for (path, mode) in order.map(|index| files[index]) {
            tree.add(path, mode, path);
        }
        tree
    }

    #[test]
    fn an_archive_depends_on_its_files_alone() {
        let archive = tree([0, 1, 2]).tar(7).expect("it can be packed");
        assert_eq!(archive, tree([2, 1, 0]).tar(7).expect("it can be packed"));
        assert_ne!(archive, tree([0, 1, 2]).tar(8).expect("it can be packed"));
        let mut reader = tar::Archive::new(archive.as_slice());
        let entries: Vec<_> = reader
            .entries()
            .expect("it can be read")
            .map(|entry| {
                let entry = entry.expect("an entry can be read");
                let header = entry.header();
                let path = entry.path().expect("an entry has a path").to_string_lossy().into_owned();
                let owner = (header.uid().ok(), header.gid().ok(), header.mtime().ok());
                assert_eq!(owner, (Some(0), Some(0), Some(7)));
                (path, header.mode().expect("an entry has a mode"))
            })
            .collect();
        let expected =
            [("b", 0o755), ("b/c", 0o755), ("a", 0o644), ("b/c/text", 0o644), ("b/program", 0o755)];
        assert_eq!(entries, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }

    #[test]
    fn files_are_written_with_their_permissions() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        tree([0, 1, 2]).write(folder.path()).expect("it can be written");
        let mode = |path: &str| {
            let metadata = fs::metadata(folder.path().join(path)).expect("it was written");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!((mode("a"), mode("b"), mode("b/program")), (0o644, 0o755, 0o755));
        assert_eq!(tree([0, 1, 2]).bytes(), "b/program".len() + "a".len() + "b/c/text".len());
    }

    #[test]
    fn compressed_bytes_have_no_time() {
        let compressed = gzip(b"text").expect("it can be compressed");
        // The magic number, and no flags: RFC 1952, 2.3.
        assert_eq!(compressed[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    }
}
