//! Whether a vendor's library answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the library of a probe last did.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LibraryStatus {
    /// The vendor has no library, no device needs it, or it may not be queried.
    #[default]
    Unused,
    /// It is not there.
    NotFound,
    /// Its process was started, and it has not answered yet.
    Starting,
    /// It answers.
    Answering,
    /// It answered before, and does not now: it hangs, its process ended, or it refuses to be initialised.
    Silent,
    /// It is not queried, so that its driver can be replaced.
    Released,
}

impl LibraryStatus {
    /// Whether it may still supply facts that are missing now.
    pub fn may_answer_later(self) -> bool {
        !matches!(self, LibraryStatus::Unused | LibraryStatus::Answering)
    }
}
