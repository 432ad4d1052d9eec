use afd_host::testing::TestHost;
use afd_model::{
    Clock, ErrorDetail, ErrorKind, HandleKind, HealthState, LinkKind, Missing, Quantity, Sensor,
};

use super::*;

const GAUDI3: &str = "/sys/bus/pci/devices/0000:21:00.0";

fn gaudi3() -> TestHost {
    TestHost::new()
        .file(&format!("{GAUDI3}/vendor"), "0x1da3\n")
        .file(&format!("{GAUDI3}/device"), "0x1060\n")
        .file(&format!("{GAUDI3}/class"), "0x120000\n")
        .link(&format!("{GAUDI3}/driver"), "../../../bus/pci/drivers/habanalabs")
}

fn discover(folder: &TestHost) -> (Gaudi, Findings) {
    let host = folder.open();
    let mut gaudi = Gaudi::default();
    let findings = gaudi.discover(&host, &PciBus::read(&host));
    (gaudi, findings)
}

fn reading(folder: &TestHost, quantity: Quantity) -> Option<f64> {
    let (mut gaudi, _) = discover(folder);
    let sampling = gaudi.sample(&folder.open(), Instant::now());
    sampling.samples[0]
        .readings
        .iter()
        .find(|reading| reading.quantity == quantity)
        .map(|reading| reading.value)
}

#[test]
fn a_device_is_identified_by_pci_and_may_have_a_two_digit_accel_number() {
    let folder = gaudi3()
        .file(&format!("{GAUDI3}/accel/accel10/dev"), "261:10\n")
        .file(&format!("{GAUDI3}/accel/accel_controlD10/dev"), "261:138\n");
    let (_, findings) = discover(&folder);
    let device = &findings.devices[0];
    assert_eq!(device.product_name(), Some("Intel Gaudi 3"));
    assert_eq!(device.memory_bytes.value(), Some(&137_438_953_472));
    assert_eq!(device.handle(HandleKind::Accel), Some("accel10"));
    assert_eq!(device.handle(HandleKind::Dra), Some("0000-21-00-0-0x1060"));
    assert_eq!(device.health.state, HealthState::Unknown);
    assert!(findings.problems.is_empty());
}

#[test]
fn attributes_are_found_in_every_location_that_kernels_use() {
    let pci = gaudi3()
        .file(&format!("{GAUDI3}/status"), "Operational\n")
        .file(&format!("{GAUDI3}/module_id"), "3\n");
    let accel = gaudi3()
        .file("/sys/class/accel/accel0/device/pci_addr", "0000:21:00.0\n")
        .file("/sys/class/accel/accel0/device/status", "Operational\n")
        .file("/sys/class/accel/accel0/device/module_id", "3\n");
    let old = gaudi3()
        .file("/sys/class/habanalabs/hl0/pci_addr", "0000:21:00.0\n")
        .file("/sys/class/habanalabs/hl0/status", "Operational\n")
        .file("/sys/class/habanalabs/hl0/module_id", "3\n");
    for folder in [pci, accel, old] {
        let (_, findings) = discover(&folder);
        assert_eq!(findings.devices[0].health.state, HealthState::Healthy);
        assert_eq!(findings.devices[0].handle(HandleKind::Module), Some("3"));
    }
}

#[test]
fn the_accel_node_of_another_function_is_not_used() {
    let folder = gaudi3()
        .file("/sys/class/accel/accel0/device/status", "Operational\n")
        .file("/sys/class/accel/accel0/device/pci_addr", "0000:22:00.0\n");
    let (_, findings) = discover(&folder);
    assert_eq!(findings.devices[0].handle(HandleKind::Accel), None);
    assert_eq!(findings.devices[0].health.state, HealthState::Unknown);
}

#[test]
fn an_unknown_status_is_a_problem_and_no_health_state() {
    let (_, findings) = discover(&gaudi3().file(&format!("{GAUDI3}/status"), "Unexpected\n"));
    assert_eq!(findings.devices[0].health.state, HealthState::Unknown);
    assert_eq!(findings.problems.len(), 1);
}

