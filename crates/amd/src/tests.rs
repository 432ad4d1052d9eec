mod situations;

use afd_host::testing::TestHost;
use afd_model::{
    AmdQuantity, Direction, ErrorDetail, ErrorKind, HandleKind, HealthState, LinkCounter, LinkKind,
    LinkValue, MemorySource, PartitionName, Partitioning, Quantity, Reading, XcpComputeMode, XcpMemoryMode,
};
use afd_probe::plausible;

use super::*;

fn discovered(folder: &TestHost) -> Findings {
    let host = folder.open();
    Amd::default().discover(&host, &PciBus::read(&host))
}

fn function(folder: TestHost, address: &str, id: &str) -> TestHost {
    let path = |file: &str| format!("/sys/bus/pci/devices/{address}/{file}");
    folder
        .file(&path("vendor"), "0x1002\n")
        .file(&path("device"), format!("{id}\n"))
        .file(&path("class"), "0x120000\n")
}

fn node(folder: TestHost, number: u32, properties: &str, memory: u64) -> TestHost {
    let directory = format!("/sys/class/kfd/kfd/topology/nodes/{number}");
    folder
        .file(&format!("{directory}/properties"), format!("simd_count 152\nsimd_per_cu 4\n{properties}"))
        .file(&format!("{directory}/gpu_id"), format!("{}\n", 1000 + number))
        .file(
            &format!("{directory}/mem_banks/0/properties"),
            format!("heap_type 1\nsize_in_bytes {memory}\n"),
        )
}

#[test]
fn the_console_display_of_a_server_is_not_an_accelerator() {
    let folder = TestHost::with_files([
        ("/sys/bus/pci/devices/0000:01:03.0/vendor", "0x1002\n"),
        ("/sys/bus/pci/devices/0000:01:03.0/device", "0x515e\n"),
        ("/sys/bus/pci/devices/0000:01:03.0/class", "0x030000\n"),
    ]);
    assert_eq!(discovered(&folder), Findings::default());
}

#[test]
fn partitions_are_the_nodes_of_a_slot() {
    let mut folder = function(TestHost::new(), "0000:05:00.0", "0x74a1")
        .file("/sys/bus/pci/devices/0000:05:00.0/current_compute_partition", "CPX\n")
        .file("/sys/bus/pci/devices/0000:05:00.0/current_memory_partition", "NPS4\n")
        .link("/sys/bus/pci/devices/0000:05:00.0/driver", "../../../drivers/amdgpu")
        .file("/sys/bus/pci/devices/0000:05:00.0/drm/card0/dev", "226:0\n")
        .file("/sys/bus/pci/devices/0000:05:00.0/drm/renderD128/dev", "226:128\n")
        .file("/sys/devices/platform/amdgpu_xcp_0/drm/card1/dev", "226:1\n")
        .file("/sys/devices/platform/amdgpu_xcp_0/drm/renderD129/dev", "226:129\n");
    for partition in 0..2_u32 {
        let properties =
            format!("location_id {}\ndomain 0\ndrm_render_minor {}\n", 1280 + partition, 128 + partition);
        folder = node(folder, 2 + partition, &properties, 1 << 34);
    }
    let findings = discovered(&folder);
    let device = &findings.devices[0];
    assert_eq!(
        device.partitioning,
        Known::Value(Partitioning::Xcp {
            compute: XcpComputeMode::Cpx,
            memory: Known::Value(XcpMemoryMode::Nps4)
        })
    );
    let ids: Vec<_> = device.partitions.iter().map(|partition| partition.id.to_string()).collect();
    assert_eq!(ids, ["0000:05:00.0/xcp0", "0000:05:00.0/xcp1"]);
    assert_eq!(device.partitions[1].compute_units, Known::Value(38));
    let name_of = |partition: usize, kind| {
        let handles = &device.partitions[partition].handles;
        handles.iter().find(|handle| handle.kind == kind).map(|handle| handle.value.as_str())
    };
    assert_eq!(name_of(1, HandleKind::XcpDevice), Some("amdgpu_xcp_0"));
    assert_eq!(name_of(0, HandleKind::DevicePlugin), Some("0000:05:00.0"));
    assert_eq!(name_of(1, HandleKind::DevicePlugin), Some("amdgpu_xcp_0"));
    assert_eq!(
        (name_of(0, HandleKind::Dra), name_of(1, HandleKind::Dra)),
        (Some("gpu-0-128"), Some("gpu-1-129"))
    );
    assert_eq!(
        device.handle(HandleKind::DevicePlugin),
        None,
        "a partitioned device is not allocated as a whole"
    );
    assert_eq!(
        (device.memory_bytes, device.memory_source),
        (Known::Value(1 << 35), Known::Value(MemorySource::Kfd))
    );
}

