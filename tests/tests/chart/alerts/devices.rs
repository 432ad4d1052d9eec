//! A node of which each alert is fired, and one of which none is.

use serde_json::{Value, json};

/// The labels of a device.
pub(super) const DEVICE: &str = "vendor=\"v\", device=\"0000:01:00.0\", partition=\"\"";

/// A family with its own labels, and its values over six hours, of a node of which an alert is fired and of one of which it is not.
type Series = (&'static str, &'static str, &'static str);

/// Each alert with its series. DEVICE stands for the labels of a device.
pub(super) const ALERTS: &[(&str, &[Series])] = &[
    (
        "AcceleratorFailedInUse",
        &[
            ("accelerator_device_health{DEVICE, state=\"failed\"}", "1x360", "0x360"),
            (HELD, "1x360", "1x360"),
        ],
    ),
    (
        "AcceleratorFailed",
        &[
            ("accelerator_device_health{vendor=\"v\", device=\"spare\", state=\"failed\"}", "1x360", "0x360"),
            // AcceleratorMissing is about it.
            (
                "accelerator_device_health{vendor=\"v\", device=\"missing-1\", state=\"failed\"}",
                "1x360",
                "1x360",
            ),
        ],
    ),
    ("AcceleratorDegraded", &[("accelerator_device_health{DEVICE, state=\"degraded\"}", "1x360", "0x360")]),
    (
        "AcceleratorMissing",
        &[("accelerator_devices{vendor=\"v\", product=\"p\", state=\"missing\"}", "1x360", "0x360")],
    ),
    (
        "AcceleratorNotAllocatable",
        &[
            ("accelerator_devices{vendor=\"v\", product=\"p\", state=\"healthy\"}", "8x360", "8x360"),
            ("accelerator_devices{vendor=\"v\", product=\"p\", state=\"allocatable\"}", "7x360", "8x360"),
        ],
    ),
    // A device that counts no seconds, and one that is at its power limit.
    (
        "AcceleratorThrottled",
        &[
            ("accelerator_device_throttled{DEVICE, cause=\"thermal\"}", "1x360", "0x360"),
            ("accelerator_device_throttle_seconds_total{DEVICE, cause=\"power\"}", "0+60x360", "0+60x360"),
            (
                "accelerator_device_throttle_seconds_total{DEVICE, cause=\"hardware_thermal\"}",
                "0+1x360",
                "0+1x360",
            ),
        ],
    ),
    (
        "AcceleratorUncorrectableErrors",
        &[
            (
                "accelerator_device_errors_total{DEVICE, kind=\"ecc_uncorrectable\", detail=\"\"}",
                "0x300 2x60",
                "3x360",
            ),
            (
                "accelerator_device_errors_total{DEVICE, kind=\"ecc_correctable\", detail=\"\"}",
                "0+1x360",
                "0+1x360",
            ),
        ],
    ),
    ("AcceleratorMemoryRepairPending", &[("accelerator_device_row_remap_pending{DEVICE}", "1x360", "0x360")]),
    (
        "AcceleratorPcieDegraded",
        &[
            ("accelerator_device_pcie_link_width{DEVICE, which=\"current\"}", "8x360", "16x360"),
            ("accelerator_device_pcie_link_width{DEVICE, which=\"max\"}", "16x360", "16x360"),
            // An idle device whose link is slow is well.
            (
                "accelerator_device_pcie_link_speed_transfers_per_second{DEVICE, which=\"current\"}",
                "25e8x360",
                "25e8x360",
            ),
            (
                "accelerator_device_pcie_link_speed_transfers_per_second{DEVICE, which=\"max\"}",
                "32e9x360",
                "32e9x360",
            ),
        ],
    ),
    (
        "AcceleratorIdleButHeld",
        &[
            ("accelerator_device_utilization_ratio{DEVICE, engine=\"compute\"}", "0x360", "0x300 0.4x60"),
            // An idle device whose pod has ended, and one that was given to a pod half an hour ago.
            (IDLE_1, "0x360", "0x360"),
            (HELD_1, "1x330 stale", "1x330 stale"),
            (IDLE_2, "0x360", "0x360"),
            (HELD_2, "_x330 1x30", "_x330 1x30"),
        ],
    ),
    (
        "RdmaPortDown",
        &[
            (
                "rdma_port_up{nic=\"mlx5_0\", port=\"1\", link_layer=\"ethernet\", device=\"0000:01:00.0\"}",
                "1x60 0x300",
                "1x360",
            ),
            // A port that was never up is not connected.
            (
                "rdma_port_up{nic=\"mlx5_1\", port=\"1\", link_layer=\"ethernet\", device=\"\"}",
                "0x360",
                "0x360",
            ),
        ],
    ),
    (
        "AcceleratorPathLost",
        &[
            ("accelerator_path_ready{path=\"wide-ep\"}", "1x300 0x60", "1x360"),
            ("accelerator_path_reason{path=\"wide-ep\", reason=\"NoRdma\"}", "_x300 1x60", "_x360"),
            // One that was never ready is not lost.
            ("accelerator_path_ready{path=\"pd-disaggregation\"}", "0x360", "0x360"),
            ("accelerator_path_reason{path=\"pd-disaggregation\", reason=\"NoRdma\"}", "1x360", "1x360"),
        ],
    ),
    (
        "AcceleratorSampleStale",
        &[
            (
                "afd_last_sample_timestamp_seconds{probe=\"v\", source=\"library\"}",
                "0+60x60 3600x300",
                "0+60x360",
            ),
            ("afd_last_sample_timestamp_seconds{probe=\"v\", source=\"kernel\"}", "0+60x360", "0+60x360"),
        ],
    ),
    ("AcceleratorLibraryRestarting", &[("afd_probe_restarts_total{probe=\"v\"}", "0+1x360", "5x360")]),
    (
        "AcceleratorProbeProblems",
        &[("afd_probe_problems{probe=\"v\", reason=\"NotPermitted\"}", "2x360", "0x360")],
    ),
    (
        "AcceleratorLabelContested",
        &[("afd_label_contested_total{key=\"k\", owner=\"o\"}", "0+1x360", "5x360")],
    ),
    ("AcceleratorWriteRefused", &[("afd_label_refused_total{key=\"k\", code=\"422\"}", "0+1x360", "5x360")]),
];

const IDLE_1: &str =
    "accelerator_device_utilization_ratio{vendor=\"v\", device=\"1\", partition=\"\", engine=\"compute\"}";
const HELD_1: &str = "accelerator_device_allocation{vendor=\"v\", device=\"1\", partition=\"\", namespace=\"ns\", pod=\"job\"}";
const IDLE_2: &str =
    "accelerator_device_utilization_ratio{vendor=\"v\", device=\"2\", partition=\"\", engine=\"compute\"}";
const HELD_2: &str = "accelerator_device_allocation{vendor=\"v\", device=\"2\", partition=\"\", namespace=\"ns\", pod=\"new\"}";

const HELD: &str =
    "accelerator_device_allocation{DEVICE, namespace=\"ns\", pod=\"vllm\", container=\"c\", resource=\"r\"}";

/// The series of a sick node and of a well one, with or without the label `node` of the chart's monitor.
pub(super) fn series(is_relabelled: bool) -> Vec<Value> {
    let labels = |node: &str| {
        let relabelled = if is_relabelled { format!(", node=\"{node}\"") } else { String::new() };
        format!("job=\"j\", instance=\"{node}:9109\"{relabelled}")
    };
    let mut series = Vec::new();
    for node in ["sick", "well"] {
        let target = labels(node);
        series.push(json!({ "series": format!("up{{{target}}}"), "values": "1x360" }));
        let info = match is_relabelled {
            true => format!("afd_build_info{{{target}, version=\"1\"}}"),
            false => format!("afd_build_info{{{target}, version=\"1\", node=\"{node}\"}}"),
        };
        series.push(json!({ "series": info, "values": "1x360" }));
        for (family, sick, well) in ALERTS.iter().flat_map(|(_, series)| *series) {
            let family = family.replace("DEVICE", DEVICE).replace('}', &format!(", {target}}}"));
            series.push(json!({ "series": family, "values": if node == "sick" { sick } else { well } }));
        }
    }
    series
}

/// Each alert is fired for the sick node, and none for the well one.
pub(super) fn alerts() -> Value {
    let fired = ALERTS.iter().map(|(alert, _)| {
        json!({ "labels": format!("{{alertname=\"{alert}\", instance=\"sick:9109\", node=\"sick\"}}"), "value": 1 })
    });
    json!([{
        "expr": "count by (alertname, node, instance) (ALERTS{alertstate=\"firing\"})",
        "eval_time": "6h",
        "exp_samples": fired.collect::<Vec<_>>(),
    }])
}

/// What two of the alerts say.
pub(super) fn texts() -> Value {
    json!([
        { "eval_time": "1h", "alertname": "AcceleratorFailedInUse", "exp_alerts": [{
            "exp_labels": {
                "severity": "critical", "job": "j", "instance": "sick:9109", "node": "sick",
                "vendor": "v", "device": "0000:01:00.0", "state": "failed",
            },
            "exp_annotations": {
                "summary": "Accelerator 0000:01:00.0 of node sick has failed while a pod holds it",
                "description": "accelerator_device_health_reason has the reasons. Held by ns/vllm.",
                "runbook_url": "docs/alerts.md#acceleratorfailedinuse",
            },
        }] },
        { "eval_time": "1h", "alertname": "AcceleratorMissing", "exp_alerts": [{
            "exp_labels": {
                "severity": "critical", "job": "j", "instance": "sick:9109", "node": "sick", "vendor": "v", "product": "p",
                "state": "missing",
            },
            "exp_annotations": {
                "summary": "1 of the accelerators p of node sick are missing",
                "description": "The message of the condition accelerator.llm-d.ai/Ready names them.",
                "runbook_url": "docs/alerts.md#acceleratormissing",
            },
        }] },
    ])
}
