use afd_host::testing::TestHost;
use afd_model::{HandleKind, Health, HealthState, Missing};

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
fn the_two_functions_of_a_slot_are_one_chip_whose_groups_and_slot_are_its_names() {
    let two = function(TestHost::new(), "0000:c0:02.0", "0x0076");
    let two = vfio(function(two, "0000:c0:02.1", "0x0076"), "0000:c0:02.1", 3);
    let devices = discover(&vfio(two, "0000:c0:02.0", 2)).devices;
    assert_eq!((devices.len(), devices[0].logical_devices), (1, Known::Value(2)));
    assert_eq!(devices[0].id.to_string(), "0000:c0:02.0");
    let values = |kind| {
        let handles = devices[0].handles.iter().filter(move |handle| handle.kind == kind);
        handles.map(|handle| handle.value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(values(HandleKind::VfioGroup), ["2", "3"]);
    assert_eq!(values(HandleKind::DevicePlugin), ["0000:c0:02", "2", "3"]);
    assert!(values(HandleKind::Dra).is_empty(), "the DRA driver does not support it");
    assert_eq!(devices[0].health, Health::healthy());
}

#[test]
fn a_slot_without_its_second_function_is_one_degraded_device() {
    let one = vfio(function(TestHost::new(), "0000:00:04.1", "0x0076"), "0000:00:04.1", 3);
    let devices = discover(&one).devices;
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].health.state, HealthState::Degraded);
    assert_eq!(devices[0].health.reasons[0].code, "ChipIncomplete");
}

#[test]
fn a_chip_that_no_pod_can_be_given_has_failed() {
    let code = |folder: &TestHost| {
        let health = discover(folder).devices.remove(0).health;
        (health.state, health.reasons.into_iter().next().map(|reason| reason.code))
    };
    let failed = |code: &str| (HealthState::Failed, Some(code.to_owned()));
    let unbound = function(TestHost::new(), "0000:00:04.0", "0x006f");
    assert_eq!(code(&unbound), failed("DriverMissing"));
    let without_group =
        unbound.link("/sys/bus/pci/devices/0000:00:04.0/driver", "../../../bus/pci/drivers/vfio-pci");
    assert_eq!(code(&without_group), failed("DeviceNodeMissing"));
    let half = vfio(function(TestHost::new(), "0000:00:04.0", "0x0076"), "0000:00:04.0", 3);
    assert_eq!(code(&function(half, "0000:00:04.1", "0x0076")), failed("DeviceNodeMissing"));
}

#[test]
fn without_vfio_pci_the_image_of_the_machine_is_the_advice_and_no_driver_of_a_vendor() {
    let message = |id: &str| {
        let device = discover(&function(TestHost::new(), "0000:00:04.0", id)).devices.remove(0);
        device.health.reasons[0].message.clone()
    };
    let (vfio, own) = (message("0x006f"), message("0x005e"));
    assert!(vfio.contains("the image of a TPU machine binds vfio-pci") && !vfio.contains("vendor"), "{vfio}");
    assert!(own.contains("load the vendor's driver"), "{own}");
}

#[test]
fn a_device_node_without_its_file_has_failed_where_device_files_can_be_seen() {
    let chips = || {
        let one = vfio(function(TestHost::new(), "0000:00:04.0", "0x006f"), "0000:00:04.0", 9);
        vfio(function(one, "0000:00:05.0", "0x006f"), "0000:00:05.0", 12)
    };
    let states = |folder: &TestHost| {
        let devices = discover(folder).devices;
        devices.iter().map(|device| device.health.state).collect::<Vec<_>>()
    };
    const HEALTHY: HealthState = HealthState::Healthy;
    assert_eq!(states(&chips().file("/dev/vfio/vfio", "")), [HEALTHY, HEALTHY], "no group can be seen");
    assert_eq!(states(&chips().file("/dev/vfio/12", "")), [HealthState::Failed, HEALTHY]);
    let both = chips().file("/dev/vfio/12", "").file("/dev/vfio/9", "");
    assert_eq!(states(&both), [HEALTHY, HEALTHY]);
    let accel = || {
        function(TestHost::new(), "0000:00:04.0", "0x005e")
            .link("/sys/bus/pci/devices/0000:00:04.0/driver", "../../../bus/pci/drivers/tpu_v4")
            .link("/sys/class/accel/accel1/device", "../../../devices/pci0000:00/0000:00:04.0")
    };
    assert_eq!(states(&accel()), [HEALTHY]);
    assert_eq!(states(&accel().file("/dev/accel0", "")), [HealthState::Failed]);
    assert_eq!(states(&accel().file("/dev/accel1", "")), [HEALTHY]);
}

#[test]
fn a_device_node_that_cannot_be_read_is_none_that_is_missing() {
    let directory = "/sys/bus/pci/devices/0000:00:04.0";
    // A file in place of a link cannot be read as one.
    let group = function(TestHost::new(), "0000:00:04.0", "0x006f")
        .link(&format!("{directory}/driver"), "../../../bus/pci/drivers/vfio-pci")
        .file(&format!("{directory}/iommu_group"), "");
    let class = function(TestHost::new(), "0000:00:04.0", "0x005e")
        .link(&format!("{directory}/driver"), "../../../bus/pci/drivers/tpu_v4")
        .link("/sys/class/accel", "accel");
    for folder in [group, class] {
        let findings = discover(&folder);
        assert_eq!(findings.devices[0].health, Health::unknown());
        assert_eq!(findings.problems.len(), 1, "{:?}", findings.problems);
    }
}

