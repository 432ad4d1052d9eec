//! The contract of a vendor's probe, what the kernel reports of any device, and how a vendor's library is queried.
//!
//! A probe has two verbs. `discover` returns the devices and what does not change while they are there; `sample` reads what
//! changes. Both are synchronous, never fail as a whole, and return what they could not read as problems. `pci`, `device`,
//! `hwmon`, `rdma` and `node` read what is the same for all vendors; [`library`] explains how a library is queried, by
//! `answers`, `ffi`, `report`, `row` and `status`.

pub mod answers;
mod bounded;
pub mod device;
pub mod facts;
pub mod ffi;
mod host_facts;
pub mod hwmon;
pub mod library;
pub mod node;
pub mod pci;
pub mod plausible;
pub mod process;
pub mod products;
pub mod rdma;
pub mod report;
pub mod row;
pub mod status;
pub mod systemd;

use std::time::Instant;

use afd_host::{Host, child::DroppedMessages};
use afd_model::{
    Allocation, DeviceId, ErrorCountRecord, Findings, IncidentRecord, LibraryStatus, NodeFacts, PodNetworks,
    Sampling,
};

pub use facts::Facts;
pub use pci::{PciBus, PciFunction};
pub use process::ProbeProcess;

/// A reader of one vendor's devices.
pub trait Probe {
    /// The name of the probe, by which the vendor's record is found.
    fn name(&self) -> &'static str;

    /// The devices of this vendor on the node. Remembers where to sample them.
    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings;

    /// Reads the changing values of the devices of the last discovery. `now` is the time of the sample, for rates.
    fn sample(&mut self, host: &Host, now: Instant) -> Sampling;

    /// Takes in which containers hold which devices, before a sample; none where the kubelet does not report it. For a source that
    /// names the container and not the device.
    fn set_allocations(&mut self, _allocations: Option<&[Allocation]>) {}

    /// Takes in how the pods are reached that hold devices, before a sample and after the allocations; empty where they are not read.
    fn set_pods(&mut self, _pods: &PodNetworks) {}

    /// Takes in what the Node says, once it was read; whether a discovery can find something else by it.
    fn set_node(&mut self, _node: &NodeFacts) -> bool {
        false
    }

    /// Takes in that the kernel has said that the driver has given a device up, of any vendor (`WEDGED=` of an event), and how the
    /// driver was bound then ([`device::driver_binding`]). A discovery follows.
    fn wedged(&mut self, _device: DeviceId, _binding: u64) {}

    /// The process that queries the vendor's library or servers, where there is one.
    fn process(&self) -> Option<&dyn ProbeProcess> {
        None
    }

    /// The same, to end it or to start it again.
    fn process_mut(&mut self) -> Option<&mut dyn ProbeProcess> {
        None
    }

    /// What the vendor's library last reported, for a recording of the node: the name of the file and its content.
    fn recording(&self) -> Option<(&'static str, serde_json::Value)> {
        self.process()?.recording()
    }

    /// Ends the process that keeps the vendor's driver open, until [`Probe::reacquire`], so that the driver can be replaced.
    /// Returns the processes that have not ended: they may hold the driver. Static facts of the devices stay. Repeated, it reports
    /// those that still have not ended.
    fn release(&mut self) -> Vec<u32> {
        self.process_mut().map(|process| process.release()).unwrap_or_default()
    }

    /// Queries the vendor's library again after a release.
    fn reacquire(&mut self) {
        if let Some(process) = self.process_mut() {
            process.reacquire();
        }
    }

    /// What the vendor's library last did, at the moment of the call: also between two discoveries.
    fn library(&self) -> LibraryStatus {
        self.process().map(|process| process.status()).unwrap_or_default()
    }

    /// Whether samples are due from the process that queries the vendor's library or servers.
    fn is_library_sampled(&self) -> bool {
        self.process().is_some_and(ProbeProcess::is_sampled)
    }

    /// Whether the driver refuses the vendor's library because it is of another version, and the library is a copy in this
    /// container: one that is created again gets the current copy.
    fn has_stale_library(&self, _host: &Host) -> bool {
        false
    }

    /// The errors that are still open, for a memory that outlives this process.
    fn incidents(&self) -> Vec<IncidentRecord> {
        Vec::new()
    }

    /// Takes over the errors that an earlier process had open. Those that have ended since are dropped by the next discovery.
    fn restore_incidents(&mut self, _records: Vec<IncidentRecord>) {}

    /// How often each device reported each error that only this process counts.
    fn error_counts(&self) -> Vec<ErrorCountRecord> {
        Vec::new()
    }

    /// Continues the counts of an earlier process in the same boot, after the first discovery. Those of another device or driver
    /// are ignored.
    fn restore_error_counts(&mut self, _records: Vec<ErrorCountRecord>) {}

    /// Closes the errors of a device; whether there were any.
    fn clear_incidents(&mut self, _device: DeviceId) -> bool {
        false
    }

    /// How often the process that queries the vendor's library had to be started again, where there is one.
    fn restarts(&self) -> Option<u64> {
        self.process().map(|process| process.restarts())
    }

    /// What was dropped of all that the process that queries the vendor's library has sent, where there is one.
    fn dropped(&self) -> Option<DroppedMessages> {
        self.process().map(|process| process.dropped())
    }
}
