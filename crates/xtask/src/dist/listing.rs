//! The folder of artefacts: its checksums, its listing, and whether another one is equal.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, bail};

use super::oci::hexadecimal;

/// The file with the checksums, as `sha256sum --check` reads it.
pub(super) const SUMS: &str = "SHA256SUMS";

/// The artefacts of a folder by their names.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ArtefactFolder(BTreeMap<String, Vec<u8>>);

impl ArtefactFolder {
    /// Reads a folder, in which there are only files.
    pub(super) fn read(folder: &Path) -> anyhow::Result<ArtefactFolder> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let content = fs::read(entry.path()).with_context(|| format!("reading {name}"))?;
            files.insert(name, content);
        }
        Ok(ArtefactFolder(files))
    }

    /// The checksums of all files but their own.
    pub(super) fn sums(&self) -> String {
        let files = self.0.iter().filter(|(name, _)| *name != SUMS);
        files.map(|(name, content)| format!("{}  {name}\n", hexadecimal(content))).collect()
    }

    /// The files with their sizes, as a table.
    pub(super) fn table(&self) -> String {
        let mut table = format!("{:>12}{:>9}  file\n", "bytes", "MiB");
        for (name, content) in &self.0 {
            let bytes = content.len();
            table += &format!("{bytes:>12}{:>9.2}  {name}\n", bytes as f64 / 1024.0 / 1024.0);
        }
        table
    }

    /// The names of the files that are OCI layouts.
    pub(super) fn layouts(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|name| name.ends_with(".oci.tar"))
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Checks that another folder has the same files with the same bytes; names all that differ.
    pub(super) fn check_equal(&self, other: &ArtefactFolder) -> anyhow::Result<()> {
        let names = self.0.keys().chain(other.0.keys());
        let mut different: Vec<&str> =
            names.filter(|name| self.0.get(*name) != other.0.get(*name)).map(String::as_str).collect();
        different.sort_unstable();
        different.dedup();
        if different.is_empty() {
            return Ok(());
        }
        bail!("two builds of the same sources differ: {}", different.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> ArtefactFolder {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_owned()));
        ArtefactFolder(files.collect())
    }

    #[test]
    fn sums_are_of_all_files_but_their_own() {
        let sums = folder(&[("b", "abc"), (SUMS, "x"), ("a", "")]).sums();
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n\
                        ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b\n";
        assert_eq!(sums, expected);
    }

    #[test]
    fn a_listing_has_sizes() {
        let folder = folder(&[("a", "abc")]);
        assert_eq!(folder.table(), "       bytes      MiB  file\n           3     0.00  a\n");
        assert_eq!(folder.len(), 1);
    }

    #[test]
    fn all_differences_are_named() {
        let one = folder(&[("a", "1"), ("b", "1"), ("c", "1")]);
        one.check_equal(&folder(&[("a", "1"), ("b", "1"), ("c", "1")])).expect("they are equal");
        let error = one.check_equal(&folder(&[("a", "2"), ("b", "1"), ("d", "1")])).expect_err("they differ");
        assert_eq!(error.to_string(), "two builds of the same sources differ: a, c, d");
    }

    #[test]
    fn a_folder_is_read_with_all_its_files() {
        let path = tempfile::tempdir().expect("a temporary folder can be made");
        fs::write(path.path().join("a"), "1").expect("a file can be written");
        assert_eq!(ArtefactFolder::read(path.path()).expect("it can be read"), folder(&[("a", "1")]));
    }
}
