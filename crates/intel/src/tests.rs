use std::time::Duration;

use afd_host::testing::TestHost;
use afd_model::{
    Clock, Device, Handle, HandleKind, HealthState, Known, MemorySource, Missing, Partitioning, Quantity,
    Sensor, ThrottleCause, Which,
};

use super::*;

const GPU: &str = "/sys/bus/pci/devices/0000:03:00.0";

fn gpu(address: &str, device: &str, class: &str) -> TestHost {
    add(TestHost::new(), address, device, class)
}

fn add(folder: TestHost, address: &str, device: &str, class: &str) -> TestHost {
    let directory = format!("/sys/bus/pci/devices/{address}");
    folder
        .file(&format!("{directory}/vendor"), "0x8086\n")
        .file(&format!("{directory}/device"), format!("{device}\n"))
        .file(&format!("{directory}/class"), format!("{class}\n"))
}

fn discover(folder: &TestHost) -> (Intel, Findings) {
    let host = folder.open();
    let mut intel = Intel::default();
    let findings = intel.discover(&host, &PciBus::read(&host));
    (intel, findings)
}

fn only(folder: &TestHost) -> Device {
    let mut devices = discover(folder).1.devices;
    assert_eq!(devices.len(), 1);
    devices.remove(0)
}

fn value(sampling: &Sampling, quantity: Quantity) -> Option<f64> {
    let readings = &sampling.samples[0].readings;
    assert!(
        readings.iter().filter(|reading| reading.quantity == quantity).count() <= 1,
        "{quantity:?} is reported twice"
    );
    readings.iter().find(|reading| reading.quantity == quantity).map(|reading| reading.value)
}

#[test]
fn npus_quickassist_and_audio_functions_are_not_gpus() {
    let folder = gpu("0000:00:0b.0", "0x7d1d", "0x120000");
    let folder = add(folder, "0000:3b:00.0", "0x37c8", "0x0b4000");
    let folder = add(folder, "0000:83:00.0", "0x225c", "0x0b4000");
    let folder = add(folder, "0000:04:00.0", "0x4f90", "0x040300");
    assert_eq!(discover(&folder).1, Findings::default());
}

#[test]
fn an_unknown_gpu_is_integrated_only_at_the_address_of_integrated_gpus() {
    let integrated = only(&gpu("0000:00:02.0", "0xffff", "0x030000"));
    assert!(integrated.integrated);
    assert_eq!(integrated.product.missing(), Some(Missing::Unrecognized));
    let folder = gpu("0000:03:00.0", "0xffff", "0x038000");
    assert!(!only(&folder).integrated);
    assert_eq!(discover(&folder).1.problems.len(), 1);
}

#[test]
fn the_second_head_of_an_old_gpu_is_not_a_second_gpu() {
    let folder = add(gpu("0000:00:02.0", "0x27a2", "0x030000"), "0000:00:02.1", "0x27a6", "0x038000");
    assert_eq!(only(&folder).product_name(), Some("Intel GMA 950"));
}

#[test]
fn functions_of_one_slot_are_devices_of_their_own() {
    // An id that is in no table, and a Flex 170.
    for id in ["0xe2f0", "0x56c0"] {
        let folder = add(gpu("0000:00:07.0", id, "0x038000"), "0000:00:07.1", id, "0x038000");
        let devices = discover(&folder).1.devices;
        assert_eq!(devices.len(), 2, "{id}");
        assert!(devices.iter().all(|device| device.partitions.is_empty()));
    }
}

#[test]
fn virtual_functions_are_partitions_on_the_host_and_devices_in_a_guest() {
    let host = add(gpu("0000:03:00.0", "0x0bd5", "0x038000"), "0000:03:00.1", "0x0bd5", "0x038000")
        .file(&format!("{GPU}/sriov_numvfs"), "1\n")
        .link(&format!("{GPU}/virtfn0"), "../0000:03:00.1")
        .link("/sys/bus/pci/devices/0000:03:00.1/physfn", "../0000:03:00.0")
        .file(&format!("{GPU}/drm/card0/dev"), "226:0\n")
        .file("/sys/bus/pci/devices/0000:03:00.1/drm/card1/dev", "226:1\n");
    let device = only(&host);
    assert_eq!(device.handle(HandleKind::DevicePlugin), None, "only the virtual functions are offered");
    assert_eq!(
        device.partitions[0].handles,
        [Handle::new(HandleKind::DevicePlugin, "card1"), Handle::new(HandleKind::Dra, "0000-03-00-1-0x0bd5")]
    );
    assert_eq!(device.partitioning, Known::Value(Partitioning::Sriov { functions: 1 }));
    assert_eq!(device.partitions[0].id.to_string(), "0000:03:00.0/vf0");
    let guest = only(&gpu("0000:03:00.0", "0x0bd5", "0x038000"));
    assert_eq!(guest.partitioning, Known::Value(Partitioning::Whole));
    assert_eq!(guest.handle(HandleKind::Dra), Some("0000-03-00-0-0x0bd5"));
}