#[test]
fn a_kernel_release_is_no_version_of_a_tpus_driver() {
    let folder = vfio(function(TestHost::new(), "0000:00:04.0", "0x006f"), "0000:00:04.0", 9)
        .file("/sys/module/vfio_pci/initstate", "live\n")
        .file("/proc/sys/kernel/osrelease", "6.8.0\n");
    assert_eq!(discover(&folder).devices[0].driver_version.missing(), Some(Missing::NotExposed));
    let own = function(TestHost::new(), "0000:00:04.0", "0x005e")
        .link("/sys/bus/pci/devices/0000:00:04.0/driver", "../../../bus/pci/drivers/tpu_v4")
        .file("/sys/module/tpu_v4/version", "1.2\n");
    assert_eq!(discover(&own).devices[0].driver_version, Known::Value("1.2".to_owned()));
}

#[test]
fn the_class_does_not_decide() {
    let folder = function(TestHost::new(), "0000:00:04.0", "0x006f")
        .file("/sys/bus/pci/devices/0000:00:04.0/class", "0x120000\n");
    assert_eq!(discover(&folder).devices.len(), 1);
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

fn with_metadata(text: &str) -> Findings {
    discover(
        &vfio(function(TestHost::new(), "0000:00:04.0", "0x0063"), "0000:00:04.0", 9)
            .file(metadata::PATH, text),
    )
}

#[test]
fn the_metadata_of_the_machine_describe_the_slice_and_fewer_chips_are_a_problem() {
    let findings = with_metadata("TPU_ACCELERATOR_TYPE: v5litepod-4\nCHIPS_PER_HOST_BOUNDS: 2,2,1\n");
    let slice = findings.devices[0].tpu_slice().expect("it is described");
    assert_eq!(slice.accelerator_type, Known::Value("v5litepod-4".to_owned()));
    assert_eq!(
        findings.problems[0].message,
        "the machine has 1 of the 4 chips that it should have according to its metadata"
    );
    let complete = with_metadata("CHIPS_PER_HOST_BOUNDS: '1,1,1'\n");
    assert_eq!((complete.problems.len(), complete.devices[0].tpu_slice().is_some()), (0, true));
}

#[test]
fn an_empty_file_of_metadata_says_nothing_and_a_huge_one_is_a_problem() {
    let empty = with_metadata("");
    assert!(empty.devices[0].tpu_slice().is_none() && empty.problems.is_empty());
    let huge = with_metadata(&"TOPOLOGY: 1x1\n".repeat(1 << 17));
    assert!(huge.devices[0].tpu_slice().is_none());
    assert_eq!(huge.problems[0].reason, Missing::Unreadable);
}

#[test]
fn metadata_are_not_read_without_a_tpu() {
    let findings = discover(&TestHost::new().file(metadata::PATH, "x".repeat(1 << 20)));
    assert_eq!(findings, Findings::default());
}

#[test]
fn what_the_node_says_is_compared_with_the_chips_and_its_conditions_degrade_them() {
    let folder = vfio(function(TestHost::new(), "0000:00:04.0", "0x006f"), "0000:00:04.0", 9);
    let host = folder.open();
    let mut tpu = Tpu::default();
    let mut node = NodeFacts::default();
    assert!(!tpu.set_node(&node), "there is no chip yet");
    tpu.discover(&host, &PciBus::read(&host));
    assert!(!tpu.set_node(&node), "it is the same Node");
    for (key, value) in [("gke-tpu-accelerator", "tpu-v5p-slice"), ("gke-accelerator-count", "4")] {
        node.labels.insert(format!("cloud.google.com/{key}"), value.to_owned());
    }
    node.conditions.insert("SliceErrorDetected".to_owned(), true);
    let hint = ("cloud.google.com/gk8s-tpu-accelerator".to_owned(), "tpu-v7-standard-4t".to_owned());
    node.labels.extend([hint]);
    assert!(tpu.set_node(&node));
    let findings = tpu.discover(&host, &PciBus::read(&host));
    let messages: Vec<&str> = findings.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the machine has 1 of the 4 chips that it should have according to the labels of its Node",
            "the machine has a v6e chip according to its PCI id, but tpu-v5p-slice (v5p) according to the labels of its Node",
            "the machine has 1 of the 4 chips that it should have according to the labels of its Node",
            "the machine has a v6e chip according to its PCI id, but tpu-v7-standard-4t (7x) according to the labels of its Node"
        ]
    );
    let device = &findings.devices[0];
    assert_eq!(
        (device.health.state, device.health.reasons[0].code.as_str()),
        (HealthState::Degraded, "SliceError")
    );
    let labelled = device.tpu_slice().map(|slice| slice.labelled_by_platform);
    assert_eq!(labelled, Some(Known::Value(true)));
}
