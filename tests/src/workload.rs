//! A load that varies over time, for the fake libraries, files and servers of fixture hosts: utilization goes up and down, memory, power,
//! temperature and clocks follow it, and counters grow.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    fake_server::{FakeAnswer, FakeServer},
    fixture::FixtureHost,
};

/// How busy a device is at a step, and how busy it was in all steps so far.
#[derive(Clone, Copy, Debug)]
pub struct DeviceLoad {
    /// Share of the time, 0 to 1.
    pub busy: f64,
    /// The sum of all steps: what counters grow by.
    pub total: f64,
    step: u32,
}

impl DeviceLoad {
    /// The load of a device. Neighbours are busy at other times.
    pub fn at(device: usize, step: u32) -> DeviceLoad {
        let busy = |step: u32| 0.5 + 0.4 * (f64::from(step) / 5.0 + device as f64).sin();
        DeviceLoad { busy: busy(step), total: (0..=step).map(busy).sum(), step }
    }

    /// No load at all.
    pub const IDLE: DeviceLoad = DeviceLoad { busy: 0.0, total: 0.0, step: 0 };

    fn percent(self) -> u64 {
        (self.busy * 100.0) as u64
    }

    /// A value between two others.
    fn between(self, idle: u64, full: u64) -> u64 {
        idle + ((full - idle) as f64 * self.busy) as u64
    }

    /// A counter that began at a value and grows by this much in each step of full load.
    fn counted(self, begin: u64, each: u64) -> u64 {
        begin + (self.total * each as f64) as u64
    }
}

/// A call on a device with its new value.
type ChangedAnswer = (&'static str, Value);

/// Has the library, the files or both of a host report a load of each device. The host must be a copy.
///
/// # Panics
/// When its recording or its files cannot be changed.
pub fn apply(host: &FixtureHost, load: impl Fn(usize) -> DeviceLoad) {
    match host.library() {
        Some("nvml.json") => update(host, load, nvml),
        Some("hlml.json") => {
            for (device, folder) in functions(host, "clk_cur_freq_mhz").into_iter().enumerate() {
                write(&folder.join("clk_cur_freq_mhz"), load(device).between(400, 1600));
            }
            update(host, load, hlml);
        }
        Some("levelzero.json") => {
            for (device, folder) in functions(host, "drm").into_iter().enumerate() {
                let load = load(device);
                write(&folder.join("hwmon/hwmon0/energy1_input"), load.counted(987_654_321_000, 200_000_000));
                write(
                    &folder.join("drm").join(card(&folder)).join("gt/gt0/rps_act_freq_mhz"),
                    load.between(300, 1600),
                );
            }
            update(host, load, level_zero);
        }
        _ => {
            for (device, folder) in functions(host, "gpu_metrics").into_iter().enumerate() {
                gpu_metrics(&folder, load(device));
            }
        }
    }
}

fn update(
    host: &FixtureHost,
    load: impl Fn(usize) -> DeviceLoad,
    answers: impl Fn(DeviceLoad) -> Vec<ChangedAnswer>,
) {
    host.driver_root().update(|recording| {
        let devices = recording["devices"].as_array_mut().expect("a recording has devices");
        for (device, recorded) in devices.iter_mut().enumerate() {
            for (call, value) in answers(load(device)) {
                // What the device does not have stays so.
                if let Some(answer) =
                    recorded["answers"].get_mut(call).and_then(|answer| answer.get_mut("value"))
                {
                    merge(answer, value);
                }
            }
        }
    });
}

/// Replaces a value; of an object only the given fields; of the answers of several components those that are values.
fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => old.extend(new),
        (Value::Array(components), new) if !new.is_array() => {
            let values = components.iter_mut().filter_map(|component| component.get_mut("value"));
            values.for_each(|value| merge(value, new.clone()));
        }
        (old, new) => *old = new,
    }
}

fn nvml(load: DeviceLoad) -> Vec<ChangedAnswer> {
    const TOTAL: u64 = 85_520_809_984;
    const RESERVED: u64 = 503_316_480;
    let used = load.between(67_108_864, TOTAL - RESERVED);
    vec![
        ("nvmlDeviceGetUtilizationRates", json!({ "gpu": load.percent(), "memory": load.percent() / 2 })),
        ("nvmlDeviceGetMemoryInfo_v2", json!({ "used": used, "free": TOTAL - RESERVED - used })),
        ("nvmlDeviceGetPowerUsage", json!(load.between(70_000, 700_000))),
        ("nvmlDeviceGetTotalEnergyConsumption", json!(load.counted(7_015_662_857, 350_000))),
        ("nvmlDeviceGetTemperature(0)", json!(load.between(31, 80))),
        ("nvmlDeviceGetClockInfo(1)", json!(load.between(345, 1980))),
        (
            "nvmlDeviceGetViolationStatus(0)",
            json!({ "violationTime": load.counted(7_015_662_857_000, 300_000_000) }),
        ),
        ("nvmlDeviceGetFieldValues(138,4294967295)", json!(load.counted(123_456, 4_000_000))),
        ("nvmlDeviceGetFieldValues(139,4294967295)", json!(load.counted(234_567, 5_000_000))),
        ("nvmlDeviceGetPcieReplayCounter", json!(load.counted(150, 1))),
        ("nvmlGpmMetricsGet(10)", json!(load.busy * 70.0)),
    ]
}

