//! The memory that each process holds of a GPU, or of one of its MIG devices.
//!
//! NVML tells the processes of its caller's pid namespace and of those within it: in a pod that is not in the host's
//! (`hostPID`) it tells of none, which is no series and not 0. A process that computes and draws is in two lists with the
//! same memory; a memory that the driver does not tell is all ones (nvml.h, NVML_VALUE_NOT_AVAILABLE).

use std::collections::BTreeMap;

use afd_model::{PartitionName, PciAddress, Problem, Quantity, Reading, Sample, Sampling, UnitId};
use serde::Deserialize;

use crate::{
    interpret,
    nvml::{PROCESSES, answers::Answers},
};

/// Where the driver tells no memory.
const NOT_AVAILABLE: u64 = u64::MAX;
/// The instance of a process that uses the whole GPU.
const WHOLE: u32 = u32::MAX;

/// `nvmlProcessInfo_t`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    pid: u32,
    used_gpu_memory: u64,
    gpu_instance_id: u32,
    compute_instance_id: u32,
}

impl Process {
    /// The MIG device that it uses, as partitions are called.
    fn partition(&self) -> Option<PartitionName> {
        (self.gpu_instance_id != WHOLE).then_some(PartitionName::Mig {
            gpu_instance: self.gpu_instance_id,
            compute_instance: self.compute_instance_id,
        })
    }
}

/// Adds a sample for each part of the GPU that a process uses, and what NVML refused to tell.
pub(crate) fn add(sampling: &mut Sampling, address: PciAddress, answers: &Answers) {
    let lists = PROCESSES.iter().filter_map(|call| answers.known::<Vec<Process>>(call).into_value());
    let mut held: BTreeMap<Option<PartitionName>, BTreeMap<u32, u64>> = BTreeMap::new();
    for process in lists.flatten().filter(|process| process.pid != 0) {
        if process.used_gpu_memory != NOT_AVAILABLE {
            let bytes = held.entry(process.partition()).or_default().entry(process.pid).or_default();
            *bytes = process.used_gpu_memory.max(*bytes);
        }
    }
    sampling.samples.extend(held.into_iter().map(|(partition, held)| {
        let readings = held.into_iter().map(|(pid, bytes)| Reading {
            quantity: Quantity::ProcessMemoryUsedBytes(pid),
            value: bytes as f64,
        });
        Sample { unit: UnitId { device: address.into(), partition }, readings: readings.collect() }
    }));
    let refused = interpret::failures(address.into(), answers);
    sampling.problems.extend(refused.filter(|problem: &Problem| PROCESSES.contains(&problem.fact.as_str())));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::nvml::answers::Code;

    fn process(pid: u32, bytes: u64, instance: u32) -> serde_json::Value {
        let compute = if instance == WHOLE { WHOLE } else { 0 };
        json!({ "pid": pid, "usedGpuMemory": bytes, "gpuInstanceId": instance, "computeInstanceId": compute })
    }

    fn sampled(lists: [Result<serde_json::Value, Code>; 3]) -> Sampling {
        let mut answers = Answers::default();
        for (call, list) in PROCESSES.into_iter().zip(lists) {
            answers.put(call, list);
        }
        let mut sampling = Sampling::default();
        add(&mut sampling, PciAddress { domain: 0, bus: 1, device: 0, function: 0 }, &answers);
        sampling
    }

    #[test]
    fn a_process_is_told_once_and_of_the_part_that_it_uses() {
        let sampling = sampled([
            Ok(json!([process(7, 100, 1), process(8, 50, WHOLE), process(9, NOT_AVAILABLE, WHOLE)])),
            Ok(json!([process(8, 50, WHOLE), process(0, 5, WHOLE)])),
            Err(Code::NOT_SUPPORTED),
        ]);
        let told: Vec<_> = sampling
            .samples
            .iter()
            .map(|sample| {
                (sample.unit.partition_label(), sample.readings[0].quantity, sample.readings[0].value)
            })
            .collect();
        assert_eq!(
            told,
            [
                (String::new(), Quantity::ProcessMemoryUsedBytes(8), 50.0),
                ("gi1-ci0".to_owned(), Quantity::ProcessMemoryUsedBytes(7), 100.0),
            ]
        );
        assert!(sampling.problems.is_empty());
    }

    #[test]
    fn no_process_is_no_series_and_a_refusal_is_a_problem() {
        let sampling = sampled([Ok(json!([])), Ok(json!([])), Err(Code::NO_PERMISSION)]);
        assert!(sampling.samples.is_empty());
        assert_eq!(sampling.problems.len(), 1);
    }
}
