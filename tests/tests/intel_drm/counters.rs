//! The counters of xe and i915: how busy engines are where Level Zero does not report it. The kernel is asked by the real system call.

use super::*;

/// What the kernel demands of those who open counters.
const PARANOIA: &str = "proc/sys/kernel/perf_event_paranoid";
const ADDRESSES: [&str; 4] = ["0000:03:00.0", "0000:13:00.0", "0000:23:00.0", "0000:33:00.0"];
/// The number of the counter of busy time in a configuration of xe.
const ACTIVE: u64 = 2;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder can be made");
    fs::write(path, text).expect("a file can be written");
}

/// Gives the driver of a device counters, as the PMU of this type.
fn add_pmu(root: &Path, driver: &str, address: &str, kind: usize) {
    let pmu =
        root.join("sys/bus/event_source/devices").join(format!("{driver}_{}", address.replace(':', "_")));
    write(&root.join(PARANOIA), "0\n");
    write(&pmu.join("type"), &format!("{kind}\n"));
    write(&pmu.join("cpumask"), "0\n");
    let files: &[(&str, &str)] = if driver == "xe" {
        &[
            ("events/engine-active-ticks", "event=0x02"),
            ("events/engine-total-ticks", "event=0x03"),
            ("format/event", "config:0-11"),
            ("format/gt", "config:60-63"),
            ("format/engine_class", "config:20-27"),
            ("format/engine_instance", "config:12-19"),
        ]
    } else {
        &[
            ("events/rcs0-busy", "config=0x0"),
            ("events/ccs0-busy", "config=0x4000"),
            ("events/ccs1-busy", "config=0x4010"),
        ]
    };
    for (path, text) in files {
        write(&pmu.join(path), &format!("{text}\n"));
    }
    if driver == "xe" {
        let function = fs::canonicalize(root.join("sys/bus/pci/devices").join(address)).expect("it is there");
        for class in ["rcs", "bcs", "ccs"] {
            write(&function.join(format!("tile0/gt0/engines/{class}/job_timeout_ms")), "5000\n");
        }
    }
}

/// Whether this process has `CAP_PERFMON` or `CAP_SYS_ADMIN`.
fn has_capability() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("a process can read its own status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("it has a line");
    u64::from_str_radix(effective, 16).expect("it is hexadecimal") & (1 << 38 | 1 << 21) != 0
}

/// The number of an engine of GT 0 of xe: its class and its instance.
fn config(class: u64, instance: u64) -> u64 {
    class << 20 | instance << 12 | ACTIVE
}

/// What was counted of an engine in a window.
fn counted(engine: &str, config: u64, busy: u64, total: u64) -> Value {
    json!({ "engine": engine, "config": config, "busy": busy, "total": total })
}

/// The four GPUs of xe with counters: the first one is busy for a tenth of the time, the others for two, three and four tenths, each on
/// one of its two compute engines for twice that. The second engine of their copy class does not exist.
fn host() -> FixtureHost {
    let host = b60().copy();
    for (index, address) in ADDRESSES.iter().enumerate() {
        add_pmu(host.root(), "xe", address, 31 + index);
    }
    host.update_driver(|recording| {
        for (busy, device) in (1..).zip(recording["devices"].as_array_mut().expect("a list")) {
            device["answers"]["perf_event_open"] = json!({ "value": [
                counted("rcs", config(0, 0), 1900, 2000),
                counted("bcs", config(1, 0), 100, 2000),
                counted("ccs", config(4, 0), 400 * busy, 2000),
                counted("ccs", config(4, 1), 0, 2000),
            ] });
        }
    });
    host
}

/// The utilization of an engine of all devices.
fn utilization(text: &str, engine: &str) -> Vec<f64> {
    let engine = format!("engine=\"{engine}\"");
    let lines = text.lines().filter(|line| line.starts_with(UTILIZATION) && line.contains(&engine));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect()
}

#[test]
fn xe_counts_the_time_of_each_engine() {
    let host = host();
    let text = metrics(&host);
    assert_eq!(utilization(&text, "compute"), [0.1, 0.2, 0.3, 0.4], "{text}");
    assert_eq!(utilization(&text, "copy"), [0.05; 4]);
    assert_eq!(values(&text, USED), gib(&[1, 2, 3, 4]), "the nodes are queried as well");
    let problems = shown(&host).problems;
    assert!(problems.is_empty(), "{problems:?}");
    // The kernel demands a capability, which the process inherits from who has it.
    fs::write(host.root().join(PARANOIA), "2\n").expect("a file can be written");
    let counted = utilization(&metrics(&host), "compute").len();
    assert_eq!(counted, if has_capability() { 4 } else { 0 });
    fs::write(host.root().join(PARANOIA), "0\n").expect("a file can be written");
    // Counters need no node.
    fs::remove_dir_all(host.root().join("dev/dri")).expect("it is there");
    let text = metrics(&host);
    assert_eq!(utilization(&text, "compute"), [0.1, 0.2, 0.3, 0.4], "{text}");
    assert_eq!(values(&text, USED), gib(&[]));
}