#[test]
fn memory_of_all_tiles_from_the_driver_takes_precedence_over_the_table() {
    let table = gpu("0000:03:00.0", "0x0bd5", "0x038000").file(&format!("{GPU}/sriov_totalvfs"), "63\n");
    let device = only(&table);
    assert_eq!(device.memory_bytes, Known::Value(128 << 30));
    assert_eq!(device.memory_source, Known::Value(MemorySource::ProductTable));
    let driver = table
        .file(&format!("{GPU}/drm/card0/lmem_total_bytes"), "68451041280\n")
        .file(&format!("{GPU}/drm/card0/gt/gt0/id"), "0\n")
        .file(&format!("{GPU}/drm/card0/gt/gt1/id"), "1\n");
    let device = only(&driver);
    assert_eq!(device.memory_bytes, Known::Value(136_902_082_560));
    assert_eq!(device.memory_source, Known::Value(MemorySource::Drm));
}

#[test]
fn the_link_of_a_board_with_a_switch_is_that_of_the_upstream_port() {
    const PATH: &str = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:03:00.0";
    let link = |folder: TestHost, directory: &str, speed: &str, width: &str| {
        let folder = folder.file(&format!("{directory}/current_link_speed"), speed);
        folder.file(&format!("{directory}/current_link_width"), width)
    };
    let alone = gpu("0000:03:00.0", "0xe20b", "0x030000");
    let alone = link(alone, GPU, "2.5 GT/s PCIe\n", "1\n");
    assert_eq!(
        only(&alone).pci.link.width.missing(),
        Some(Missing::NotExposed),
        "its own link files are not used"
    );

    let folder = TestHost::new()
        .file(&format!("{PATH}/vendor"), "0x8086\n")
        .file(&format!("{PATH}/device"), "0xe20b\n")
        .file(&format!("{PATH}/class"), "0x030000\n")
        .link("/sys/bus/pci/devices/0000:03:00.0", &format!("../../../..{PATH}"));
    let folder = link(folder, PATH, "2.5 GT/s PCIe\n", "1\n");
    let port = "/sys/bus/pci/devices/0000:01:00.0";
    let folder = link(add(folder, "0000:01:00.0", "0xe2ff", "0x060400"), port, "16.0 GT/s PCIe\n", "8\n");
    let device = only(&folder);
    assert_eq!(device.pci.link.transfers_per_second, Known::Value(16_000_000_000));
    assert_eq!(device.pci.link.width, Known::Value(8));
    let (mut intel, _) = discover(&folder);
    let sampling = intel.sample(&folder.open(), Instant::now());
    assert_eq!(value(&sampling, Quantity::PcieWidth(Which::Current)), Some(8.0));
}

#[test]
fn the_link_of_a_max_is_that_of_the_upstream_port_where_the_board_has_one() {
    const PATH: &str = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:03:00.0";
    let link = |folder: TestHost, directory: &str, width: &str| {
        let folder = folder.file(&format!("{directory}/current_link_speed"), "2.5 GT/s PCIe\n");
        folder.file(&format!("{directory}/current_link_width"), width)
    };
    // Max 1550, Crescent Island and DG1.
    for id in ["0x0bd5", "0x674c", "0x4907"] {
        let alone = link(gpu("0000:03:00.0", id, "0x038000"), GPU, "16\n");
        assert_eq!(only(&alone).pci.link.width, Known::Value(16), "{id} without a switch");
        let folder = TestHost::new()
            .file(&format!("{PATH}/vendor"), "0x8086\n")
            .file(&format!("{PATH}/device"), format!("{id}\n"))
            .file(&format!("{PATH}/class"), "0x038000\n")
            .link("/sys/bus/pci/devices/0000:03:00.0", &format!("../../../..{PATH}"));
        let folder = add(link(folder, PATH, "1\n"), "0000:01:00.0", "0xe2ff", "0x060400");
        let folder = link(folder, "/sys/bus/pci/devices/0000:01:00.0", "8\n");
        assert_eq!(only(&folder).pci.link.width, Known::Value(8), "{id} behind a switch");
    }
}