#[test]
fn equal_locations_in_different_domains_are_different_devices() {
    let mut folder = TestHost::new();
    for domain in 0..2_u32 {
        folder = function(folder, &format!("000{domain}:02:00.0"), "0x74a0");
        folder = node(folder, 4 + domain, &format!("location_id 512\ndomain {domain}\n"), 1 << 37).file(
            &format!("/sys/class/kfd/kfd/topology/nodes/{}/io_links/0/properties", 4 + domain),
            format!("type 11\nnode_to {}\nweight 15\nmax_bandwidth 64000\n", 5 - domain),
        );
    }
    let findings = discovered(&folder);
    assert!(findings.devices.iter().all(|device| device.partitions.is_empty()));
    assert_eq!(findings.links.len(), 1);
    assert_eq!(findings.links[0].bandwidth_bytes_per_second, Known::Value(64_000_000_000));
    assert!(findings.devices.iter().all(|device| device.interconnect == Known::Value(LinkKind::Xgmi)));
}

#[test]
fn a_link_that_cannot_be_read_may_be_one_to_another_device() {
    let of_first = |properties: Option<&str>| {
        let mut folder = TestHost::new();
        for number in 0..3_u32 {
            folder = function(folder, &format!("000{number}:02:00.0"), "0x74a0");
            folder = node(folder, number, &format!("location_id 512\ndomain {number}\n"), 1 << 37);
        }
        let path = |to: u32| format!("/sys/class/kfd/kfd/topology/nodes/0/io_links/{to}/properties");
        folder = folder.file(&path(1), "type 11\nnode_to 1\nweight 15\n");
        if let Some(properties) = properties {
            folder = folder.file(&path(2), properties);
        }
        let findings = discovered(&folder);
        let inventory = afd_model::Inventory::default().assemble([findings]);
        let facts = |device: &Device| (device.interconnect, device.linked_devices);
        [facts(&inventory.devices[0]), facts(&inventory.devices[2])]
    };
    let (xgmi, pcie) = (Known::Value(LinkKind::Xgmi), Known::Value(LinkKind::Pcie));
    let complete = [(xgmi, Known::Value(1)), (pcie, Known::Value(0))];
    assert_eq!(of_first(None), complete);
    assert_eq!(of_first(Some("type 2\nnode_to 2\n")), complete);
    assert_eq!(of_first(Some("weight 15\n"))[0], (xgmi, Missing::Malformed.into()));

    let unread = {
        let mut folder = TestHost::new();
        for number in 0..2_u32 {
            folder = function(folder, &format!("000{number}:02:00.0"), "0x74a0");
            folder = node(folder, number, &format!("location_id 512\ndomain {number}\n"), 1 << 37);
        }
        discovered(&folder.file("/sys/class/kfd/kfd/topology/nodes/0/io_links/0/properties", "type 11\n"))
    };
    assert_eq!(unread.devices[0].interconnect, Missing::Malformed.into(), "it is not PCIe alone");
}

#[test]
fn a_truncated_table_is_a_problem_and_the_other_values_stay() {
    let folder = function(TestHost::new(), "0000:05:00.0", "0x740f")
        .file("/sys/bus/pci/devices/0000:05:00.0/gpu_metrics", [120, 0, 1, 3, 0])
        .file("/sys/bus/pci/devices/0000:05:00.0/mem_info_vram_used", "4096\n");
    let host = folder.open();
    let mut probe = Amd::default();
    probe.discover(&host, &PciBus::read(&host));
    let sampling = probe.sample(&host, Instant::now());
    assert_eq!(sampling.samples[0].readings.len(), 1);
    assert_eq!(sampling.samples[0].readings[0].quantity, Quantity::MemoryUsedBytes);
    assert_eq!(sampling.problems.len(), 1);
}

#[test]
fn one_visible_partition_of_a_partitioned_device_is_a_partition() {
    let folder = function(TestHost::new(), "0000:05:00.0", "0x74a1")
        .file("/sys/bus/pci/devices/0000:05:00.0/current_compute_partition", "CPX\n");
    let folder = node(folder, 9, "location_id 1283\ndrm_render_minor 131\n", 1 << 34)
        .file("/sys/class/kfd/kfd/topology/nodes/9/mem_banks/0/used_memory", "4096\n");
    let host = folder.open();
    let mut probe = Amd::default();
    let findings = probe.discover(&host, &PciBus::read(&host));
    let names: Vec<_> = findings.devices[0].partitions.iter().map(|partition| partition.name).collect();
    assert_eq!(names, [PartitionName::Xcp(3)]);
    let sampling = probe.sample(&host, Instant::now());
    let used = Reading { quantity: Quantity::MemoryUsedBytes, value: 4096.0 };
    assert_eq!(sampling.samples[0].unit.partition, Some(PartitionName::Xcp(3)));
    assert_eq!(sampling.samples[0].readings, [used]);
}

