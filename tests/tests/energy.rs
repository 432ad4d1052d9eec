//! The energy counter of a card that has two, through the real binary.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{fs, path::Path};

use afd_tests::{agent::Agent, fixture::Fixture};

const RUN: [&str; 6] = ["run", "--no-kubernetes", "--sample-interval", "0.2", "--discovery-interval", "0.2"];
const ENERGY: &str = "accelerator_device_energy_joules_total{";
const POWER: &str = "accelerator_device_power_watts{";

/// The only value of a family.
fn only(agent: &Agent, prefix: &str) -> Option<f64> {
    let text = agent.get("/metrics").text().to_owned();
    let line = text.lines().find(|line| line.starts_with(prefix))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn replace(file: &Path, microjoules: u64) {
    let new = file.with_extension("new");
    fs::write(&new, format!("{microjoules}\n")).expect("a file can be written");
    fs::rename(new, file).expect("a file can be replaced");
}

#[test]
fn a_counter_whose_file_cannot_be_read_is_absent_and_never_takes_the_value_of_another_file() {
    let host = Fixture::named("intel-arc-pro-b60").copy();
    let device =
        host.root().join("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:03:00.0");
    let (card, package) =
        (device.join("hwmon/hwmon0/energy1_input"), device.join("hwmon/hwmon0/energy2_input"));
    replace(&card, 1_000_000_000);
    replace(&package, 700_000_000);
    let agent = Agent::start(host.afd(RUN));
    agent.until("the energy of the card is counted", |agent| only(agent, ENERGY) == Some(1000.0));

    fs::remove_file(&card).expect("a file can be removed");
    fs::create_dir(&card).expect("a directory cannot be read as a file");
    agent.until("the series is absent", |agent| {
        let energy = only(agent, ENERGY);
        assert_ne!(energy, Some(700.0), "that is the counter of the package");
        energy.is_none()
    });
    fs::remove_dir(&card).expect("a directory can be removed");
    replace(&card, 1_000_040_000);
    agent.until("the energy of the card is counted again", |agent| {
        let energy = only(agent, ENERGY);
        assert!(energy.is_none_or(|joules| joules >= 1000.0), "{energy:?}");
        energy == Some(1000.04)
    });
    let watts = only(&agent, POWER);
    assert!(watts.is_none_or(|watts| watts < 1.0), "the power is that of 0.04 J: {watts:?}");
}
