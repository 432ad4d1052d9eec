//! The metadata of the machine as its server has answered: queried once, and again a while after it did not answer.

use std::time::{Duration, Instant};

use afd_host::child::RequestError;
use afd_model::{Known, Missing, TpuSlice};

use crate::report::MetadataAnswer;

/// How long a server that did not answer is left alone.
const PAUSE: Duration = Duration::from_mins(10);

/// What the metadata server has answered.
#[derive(Debug, Default)]
pub(crate) enum MachineMetadata {
    /// It was not queried.
    #[default]
    Unasked,
    /// It was queried and has not answered yet.
    Pending,
    /// The slice that it describes.
    Answered(Box<TpuSlice>),
    /// There is no such server.
    Absent,
    /// It did not answer when it was last queried.
    Silent(Instant),
}

impl MachineMetadata {
    /// Whether to query it now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        match self {
            MachineMetadata::Unasked => true,
            MachineMetadata::Silent(since) => now.saturating_duration_since(*since) >= PAUSE,
            _ => false,
        }
    }

    /// Whether an answer is still to come.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self, MachineMetadata::Pending)
    }

    /// Takes in the answer to a query.
    pub(crate) fn take(&mut self, answer: Result<MetadataAnswer, RequestError>, now: Instant) {
        *self = match answer {
            Ok(MetadataAnswer::Slice(slice)) => MachineMetadata::Answered(slice),
            Ok(MetadataAnswer::Absent) => MachineMetadata::Absent,
            Err(RequestError::Pending) => MachineMetadata::Pending,
            Ok(MetadataAnswer::Failed(_)) | Err(_) => MachineMetadata::Silent(now),
        };
    }

    /// Forgets a query whose answer will not come.
    pub(crate) fn forget_pending(&mut self) {
        if self.is_pending() {
            *self = MachineMetadata::Unasked;
        }
    }

    /// The slice; what a server that has not answered may have is not decided.
    pub(crate) fn slice(&self) -> TpuSlice {
        match self {
            MachineMetadata::Answered(slice) => (**slice).clone(),
            MachineMetadata::Pending => undecided(Missing::Pending),
            MachineMetadata::Silent(_) => undecided(Missing::Unreadable),
            MachineMetadata::Unasked | MachineMetadata::Absent => TpuSlice::default(),
        }
    }
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
    fn a_server_is_queried_once_and_a_silent_one_again_after_a_pause() {
        let (mut metadata, start) = (MachineMetadata::default(), Instant::now());
        assert!(metadata.is_due(start));
        metadata.take(Err(RequestError::Pending), start);
        assert!(metadata.is_pending() && !metadata.is_due(start + PAUSE));
        assert_eq!(metadata.slice().topology.missing(), Some(Missing::Pending));
        metadata.take(Ok(MetadataAnswer::Failed("late".to_owned())), start);
        assert!(!metadata.is_due(start) && metadata.is_due(start + PAUSE));
        assert_eq!(metadata.slice().topology.missing(), Some(Missing::Unreadable));
        let slice = TpuSlice { hosts: Known::Value(2), ..TpuSlice::default() };
        metadata.take(Ok(MetadataAnswer::Slice(Box::new(slice.clone()))), start);
        assert!(!metadata.is_due(start + PAUSE));
        assert_eq!(metadata.slice(), slice);
        metadata.take(Ok(MetadataAnswer::Absent), start);
        assert_eq!(metadata.slice(), TpuSlice::default());
    }
}
