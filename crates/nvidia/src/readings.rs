//! What NVML sampled to readings, by the rows of `nvml::table`. A call that returned no value is no reading.

use afd_model::{
    ErrorDetail, ErrorKind, Known, NvidiaQuantity, PartitionId, PartitionName, PciAddress, Quantity, Reading,
    Sample, Sampling,
};
use serde_json::Value;

use crate::{
    incidents::Incidents,
    nvml::{
        report::{self, NvmlAnswers, NvmlDeviceReport},
        table::{GPM_ROWS, GPU_ROWS, MEMORY_ROWS, MIG_UTILIZATION, NvmlRow, THROTTLE_BITS, call},
    },
    xid,
};

/// Adds the samples of a GPU and of its MIG devices.
pub(crate) fn add(
    sampling: &mut Sampling,
    address: PciAddress,
    report: &NvmlDeviceReport,
    incidents: &Incidents,
) {
    let answers = &report.answers;
    let mut readings: Vec<Reading> =
        [GPU_ROWS, MEMORY_ROWS, GPM_ROWS].into_iter().flat_map(|rows| by_rows(rows, answers)).collect();
    readings.extend(throttling(answers));
    readings.extend(licence(answers));
    readings.extend(xids(address, incidents));
    match sampling.samples.iter_mut().find(|sample| sample.unit == address.into()) {
        Some(sample) => sample.readings.extend(readings),
        None => sampling.samples.push(Sample { unit: address.into(), readings }),
    }
    sampling.samples.extend(report.partitions.iter().flatten().filter_map(|answers| mig(address, answers)));
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

/// The number of each XID, and the last one; 0 while there was none.
fn xids(address: PciAddress, incidents: &Incidents) -> impl Iterator<Item = Reading> {
    let last = incidents.last_xid(address).unwrap_or(0);
    let meaning = xid::find(last).map_or("", |xid| xid.meaning);
    let last = Reading { quantity: NvidiaQuantity::LastXid { meaning }.into(), value: f64::from(last) };
    let counts = incidents.xids(address).map(|(number, count)| Reading {
        quantity: Quantity::Errors(ErrorKind::Xid, ErrorDetail::Number(number)),
        value: count as f64,
    });
    counts.chain([last])
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