#[test]
fn a_gpu_in_survivability_mode_has_failed() {
    let folder =
        gpu("0000:03:00.0", "0xe20b", "0x030000").file(&format!("{GPU}/survivability_mode"), "Boot\n");
    let health = only(&folder).health;
    assert_eq!((health.state, health.reasons[0].code.as_str()), (HealthState::Failed, "SurvivabilityMode"));
}

#[test]
fn a_gpu_that_the_driver_has_given_up_has_failed_until_it_is_bound_again() {
    let folder = gpu("0000:03:00.0", "0xe20b", "0x030000")
        .link(&format!("{GPU}/driver"), "../../../../bus/pci/drivers/xe")
        .link("/sys/other/driver", "../../../../bus/pci/drivers/xe");
    let host = folder.open();
    let (mut intel, _) = discover(&folder);
    let first_reason = |intel: &mut Intel| {
        let health = intel.discover(&host, &PciBus::read(&host)).devices.remove(0).health;
        health.reasons.first().map(|reason| reason.code.clone())
    };
    assert_eq!(first_reason(&mut intel), None);
    let id: PciAddress = "0000:03:00.0".parse().expect("it is an address");
    let binding = device::driver_binding(&host, id.into()).expect("it is bound");
    intel.wedged(id.into(), binding);
    assert_eq!(first_reason(&mut intel).as_deref(), Some("Wedged"));
    assert_eq!(first_reason(&mut intel).as_deref(), Some("Wedged"), "nothing says that it is over");
    // The kernel makes another link.
    let path = |path: &str| folder.path().join(path.trim_start_matches('/'));
    rustix::fs::rename(path("/sys/other/driver"), path(&format!("{GPU}/driver")))
        .expect("it can be replaced");
    assert_eq!(first_reason(&mut intel), None);
    // A rule of udev may bind it again before the next discovery.
    intel.wedged(id.into(), binding);
    assert_eq!(first_reason(&mut intel), None, "the driver that gave it up is not bound any more");
}

#[test]
fn a_gpu_that_the_driver_has_given_up_is_remembered_by_the_next_agent() {
    let folder = gpu("0000:03:00.0", "0xe20b", "0x030000")
        .link(&format!("{GPU}/driver"), "../../../../bus/pci/drivers/xe")
        .link("/sys/other/driver", "../../../../bus/pci/drivers/xe");
    let host = folder.open();
    let id = "0000:03:00.0".parse::<PciAddress>().expect("it is an address").into();
    let (mut first, _) = discover(&folder);
    assert_eq!(first.incidents(), []);
    first.wedged(id, device::driver_binding(&host, id).expect("it is bound"));
    first.discover(&host, &PciBus::read(&host));
    let records = first.incidents();
    assert_eq!((records.len(), records[0].code.as_str()), (1, "Wedged"));
    let restored = || {
        let mut next = discover(&folder).0;
        next.restore_incidents(records.clone());
        let health = next.discover(&host, &PciBus::read(&host)).devices.remove(0).health;
        (next, health.state)
    };
    let (mut next, state) = restored();
    assert_eq!((state, next.incidents()), (HealthState::Failed, records.clone()));
    assert!(next.clear_incidents(id) && next.incidents().is_empty());
    let path = |path: &str| folder.path().join(path.trim_start_matches('/'));
    rustix::fs::rename(path("/sys/other/driver"), path(&format!("{GPU}/driver")))
        .expect("it can be replaced");
    let (next, state) = restored();
    assert_eq!((state, next.incidents()), (HealthState::Unknown, Vec::new()), "it was bound again");
}

