//! The contract that every vendor keeps, and what the kernel tells of any device.
//!
//! A vendor's probe has two verbs. `discover` says which devices there are and what does not change while they are
//! there; `sample` reads what moves. Both are synchronous, never fail as a whole, and return what they could not
//! learn as problems. `pci`, `device`, `hwmon`, `rdma` and `node` read what is the same for all vendors; `library` has a
//! process ask a vendor's library, and `answers` is what that says.

pub mod answers;
pub mod device;
pub mod facts;
pub mod hwmon;
pub mod library;
pub mod node;
pub mod pci;
pub mod rdma;

use std::time::Instant;

use afd_host::Host;
use afd_model::{Findings, Sampling};

pub use facts::Facts;
pub use pci::{PciBus, PciFunction};

/// The reader of one vendor's devices.
pub trait Probe {
    /// The name of the probe: `nvidia`, `amd`, `intel`, `gaudi`, `tpu`.
    fn name(&self) -> &'static str;

    /// Which devices of this vendor the node has. Remembers where to sample them.
    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings;

    /// Reads the moving values of the devices that were last discovered. `now` orders samples, so that a rate can
    /// be had from two of them.
    fn sample(&mut self, host: &Host, now: Instant) -> Sampling;

    /// What the vendor's library answered last, for a recording of the node: the name of the file and its content.
    fn recording(&self) -> Option<(&'static str, serde_json::Value)> {
        None
    }

    /// Ends what holds the vendor's driver open, until it is taken back, so that the driver can be replaced; whether it has
    /// ended. What was learnt of the devices and does not move stays.
    fn release(&mut self) -> bool {
        true
    }

    /// Asks the vendor's library again after a release.
    fn take_back(&mut self) {}

    /// How often the process that asks the vendor's library had to be started again, where there is one.
    fn restarts(&self) -> Option<u64> {
        None
    }
}
