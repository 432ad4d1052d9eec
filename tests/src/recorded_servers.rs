//! Servers that answer what a recording has of those that the agent queries: `libraries/tpu.json` of a fixture or of `afd record`.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    fake_runtime::{AttrValue, DeviceNumber, FakeRuntime, Gauge, GaugeValue, RuntimeMetrics},
    fake_server::{FakeAnswer, FakeServer},
};

/// The name of the file.
pub const RECORDING: &str = "tpu.json";

/// A quantity of the recording, the family of the exporter and the metric of the runtime.
const NAMES: [(&str, &str, &str); 5] = [
    ("duty_cycle", "duty_cycle", "tpu.runtime.tensorcore.dutycycle.percent"),
    ("memory_used", "memory_used", "tpu.runtime.hbm.memory.usage.bytes"),
    ("memory_total", "memory_total", "tpu.runtime.hbm.memory.total.bytes"),
    ("bandwidth_utilization", "memory_bandwidth_utilization", "tpu.runtime.hbm.utilization.percent"),
    ("tensor_utilization", "tensorcore_utilization", ""),
];

#[derive(Deserialize)]
struct Recording {
    exporter: Option<RecordedAnswer>,
    runtime: Option<RecordedAnswer>,
    metadata: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RecordedAnswer {
    Values(Vec<RecordedValue>),
    Failed(#[expect(dead_code, reason = "it is replayed as garbage")] String),
}

#[derive(Deserialize)]
struct RecordedValue {
    quantity: String,
    container: Option<BTreeMap<String, String>>,
    device: i64,
    value: Option<f64>,
}

/// The options of the binary by which it queries servers that answer what a recording has.
///
/// # Panics
/// When it is no recording.
pub fn options(recording: &Path) -> Vec<String> {
    let text = fs::read(recording).expect("the recording can be read");
    let Recording { exporter, runtime, metadata } =
        serde_json::from_slice(&text).expect("it is a recording of servers");
    let address = |answer: Option<FakeAnswer>| {
        answer.map_or_else(|| "off".to_owned(), |answer| FakeServer::start(answer).address.to_string())
    };
    let runtime = match runtime {
        Some(RecordedAnswer::Values(values)) => FakeRuntime::spawn(metrics(&values)).to_string(),
        failed_or_none => address(failed_or_none.map(|_| garbage())),
    };
    let exporter = address(exporter.map(|answer| match answer {
        RecordedAnswer::Values(values) => FakeAnswer::Text(values.iter().map(series).collect()),
        RecordedAnswer::Failed(_) => garbage(),
    }));
    let metadata = address(metadata.map(|answer| answer.get("slice").map_or_else(garbage, attributes)));
    [("exporter", exporter), ("runtime", runtime), ("metadata-server", metadata)]
        .map(|(name, address)| format!("--tpu-{name}={address}"))
        .into()
}

fn garbage() -> FakeAnswer {
    FakeAnswer::Bytes(vec![0xff; 64])
}

/// A line of the exporter.
fn series(value: &RecordedValue) -> String {
    let (_, family, _) =
        NAMES.into_iter().find(|(own, ..)| *own == value.quantity).expect("it is a quantity");
    let container = value.container.as_ref().expect("the exporter names the container");
    let labels: String = container.iter().map(|(name, value)| format!(",{name}=\"{value}\"")).collect();
    let number = value.value.unwrap_or(f64::NAN);
    format!("{family}{{accelerator_id=\"1-{}\",make=\"cloud-tpu\"{labels}}} {number}\n", value.device)
}

fn metrics(values: &[RecordedValue]) -> RuntimeMetrics {
    let mut metrics = RuntimeMetrics::new();
    for value in values {
        let (.., name) =
            NAMES.into_iter().find(|(own, ..)| *own == value.quantity).expect("it is a quantity");
        let number = AttrValue { number: Some(DeviceNumber::Integer(value.device)) };
        let gauge = Gauge { value: value.value.map(GaugeValue::Double) };
        metrics.entry(name).or_default().push((number, gauge));
    }
    metrics
}

/// The attributes of a machine that describe a slice.
fn attributes(slice: &Value) -> FakeAnswer {
    let known = |field: &str| match &slice[field] {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) | Value::Null => None,
        other => Some(other.to_string()),
    };
    let lines = [
        ("accelerator_type", "TPU_ACCELERATOR_TYPE"),
        ("topology", "TOPOLOGY"),
        ("chips_per_host", "CHIPS_PER_HOST_BOUNDS"),
        ("hosts", "HOST_BOUNDS"),
        ("worker", "WORKER_ID"),
        ("ici_resiliency", "ENABLE_ICI_RESILIENCY"),
    ];
    let line = |(field, key): (&str, &str)| Some(format!("{key}: '{}'\n", known(field)?));
    let labels = known("accelerator").map(|name| format!("tpu.google.com/accelerator={name}"));
    let ids =
        known("topology").zip(known("identity")).map(|(topology, id)| json!({ topology: id }).to_string());
    let texts = [
        ("tpu-env", Some(lines.into_iter().filter_map(line).collect())),
        ("kube-labels", labels),
        ("accelerator_topology_id", ids),
    ];
    let path = |name: &str| format!("/computeMetadata/v1/instance/attributes/{name}");
    let texts = texts.into_iter().filter_map(|(name, text)| Some((path(name), text?))).collect();
    FakeAnswer::Paths { header: "Metadata-Flavor: Google", texts }
}