#[test]
fn xe_reports_energy_limits_temperatures_clocks_and_throttling() {
    let hwmon = format!("{GPU}/hwmon/hwmon2");
    let gt = |number: u32| format!("{GPU}/tile0/gt{number}");
    let folder = gpu("0000:03:00.0", "0xe20b", "0x030000")
        .file(&format!("{hwmon}/name"), "xe\n")
        .file(&format!("{hwmon}/energy1_input"), "11000000\n")
        .file(&format!("{hwmon}/energy2_input"), "99000000\n")
        .file(&format!("{hwmon}/power1_max"), "0\n")
        .file(&format!("{hwmon}/power1_cap"), "190000000\n")
        .file(&format!("{hwmon}/temp2_input"), "54000\n")
        .file(&format!("{hwmon}/temp2_label"), "pkg\n")
        .file(&format!("{hwmon}/temp6_input"), "90000\n")
        .file(&format!("{hwmon}/temp6_label"), "vram_ch_0\n")
        .file(&format!("{}/gtidle/name", gt(0)), "gt0-rc\n")
        .file(&format!("{}/freq0/act_freq", gt(0)), "0\n")
        .file(&format!("{}/freq0/max_freq", gt(0)), "2850\n")
        .file(&format!("{}/freq0/throttle/status", gt(0)), "1\n")
        .file(&format!("{}/freq0/throttle/reason_pl1", gt(0)), "0\n")
        .file(&format!("{}/freq0/throttle/reason_pl2", gt(0)), "1\n")
        .file(&format!("{}/freq0/throttle/reason_thermal", gt(0)), "0\n")
        .file(&format!("{}/gtidle/name", gt(1)), "gt1-mc\n")
        .file(&format!("{}/freq0/act_freq", gt(1)), "1200\n")
        .file(&format!("{}/freq0/throttle/reason_pl2", gt(1)), "0\n");
    let (mut intel, _) = discover(&folder);
    let start = Instant::now();
    let first = intel.sample(&folder.open(), start);
    assert_eq!(value(&first, Quantity::EnergyJoules), Some(11.0));
    assert_eq!(value(&first, Quantity::PowerWatts), None);
    assert_eq!(value(&first, Quantity::PowerLimitWatts), Some(190.0));
    assert_eq!(value(&first, Quantity::TemperatureCelsius(Sensor::Package)), Some(54.0));
    assert_eq!(value(&first, Quantity::TemperatureCelsius(Sensor::Memory)), None);
    assert_eq!(value(&first, Quantity::ClockHertz(Clock::Compute)), Some(0.0));
    assert_eq!(value(&first, Quantity::ClockMaxHertz(Clock::Compute)), Some(2.85e9));
    assert_eq!(value(&first, Quantity::ClockHertz(Clock::Media)), Some(1.2e9));
    assert_eq!(value(&first, Quantity::Throttled(ThrottleCause::Any)), Some(1.0));
    assert_eq!(value(&first, Quantity::Throttled(ThrottleCause::Power)), Some(1.0));
    assert_eq!(value(&first, Quantity::Throttled(ThrottleCause::Thermal)), Some(0.0));
    assert_eq!(value(&first, Quantity::Throttled(ThrottleCause::Prochot)), None);
    assert!(first.problems.is_empty());

    let folder = folder.file(&format!("{hwmon}/energy1_input"), "91000000\n");
    let second = intel.sample(&folder.open(), start + Duration::from_secs(2));
    assert_eq!(value(&second, Quantity::PowerWatts), Some(40.0));
}

/// A Xe card whose two energy counters have these values; none is a directory, which cannot be read as a file.
fn with_energy(hwmon: u32, energies: [Option<u64>; 2]) -> TestHost {
    let directory = format!("{GPU}/hwmon/hwmon{hwmon}");
    let mut folder = gpu("0000:03:00.0", "0xe20b", "0x030000").file(&format!("{directory}/name"), "xe\n");
    for (number, energy) in (1..).zip(energies) {
        let file = format!("{directory}/energy{number}_input");
        folder = match energy {
            Some(energy) => folder.file(&file, format!("{energy}\n")),
            None => folder.file(&format!("{file}/unreadable"), ""),
        };
    }
    folder
}

/// Energy and power of an energy counter that is sampled every second on these hosts, with a discovery before each sample.
fn sampled(hosts: &[TestHost]) -> Vec<(Option<f64>, Option<f64>)> {
    let (mut intel, start) = (Intel::default(), Instant::now());
    let sample = |(seconds, folder): (u64, &TestHost)| {
        let host = folder.open();
        intel.discover(&host, &PciBus::read(&host));
        let sampling = intel.sample(&host, start + Duration::from_secs(seconds));
        (value(&sampling, Quantity::EnergyJoules), value(&sampling, Quantity::PowerWatts))
    };
    (0..).zip(hosts).map(sample).collect()
}

