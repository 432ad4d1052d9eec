//! The agents are replaced: a series with the label `pod` of the agent ends, and another one of the same device begins.

use serde_json::{Value, json};

/// Each device with its utilization before the rollout and after it, five hours later, and when the alert is fired of it.
struct Device {
    name: &'static str,
    old: &'static str,
    new: &'static str,
    fires_at: &'static [&'static str],
}

/// Shortly after the rollout, while the old series consists of its last minutes alone, and two hours after the rollout.
const TIMES: [&str; 3] = ["310m", "416m", "430m"];

const DEVICES: [Device; 4] = [
    Device { name: "idle-since", old: "0.9x299 stale", new: "_x300 0x180", fires_at: &["430m"] },
    Device { name: "idle-before", old: "0.9x289 0x9 stale", new: "_x300 0.9x180", fires_at: &[] },
    Device { name: "idle", old: "0x299 stale", new: "_x300 0x180", fires_at: &TIMES },
    Device { name: "busy", old: "0.9x299 stale", new: "_x300 0.9x180", fires_at: &[] },
];

/// A pod holds each device all the time. Its series has no label of the agent's pod.
pub(super) fn series() -> Value {
    let target = "job=\"j\", instance=\"n:9109\"";
    let mut all =
        vec![json!({ "series": format!("afd_build_info{{{target}, node=\"n\"}}"), "values": "1x480" })];
    for Device { name, old, new, .. } in DEVICES {
        let device = format!("{target}, vendor=\"v\", device=\"{name}\", partition=\"\"");
        let held = format!("accelerator_device_allocation{{{device}, namespace=\"ns\", pod=\"job\"}}");
        all.push(json!({ "series": held, "values": "1x480" }));
        for (pod, values) in [("afd-1", old), ("afd-2", new)] {
            let series = format!(
                "accelerator_device_utilization_ratio{{{device}, engine=\"compute\", pod=\"{pod}\"}}"
            );
            all.push(json!({ "series": series, "values": values }));
        }
    }
    json!(all)
}

/// The alert is fired once for each device that was idle for two hours, whichever agent reported it.
pub(super) fn idle() -> Value {
    let at = |time: &str| {
        let fired = DEVICES.iter().filter(|device| device.fires_at.contains(&time));
        let samples =
            fired.map(|device| json!({ "labels": format!("{{device=\"{}\"}}", device.name), "value": 1 }));
        json!({
            "expr": "count by (device) (ALERTS{alertname=\"AcceleratorIdleButHeld\", alertstate=\"firing\"})",
            "eval_time": time,
            "exp_samples": samples.collect::<Vec<_>>(),
        })
    };
    TIMES.iter().map(|time| at(time)).collect()
}
