//! Readings from what a library sampled, in base units, where no file of the kernel has them. A call without a value gives no
//! reading.
//!
//! Partitioned devices have none: the libraries report the used memory of the whole device for a partition.

use afd_model::{DeviceId, Missing, Reading, Sample, Sampling};

use super::{AmdAnswers, AmdReport, amdsmi, rocmsmi, unit_of};

/// The readings of a report, of devices that are given with the number of their partitions.
pub(crate) fn of_report(devices: &[(DeviceId, usize)], report: &AmdReport) -> Vec<(DeviceId, Reading)> {
    let of_processor = |answers: &AmdAnswers| {
        let unit = unit_of(answers)?;
        let is_whole =
            |(device, partitions): &&(DeviceId, usize)| unit.is_device(device.0) && *partitions == 0;
        let (device, _) = devices.iter().find(is_whole)?;
        Some(readings(answers).map(|reading| (*device, reading)).collect::<Vec<_>>())
    };
    report.devices.iter().filter_map(|device| of_processor(&device.answers)).flatten().collect()
}

/// Whether every call of a report returned a value, or that there is none.
pub(crate) fn is_complete(report: &AmdReport) -> bool {
    let mut errors = report.devices.iter().flat_map(|device| device.answers.errors());
    errors.all(|(_, code)| !Missing::from(code).is_undecided())
}

/// Adds the readings of quantities that are not sampled yet; whether there was any.
pub(crate) fn add(sampling: &mut Sampling, readings: Vec<(DeviceId, Reading)>) -> bool {
    let mut added = false;
    for (device, reading) in readings {
        match sampling.samples.iter_mut().find(|sample| sample.unit == device.into()) {
            Some(sample) if sample.readings.iter().any(|known| known.quantity == reading.quantity) => {
                continue;
            }
            Some(sample) => sample.readings.push(reading),
            None => sampling.samples.push(Sample { unit: device.into(), readings: vec![reading] }),
        }
        added = true;
    }
    added
}

/// A report has the calls of one library, so the rows of the other have no reading.
fn readings(answers: &AmdAnswers) -> impl Iterator<Item = Reading> {
    let of_amd_smi = amdsmi::calls::SAMPLED.iter().filter_map(|row| row.reading(answers));
    of_amd_smi.chain(rocmsmi::calls::SAMPLED.iter().filter_map(|row| row.reading(answers)))
}

#[cfg(test)]
mod tests;
