//! Device memory per process: NVML's process lists to samples of a GPU and its MIG devices.
//!
//! NVML reports the processes of its caller's pid namespace and of those within it: in a pod without `hostPID` it reports
//! none, which is no series and not 0. A process that uses compute and graphics is in two lists with the same memory; memory
//! that the driver does not report is all ones (nvml.h, NVML_VALUE_NOT_AVAILABLE).

use std::collections::BTreeMap;

use afd_model::{PartitionName, PciAddress, Quantity, Reading, Sample, Sampling, UnitId};
use serde::Deserialize;

use crate::{
    library::SPEC,
    nvml::{report::NvmlAnswers, table::call::PROCESS_CALLS},
};

/// Memory that the driver does not report.
const NOT_AVAILABLE: u64 = u64::MAX;
/// The instance of a process that uses the whole GPU.
const WHOLE_GPU: u32 = u32::MAX;

/// `nvmlProcessInfo_t`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NvmlProcess {
    pid: u32,
    used_gpu_memory: u64,
    gpu_instance_id: u32,
    compute_instance_id: u32,
}

impl NvmlProcess {
    /// The MIG device that it uses.
    fn partition(&self) -> Option<PartitionName> {
        (self.gpu_instance_id != WHOLE_GPU).then_some(PartitionName::Mig {
            gpu_instance: self.gpu_instance_id,
            compute_instance: self.compute_instance_id,
        })
    }
}

/// Adds a sample for the GPU and each of its MIG devices that a process uses, and a problem for each list that was refused.
pub(crate) fn add(sampling: &mut Sampling, address: PciAddress, answers: &NvmlAnswers) {
    let lists = PROCESS_CALLS.iter().filter_map(|call| answers.known::<Vec<NvmlProcess>>(*call).into_value());
    let mut used: BTreeMap<Option<PartitionName>, BTreeMap<u32, u64>> = BTreeMap::new();
    for process in lists.flatten().filter(|process| process.pid != 0) {
        if process.used_gpu_memory != NOT_AVAILABLE {
            let bytes = used.entry(process.partition()).or_default().entry(process.pid).or_default();
            *bytes = process.used_gpu_memory.max(*bytes);
        }
    }
    sampling.samples.extend(used.into_iter().map(|(partition, processes)| {
        let readings = processes.into_iter().map(|(pid, bytes)| Reading {
            quantity: Quantity::ProcessMemoryUsedBytes(pid),
            value: bytes as f64,
        });
        Sample { unit: UnitId { device: address.into(), partition }, readings: readings.collect() }
    }));
    let refused = answers.errors().filter(|(name, _)| PROCESS_CALLS.iter().any(|call| call.symbol == *name));
    sampling.problems.extend(SPEC.refused(address.into(), refused));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::nvml::report::{NO_PERMISSION, NvmlCode};

    fn process(pid: u32, bytes: u64, instance: u32) -> serde_json::Value {
        let compute = if instance == WHOLE_GPU { WHOLE_GPU } else { 0 };
        json!({ "pid": pid, "usedGpuMemory": bytes, "gpuInstanceId": instance, "computeInstanceId": compute })
    }

    fn sampled(lists: [Result<serde_json::Value, NvmlCode>; 3]) -> Sampling {
        let mut answers = NvmlAnswers::default();
        for (call, list) in PROCESS_CALLS.iter().zip(lists) {
            answers.put(*call, list);
        }
        let mut sampling = Sampling::default();
        add(&mut sampling, PciAddress { domain: 0, bus: 1, device: 0, function: 0 }, &answers);
        sampling
    }

    #[test]
    fn a_process_is_counted_once_and_for_the_mig_device_that_it_uses() {
        let sampling = sampled([
            Ok(json!([process(7, 100, 1), process(8, 50, WHOLE_GPU), process(9, NOT_AVAILABLE, WHOLE_GPU)])),
            Ok(json!([process(8, 50, WHOLE_GPU), process(0, 5, WHOLE_GPU)])),
            Err(NvmlCode::named("NOT_SUPPORTED")),
        ]);
        let readings: Vec<_> = sampling
            .samples
            .iter()
            .map(|sample| {
                (sample.unit.partition_label(), sample.readings[0].quantity, sample.readings[0].value)
            })
            .collect();
        assert_eq!(
            readings,
            [
                (String::new(), Quantity::ProcessMemoryUsedBytes(8), 50.0),
                ("gi1-ci0".to_owned(), Quantity::ProcessMemoryUsedBytes(7), 100.0),
            ]
        );
        assert!(sampling.problems.is_empty());
    }

    #[test]
    fn no_process_is_no_series_and_a_refused_list_is_a_problem() {
        let sampling = sampled([Ok(json!([])), Ok(json!([])), Err(NO_PERMISSION)]);
        assert!(sampling.samples.is_empty());
        assert_eq!(sampling.problems.len(), 1);
    }
}
