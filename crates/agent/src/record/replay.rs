//! Reads that failed on a recorded host: `host.toml` lists them, and they fail again where the recording is read.

use std::{collections::BTreeMap, path::Path};

use afd_host::{Host, ReadErrorKind, RootError};
use serde::{Deserialize, Serialize};

/// The file beside the root of a recording.
pub(super) const NOTES: &str = "host.toml";
/// The folder of a recording that is its host root.
pub(super) const ROOT: &str = "root";

/// A path that could not be read.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct FailedRead {
    path: String,
    /// The number of the error; none of a file that is too long.
    errno: Option<i32>,
    /// For the reader.
    #[serde(default)]
    cause: String,
}

impl FailedRead {
    pub(super) fn new(path: String, kind: ReadErrorKind) -> FailedRead {
        FailedRead { path, errno: kind.errno(), cause: kind.to_string() }
    }
}

/// What is read of `host.toml`; fixtures that are written by hand have other keys.
#[derive(Debug, Default, Deserialize)]
struct ReplayNotes {
    #[serde(default)]
    failed: Vec<FailedRead>,
}

/// Opens a host root. Where it is the root of a recording, the reads that failed when it was made fail again.
///
/// # Errors
/// When it is no directory that can be opened, or when links cannot be kept under it.
pub fn open(host_root: &Path) -> Result<Host, RootError> {
    let host = Host::open(host_root)?;
    let failed = notes(&host).unwrap_or_default().failed;
    let failures = failed.into_iter().map(|read| (read.path, ReadErrorKind::from_errno(read.errno)));
    let failures: BTreeMap<_, _> = failures.collect();
    Ok(host.with_failures(failures))
}

/// The notes of a recording, if this is the root of one.
fn notes(host: &Host) -> Option<ReplayNotes> {
    let root = host.real_path("/").ok()?;
    let folder = root.parent().filter(|_| root.ends_with(ROOT))?;
    let mut bytes = Vec::new();
    let append = |line: &[u8]| {
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    };
    Host::open(folder).ok()?.read_lines(NOTES, append).ok()?;
    let notes = toml::from_str(&String::from_utf8_lossy(&bytes));
    notes
        .inspect_err(|error| {
            tracing::warn!(%error, "host.toml beside the host root cannot be parsed; reads that failed do not fail again");
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;

    use super::*;

    #[test]
    fn reads_fail_again_only_under_the_root_of_a_recording() {
        let notes = "provenance = \"by hand\"\nabsent = [\"/b\"]\n\n[[failed]]\npath = \"/a\"\nerrno = 13\n\n\
                     [[failed]]\npath = \"/c\"\ncause = \"longer than 65536 bytes\"\n";
        let folder =
            TestHost::with_files([("/host.toml", notes), ("/root/a", ""), ("/root/c", ""), ("/other/a", "")]);
        let kind = |root: &str, path: &str| {
            let host = open(&folder.path().join(root)).expect("it is a directory");
            host.read(path).map_err(|error| error.kind)
        };
        for root in ["root", "root/", "root/."] {
            assert_eq!(kind(root, "/a"), Err(ReadErrorKind::Denied(13)));
            assert_eq!(kind(root, "/c"), Err(ReadErrorKind::TooLong));
        }
        assert_eq!(kind("other", "/a"), Ok(Vec::new()));
    }

    #[test]
    fn notes_that_do_not_parse_are_ignored() {
        let folder = TestHost::with_files([("/host.toml", "failed = 1"), ("/root/a", "")]);
        let host = open(&folder.path().join("root")).expect("it is a directory");
        assert_eq!(host.read("/a"), Ok(Vec::new()));
    }
}