/// The two GPUs of i915 with counters, which say that these shares of the time were busy.
fn counted_by_i915(fixture: Fixture, shares: [u64; 2]) -> FixtureHost {
    let device = |address: &str, share: u64| {
        let mut device = i915(address, [60 * GIB, 62 * GIB]);
        // Nanoseconds.
        device["answers"]["perf_event_open"] = json!({ "value": [
            counted("ccs", 0x4000, share * 1_000_000, 100_000_000),
            counted("ccs", 0x4010, share * 1_000_000, 100_000_000),
        ] });
        device
    };
    let devices = [device("0000:29:00.0", shares[0]), device("0000:99:00.0", shares[1])];
    let host = fixture.with_driver(RECORDING, recording(&devices)).copy();
    for (kind, address) in [(30, "0000:29:00.0"), (31, "0000:99:00.0")] {
        add_pmu(host.root(), "i915", address, kind);
    }
    host
}

#[test]
fn i915_counts_where_level_zero_does_not_report_engines() {
    let host = counted_by_i915(Fixture::named(MAX).without_library(), [7, 77]);
    assert_eq!(utilization(&metrics(&host), "compute"), [0.07, 0.77]);

    let host = counted_by_i915(Fixture::named(MAX), [7, 77]);
    let of_library = utilization(&metrics(&host), "compute");
    assert!(of_library.len() == 2 && of_library != [0.07, 0.77], "Level Zero has answered: {of_library:?}");
    host.driver_root().update(|recording| {
        for device in recording["devices"].as_array_mut().expect("a list") {
            device["answers"]["zesDeviceEnumEngineGroups"] = json!({ "error": "INSUFFICIENT_PERMISSIONS" });
        }
    });
    assert_eq!(utilization(&metrics(&host), "compute"), [0.07, 0.77]);
    assert!(shown(&host).devices.iter().all(|device| device.serial.is_known()), "it reports the rest");
}

#[test]
fn counters_that_may_not_be_opened_are_no_value_and_a_problem() {
    // As the kernel refuses them, although its level would allow it.
    let host = host();
    host.update_driver(|recording| {
        for device in recording["devices"].as_array_mut().expect("a list") {
            device["answers"]["perf_event_open"] = json!({ "error": "EACCES" });
        }
    });
    let text = metrics(&host);
    assert_eq!(values(&text, UTILIZATION), gib(&[]), "{text}");
    assert_eq!(values(&text, USED), gib(&[1, 2, 3, 4]));
    let problems = shown(&host).problems;
    assert_eq!(problems.len(), 4, "{problems:?}");
    for problem in problems {
        assert_eq!(problem.reason, Missing::NotPermitted);
        assert!(problem.message.contains("perf_event_open EACCES"), "{}", problem.message);
    }

    // As a user without capabilities knows before: no process is started for them.
    let closed = (128..133).map(|number| format!("dev/dri/renderD{number}")).collect();
    let host = b60().with_unreadable(closed).copy();
    add_pmu(host.root(), "xe", ADDRESSES[0], 31);
    fs::write(host.root().join(PARANOIA), "2\n").expect("a file can be written");
    fs::remove_dir_all(host.root().join("dev/dri")).expect("it is there");
    let agent = Agent::start(host.afd(RUN));
    agent.until("it is known", |agent| !agent.inventory().problems.is_empty());
    let problems = agent.inventory().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!((problems[0].reason, problems[0].device), (Missing::NotPermitted, None));
    assert!(problems[0].message.contains("CAP_PERFMON"), "{}", problems[0].message);
    assert_eq!(agent.library_process(), None);
}

#[test]
fn a_sleeping_device_is_not_counted_and_none_is_kept_awake_between_samples() {
    let host = host();
    set_power(host.root(), ADDRESSES[1], "suspended");
    host.update_driver(|recording| {
        recording["devices"][1]["answers"]["perf_event_open"] = json!({ "error": "EIO" });
    });
    assert_eq!(utilization(&metrics(&host), "compute"), [0.1, 0.3, 0.4]);
    let problems = shown(&host).problems;
    assert!(problems.is_empty(), "{problems:?}");

    let agent = Agent::start(host.afd(["run", "--no-kubernetes", "--sample-interval", "3600"]));
    agent.until("three are sampled", |agent| utilization(agent.get("/metrics").text(), "compute").len() == 3);
    let process = agent.library_process().expect("it runs between samples");
    agent.until("no counter is open", |_| {
        let files = fs::read_dir(format!("/proc/{process}/fd")).expect("they can be listed");
        let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        !targets.into_iter().any(|target| target.to_string_lossy().contains("counter"))
    });
}

#[test]
fn counters_are_recorded_and_replayed() {
    let host = host();
    let folder = TempDir::new().expect("a temporary folder can be made");
    let target = folder.path().join("recorded");
    stdout(&mut host.afd(["record", target.to_str().expect("temporary paths are UTF-8")]));
    let replayed = Fixture::in_folder(target).lay_out();
    for engine in ["compute", "copy"] {
        assert_eq!(
            utilization(&metrics(&replayed), engine),
            utilization(&metrics(&host), engine),
            "{engine}"
        );
    }
    assert_eq!(utilization(&metrics(&replayed), "compute"), [0.1, 0.2, 0.3, 0.4]);
}
