//! The process of a probe, which queries what may hang or crash: a vendor's library, or servers.

use afd_host::child::DroppedMessages;
use afd_model::LibraryStatus;
use serde_json::Value;

/// The process of a probe. A [`Probe`](crate::Probe) that has one answers by it.
pub trait ProbeProcess {
    /// What it last reported, for a recording of the node: the name of the file and its content.
    fn recording(&self) -> Option<(&'static str, Value)>;

    /// Ends it, so that the driver can be replaced; the processes that have not ended. Reports stay.
    fn release(&mut self) -> Vec<u32> {
        Vec::new()
    }

    /// Queries again after a release.
    fn reacquire(&mut self) {}

    /// What the vendor's library last did, where it queries one.
    fn status(&self) -> LibraryStatus {
        LibraryStatus::Unused
    }

    /// Whether samples are due from it: not while it has nothing to query, was released, or samples are paused on purpose.
    fn is_sampled(&self) -> bool {
        true
    }

    /// How often it had to be started again.
    fn restarts(&self) -> u64;

    /// What was dropped of all that it has sent.
    fn dropped(&self) -> DroppedMessages;
}
