//! What earlier discoveries learnt for the health of a device: their evidence, the faults that only a reset ends, and the last
//! verdict.

use std::collections::BTreeMap;

use afd_model::{Device, DeviceId, DriverLoad, HandleKind, Health, IncidentRecord, Known, Missing};

use super::{FATAL_ERROR_RECORD, HealthEvidence};
use crate::{
    NAME,
    cper::{CperRecord, CperSeverity},
    gpu_metrics::Residencies,
    sysfs::ras::ErrorCounts,
};

/// What is known of one device from earlier discoveries.
#[derive(Clone, Debug, Default)]
pub(crate) struct HealthHistory {
    /// The evidence of the last discovery in which the device was awake; none before the first one, and after a reset.
    pub(super) before: Option<HealthEvidence>,
    /// The faults since the last evidence of a reset.
    pub(super) faults: OpenFaults,
    /// The last verdict on the device while it was awake.
    pub(super) verdict: Option<Health>,
    /// The load of the driver that the above belongs to.
    load: DriverLoad,
    /// Whether the driver was resetting the device at the last discovery.
    was_in_reset: bool,
}

/// Faults that appear in one observation and end with a reset of the device or a load of its driver.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct OpenFaults {
    /// New records of fatal errors.
    pub(super) fatal_records: usize,
    /// New uncorrectable errors of each block.
    pub(super) uncorrectable: BTreeMap<&'static str, u64>,
}

/// AMD's devices have a unique id in place of a UUID.
fn load_of(device: &Device, evidence: &HealthEvidence) -> DriverLoad {
    let unique_id = device.handle(HandleKind::UniqueId).map(str::to_owned);
    DriverLoad { uuid: unique_id, ..DriverLoad::of(device, evidence.binding) }
}

impl HealthHistory {
    /// Adds the faults of a discovery, after it dropped those that a reset has ended. Without evidence, as of a suspended device,
    /// everything stays.
    pub(super) fn observe(&mut self, device: &Device, evidence: Option<&HealthEvidence>) {
        if device.driver.missing() == Some(Missing::DriverNotBound) {
            *self = HealthHistory::default();
            return;
        }
        let Some(evidence) = evidence else { return };
        let is_loaded_again = self.load.update(load_of(device, evidence));
        let in_reset = evidence.is_in_reset();
        let has_been_reset = std::mem::replace(&mut self.was_in_reset, in_reset) && !in_reset
            || self.before.as_ref().is_some_and(|before| shows_reset(before, evidence))
            // The ring only starts empty: a fault that an earlier process found has ended.
            || evidence.records.value().is_some_and(Vec::is_empty);
        if is_loaded_again || has_been_reset {
            self.before = None;
            self.faults = OpenFaults::default();
        }
        if let Some(before) = &self.before {
            let records = new_fatal_records(before, evidence);
            self.faults.fatal_records = self.faults.fatal_records.saturating_add(records);
            for (block, more) in growth(before, evidence, |counts| counts.uncorrectable) {
                let count = self.faults.uncorrectable.entry(block).or_default();
                *count = count.saturating_add(more);
            }
        }
    }

    /// Keeps the evidence for the next discovery. What could not be read now stays as it was last read.
    pub(super) fn keep(&mut self, mut evidence: HealthEvidence) {
        if let Some(before) = self.before.take() {
            for (block, counts) in &mut evidence.errors {
                counts.fill(|| counts_of(&before, block));
            }
            evidence.records.fill(|| before.records);
        }
        self.before = Some(evidence);
    }

    /// The fault that a later process could not find again: the counters of errors outlive the process, and are a fault of their
    /// own; which of the records are new does not.
    pub(crate) fn incident(&self, device: DeviceId) -> Option<IncidentRecord> {
        (self.faults.fatal_records > 0).then(|| IncidentRecord {
            probe: NAME.to_owned(),
            device,
            load: self.load.clone(),
            partition: None,
            code: FATAL_ERROR_RECORD.to_owned(),
            first_seen: None,
            resets: None,
        })
    }

    /// Opens the fault of a record, unless it is of another device or load of the driver. The next discovery drops it if there is
    /// evidence that it has ended.
    pub(crate) fn restore(&mut self, record: IncidentRecord) {
        if record.code == FATAL_ERROR_RECORD && self.load.adopt(record.load) {
            self.faults.fatal_records = self.faults.fatal_records.max(1);
        }
    }

    /// Drops all faults; whether there were any.
    pub(crate) fn clear(&mut self) -> bool {
        std::mem::take(&mut self.faults) != OpenFaults::default()
    }
}

/// Whether the device was reset or its driver loaded between two discoveries: an error counter or the counter of firmware cycles
/// fell, or the newest record is gone. The ring of records starts empty with the driver, and drops the oldest ones only.
fn shows_reset(before: &HealthEvidence, now: &HealthEvidence) -> bool {
    let errors_fell = now.errors.iter().any(|(block, counts)| {
        let old = counts_of(before, block);
        counts.value().zip(old.value()).is_some_and(|(new, old)| has_fallen(new, old))
    });
    let is_gone = || {
        let newest = before.records.value()?.last()?;
        Some(!now.records.value()?.contains(newest))
    };
    errors_fell || cycles_fell(&before.residencies, &now.residencies) || is_gone().unwrap_or_default()
}

fn has_fallen(new: &ErrorCounts, old: &ErrorCounts) -> bool {
    [(new.uncorrectable, old.uncorrectable), (new.correctable, old.correctable), (new.deferred, old.deferred)]
        .into_iter()
        .any(|(new, old)| new.zip(old).is_some_and(|(new, old)| new < old))
}

/// The counter has 32 bits in most revisions of its table. In its last quarter a fall is taken for an overflow.
fn cycles_fell(before: &Residencies, now: &Residencies) -> bool {
    const LAST_QUARTER: u64 = 3 << 30;
    before.cycles.zip(now.cycles).is_some_and(|(before, now)| now < before && before < LAST_QUARTER)
}

fn new_fatal_records(before: &HealthEvidence, now: &HealthEvidence) -> usize {
    let Some((before, now)) = before.records.value().zip(now.records.value()) else { return 0 };
    fatal(now).filter(|record| !before.contains(record)).count()
}

fn fatal(records: &[CperRecord]) -> impl Iterator<Item = &CperRecord> {
    records.iter().filter(|record| record.severity == CperSeverity::Fatal)
}

/// How much the count of each block has grown since the discovery before; only blocks that have grown.
pub(super) fn growth(
    before: &HealthEvidence,
    now: &HealthEvidence,
    count: fn(&ErrorCounts) -> Option<u64>,
) -> Vec<(&'static str, u64)> {
    let of_block = |(block, counts): &(&'static str, Known<ErrorCounts>)| {
        let old = counts_of(before, block);
        let more = count(counts.value()?)?.checked_sub(count(old.value()?)?).filter(|more| *more > 0)?;
        Some((*block, more))
    };
    now.errors.iter().filter_map(of_block).collect()
}

fn counts_of(evidence: &HealthEvidence, block: &str) -> Known<ErrorCounts> {
    let counts = evidence.errors.iter().find(|(other, _)| *other == block);
    counts.map_or_else(Known::default, |(_, counts)| *counts)
}