#[test]
fn only_a_product_that_cannot_be_partitioned_is_unpartitioned_by_default() {
    let partitioning = |id: &str| {
        let folder = function(TestHost::new(), "0000:05:00.0", id);
        discovered(&folder).devices.remove(0).partitioning
    };
    assert_eq!(partitioning("0x740f"), Known::Value(Partitioning::Whole));
    assert_eq!(partitioning("0x74b5"), Missing::NotExposed.into());
    assert_eq!(partitioning("0x7fff"), Missing::NotExposed.into());
}

#[test]
fn an_unknown_product_has_the_name_of_the_driver_or_is_a_problem() {
    let unknown = || function(TestHost::new(), "0000:05:00.0", "0x7fff");
    let path = "/sys/bus/pci/devices/0000:05:00.0/product_name";
    let findings = discovered(&unknown().file(path, "AMD Instinct MI999X\n"));
    assert_eq!(findings.devices[0].product_name(), Some("AMD Instinct MI999X"));
    assert!(findings.problems.is_empty());
    let findings = discovered(&unknown().file(path, "\n"));
    assert_eq!(findings.devices[0].product.missing(), Some(Missing::Unrecognized));
    assert_eq!(findings.problems.len(), 1, "an empty name is not another problem");
}

#[test]
fn the_files_of_a_suspended_device_are_not_read() {
    let folder = function(TestHost::new(), "0000:05:00.0", "0x744c")
        .file("/sys/bus/pci/devices/0000:05:00.0/power/runtime_status", "suspended\n")
        .file("/sys/bus/pci/devices/0000:05:00.0/gpu_busy_percent", "0\n");
    let host = folder.open();
    let mut probe = Amd::default();
    probe.discover(&host, &PciBus::read(&host));
    assert!(probe.sample(&host, Instant::now()).samples.is_empty());
}

#[test]
fn the_link_of_a_board_with_a_switch_is_that_of_its_upstream_port() {
    let above = "/sys/devices/pci0000:00/0000:00:01.1";
    let (up, down) = (format!("{above}/0000:01:00.0"), format!("{above}/0000:01:00.0/0000:02:00.0"));
    let gpu = format!("{down}/0000:03:00.0");
    let mut folder = TestHost::new();
    for (directory, id, speed) in
        [(&up, "0x14a0", "8.0"), (&down, "0x14a1", "16.0"), (&gpu, "0x66a1", "16.0")]
    {
        let address = directory.rsplit('/').next().expect("a path has a last name");
        folder = folder
            .file(&format!("{directory}/vendor"), "0x1002\n")
            .file(&format!("{directory}/device"), format!("{id}\n"))
            .file(&format!("{directory}/current_link_speed"), format!("{speed} GT/s PCIe\n"))
            .link(&format!("/sys/bus/pci/devices/{address}"), &format!("../../..{}", &directory[4..]));
    }
    let device = discovered(&folder).devices.remove(0);
    assert_eq!(device.pci.link.transfers_per_second, Known::Value(8_000_000_000));
}

#[test]
fn energy_of_revision_1_3_is_known_for_aldebaran_only() {
    let joules = |id: &str| {
        let mut table = vec![0xff; 120];
        table[..4].copy_from_slice(&[120, 0, 1, 3]);
        table[24..32].copy_from_slice(&655_360_u64.to_le_bytes());
        let folder = function(TestHost::new(), "0000:05:00.0", id)
            .file("/sys/bus/pci/devices/0000:05:00.0/gpu_metrics", table);
        let host = folder.open();
        let mut probe = Amd::default();
        probe.discover(&host, &PciBus::read(&host));
        let samples = probe.sample(&host, Instant::now()).samples;
        samples.into_iter().flat_map(|sample| sample.readings).map(|reading| reading.value).next()
    };
    assert_eq!(joules("0x740f"), Some(10.0));
    assert_eq!(joules("0x73bf"), None);
}

