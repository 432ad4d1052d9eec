//! The metadata of the machine as its server has answered: queried until it describes a slice, with a pause after each query.

use std::time::{Duration, Instant};

use afd_host::child::RequestError;
use afd_model::{Known, Missing, TpuSlice};

use crate::{report::MetadataAnswer, sources};

/// How long a server that did not answer, or had no metadata of a slice, is left alone. Attributes can be set after the start of
/// the machine.
const PAUSE: Duration = Duration::from_mins(10);

/// What the metadata server has answered.
#[derive(Debug, Default)]
pub(crate) struct MachineMetadata {
    state: MetadataState,
    /// Why it last sent no answer; until it sends one.
    failure: Option<String>,
}

#[derive(Debug, Default)]
enum MetadataState {
    /// It was not queried.
    #[default]
    Unasked,
    /// It was queried and has not answered yet.
    Pending,
    /// The slice that it describes.
    Answered(Box<TpuSlice>),
    /// It has no metadata of a slice, but may know how many chips the machine has.
    Empty(Instant, Box<TpuSlice>),
    /// It did not answer when it was last queried, or nothing listened.
    Silent(Instant),
}

impl MachineMetadata {
    /// Whether to query it now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        match self.state {
            MetadataState::Unasked => true,
            MetadataState::Empty(since, _) | MetadataState::Silent(since) => {
                now.saturating_duration_since(since) >= PAUSE
            }
            MetadataState::Pending | MetadataState::Answered(_) => false,
        }
    }

    /// Whether an answer is still to come.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, MetadataState::Pending)
    }

    /// Takes in the answer to a query.
    pub(crate) fn take(&mut self, answer: Result<MetadataAnswer, RequestError>, now: Instant) {
        let failure = match &answer {
            Ok(MetadataAnswer::Failed(reason)) => Some(reason.clone()),
            Err(RequestError::Pending) => self.failure.take(),
            Err(error) => Some(sources::failure(error)),
            Ok(_) => None,
        };
        self.failure = failure;
        self.state = match answer {
            Ok(MetadataAnswer::Slice(slice)) if describes_slice(&slice) => MetadataState::Answered(slice),
            Ok(MetadataAnswer::Slice(slice)) => MetadataState::Empty(now, slice),
            Err(RequestError::Pending) => MetadataState::Pending,
            Ok(MetadataAnswer::Failed(_)) | Err(_) => MetadataState::Silent(now),
        };
    }

    /// What it last answered, if it was queried.
    pub(crate) fn answer(&self) -> Option<MetadataAnswer> {
        Some(match &self.state {
            MetadataState::Answered(slice) | MetadataState::Empty(_, slice) => {
                MetadataAnswer::Slice(slice.clone())
            }
            MetadataState::Silent(_) => MetadataAnswer::Failed(self.failure.clone()?),
            MetadataState::Unasked | MetadataState::Pending => return None,
        })
    }

    /// Forgets a query whose answer will not come.
    pub(crate) fn forget_pending(&mut self) {
        if self.is_pending() {
            self.state = MetadataState::Unasked;
        }
    }

    /// Why it sent no answer, if it did not.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The slice; what a server that has not answered may have is not decided.
    pub(crate) fn slice(&self) -> TpuSlice {
        match &self.state {
            MetadataState::Answered(slice) | MetadataState::Empty(_, slice) => (**slice).clone(),
            MetadataState::Pending => undecided(Missing::Pending),
            MetadataState::Silent(_) => undecided(Missing::Unreadable),
            MetadataState::Unasked => TpuSlice::default(),
        }
    }
}

/// Whether anything of it is known but how many chips the machine has, which its type says.
fn describes_slice(slice: &TpuSlice) -> bool {
    *slice != TpuSlice { chips_per_host: slice.chips_per_host, ..TpuSlice::default() }
}

fn undecided(reason: Missing) -> TpuSlice {
    TpuSlice {
        accelerator: reason.into(),
        accelerator_type: reason.into(),
        topology: reason.into(),
        chips_per_host: reason.into(),
        hosts: reason.into(),
        worker: reason.into(),
        ici_resiliency: reason.into(),
        identity: reason.into(),
        labelled_by_platform: Known::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_queried_until_it_answers_and_a_silent_one_again_after_a_pause() {
        let (mut metadata, start) = (MachineMetadata::default(), Instant::now());
        assert!(metadata.is_due(start));
        metadata.take(Err(RequestError::Pending), start);
        assert!(metadata.is_pending() && !metadata.is_due(start + PAUSE));
        assert_eq!(metadata.slice().topology.missing(), Some(Missing::Pending));
        metadata.take(Ok(MetadataAnswer::Failed("late".to_owned())), start);
        assert!(!metadata.is_due(start) && metadata.is_due(start + PAUSE));
        assert_eq!(metadata.failure(), Some("late"));
        assert_eq!(metadata.slice().topology.missing(), Some(Missing::Unreadable));
        metadata.take(Err(RequestError::Pending), start + PAUSE);
        assert_eq!(metadata.failure(), Some("late"), "it is kept until there is an answer");
        let slice = TpuSlice { hosts: Known::Value(2), ..TpuSlice::default() };
        metadata.take(Ok(MetadataAnswer::Slice(Box::new(slice.clone()))), start);
        assert!(!metadata.is_due(start + PAUSE));
        assert_eq!((metadata.slice(), metadata.failure()), (slice, None));
    }

    #[test]
    fn a_server_without_metadata_of_a_slice_is_no_problem_and_queried_again_after_a_pause() {
        let chips = TpuSlice { chips_per_host: Known::Value(4), ..TpuSlice::default() };
        for slice in [TpuSlice::default(), chips] {
            let (mut metadata, start) = (MachineMetadata::default(), Instant::now());
            metadata.take(Ok(MetadataAnswer::Slice(Box::new(slice.clone()))), start);
            assert_eq!((metadata.slice(), metadata.failure()), (slice, None));
            assert!(!metadata.is_due(start) && metadata.is_due(start + PAUSE));
        }
    }
}
