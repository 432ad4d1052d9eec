//! `afd record`: a fixture of this node.
//!
//! The copy holds all that the probes ask for and nothing else; beside it `host.toml` says where it comes from, what was
//! asked for and absent, and what could not be read.

use std::path::Path;

use afd_host::RecordedRead;
use anyhow::{Context, bail};
use serde::Serialize;

use crate::{redact::Redaction, survey::Survey};

/// What stands beside the copy.
#[derive(Serialize)]
struct Provenance<'a> {
    provenance: &'static str,
    recorded_by: String,
    kernel_release: Option<&'a str>,
    redacted: bool,
    absent: Vec<&'a str>,
    failed: Vec<Failure<'a>>,
}

/// A path that was there and could not be read.
#[derive(Serialize)]
struct Failure<'a> {
    path: &'a str,
    cause: String,
}

/// Asks all probes of a recording host and writes the copy, and what vendors' libraries answered; what to tell the user.
///
/// # Errors
/// When the directory is not empty or cannot be written.
#[expect(clippy::disallowed_methods, reason = "the copy is written to our own disk, never to the host")]
pub fn record(mut survey: Survey, directory: &Path, redact: bool) -> anyhow::Result<String> {
    let root = directory.join("root");
    std::fs::create_dir_all(directory)?;
    if std::fs::read_dir(directory)?.next().is_some() {
        bail!("the directory is not empty; choose one that is, or that is not there yet");
    }
    std::fs::create_dir(&root)?;

    let inventory = survey.discover();
    survey.sample();
    let recording = survey.host().recording();

    let mut redaction = Redaction::of(recording.reads());
    recording.copy(survey.host(), &root, |path, content| {
        if redact { redaction.apply(path, content) } else { content.to_vec() }
    })?;
    let absent: Vec<&str> = recording
        .reads()
        .filter(|(_, asked)| **asked == RecordedRead::Absent)
        .map(|(path, _)| path)
        .collect();
    let failed: Vec<Failure<'_>> = recording
        .reads()
        .filter_map(|(path, asked)| match asked {
            RecordedRead::Failed(cause) => Some(Failure { path, cause: cause.to_string() }),
            _ => None,
        })
        .collect();
    let provenance = Provenance {
        provenance: "recorded by afd record",
        recorded_by: format!("afd {}", env!("CARGO_PKG_VERSION")),
        kernel_release: inventory.kernel_release.value().map(String::as_str),
        redacted: redact,
        absent,
        failed,
    };
    let libraries = directory.join("libraries");
    for (file, answers) in survey.library_recordings() {
        std::fs::create_dir_all(&libraries)?;
        let answers = if redact { redaction.apply_to_answers(answers) } else { answers };
        std::fs::write(libraries.join(file), serde_json::to_string_pretty(&answers)? + "\n")?;
    }
    let text = toml::to_string(&provenance).context("writing host.toml")?;
    std::fs::write(directory.join("host.toml"), text)?;
    Ok(format!(
        "Recorded {} devices and {} RDMA devices to {}{}.\nLook at it with: afd show --host-root {}\n",
        inventory.devices.len(),
        inventory.nics.len(),
        directory.display(),
        if redact { "; serials, UUIDs, MAC addresses and host names are replaced" } else { "" },
        root.display()
    ))
}
