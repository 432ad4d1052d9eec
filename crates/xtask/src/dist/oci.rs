//! An OCI image layout (OCI image specification, `image-layout.md`) in one archive: blobs by their digest, and an index that names
//! one of them.

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tree::{FileTree, READABLE};

/// A manifest of blobs.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index of manifests.
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The blobs of a layout.
#[derive(Debug, Default)]
pub(super) struct OciBlobs(FileTree);

impl OciBlobs {
    /// Adds a blob; its descriptor.
    pub(super) fn add(&mut self, media_type: &str, content: &[u8]) -> Value {
        let digest = hexadecimal(content);
        self.0.add(format!("blobs/sha256/{digest}"), READABLE, content);
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len() })
    }

    /// Adds a JSON document; its descriptor.
    pub(super) fn add_json(&mut self, media_type: &str, document: &Value) -> anyhow::Result<Value> {
        let content = serde_json::to_vec(document).context("writing a document of the layout")?;
        Ok(self.add(media_type, &content))
    }

    /// The layout with these blobs as an archive, in which a tag names one of them.
    pub(super) fn archive(mut self, tag: &str, mut named: Value, time: u64) -> anyhow::Result<Vec<u8>> {
        named["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [named] });
        let layout = json!({ "imageLayoutVersion": "1.0.0" });
        for (name, document) in [("index.json", index), ("oci-layout", layout)] {
            self.0.add(name, READABLE, document.to_string());
        }
        self.0.tar(time)
    }
}

/// The SHA-256 of bytes, as it is written.
pub(super) fn hexadecimal(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Read};

    use super::*;

    #[test]
    fn a_layout_leads_from_its_tag_to_its_blobs() {
        let mut blobs = OciBlobs::default();
        let layer = blobs.add("text/plain", b"content");
        let manifest = json!({ "schemaVersion": 2, "layers": [layer] });
        let manifest = blobs.add_json(MANIFEST, &manifest).expect("it is JSON");
        let archive = blobs.archive("1.0", manifest, 0).expect("it can be packed");
        let mut reader = tar::Archive::new(archive.as_slice());
        let mut files = BTreeMap::new();
        for entry in reader.entries().expect("it can be read") {
            let mut entry = entry.expect("an entry can be read");
            let path = entry.path().expect("an entry has a path").to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("it can be read");
            files.insert(path, content);
        }
        let document = |path: &str| -> Value { serde_json::from_slice(&files[path]).expect("it is JSON") };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().expect("a descriptor has a digest");
            let path = format!("blobs/{}", digest.replace(':', "/"));
            assert_eq!(descriptor["size"], files[&path].len());
            path
        };
        assert_eq!(document("oci-layout")["imageLayoutVersion"], "1.0.0");
        let named = &document("index.json")["manifests"][0];
        assert_eq!(named["annotations"]["org.opencontainers.image.ref.name"], "1.0");
        let layer = blob(&document(&blob(named))["layers"][0]);
        assert_eq!(layer, format!("blobs/sha256/{}", hexadecimal(b"content")));
        assert_eq!(files[&layer], b"content");
    }

    #[test]
    fn a_digest_is_that_of_the_specification() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(hexadecimal(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
