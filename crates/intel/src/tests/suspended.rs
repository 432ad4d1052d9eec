//! Nothing wakes a GPU that is suspended.

use super::*;

const HWMON: &str = "/sys/bus/pci/devices/0000:03:00.0/hwmon/hwmon2";
const GT: &str = "/sys/bus/pci/devices/0000:03:00.0/tile0/gt0";

/// A Xe card with a counter of so many joules, in this state.
fn card(state: &str, joules: u64) -> TestHost {
    gpu("0000:03:00.0", "0xe20b", "0x030000")
        .file(&format!("{GPU}/power/runtime_status"), format!("{state}\n"))
        .file(&format!("{GPU}/gpu_health"), "ok\n")
        .file(&format!("{HWMON}/name"), "xe\n")
        .file(&format!("{HWMON}/energy1_input"), format!("{}\n", joules * 1_000_000))
        .file(&format!("{HWMON}/power1_max"), "190000000\n")
        .file(&format!("{HWMON}/temp2_input"), "54000\n")
        .file(&format!("{HWMON}/temp2_label"), "pkg\n")
        .file(&format!("{HWMON}/temp2_crit"), "100000\n")
        .file(&format!("{GT}/gtidle/name"), "gt0-rc\n")
        .file(&format!("{GT}/freq0/act_freq"), "900\n")
        .file(&format!("{GT}/freq0/max_freq"), "2850\n")
        .file(&format!("{GT}/freq0/throttle/status"), "1\n")
}

/// A discovery and a sample, and the files that were read by which the kernel would wake the card.
fn observe(intel: &mut Intel, folder: &TestHost, now: Instant) -> (Sampling, Vec<String>) {
    let host = folder.open().with_recording();
    intel.discover(&host, &PciBus::read(&host));
    let sampling = intel.sample(&host, now);
    let wakes = |path: &str| {
        let is_name = path.ends_with("/hwmon2/name");
        path.contains("/hwmon2/") && !is_name
            || path.contains("/gtidle/")
            || path.contains("/freq0/") && !path.ends_with("/throttle")
            || path.ends_with("gpu_health")
            || path.contains("throttle_reason")
            || path.contains("gt_act_freq")
    };
    let recording = host.recording();
    let read = recording.reads().map(|(path, _)| path.to_owned()).filter(|path| wakes(path)).collect();
    (sampling, read)
}

#[test]
fn no_file_of_a_suspended_card_is_read_that_wakes_it() {
    let (_, read) = observe(&mut Intel::default(), &card("active", 10), Instant::now());
    for file in ["energy1_input", "temp2_crit", "power1_max", "act_freq", "status", "name", "gpu_health"] {
        assert!(read.iter().any(|path| path.ends_with(file)), "{file} is read of an active card: {read:?}");
    }
    let (sampling, read) = observe(&mut Intel::default(), &card("suspended", 10), Instant::now());
    assert_eq!(read, Vec::<String>::new());
    assert_eq!(sampling.samples[0].readings, [], "nothing was known before");
}

#[test]
fn limits_outlive_the_sleep_and_no_power_spans_it() {
    let (mut intel, start) = (Intel::default(), Instant::now());
    let mut at = |seconds, state, joules| {
        observe(&mut intel, &card(state, joules), start + Duration::from_secs(seconds))
    };
    at(0, "active", 10);
    let (sampling, _) = at(1, "active", 50);
    assert_eq!(value(&sampling, Quantity::PowerWatts), Some(40.0));
    let limits = |sampling: &Sampling| -> Vec<Reading> {
        let is_limit = |reading: &&Reading| reading.value == 100.0;
        sampling.samples[0].readings.iter().filter(is_limit).copied().collect()
    };
    let awake = limits(&sampling);
    assert_eq!(awake.len(), 1, "{sampling:?}");
    let (sampling, read) = at(100, "suspended", 60);
    assert_eq!((limits(&sampling), read), (awake, Vec::new()));
    assert_eq!(value(&sampling, Quantity::EnergyJoules), None);
    let (sampling, _) = at(200, "active", 90);
    assert_eq!(value(&sampling, Quantity::EnergyJoules), Some(90.0));
    assert_eq!(value(&sampling, Quantity::PowerWatts), None, "it slept for a part of that time");
    assert_eq!(value(&sampling, Quantity::ClockHertz(Clock::Compute)), Some(9e8));
    let (sampling, _) = at(201, "active", 120);
    assert_eq!(value(&sampling, Quantity::PowerWatts), Some(30.0));
}

#[test]
fn a_card_that_was_asleep_at_first_is_read_once_it_is_awake() {
    let (mut intel, start) = (Intel::default(), Instant::now());
    observe(&mut intel, &card("suspended", 1), start);
    let (sampling, _) = observe(&mut intel, &card("active", 2), start + Duration::from_secs(1));
    assert_eq!(value(&sampling, Quantity::EnergyJoules), Some(2.0));
    assert_eq!(value(&sampling, Quantity::ClockMaxHertz(Clock::Compute)), Some(2.85e9));
}

#[test]
fn the_clocks_of_i915_are_read_without_waking_it() {
    let gt = format!("{GPU}/drm/card0/gt/gt0");
    let folder = gpu("0000:03:00.0", "0x0bd5", "0x038000")
        .file(&format!("{GPU}/power/runtime_status"), "suspended\n")
        .file(&format!("{gt}/rps_act_freq_mhz"), "0\n")
        .file(&format!("{gt}/throttle_reason_prochot"), "1\n");
    let (sampling, read) = observe(&mut Intel::default(), &folder, Instant::now());
    assert_eq!(value(&sampling, Quantity::ClockHertz(Clock::Compute)), Some(0.0));
    assert_eq!(read, Vec::<String>::new());
}
