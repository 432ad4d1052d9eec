use afd_host::testing::TestHost;
use afd_model::{HandleKind, LinkKind, MemorySource, Partitioning, Quantity};

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
fn the_console_of_a_server_is_no_accelerator() {
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
            compute: "CPX".to_owned(),
            memory: Known::Value("NPS4".to_owned())
        })
    );
    let ids: Vec<_> = device.partitions.iter().map(|partition| partition.id.as_str()).collect();
    assert_eq!(ids, ["0000:05:00.0/xcp0", "0000:05:00.0/xcp1"]);
    assert_eq!(device.partitions[1].compute_units, Known::Value(38));
    assert!(device.partitions[1].handles.iter().any(|handle| handle.kind == HandleKind::XcpDevice));
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
