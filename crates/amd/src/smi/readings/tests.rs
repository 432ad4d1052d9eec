use afd_model::{Engine, PciAddress, Quantity};
use serde_json::json;

use super::*;

fn device(bus: u8) -> DeviceId {
    PciAddress { domain: 0, bus, device: 0, function: 0 }.into()
}

/// What is sampled of one device on bus 1 with so many partitions.
fn sampled(known: Vec<Reading>, partitions: usize, answers: serde_json::Value) -> Vec<Reading> {
    let report = json!({ "system": {}, "devices": [{ "answers": answers }] });
    let report: AmdReport = serde_json::from_value(report).expect("it is a report");
    let sample = Sample { unit: device(1).into(), readings: known };
    let mut sampling = Sampling { samples: vec![sample], ..Sampling::default() };
    add(&mut sampling, of_report(&[(device(1), partitions)], &report));
    assert_eq!(sampling.samples.len(), 1);
    sampling.samples.remove(0).readings
}

fn busy(engine: Engine, value: f64) -> Reading {
    Reading { quantity: Quantity::Utilization(engine), value }
}

#[test]
fn what_the_kernel_reports_stays_and_the_rest_is_added() {
    let answers = json!({
        "amdsmi_get_gpu_device_bdf": { "value": 1 << 8 },
        "amdsmi_get_gpu_activity": { "value": { "gfx_activity": 90, "umc_activity": 50, "mm_activity": 65535 } },
        "amdsmi_get_gpu_memory_usage(0)": { "value": 1024 },
    });
    let used = Reading { quantity: Quantity::MemoryUsedBytes, value: 1024.0 };
    let kernel = busy(Engine::Compute, 0.25);
    assert_eq!(
        sampled(vec![kernel], 0, answers.clone()),
        [kernel, busy(Engine::Memory, 0.5), used],
        "all ones are no value"
    );
    assert!(sampled(Vec::new(), 2, answers).is_empty(), "a partitioned device has none");
}

#[test]
fn failed_calls_add_nothing() {
    let refused = json!({
        "rsmi_dev_pci_id_get": { "value": 1 << 8 },
        "rsmi_dev_busy_percent_get": { "error": "NOT_SUPPORTED" },
        "rsmi_dev_memory_usage_get(0)": { "error": "FILE_ERROR" },
    });
    assert!(sampled(Vec::new(), 0, refused).is_empty());
    let elsewhere = json!({
        "rsmi_dev_pci_id_get": { "value": 9 << 8 },
        "rsmi_dev_busy_percent_get": { "value": 5 },
    });
    assert!(sampled(Vec::new(), 0, elsewhere).is_empty());
}

#[test]
fn rocm_smi_reports_the_utilization_as_well() {
    let answers = json!({
        "rsmi_dev_pci_id_get": { "value": 1 << 8 },
        "rsmi_dev_busy_percent_get": { "value": 5 },
    });
    assert_eq!(sampled(Vec::new(), 0, answers), [busy(Engine::Compute, 0.05)]);
}

#[test]
fn a_failed_answer_does_not_end_the_sampling() {
    let of = |answer: serde_json::Value| {
        let report = json!({
            "system": {},
            "devices": [{ "answers": { "amdsmi_get_gpu_activity": { "value": {} }, "amdsmi_get_power_info": answer } }],
        });
        is_complete(&serde_json::from_value(report).expect("it is a report"))
    };
    assert!(of(json!({ "value": {} })));
    assert!(of(json!({ "error": "NOT_SUPPORTED" })), "the device has no such value");
    for error in ["TIMEOUT", "4711"] {
        assert!(!of(json!({ "error": error })), "{error}: it may have one with the next sample");
    }
}
