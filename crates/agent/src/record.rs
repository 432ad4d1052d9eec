//! `afd record`: a fixture of this node.
//!
//! The copy contains everything that the probes read and nothing else. Beside it, `host.toml` records its provenance, which
//! of the paths were absent, and which could not be read.

use std::path::Path;

use afd_host::{HostRecording, RecordedRead};
use anyhow::{Context, bail};
use serde::Serialize;

use crate::{probes::Probes, redact::Redaction};

/// The content of `host.toml`.
#[derive(Serialize)]
struct RecordingNotes<'a> {
    provenance: &'static str,
    recorded_by: String,
    kernel_release: Option<&'a str>,
    redacted: bool,
    absent: Vec<&'a str>,
    failed: Vec<FailedRead<'a>>,
}

/// A path that exists and could not be read.
#[derive(Serialize)]
struct FailedRead<'a> {
    path: &'a str,
    cause: String,
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
fn write_recording(mut probes: Probes, directory: &Path, redact: bool) -> anyhow::Result<String> {
    let root = directory.join("root");
    std::fs::create_dir_all(directory)?;
    if std::fs::read_dir(directory)?.next().is_some() {
        bail!("the directory is not empty; choose one that is empty or does not exist");
    }
    std::fs::create_dir(&root)?;

    let inventory = probes.discover();
    probes.sample(None);
    let recording = probes.host().recording();

    let mut redaction = Redaction::new(recording.reads());
    recording.copy(probes.host(), &root, |path, content| {
        if redact { redaction.apply(path, content) } else { content.to_vec() }
    })?;
    let libraries = directory.join("libraries");
    for (file, responses) in probes.library_recordings() {
        std::fs::create_dir_all(&libraries)?;
        let responses = if redact { redaction.apply_to_responses(responses) } else { responses };
        std::fs::write(libraries.join(file), serde_json::to_string_pretty(&responses)? + "\n")?;
    }
    let kernel_release = inventory.kernel_release.value().map(String::as_str);
    let notes = toml::to_string(&notes(&recording, kernel_release, redact)).context("writing host.toml")?;
    std::fs::write(directory.join("host.toml"), notes)?;
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
) -> RecordingNotes<'a> {
    let absent = recording.reads().filter(|(_, read)| **read == RecordedRead::Absent);
    let failed = recording.reads().filter_map(|(path, read)| match read {
        RecordedRead::Failed(cause) => Some(FailedRead { path, cause: cause.to_string() }),
        _ => None,
    });
    RecordingNotes {
        provenance: "recorded by afd record",
        recorded_by: format!("afd {}", env!("CARGO_PKG_VERSION")),
        kernel_release,
        redacted,
        absent: absent.map(|(path, _)| path).collect(),
        failed: failed.collect(),
    }
}
