//! Moving values of the libraries to readings, in base units, where no file of the kernel told them. A call that gave no
//! value gives no reading.
//!
//! Of devices that are cut none is taken: a library that cannot tell how much memory a partition uses gives the whole
//! device's.

use afd_model::{DeviceId, Engine, Quantity, Reading, Sample, Sampling};
use afd_probe::answers::of;

use super::answers::{Answers, Report};
use crate::interpret::told::Place;

/// What a report tells of the devices, each with the number of its partitions.
pub(crate) fn told(devices: &[(DeviceId, usize)], report: &Report) -> Vec<(DeviceId, Reading)> {
    let of_processor = |answers: &Answers| {
        let place = Place::of(answers)?;
        let (device, _) = devices.iter().find(|(device, parts)| place.is(device.0) && *parts == 0)?;
        Some(readings(answers).into_iter().map(|reading| (*device, reading)).collect::<Vec<_>>())
    };
    report.devices.iter().filter_map(|told| of_processor(&told.answers)).flatten().collect()
}

/// Adds what nobody told yet; whether there was any.
pub(crate) fn add(sampling: &mut Sampling, readings: Vec<(DeviceId, Reading)>) -> bool {
    let mut added = false;
    for (device, reading) in readings {
        match sampling.samples.iter_mut().find(|sample| is_whole(sample, device)) {
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

fn is_whole(sample: &Sample, device: DeviceId) -> bool {
    sample.unit == device.into()
}

fn readings(answers: &Answers) -> Vec<Reading> {
    let activity = |field: &str| answers.field::<u32>("amdsmi_get_gpu_activity", field);
    let busy = [
        (Engine::Compute, activity("gfx_activity").or_else(|| answers.known("rsmi_dev_busy_percent_get"))),
        (Engine::Memory, activity("umc_activity")),
        (Engine::Media, activity("mm_activity")),
    ];
    let busy = busy.into_iter().filter_map(|(engine, percent)| {
        // All ones of the field from which the library took it stand for "not told".
        let percent = percent.into_value().filter(|percent| *percent <= 100)?;
        Some(Reading { quantity: Quantity::Utilization(engine), value: f64::from(percent) / 100.0 })
    });
    let used = answers.known::<u64>(&of("amdsmi_get_gpu_memory_usage", 0));
    let used = used.or_else(|| answers.known(&of("rsmi_dev_memory_usage_get", 0))).into_value();
    let used = used.filter(|used| *used != u64::MAX);
    let used = used.map(|used| Reading { quantity: Quantity::MemoryUsedBytes, value: used as f64 });
    busy.chain(used).collect()
}

#[cfg(test)]
mod tests;