#[test]
fn an_energy_counter_keeps_its_file_when_a_read_fails() {
    let card = |energy| with_energy(2, [energy, Some(700_000_000)]);
    let values = sampled(&[card(Some(1_000_000_000)), card(None), card(Some(1_000_080_000)), card(Some(0))]);
    assert_eq!(
        values,
        [
            (Some(1000.0), None),
            (None, None),
            (Some(1000.08), Some(0.04)),
            // The driver started to count again: no power over that gap.
            (Some(0.0), None),
        ]
    );
}

#[test]
fn the_file_of_an_energy_counter_is_chosen_by_the_first_that_counts() {
    let package = |energy| with_energy(2, [Some(0), Some(energy)]);
    let later_card = with_energy(2, [Some(5_000_000), Some(9_000_000)]);
    let values = sampled(&[package(3_000_000), package(7_000_000), later_card]);
    assert_eq!(values, [(Some(3.0), None), (Some(7.0), Some(4.0)), (Some(9.0), Some(2.0))]);
    // A preferred file that cannot be read at first is waited for.
    let unread = with_energy(2, [None, Some(3_000_000)]);
    let values = sampled(&[unread, with_energy(2, [Some(1_000_000), Some(4_000_000)])]);
    assert_eq!(values, [(None, None), (Some(1.0), None)]);
}

#[test]
fn there_is_no_power_between_two_loads_of_the_driver() {
    let values =
        sampled(&[with_energy(2, [Some(1_000_000), Some(0)]), with_energy(3, [Some(8_000_000), Some(0)])]);
    assert_eq!(values, [(Some(1.0), None), (Some(8.0), None)]);
}

#[test]
fn i915_on_old_kernels_has_its_clocks_in_the_card_directory() {
    let folder = gpu("0000:00:02.0", "0x5917", "0x030000")
        .file("/sys/bus/pci/devices/0000:00:02.0/drm/card1/gt_act_freq_mhz", "300\n")
        .file("/sys/bus/pci/devices/0000:00:02.0/drm/card1/gt_max_freq_mhz", "1150\n");
    let (mut intel, _) = discover(&folder);
    let sampling = intel.sample(&folder.open(), Instant::now());
    assert_eq!(value(&sampling, Quantity::ClockHertz(Clock::Compute)), Some(3e8));
    assert_eq!(value(&sampling, Quantity::ClockMaxHertz(Clock::Compute)), Some(1.15e9));
}

#[test]
fn i915_reports_the_clock_of_the_fastest_tile() {
    let gt = |number: u32| format!("{GPU}/drm/card0/gt/gt{number}");
    let folder = gpu("0000:03:00.0", "0x0bd5", "0x038000")
        .file(&format!("{}/rps_act_freq_mhz", gt(0)), "900\n")
        .file(&format!("{}/rps_act_freq_mhz", gt(1)), "1600\n")
        .file(&format!("{}/throttle_reason_prochot", gt(0)), "0\n")
        .file(&format!("{}/throttle_reason_prochot", gt(1)), "1\n");
    let (mut intel, _) = discover(&folder);
    let sampling = intel.sample(&folder.open(), Instant::now());
    assert_eq!(value(&sampling, Quantity::ClockHertz(Clock::Compute)), Some(1.6e9));
    assert_eq!(value(&sampling, Quantity::Throttled(ThrottleCause::Prochot)), Some(1.0));
}

#[test]
fn a_device_without_a_node_sleeps_without_effect() {
    let suspended = |folder: TestHost, address: &str| {
        folder.file(&format!("/sys/bus/pci/devices/{address}/power/runtime_status"), "suspended\n")
    };
    let with_node = |folder: TestHost, address: &str, node: &str| {
        folder.file(&format!("/sys/bus/pci/devices/{address}/drm/{node}/dev"), "226:128\n")
    };
    let states = |folder: &TestHost| {
        let (intel, _) = discover(folder);
        let states = intel.power_states();
        (states.is_any_suspended(), states.silences_others())
    };
    let folder = || {
        let folder = gpu("0000:03:00.0", "0xe211", "0x030000");
        with_node(add(folder, "0000:13:00.0", "0xe211", "0x030000"), "0000:13:00.0", "renderD129")
    };
    assert_eq!(states(&folder()), (false, false));
    let passed_through = suspended(folder(), "0000:03:00.0");
    assert_eq!(states(&passed_through), (false, false), "the library has nothing to open");
    let one = with_node(passed_through, "0000:03:00.0", "renderD128");
    assert_eq!(states(&one), (true, true));
    assert_eq!(states(&suspended(one, "0000:13:00.0")), (true, false), "none is awake");
}

mod suspended;
