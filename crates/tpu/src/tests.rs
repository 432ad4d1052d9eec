use afd_host::testing::TestHost;
use afd_model::{HandleKind, Missing};

use super::*;

fn function(folder: TestHost, address: &str, device: &str) -> TestHost {
    let directory = format!("/sys/bus/pci/devices/{address}");
    folder
        .file(&format!("{directory}/vendor"), "0x1ae0\n")
        .file(&format!("{directory}/device"), format!("{device}\n"))
        .file(&format!("{directory}/class"), "0xff0000\n")
}

fn vfio(folder: TestHost, address: &str, group: u32) -> TestHost {
    let directory = format!("/sys/bus/pci/devices/{address}");
    folder
        .link(&format!("{directory}/driver"), "../../../bus/pci/drivers/vfio-pci")
        .link(&format!("{directory}/iommu_group"), &format!("../../../kernel/iommu_groups/{group}"))
}

fn discover(folder: &TestHost) -> Findings {
    let host = folder.open();
    Tpu::default().discover(&host, &PciBus::read(&host))
}

#[test]
fn network_cards_and_disks_are_not_tpus_and_an_unknown_id_is_a_problem() {
    let folder = function(TestHost::new(), "0000:00:04.0", "0x0042");
    let folder = function(folder, "0000:00:05.0", "0x001f");
    let findings = discover(&folder);
    assert_eq!(findings, Findings::default());
    let findings = discover(&function(folder, "0000:00:06.0", "0x0099"));
    assert!(findings.devices.is_empty());
    assert_eq!(findings.problems[0].message, "unknown Google device 1ae0:0099 at 0000:00:06.0");
    assert_eq!(findings.problems[0].reason, Missing::Unrecognized);
}

#[test]
fn chips_have_their_vfio_group_with_any_number_of_digits_as_a_handle() {
    let folder = vfio(function(TestHost::new(), "0000:00:04.0", "0x006f"), "0000:00:04.0", 9);
    let folder = vfio(function(folder, "0000:00:05.0", "0x006f"), "0000:00:05.0", 12);
    let findings = discover(&folder);
    let groups: Vec<_> = findings.devices.iter().map(|device| device.handle(HandleKind::VfioGroup)).collect();
    assert_eq!(groups, [Some("9"), Some("12")]);
    assert_eq!(findings.devices[1].handle(HandleKind::DevicePlugin), Some("12"));
    assert_eq!(findings.devices[1].handle(HandleKind::Dra), Some("12"));
    for device in &findings.devices {
        assert_eq!(device.product_name(), Some("Google TPU v6e"));
        assert_eq!(device.memory_bytes, Known::Value(32 << 30));
        assert_eq!(device.interconnect, Known::Value(LinkKind::Ici));
        assert_eq!(device.logical_devices, Known::Value(1));
    }
    assert!(findings.problems.is_empty());
}

#[test]
fn a_chip_with_one_or_two_functions_is_one_device_with_two_logical_devices() {
    let one = function(TestHost::new(), "0000:00:04.0", "0x0076");
    let devices = discover(&one).devices;
    assert_eq!((devices.len(), devices[0].logical_devices), (1, Known::Value(2)));
    let two = vfio(function(one, "0000:00:04.1", "0x0076"), "0000:00:04.1", 3);
    let devices = discover(&vfio(two, "0000:00:04.0", 2)).devices;
    assert_eq!((devices.len(), devices[0].logical_devices), (1, Known::Value(2)));
    assert_eq!(devices[0].id.to_string(), "0000:00:04.0");
    let groups = devices[0].handles.iter().filter(|handle| handle.kind == HandleKind::VfioGroup);
    assert_eq!(groups.map(|handle| handle.value.as_str()).collect::<Vec<_>>(), ["2", "3"]);
    assert_eq!(devices[0].handle(HandleKind::DevicePlugin), Some("0000:00:04"), "the plugin uses the slot");
}

#[test]
fn a_single_chip_has_no_interconnect() {
    let devices = discover(&function(TestHost::new(), "0000:00:04.0", "0x0063")).devices;
    assert_eq!(devices[0].interconnect.missing(), Some(Missing::NotExposed));
}

#[test]
fn the_subsystem_distinguishes_v2_from_v3_and_an_unknown_one_is_unrecognized() {
    let board = |id: &str| {
        let folder = function(TestHost::new(), "0000:00:04.0", "0x0027");
        let folder = folder.file("/sys/bus/pci/devices/0000:00:04.0/subsystem_device", id);
        discover(&folder).devices.remove(0).product
    };
    assert_eq!(board("0x004f\n").into_value().map(|product| product.name).as_deref(), Some("Google TPU v3"));
    assert_eq!(board("0x0001\n").missing(), Some(Missing::Unrecognized));
    let without_board = discover(&function(TestHost::new(), "0000:00:04.0", "0x0027")).devices.remove(0);
    assert_eq!(without_board.product.missing(), Some(Missing::NotExposed));
}

#[test]
fn an_accel_node_is_used_only_if_it_belongs_to_the_function() {
    let folder = function(TestHost::new(), "0000:00:04.0", "0x005e")
        .link("/sys/class/accel/accel0/device", "../../../devices/pci0000:00/0000:00:09.0")
        .link("/sys/class/accel/accel1/device", "../../../devices/pci0000:00/0000:00:04.0");
    assert_eq!(discover(&folder).devices[0].handle(HandleKind::Accel), Some("accel1"));
}

#[test]
fn only_the_link_is_sampled() {
    let folder = function(TestHost::new(), "0000:00:04.0", "0x0063")
        .file("/sys/bus/pci/devices/0000:00:04.0/current_link_width", "16\n");
    let host = folder.open();
    let mut tpu = Tpu::default();
    tpu.discover(&host, &PciBus::read(&host));
    let sampling = tpu.sample(&host, Instant::now());
    assert_eq!(sampling.samples[0].readings.len(), 1);
}
