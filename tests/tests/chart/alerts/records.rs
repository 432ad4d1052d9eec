//! What the recording rules compute.

use serde_json::{Value, json};

use super::devices::DEVICE;

/// Two nodes with a device each; a pod holds both, and shares one with a pod of another namespace.
pub(super) fn series() -> Value {
    let series = |family: &str, node: &str, labels: &str, values: &str| {
        let target = format!("job=\"j\", instance=\"{node}\", {DEVICE}");
        json!({ "series": format!("{family}{{{target}{labels}}}"), "values": values })
    };
    let held = |node: &str, namespace: &str, container: &str| {
        let labels = format!(", namespace=\"{namespace}\", pod=\"p\", container=\"{container}\"");
        series("accelerator_device_allocation", node, &labels, "1x60")
    };
    let mut all = vec![held("a", "x", "1"), held("a", "x", "2"), held("b", "x", "1"), held("b", "y", "1")];
    // A scrape without honorLabels has the agent's pod in place of the holder, which is not recorded.
    let labels = ", namespace=\"afd\", pod=\"afd-1\", exported_namespace=\"x\", exported_pod=\"p\"";
    all.push(series("accelerator_device_allocation", "b", labels, "1x60"));
    for (node, ratio, bytes) in [("a", "0.2x60", "100x60"), ("b", "0.6x60", "40x60")] {
        all.push(series("accelerator_device_utilization_ratio", node, ", engine=\"compute\"", ratio));
        all.push(series("accelerator_device_memory_used_bytes", node, "", bytes));
        // The series of an agent's pod before an upgrade, and of that after it.
        all.push(series("accelerator_device_energy_joules_total", node, ", pod=\"afd-1\"", "7x60"));
        all.push(series("accelerator_device_energy_joules_total", node, ", pod=\"afd-2\"", "0+60x60"));
    }
    for (node, healthy) in [("a", "7x60"), ("b", "8x60")] {
        let states =
            [("present", "8x60"), ("healthy", healthy), ("allocatable", "6x60"), ("allocated", "5x60")];
        // Those of the agent's pod before an upgrade are scraped beside those of the pod after it.
        for ((state, values), pod) in states.iter().flat_map(|state| [(state, "afd-1"), (state, "afd-2")]) {
            let target = format!("job=\"j\", instance=\"{node}\", pod=\"{pod}\"");
            let series =
                format!("accelerator_devices{{{target}, vendor=\"v\", product=\"p\", state=\"{state}\"}}");
            all.push(json!({ "series": series, "values": values }));
        }
    }
    json!(all)
}

/// What is recorded of them.
pub(super) fn recorded() -> Value {
    let samples = |expression: &str, samples: &[(&str, f64)]| {
        let samples = samples
            .iter()
            .map(|(labels, value)| json!({ "labels": format!("{expression}{{{labels}}}"), "value": value }));
        json!({ "expr": expression, "eval_time": "1h", "exp_samples": samples.collect::<Vec<_>>() })
    };
    let (x, y) = ("namespace=\"x\", pod=\"p\"", "namespace=\"y\", pod=\"p\"");
    json!([
        samples("cluster:accelerator_count:sum", &[("vendor=\"v\", product=\"p\"", 16.0)]),
        samples("cluster:accelerator_healthy:sum", &[("vendor=\"v\", product=\"p\"", 15.0)]),
        samples("cluster:accelerator_allocatable:sum", &[("vendor=\"v\", product=\"p\"", 12.0)]),
        samples("cluster:accelerator_allocated:sum", &[("vendor=\"v\", product=\"p\"", 10.0)]),
        samples("pod:accelerator_utilization:avg", &[(x, 0.4), (y, 0.6)]),
        samples("pod:accelerator_memory_used:sum", &[(x, 140.0), (y, 40.0)]),
        samples(
            "namespace:accelerator_energy_joules:increase1h",
            &[("namespace=\"x\"", 5400.0), ("namespace=\"y\"", 1800.0)]
        ),
    ])
}
