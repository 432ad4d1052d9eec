//! What Level Zero holds and would wake: the drivers of the GPUs, and of no other device.

use std::fs;

use afd_tests::{agent::Agent, fixture::Fixture, stdout};
use tempfile::TempDir;

use super::{MAX, RUN, SAMPLED, restarts, shown};

#[test]
fn a_suspended_device_is_not_woken() {
    let host = Fixture::named(MAX).copy();
    let function =
        fs::canonicalize(host.root().join("sys/bus/pci/devices/0000:29:00.0")).expect("it is there");
    fs::create_dir_all(function.join("power")).expect("a folder can be made");
    fs::write(function.join("power/runtime_status"), "suspended\n").expect("a file can be written");
    host.driver_root().fault("abort", &["zesInit"]);
    let problems = shown(&host).problems;
    assert_eq!(problems.len(), 1, "the library is not loaded: {problems:?}");
    assert_eq!(problems[0].device.map(|device| device.to_string()).as_deref(), Some("0000:29:00.0"));
    assert!(problems[0].message.starts_with("the device is suspended"), "{problems:?}");
    fs::write(function.join("power/runtime_status"), "active\n").expect("a file can be written");
    let problems = shown(&host).problems;
    assert!(problems.len() == 1 && !problems[0].message.contains("suspended"), "it is queried: {problems:?}");
}

#[test]
fn a_released_driver_is_not_held_until_it_is_reacquired_and_no_other_one_is_touched() {
    const BUSY: &str = "accelerator_device_utilization_ratio{vendor=\"intel\"";
    const NVML_POWER: &str = "accelerator_device_power_watts{vendor=\"nvidia\"";
    let host = Fixture::named(MAX).copy();
    let nvidia = Fixture::named("nvidia-l40sx2").lay_out();
    host.add(&nvidia);
    let folder = TempDir::new().expect("a temporary folder can be made");
    let socket = folder.path().join("control.sock");
    let mut command = host.afd(RUN);
    command.arg(nvidia.driver_root().option()).arg(nvidia.driver_root().path());
    command.arg("--control-socket").arg(&socket);
    let agent = Agent::start(command);
    agent.until("the library is sampled", |agent| agent.count(BUSY) == SAMPLED);
    agent.until("NVML is sampled", |agent| agent.count(NVML_POWER) == 2);
    let before = agent.inventory().devices;
    let processes = agent.library_processes();
    let release = |more: &[&str]| {
        stdout(afd_tests::afd(["release", "intel", "--control-socket"]).arg(&socket).args(more))
    };
    let assert_untouched = || {
        assert_eq!(agent.count(NVML_POWER), 2);
        for reported in ["released", "pending", "unreadable"] {
            let problems = format!("afd_probe_problems{{probe=\"nvidia\",reason=\"{reported}\"}}");
            assert_eq!(agent.value(&problems), None);
        }
        assert_eq!(agent.value("afd_probe_restarts_total{probe=\"nvidia\"}"), Some(0.0));
    };
    release(&[]);
    let others = agent.library_processes();
    assert_eq!((processes.len(), others.len()), (2, 1), "no process has the render nodes open");
    assert!(processes.contains(&others[0]), "NVML's process is the same");
    agent.until("the samples are absent", |agent| agent.count(BUSY) == 0);
    assert_untouched();
    for (now, before) in agent.inventory().devices.iter().zip(&before) {
        assert_eq!(
            (&now.serial, &now.memory_bytes),
            (&before.serial, &before.memory_bytes),
            "static facts stay"
        );
    }
    release(&["--end"]);
    agent.until("the library is sampled again", |agent| agent.count(BUSY) == SAMPLED);
    assert!(agent.library_processes().contains(&others[0]));
    assert_untouched();
    assert_eq!(restarts(&agent), 0.0, "nothing failed");
}