#[test]
fn an_active_port_makes_roce_the_interconnect() {
    let ports = format!("{GAUDI3}/infiniband/hbl_0/ports");
    let down = gaudi3().file(&format!("{ports}/1/state"), "1: DOWN\n");
    assert_eq!(discover(&down).1.devices[0].interconnect.missing(), Some(Missing::NotExposed));
    let up = down.file(&format!("{ports}/2/state"), "4: ACTIVE\n");
    assert_eq!(discover(&up).1.devices[0].interconnect.value(), Some(&LinkKind::Roce));
}

#[test]
fn several_cards_reach_each_other_over_pcie() {
    let card = |folder: TestHost, bus: &str| {
        let function = format!("/sys/bus/pci/devices/0000:{bus}:00.0");
        folder
            .file(&format!("{function}/vendor"), "0x1da3\n")
            .file(&format!("{function}/device"), "0x1063\n")
            .file(&format!("{function}/class"), "0x120000\n")
    };
    let one = card(TestHost::new(), "21");
    let kind = |folder: &TestHost| discover(folder).1.devices[0].interconnect;
    assert_eq!(kind(&one).missing(), Some(Missing::NotExposed), "there is no other one");
    let two = card(one, "22");
    assert_eq!(kind(&two).value(), Some(&LinkKind::Pcie));
    let module = two.file("/sys/bus/pci/devices/0000:21:00.0/device", "0x1060\n");
    assert_eq!(kind(&module).missing(), Some(Missing::NotExposed), "its board may connect it");
}

#[test]
fn an_unknown_id_is_a_device_only_in_the_accelerator_class() {
    let unknown = gaudi3().file(&format!("{GAUDI3}/device"), "0x1099\n");
    let (_, findings) = discover(&unknown);
    assert_eq!(findings.devices[0].product.missing(), Some(Missing::Unrecognized));
    assert_eq!(findings.problems.len(), 1);
    let (_, findings) = discover(&unknown.file(&format!("{GAUDI3}/class"), "0x020000\n"));
    assert!(findings.devices.is_empty());
}

#[test]
fn values_are_published_in_base_units() {
    let folder = gaudi3()
        .file(&format!("{GAUDI3}/status"), "Operational\n")
        .file(&format!("{GAUDI3}/max_power"), "850000\n")
        .file(&format!("{GAUDI3}/clk_cur_freq_mhz"), "1600\n")
        .file(&format!("{GAUDI3}/hard_reset_cnt"), "2\n")
        .file(&format!("{GAUDI3}/hwmon/hwmon4/name"), "habanalabs\n")
        .file(&format!("{GAUDI3}/hwmon/hwmon4/power1_input"), "226000000\n")
        .file(&format!("{GAUDI3}/hwmon/hwmon4/temp1_input"), "36000\n")
        .file(&format!("{GAUDI3}/hwmon/hwmon4/temp2_input"), "41000\n")
        .file(&format!("{GAUDI3}/hwmon/hwmon4/temp3_input"), "30000\n")
        .file(&format!("{GAUDI3}/hwmon/hwmon4/temp3_label"), "On board\n");
    assert_eq!(reading(&folder, Quantity::PowerLimitWatts), Some(850.0));
    assert_eq!(reading(&folder, Quantity::PowerWatts), Some(226.0));
    assert_eq!(reading(&folder, Quantity::ClockHertz(Clock::Compute)), Some(1.6e9));
    assert_eq!(reading(&folder, Quantity::Errors(ErrorKind::Reset, ErrorDetail::Block("hard"))), Some(2.0));
    assert_eq!(reading(&folder, Quantity::Errors(ErrorKind::Reset, ErrorDetail::Block("soft"))), None);
    assert_eq!(reading(&folder, Quantity::TemperatureCelsius(Sensor::Device)), Some(41.0));
    assert_eq!(reading(&folder, Quantity::TemperatureCelsius(Sensor::Board)), Some(30.0));
}
