//! Moving values of the libraries to readings, in base units, where no file of the kernel told them. A call that gave no
//! value gives no reading.

use afd_model::{DeviceId, Engine, Known, Quantity, Reading, Sample, Sampling};
use afd_probe::answers::of;

use super::answers::{Answers, Report};
use crate::interpret::told::Place;

/// Adds what the library told of the devices, each with the number of its partitions.
pub(crate) fn add(sampling: &mut Sampling, devices: &[(DeviceId, usize)], report: &Report) {
    for told in &report.devices {
        let Some(place) = Place::of(&told.answers) else { continue };
        let Some((device, partition)) = whose(place, devices) else { continue };
        // The memory in use of a processor is that of a partition where there are any; the rest is the GPU's.
        let memory = memory(&told.answers);
        put(sampling, device, partition.as_deref(), memory.into_iter().collect());
        if partition.is_none_or(|partition| partition == "xcp0") {
            put(sampling, device, None, whole(&told.answers));
        }
    }
}

/// The device and the partition that a processor is.
fn whose(place: Place, devices: &[(DeviceId, usize)]) -> Option<(DeviceId, Option<String>)> {
    let exact = devices.iter().find(|(device, _)| place.is(device.0)).map(|found| (*found, 0));
    let (found, number) =
        exact.or_else(|| devices.iter().find_map(|found| Some((*found, place.partition_of(found.0.0)?))))?;
    match found {
        (device, 0) => (number == 0).then_some((device, None)),
        (device, _) => Some((device, Some(format!("xcp{number}")))),
    }
}

fn memory(answers: &Answers) -> Option<Reading> {
    let used = answers.known::<u64>(&of("amdsmi_get_gpu_memory_usage", 0));
    let used = used.or_else(|| answers.known(&of("rsmi_dev_memory_usage_get", 0))).into_value()?;
    (used != u64::MAX).then_some(Reading { quantity: Quantity::MemoryUsedBytes, value: used as f64 })
}

fn whole(answers: &Answers) -> Vec<Reading> {
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
    let energy = energy(answers).map(|joules| Reading { quantity: Quantity::EnergyJoules, value: joules });
    busy.chain(energy).collect()
}

/// The count times the microjoules for each.
fn energy(answers: &Answers) -> Option<f64> {
    [("amdsmi_get_energy_count", "energy_accumulator"), ("rsmi_dev_energy_count_get", "power")]
        .into_iter()
        .find_map(|(call, count)| {
            let Known::Value(count) = answers.field::<u64>(call, count) else { return None };
            let resolution: f64 = answers.field(call, "counter_resolution").into_value()?;
            let told = count > 0 && count != u64::MAX && resolution > 0.0;
            told.then(|| count as f64 * resolution * 1e-6)
        })
}

/// Adds readings of quantities that nobody told yet.
fn put(sampling: &mut Sampling, device: DeviceId, partition: Option<&str>, readings: Vec<Reading>) {
    let samples = &mut sampling.samples;
    let same = |sample: &&mut Sample| sample.device == device && sample.partition.as_deref() == partition;
    let known = match samples.iter_mut().find(same) {
        Some(sample) => &mut sample.readings,
        None => {
            if readings.is_empty() {
                return;
            }
            samples.push(Sample { device, partition: partition.map(str::to_owned), readings: Vec::new() });
            &mut samples.last_mut().expect("it was just added").readings
        }
    };
    for reading in readings {
        if !known.iter().any(|known| known.quantity == reading.quantity) {
            known.push(reading);
        }
    }
}

#[cfg(test)]
mod tests;
