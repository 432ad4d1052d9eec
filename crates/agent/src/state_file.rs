//! The file in which graces survive a restart of the container.

use std::path::{Path, PathBuf};

use afd_track::SavedState;

const NAME: &str = "state.json";

/// The file, in a folder of the agent's own that lives as long as its pod.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    written: SavedState,
}

impl StateFile {
    /// The file in a folder.
    pub(crate) fn new(folder: &Path) -> StateFile {
        StateFile { path: folder.join(NAME), written: SavedState::default() }
    }

    /// What an earlier agent saved. A file that cannot be used is as good as none.
    #[expect(clippy::disallowed_methods, reason = "the file is the agent's own, not the host's")]
    pub(crate) fn read(&self) -> Option<SavedState> {
        let text = std::fs::read(&self.path).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|error| {
                tracing::warn!(path = %self.path.display(), %error, "the saved state cannot be used");
            })
            .ok()
    }

    /// Saves a state that differs from the last one. A failure costs a grace after the next restart, nothing more.
    pub(crate) fn write(&mut self, state: SavedState) {
        if state == self.written {
            return;
        }
        if let Err(error) = replace(&self.path, &state) {
            tracing::warn!(path = %self.path.display(), %error, "the state cannot be saved");
        }
        self.written = state;
    }
}

#[expect(clippy::disallowed_methods, reason = "the file is the agent's own, not the host's")]
fn replace(path: &Path, state: &SavedState) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(state)?)?;
    std::fs::rename(new, path)
}
