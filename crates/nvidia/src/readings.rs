//! What NVML sampled to readings, by the rows of `nvml::table`. A call that returned no value is no reading.

use afd_model::{
    Known, NvidiaQuantity, PartitionId, PartitionName, PciAddress, Quantity, Reading, Sample, Sampling,
};
use serde_json::Value;

use crate::{
    nvml::{
        report::{self, NvmlAnswers, NvmlDeviceReport},
        table::{
            GPM_ROWS, GPU_ROWS, MEMORY_ROWS, MIG_UTILIZATION, NvmlRow, STATIC_ROWS, THROTTLE_BITS, call,
        },
    },
    xid_counts::XidCounts,
};

/// Adds the samples of a GPU and of its MIG devices.
pub(crate) fn add(sampling: &mut Sampling, address: PciAddress, report: &NvmlDeviceReport) {
    let answers = &report.answers;
    let mut readings: Vec<Reading> =
        [GPU_ROWS, MEMORY_ROWS, GPM_ROWS].into_iter().flat_map(|rows| by_rows(rows, answers)).collect();
    readings.extend(throttling(answers));
    readings.extend(licence(answers));
    extend(sampling, address, readings);
    sampling.samples.extend(report.partitions.iter().flatten().filter_map(|answers| mig(address, answers)));
}

/// Adds what the discovery reported of a GPU and does not change.
pub(crate) fn add_static(sampling: &mut Sampling, address: PciAddress, discovered: &NvmlAnswers) {
    extend(sampling, address, by_rows(STATIC_ROWS, discovered));
}

/// Adds the XIDs of a GPU, also of one that is not sampled: they are counted here.
pub(crate) fn add_xids(sampling: &mut Sampling, address: PciAddress, xids: &XidCounts) {
    extend(sampling, address, xids.readings());
}

/// Adds readings to those of a GPU.
pub(crate) fn extend(
    sampling: &mut Sampling,
    address: PciAddress,
    readings: impl IntoIterator<Item = Reading>,
) {
    match sampling.samples.iter_mut().find(|sample| sample.unit == address.into()) {
        Some(sample) => sample.readings.extend(readings),
        None => {
            sampling.samples.push(Sample { unit: address.into(), readings: readings.into_iter().collect() })
        }
    }
}

fn by_rows<'a>(rows: &'a [NvmlRow], answers: &'a NvmlAnswers) -> impl Iterator<Item = Reading> {
    rows.iter().filter_map(|row| row.reading(answers))
}

/// The sample of a MIG device; none where NVML did not report which one it is.
fn mig(address: PciAddress, answers: &NvmlAnswers) -> Option<Sample> {
    let gpu_instance = answers.known(call::GPU_INSTANCE_ID).into_value()?;
    let compute_instance = answers.known(call::COMPUTE_INSTANCE_ID).into_value()?;
    let mut readings: Vec<Reading> =
        by_rows(MEMORY_ROWS, answers).chain(by_rows(GPM_ROWS, answers)).collect();
    readings.extend(MIG_UTILIZATION.reading(answers));
    let name = PartitionName::Mig { gpu_instance, compute_instance };
    let unit = PartitionId { device: address.into(), name }.into();
    (!readings.is_empty()).then_some(Sample { unit, readings })
}

fn throttling(answers: &NvmlAnswers) -> Vec<Reading> {
    let Known::Value(reasons) = report::known::<u64>(answers, call::CLOCKS_EVENT_REASONS) else {
        return Vec::new();
    };
    let reading = |(bit, cause)| Reading {
        quantity: Quantity::Throttled(cause),
        value: f64::from(u8::from(reasons & bit != 0)),
    };
    THROTTLE_BITS.map(reading).to_vec()
}

/// Whether any feature of a vGPU is licensed (`nvmlGridLicensableFeatures_t`).
fn licence(answers: &NvmlAnswers) -> Option<Reading> {
    let licences: Value = answers.known(call::LICENCES).into_value()?;
    let features = licences["gridLicensableFeatures"].as_array()?;
    if licences["isGridLicenseSupported"] == 0 || features.is_empty() {
        return None;
    }
    let is_licensed = features.iter().any(|feature| feature["featureState"].as_u64().is_some_and(|s| s != 0));
    Some(Reading { quantity: NvidiaQuantity::VgpuLicensed.into(), value: f64::from(u8::from(is_licensed)) })
}