#[test]
fn of_a_torn_table_only_possible_values_are_used() {
    let sampled = |memory_celsius: u16| {
        let mut table = vec![0xff; 120];
        table[..4].copy_from_slice(&[120, 0, 1, 3]);
        table[6..8].copy_from_slice(&61_u16.to_le_bytes());
        table[8..10].copy_from_slice(&memory_celsius.to_le_bytes());
        table[24..32].copy_from_slice(&655_360_u64.to_le_bytes());
        let folder = function(TestHost::new(), "0000:05:00.0", "0x740f")
            .file("/sys/bus/pci/devices/0000:05:00.0/gpu_metrics", table);
        let host = folder.open();
        let mut probe = Amd::default();
        probe.discover(&host, &PciBus::read(&host));
        let mut sampling = probe.sample(&host, Instant::now());
        plausible::retain(&mut sampling, NAME);
        let facts: Vec<String> = sampling.problems.drain(..).map(|problem| problem.fact).collect();
        let readings = sampling.samples.remove(0).readings;
        (readings.into_iter().map(|reading| reading.value).collect::<Vec<_>>(), facts)
    };
    assert_eq!(sampled(55), (vec![61.0, 55.0, 10.0], Vec::new()));
    assert_eq!(sampled(2112), (vec![61.0], vec!["temperature".to_owned()]));
}

#[test]
fn a_die_without_a_power_limit_of_its_own_has_no_power() {
    let powers = |cap: &str| {
        let hwmon = "/sys/bus/pci/devices/0000:05:00.0/hwmon/hwmon3";
        let folder = function(TestHost::new(), "0000:05:00.0", "0x740c")
            .file(&format!("{hwmon}/name"), "amdgpu\n")
            .file(&format!("{hwmon}/power1_average"), "0\n");
        let folder = match cap {
            "" => folder,
            cap => folder.file(&format!("{hwmon}/power1_cap"), cap),
        };
        let folder = folder.file(&format!("{hwmon}/temp2_input"), "45000\n");
        let host = folder.open();
        let mut probe = Amd::default();
        probe.discover(&host, &PciBus::read(&host));
        let readings = probe.sample(&host, Instant::now()).samples.remove(0).readings;
        readings.into_iter().map(|reading| reading.value).collect::<Vec<_>>()
    };
    assert_eq!(powers("500000000\n"), [0.0, 500.0, 45.0]);
    assert_eq!(powers("0\n"), [45.0]);
    assert_eq!(powers(""), [45.0], "a chip that is awake draws something");
}

#[test]
fn a_line_of_kfd_that_cannot_be_parsed_does_not_lose_the_node() {
    let folder = node(
        function(TestHost::new(), "0000:05:00.0", "0x740f"),
        2,
        "name of the day\nlocation_id 1280\ngfx_target_version 90010\n",
        1 << 36,
    );
    let findings = discovered(&folder);
    assert_eq!(findings.devices[0].memory_bytes, Known::Value(1 << 36));
    assert_eq!(findings.devices[0].handle(HandleKind::KfdNode), Some("2"));
    let problems: Vec<_> = findings.problems.iter().map(|problem| problem.fact.as_str()).collect();
    assert_eq!(problems, ["kfd_properties"]);
}

#[test]
fn the_memory_of_a_process_is_that_of_the_device_or_partition_of_its_file() {
    let mut folder = function(TestHost::new(), "0000:05:00.0", "0x74a1")
        .file("/sys/bus/pci/devices/0000:05:00.0/current_compute_partition", "DPX\n")
        .file("/sys/class/kfd/kfd/proc/77/vram_1002", "0\n")
        .file("/sys/class/kfd/kfd/proc/77/vram_1003", "4096\n")
        .file("/sys/class/kfd/kfd/proc/77/vram_9999", "1\n");
    for partition in 0..2_u32 {
        folder = node(folder, 2 + partition, &format!("location_id {}\n", 1280 + partition), 1 << 34);
    }
    let host = folder.open();
    let sampled = |per_process| {
        let mut probe = Amd::new(AmdOptions { per_process, ..AmdOptions::default() });
        probe.discover(&host, &PciBus::read(&host));
        probe.sample(&host, Instant::now()).samples
    };
    let reading = Reading { quantity: Quantity::ProcessMemoryUsedBytes(77), value: 4096.0 };
    let samples = sampled(true);
    assert_eq!(samples.len(), 1);
    assert_eq!(
        (samples[0].unit.partition, samples[0].readings.as_slice()),
        (Some(PartitionName::Xcp(1)), &[reading][..])
    );
    assert!(sampled(false).is_empty());
}

