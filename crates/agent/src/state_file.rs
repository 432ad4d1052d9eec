//! The file in which graces and counts survive a restart of the container.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use afd_model::ErrorCountRecord;
use afd_track::SavedState;
use serde::{Deserialize, Serialize};

const NAME: &str = "state.json";

/// What survives a restart of the container.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct AgentState {
    /// The boot that it is of.
    pub(crate) boot_id: String,
    /// When graces began.
    pub(crate) track: SavedState,
    /// How often devices reported errors.
    pub(crate) error_counts: Vec<ErrorCountRecord>,
    /// The driver for which an agent has ended because its container's library was stale, by the name of the probe.
    #[serde(default)]
    pub(crate) ended_for: BTreeMap<String, String>,
}

/// The file, in a folder of the agent's own that lives as long as its pod.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    written: Option<AgentState>,
    /// Whether the last attempt failed.
    is_failing: bool,
}

impl StateFile {
    /// The file in a folder.
    pub(crate) fn new(folder: &Path) -> StateFile {
        StateFile { path: folder.join(NAME), written: None, is_failing: false }
    }

    /// What an earlier agent saved. A file that cannot be used is as good as none.
    #[expect(clippy::disallowed_methods, reason = "the file is the agent's own, not the host's")]
    pub(crate) fn read(&self) -> Option<AgentState> {
        let text = std::fs::read(&self.path).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|error| {
                tracing::warn!(path = %self.path.display(), %error, "the saved state cannot be used");
            })
            .ok()
    }

    /// Saves a state that differs from the last one; whether the file has it then. A failure costs a grace or a count after the next
    /// restart.
    pub(crate) fn write(&mut self, state: AgentState) -> bool {
        if self.written.as_ref() == Some(&state) {
            return true;
        }
        let is_first_failure = !std::mem::replace(&mut self.is_failing, true);
        match replace(&self.path, &state) {
            Ok(()) => {
                self.is_failing = false;
                self.written = Some(state);
            }
            Err(error) if is_first_failure => {
                tracing::warn!(path = %self.path.display(), %error, "the state cannot be saved; retrying");
            }
            Err(_) => {}
        }
        !self.is_failing
    }
}

#[expect(clippy::disallowed_methods, reason = "the file is the agent's own, not the host's")]
fn replace(path: &Path, state: &AgentState) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(state)?)?;
    std::fs::rename(new, path)
}