fn hlml(load: DeviceLoad) -> Vec<ChangedAnswer> {
    const TOTAL: u64 = 137_438_953_472;
    let used = load.between(704_643_072, TOTAL);
    vec![
        ("hlml_device_get_utilization_rates", json!({ "aip": load.percent() })),
        ("hlml_device_get_memory_info", json!({ "used": used, "free": TOTAL - used })),
        ("hlml_device_get_power_usage", json!(load.between(226_000, 850_000))),
        ("hlml_device_get_total_energy_consumption", json!(load.counted(1_234_567_890, 400_000))),
        ("hlml_device_get_temperature(0)", json!(load.between(36, 85))),
        ("hlml_device_get_temperature(4)", json!(load.between(52, 90))),
        ("hlml_device_get_clock_info(0)", json!(load.between(400, 1600))),
        // Power, a quarter of the time.
        ("hlml_device_get_current_clocks_throttle_reasons", json!(u8::from(load.step.is_multiple_of(4)))),
        ("hlml_device_get_pcie_replay_counter", json!(load.counted(0, 1))),
    ]
}

/// The steps of counters that the recording adds by itself at each call are kept.
fn level_zero(load: DeviceLoad) -> Vec<ChangedAnswer> {
    vec![
        (
            "zesEngineGetActivity",
            json!({ "activeTime+": 250_000, "activeTime": load.counted(1_000_000, 300_000) }),
        ),
        ("zesMemoryGetState", json!({ "free": 57_713_623_040 - load.between(0, 55_000_000_000) })),
        ("zesMemoryGetBandwidth", json!({ "readCounter": load.counted(8_000_000_000, 300_000_000_000) })),
        ("zesTemperatureGetState", json!(load.between(52, 90) as f64)),
        ("zesFrequencyGetThrottleTime", json!({ "throttleTime": load.counted(2_500_000, 100_000) })),
        ("zesFabricPortGetThroughput", json!({ "rxCounter": load.counted(1_000_000_000, 9_000_000_000) })),
        ("zesDevicePciGetStats", json!({ "replayCounter": load.counted(3, 1) })),
    ]
}

/// The table of a whole MI300X (revision 1.5) and the files beside it.
fn gpu_metrics(folder: &Path, load: DeviceLoad) {
    let file = folder.join("gpu_metrics");
    let mut table = fs::read(&file).expect("the table can be read");
    let mut set = |offset: usize, bytes: &[u8]| table[offset..offset + bytes.len()].copy_from_slice(bytes);
    for (offset, value) in [
        (4, load.between(45, 95)),
        (10, load.between(130, 750)),
        (12, load.percent()),
        (14, load.percent() / 2),
    ] {
        set(offset, &(value as u16).to_le_bytes());
    }
    // In units of 2^-16 J; then the first link's bytes read and written, in KiB.
    for (offset, value) in [
        (88, load.counted(100_000 << 16, 300 << 16)),
        (176, load.counted(1_000_000, 3_000_000)),
        (240, load.counted(2_000_000, 2_000_000)),
    ] {
        set(offset, &value.to_le_bytes());
    }
    // In place, as the kernel does it: readers keep the file open.
    let in_place = fs::OpenOptions::new().write(true).open(&file).and_then(|mut file| file.write_all(&table));
    in_place.expect("the table can be written");
    write(&folder.join("mem_info_vram_used"), load.between(314_572_800, 206_000_000_000));
    write(&folder.join("hwmon/hwmon0/freq1_input"), load.between(132_000_000, 2_100_000_000));
    write(&folder.join("pcie_replay_count"), load.counted(0, 1));
    write(&folder.join("gpu_busy_percent"), load.percent());
    write(&folder.join("mem_busy_percent"), load.percent() / 2);
    write(&folder.join("hwmon/hwmon0/power1_input"), load.between(130_000_000, 750_000_000));
    write(&folder.join("hwmon/hwmon0/temp2_input"), load.between(45_000, 95_000));
}

/// The PCI functions of a host that have a file or folder, in order of their addresses.
fn functions(host: &FixtureHost, file: &str) -> Vec<PathBuf> {
    let links = fs::read_dir(host.root().join("sys/bus/pci/devices")).expect("the host has a bus");
    let mut folders: Vec<PathBuf> = links
        .filter_map(|link| Some(link.ok()?.path()))
        .filter(|path| path.join(file).exists())
        .map(|path| path.canonicalize().expect("a function on the bus is a link"))
        .collect();
    folders.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    folders
}

/// The name of the card of a function.
fn card(folder: &Path) -> String {
    let names = fs::read_dir(folder.join("drm")).expect("a GPU has a folder drm");
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.into_iter().find(|name| name.starts_with("card")).expect("it has a card")
}

fn write(file: &Path, value: u64) {
    // What the device does not have stays so.
    if file.exists() {
        replace(file, format!("{value}\n").as_bytes());
    }
}

/// Readers see the old content or the new one.
fn replace(file: &Path, content: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, content).expect("a file can be written");
    fs::rename(new, file).expect("a file can be replaced");
}

/// What the exporter of GKE's device plugin reports of the chips of a container, by their numbers.
pub fn apply_to_exporter(
    exporter: &FakeServer,
    container: [&str; 3],
    chips: usize,
    load: impl Fn(usize) -> DeviceLoad,
) {
    const TOTAL: u64 = 34_359_738_368;
    let [namespace, pod, name] = container;
    let mut text = String::new();
    for chip in 0..chips {
        let load = load(chip);
        for (family, value) in [
            ("duty_cycle", load.busy * 100.0),
            ("tensorcore_utilization", load.busy * 60.0),
            ("memory_bandwidth_utilization", load.busy * 80.0),
            ("memory_used", load.between(1 << 30, TOTAL) as f64),
            ("memory_total", TOTAL as f64),
        ] {
            text += &format!(
                "{family}{{accelerator_id=\"1-{chip}\",container=\"{name}\",make=\"cloud-tpu\",model=\"tpu-v6e-slice\",namespace=\"{namespace}\",pod=\"{pod}\"}} {value}\n"
            );
        }
    }
    exporter.set(FakeAnswer::Text(text));
}