#[test]
fn the_values_of_each_link_are_sampled_on_request() {
    // Revision 1.4, whose counters of links begin at offset 104; the others have no value.
    let mut table = vec![0xff; 288];
    table[..4].copy_from_slice(&[0x20, 0x01, 1, 4]);
    table[104..120].copy_from_slice(&[1_u64, 2].map(u64::to_le_bytes).concat());
    let folder = function(TestHost::new(), "0000:05:00.0", "0x74a1")
        .file("/sys/bus/pci/devices/0000:05:00.0/gpu_metrics", &table);
    let host = folder.open();
    let links = |options| {
        let mut probe = Amd::new(options);
        probe.discover(&host, &PciBus::read(&host));
        let readings = probe.sample(&host, Instant::now()).samples.remove(0).readings;
        let of_links = readings.iter().filter_map(|reading| match reading.quantity {
            Quantity::Link(link, value) => Some((link.number, value, reading.value)),
            _ => None,
        });
        let sum = Quantity::LinkBytes(LinkCounter::Xgmi, Direction::Receive);
        assert!(readings.iter().any(|reading| reading.quantity == sum && reading.value == 3.0 * 1024.0));
        of_links.collect::<Vec<_>>()
    };
    let read = LinkValue::Bytes(Direction::Receive);
    let expected = [(0, read, 1024.0), (1, read, 2048.0)];
    assert_eq!(links(AmdOptions { per_link: true, ..AmdOptions::default() }), expected);
    assert_eq!(links(AmdOptions { exporter: true, ..AmdOptions::default() }), expected);
    assert!(links(AmdOptions::default()).is_empty());
}

#[test]
fn a_file_that_blocks_for_a_second_is_never_read() {
    let folder = function(TestHost::new(), "0000:05:00.0", "0x740f")
        .file("/sys/bus/pci/devices/0000:05:00.0/pcie_bw", "1 2 256\n")
        .file("/sys/bus/pci/devices/0000:05:00.0/gpu_busy_percent", "1\n");
    let host = folder.open().with_recording();
    let mut probe = Amd::new(AmdOptions { per_process: true, per_link: true, exporter: true });
    probe.discover(&host, &PciBus::read(&host));
    probe.sample(&host, Instant::now());
    let recording = host.recording();
    let paths: Vec<&str> = recording.reads().map(|(path, _)| path).collect();
    assert!(paths.iter().any(|path| path.ends_with("gpu_busy_percent")));
    assert!(!paths.iter().any(|path| path.ends_with("pcie_bw")));
}

#[test]
fn counters_of_the_newer_error_architecture_are_read() {
    let folder = function(TestHost::new(), "0000:05:00.0", "0x740f")
        .file("/sys/bus/pci/devices/0000:05:00.0/ras/aca_umc", "ue: 0\nce: 5\nde: 0\n")
        .file("/sys/bus/pci/devices/0000:05:00.0/ras/mmsch_err_count", "ue: 0\nce: 1\n");
    let host = folder.open();
    let mut probe = Amd::default();
    let findings = probe.discover(&host, &PciBus::read(&host));
    assert!(findings.problems.is_empty());
    let samples = probe.sample(&host, Instant::now()).samples;
    let count = |block| {
        let quantity = Quantity::Errors(ErrorKind::EccCorrectable, ErrorDetail::Block(block));
        samples[0].readings.iter().find(|reading| reading.quantity == quantity).map(|reading| reading.value)
    };
    assert_eq!((count("umc"), count("mmsch"), count("gfx")), (Some(5.0), Some(1.0), None));
    let all = |probe: &mut Amd| {
        let quantity = AmdQuantity::AllErrors(ErrorKind::EccCorrectable).into();
        let samples = probe.sample(&host, Instant::now()).samples;
        samples[0].readings.iter().find(|reading| reading.quantity == quantity).map(|reading| reading.value)
    };
    assert_eq!(all(&mut probe), Some(6.0));
    let _folder = folder
        .file("/sys/bus/pci/devices/0000:05:00.0/ras/mmsch_err_count", "Query currently inaccessible\n");
    assert_eq!(all(&mut probe), None, "without one of the blocks it is no sum of all");
}

#[test]
fn a_device_in_reset_has_unknown_health_and_no_problem() {
    let folder = function(TestHost::new(), "0000:05:00.0", "0x740f")
        .link("/sys/bus/pci/devices/0000:05:00.0/driver", "../../../drivers/amdgpu")
        .file("/sys/bus/pci/devices/0000:05:00.0/ras/umc_err_count", "Query currently inaccessible\n");
    let findings = discovered(&folder);
    assert!(findings.problems.is_empty(), "{:?}", findings.problems);
    let health = &findings.devices[0].health;
    assert_eq!((health.state, health.reasons[0].code.as_str()), (HealthState::Unknown, "ResetInProgress"));
}
