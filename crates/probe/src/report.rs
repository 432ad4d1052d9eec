//! What a vendor's library reported at one time: the answers of calls on the system, and on each device.

use afd_model::PciAddress;
use serde::{Deserialize, Serialize};

use crate::{
    answers::{Answer, Answers, LibraryCall},
    bounded,
    ffi::MAX_HANDLES,
    status::{StatusCode, StatusTable},
};

/// Answers with the status codes of one kind of report.
pub type LibraryAnswers<T> = Answers<StatusCode<T>>;

/// A report of a library, as the querying process sends it and a recording of a node contains it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(bound = "")]
pub struct LibraryReport<T: StatusTable> {
    /// Calls that concern no device. The one that initialises the library is always among them.
    pub system: LibraryAnswers<T>,
    /// One element per device handle, in the library's order; at most [`MAX_HANDLES`].
    #[serde(default, deserialize_with = "bounded::list")]
    pub devices: Vec<DeviceAnswers<T>>,
}

/// What a library reported of one device handle: a device, or a partition where the library has handles of its own for those.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(bound = "")]
pub struct DeviceAnswers<T: StatusTable> {
    /// The package that the handle belongs to, where the library groups handles by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<u32>,
    /// Calls on the handle.
    pub answers: LibraryAnswers<T>,
    /// Calls on the partitions of the device, by their index; null where no partition has the index. Reports have them under
    /// `mig`.
    #[serde(
        default,
        rename = "mig",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::list"
    )]
    pub partitions: Vec<Option<LibraryAnswers<T>>>,
}

/// What stays of an earlier report where calls fail now: an error does not remove static facts of a device.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Calls whose values stay.
    pub calls: fn(call: &str) -> bool,
    /// Calls that distinguish a device, or a partition, from another one in its place, of which nothing is retained.
    pub identity: &'static [LibraryCall],
    /// Calls on a device without which its partitions are not known.
    pub partitions: &'static [LibraryCall],
}

/// The device, or the partition, of a device handle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReportedUnit {
    /// The PCI function as the library numbers it.
    pub address: PciAddress,
    /// The number of the partition; 0 for the device itself and for its first partition.
    pub partition: u32,
}

/// Which unit answers are about; none where the library did not report it.
pub type UnitOf<T> = fn(&LibraryAnswers<T>) -> Option<ReportedUnit>;

impl ReportedUnit {
    /// Whether it is the device at this address, or its first partition.
    pub fn is_device(self, address: PciAddress) -> bool {
        self == ReportedUnit { address, partition: 0 }
    }
}

impl<T: StatusTable> Default for LibraryReport<T> {
    fn default() -> Self {
        LibraryReport { system: Answers::default(), devices: Vec::new() }
    }
}

impl<T: StatusTable> Default for DeviceAnswers<T> {
    fn default() -> Self {
        DeviceAnswers { socket: None, answers: Answers::default(), partitions: Vec::new() }
    }
}

impl<T: StatusTable> LibraryReport<T> {
    /// The answers about the device at an address.
    pub fn device(&self, address: PciAddress, unit_of: UnitOf<T>) -> Option<&DeviceAnswers<T>> {
        self.devices
            .iter()
            .find(|device| unit_of(&device.answers).is_some_and(|unit| unit.is_device(address)))
    }

    /// Adds the answers of a sample to those of the discovery before it.
    pub(crate) fn extend(&mut self, sampled: &LibraryReport<T>, unit_of: UnitOf<T>) {
        for added in &sampled.devices {
            let unit = unit_of(&added.answers);
            let same = |device: &&mut DeviceAnswers<T>| unit_of(&device.answers) == unit;
            let Some(device) = self.devices.iter_mut().find(same).filter(|_| unit.is_some()) else {
                continue;
            };
            device.answers.extend(added.answers.clone());
            for (partition, added) in device.partitions.iter_mut().zip(&added.partitions) {
                if let (Some(partition), Some(added)) = (partition, added) {
                    partition.extend(added.clone());
                }
            }
        }
    }

    /// Keeps what an earlier report had from calls that fail now, and of units that the library has lost.
    pub(crate) fn retain_missing(
        &mut self,
        earlier: &LibraryReport<T>,
        unit_of: UnitOf<T>,
        retention: &Retention,
    ) {
        let asked: Vec<String> = self.system.errors().map(|(call, _)| call.to_owned()).collect();
        let is_retained = |call: &str| asked.iter().any(|asked| asked == call) && (retention.calls)(call);
        self.system.retain_missing(&earlier.system, is_retained);
        for known in &earlier.devices {
            let Some(unit) = unit_of(&known.answers) else { continue };
            match self.devices.iter_mut().find(|device| unit_of(&device.answers) == Some(unit)) {
                Some(device) => device.retain_missing(known, retention),
                None => {
                    let mut lost = DeviceAnswers { socket: known.socket, ..DeviceAnswers::default() };
                    lost.retain_missing(known, retention);
                    let has_room = self.devices.len() < MAX_HANDLES;
                    self.devices.extend((has_room && !lost.answers.is_empty()).then_some(lost));
                }
            }
        }
    }
}

impl<T: StatusTable> DeviceAnswers<T> {
    fn retain_missing(&mut self, earlier: &DeviceAnswers<T>, retention: &Retention) {
        if is_another(&self.answers, &earlier.answers, retention) {
            return;
        }
        let errors = |call: &LibraryCall| self.answers.get(*call).is_some_and(Answer::is_undecided);
        let are_unasked = retention.partitions.iter().all(|call| self.answers.get(*call).is_none());
        if are_unasked || retention.partitions.iter().any(errors) {
            self.partitions.clone_from(&earlier.partitions);
        }
        for (now, earlier) in self.partitions.iter_mut().zip(&earlier.partitions) {
            if let (Some(now), Some(earlier)) = (now, earlier)
                && !is_another(now, earlier, retention)
            {
                now.retain_missing(earlier, retention.calls);
            }
        }
        self.answers.retain_missing(&earlier.answers, retention.calls);
    }
}

/// Whether answers are about another device or partition than the earlier ones.
fn is_another<T: StatusTable>(
    now: &LibraryAnswers<T>,
    earlier: &LibraryAnswers<T>,
    retention: &Retention,
) -> bool {
    retention.identity.iter().any(|call| match (now.get(*call), earlier.get(*call)) {
        (Some(Answer::Value(now)), Some(Answer::Value(earlier))) => now != earlier,
        _ => false,
    })
}
