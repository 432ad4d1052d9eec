//! `afd record`: a fixture of this node.
//!
//! The copy contains everything that the probes read and nothing else. Beside it, `host.toml` records its provenance, which
//! of the paths were absent, and which could not be read.

pub mod replay;

use std::{cell::RefCell, path::Path};

use afd_host::{HostRecording, RecordedRead};
use anyhow::{Context, bail};
use replay::{FailedRead, NOTES, ROOT};
use serde::Serialize;

use crate::{probes::Probes, redact::Redaction};

/// The folder of a recording with the answers of vendor libraries.
const LIBRARIES: &str = "libraries";

/// The content of `host.toml`.
#[derive(Serialize)]
struct RecordingNotes<'a> {
    provenance: &'static str,
    recorded_by: String,
    kernel_release: Option<&'a str>,
    redacted: bool,
    absent: Vec<String>,
    failed: Vec<FailedRead>,
}

/// Runs all probes of a recording host, and writes what they read and what vendor libraries responded; returns a message
/// for the user.
///
/// # Errors
/// When the directory is not empty or cannot be written.
pub fn record(probes: Probes, directory: &Path, redact: bool) -> anyhow::Result<String> {
    write_recording(probes, directory, redact)
        .with_context(|| format!("recording to {}", directory.display()))
}

#[expect(clippy::disallowed_methods, reason = "the copy is written to our own disk, never to the host")]
fn write_recording(probes: Probes, directory: &Path, redact: bool) -> anyhow::Result<String> {
    std::fs::create_dir_all(directory)?;
    if std::fs::read_dir(directory)?.next().is_some() {
        bail!("the directory is not empty; choose one that is empty or does not exist");
    }
    // What is incomplete is removed, so that the next attempt finds the directory empty.
    fill(probes, directory, redact).inspect_err(|_| {
        let _ = std::fs::remove_dir_all(directory.join(ROOT));
        let _ = std::fs::remove_dir_all(directory.join(LIBRARIES));
        let _ = std::fs::remove_file(directory.join(NOTES));
    })
}

#[expect(clippy::disallowed_methods, reason = "the copy is written to our own disk, never to the host")]
fn fill(mut probes: Probes, directory: &Path, redact: bool) -> anyhow::Result<String> {
    let root = directory.join(ROOT);
    std::fs::create_dir(&root)?;

    let inventory = probes.discover();
    probes.sample(None);
    let recording = probes.host().recording();

    let redaction = RefCell::new(Redaction::new(recording.reads()));
    let redacted = |path: &str, content: &[u8]| {
        if redact { redaction.borrow().apply(path, content) } else { content.to_vec() }
    };
    let renamed = |path: &str| if redact { redaction.borrow_mut().path(path) } else { path.to_owned() };
    recording.copy(probes.host(), &root, redacted, renamed)?;
    let libraries = directory.join(LIBRARIES);
    for (file, responses) in probes.library_recordings() {
        std::fs::create_dir_all(&libraries)?;
        let responses = if redact { redaction.borrow_mut().apply_to_responses(responses) } else { responses };
        std::fs::write(libraries.join(file), serde_json::to_string_pretty(&responses)? + "\n")?;
    }
    let kernel_release = inventory.kernel_release.value().map(String::as_str);
    let notes = toml::to_string_pretty(&notes(&recording, kernel_release, redact, renamed))
        .context("writing host.toml")?;
    std::fs::write(directory.join(NOTES), notes)?;
    Ok(format!(
        "Recorded {} devices and {} RDMA devices to {}{}.\nShow it with: afd show --host-root {}\n",
        inventory.devices.len(),
        inventory.nics.len(),
        directory.display(),
        if redact {
            "; serial numbers, UUIDs, MAC addresses, GUIDs and names of hosts and pods are replaced"
        } else {
            ""
        },
        root.display()
    ))
}

fn notes<'a>(
    recording: &'a HostRecording,
    kernel_release: Option<&'a str>,
    redacted: bool,
    renamed: impl Fn(&str) -> String,
) -> RecordingNotes<'a> {
    let absent = recording.reads().filter(|(_, read)| **read == RecordedRead::Absent);
    let failed = recording.reads().filter_map(|(path, read)| match read {
        RecordedRead::Failed(kind) => Some(FailedRead::new(renamed(path), *kind)),
        _ => None,
    });
    RecordingNotes {
        provenance: "recorded by afd record",
        recorded_by: format!("afd {}", env!("CARGO_PKG_VERSION")),
        kernel_release,
        redacted,
        absent: absent.map(|(path, _)| renamed(path)).collect(),
        failed: failed.collect(),
    }
}
