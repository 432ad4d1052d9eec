//! Hosts as users have reported them.

use super::*;

fn bound(folder: TestHost, address: &str, driver: &str) -> TestHost {
    folder.link(&format!("/sys/bus/pci/devices/{address}/driver"), &format!("../../../drivers/{driver}"))
}

fn amd(device: &Device) -> &afd_model::AmdFacts {
    device.amd().expect("it is AMD's")
}

#[test]
fn virtual_functions_in_one_slot_are_whole_devices() {
    let mut folder = TestHost::new();
    for function_number in 0..3_u32 {
        folder = function(folder, &format!("0000:00:0b.{function_number}"), "0x75b0");
        let location = 0x58 + function_number;
        folder = node(folder, 5 + function_number, &format!("location_id {location}\ndomain 0\n"), 1 << 35);
    }
    let findings = discovered(&folder);
    assert_eq!(findings.devices.len(), 3);
    for (device, number) in findings.devices.iter().zip(5..) {
        assert!(device.partitions.is_empty(), "{device:?}");
        assert_eq!(device.handle(HandleKind::KfdNode), Some(number.to_string().as_str()));
        assert_eq!(amd(device).compute_units, Known::Value(38));
        assert_eq!(device.memory_bytes, Known::Value(1 << 35));
    }
}

#[test]
fn the_memory_of_kfd_is_undecided_while_kfd_cannot_be_read() {
    let address = "0000:c4:00.0";
    let of = |id: &str, drm: &str| {
        let folder = bound(function(TestHost::new(), address, id), address, "amdgpu");
        folder.file(&format!("/sys/bus/pci/devices/{address}/mem_info_vram_total"), drm)
    };
    let node = |folder: TestHost| node(folder, 1, &format!("location_id {}\ndomain 0\n", 0xc400), 1 << 37);
    let memory = |folder: TestHost| discovered(&folder).devices.remove(0).memory_bytes;
    let nodes = "/sys/class/kfd/kfd/topology/nodes";
    // A processor, an MI300A, and a virtual function.
    for (id, drm) in [("0x15bf", "536870912\n"), ("0x74a0", "0\n"), ("0x74b9", "0\n")] {
        let missing = |folder: TestHost| memory(folder).missing();
        assert_eq!(memory(node(of(id, drm))), Known::Value(1 << 37), "{id}");
        let undecided = Some(Missing::Unreadable);
        assert_eq!(missing(of(id, drm).file(&format!("{nodes}/1/properties/no"), "")), undecided, "{id}");
        assert_eq!(missing(of(id, drm).file(nodes, "")), undecided, "{id}");
        let bank = format!("{nodes}/1/mem_banks/1/properties");
        assert_eq!(missing(node(of(id, drm)).file(&bank, "no\n")), Some(Missing::Malformed), "{id}");
        let of_another = node(of(id, drm)).file(&format!("{nodes}/2/properties/no"), "");
        assert_eq!(memory(of_another), Known::Value(1 << 37), "{id}: its own node is all of it");
    }
    let own = of("0x74a5", "274877906944\n").file(&format!("{nodes}/1/properties/no"), "");
    assert_eq!(memory(own), Known::Value(1 << 38), "it is not of KFD");
}

#[test]
fn the_memory_is_that_which_rocm_can_allocate() {
    let with = |id: &str, drm: Option<&str>, kfd: u64| {
        let mut folder = function(TestHost::new(), "0000:c4:00.0", id);
        if let Some(drm) = drm {
            folder = folder.file("/sys/bus/pci/devices/0000:c4:00.0/mem_info_vram_total", drm);
        }
        node(folder, 1, &format!("location_id {}\ndomain 0\n", 0xc400), kfd)
    };
    let memory = |folder: &TestHost| {
        let device = discovered(folder).devices.remove(0);
        (device.memory_bytes.into_value(), device.memory_source.into_value())
    };
    let (drm, kfd) = (Some(MemorySource::Drm), Some(MemorySource::Kfd));
    // An MI300A, of which the DRM driver reports nothing, and a virtual function without its file.
    assert_eq!(memory(&with("0x74a0", Some("0\n"), 1 << 37)), (Some(1 << 37), kfd));
    assert_eq!(memory(&with("0x74b9", None, 1 << 38)), (Some(1 << 38), kfd));
    // A board with memory of its own, and a figure that cannot be read now.
    assert_eq!(memory(&with("0x74a5", Some("274877906944\n"), 1 << 37)), (Some(1 << 38), drm));
    assert_eq!(memory(&with("0x74a5", Some("many\n"), 1 << 37)), (None, None));
    // A processor: Phoenix, with 512 MiB set aside.
    let phoenix = with("0x15bf", Some("536870912\n"), 48 << 30);
    assert_eq!(memory(&phoenix), (Some(48 << 30), kfd));
    let used = |folder: TestHost| {
        let folder = folder
            .file("/sys/bus/pci/devices/0000:c4:00.0/mem_info_vram_used", "4096\n")
            .file("/sys/bus/pci/devices/0000:c4:00.0/mem_info_gtt_used", "8192\n");
        let host = folder.open();
        let mut probe = Amd::default();
        probe.discover(&host, &PciBus::read(&host));
        probe.sample(&host, Instant::now()).samples.remove(0).readings.remove(0)
    };
    let gtt = "/sys/bus/pci/devices/0000:c4:00.0/mem_info_gtt_total";
    let reading = |value| Reading { quantity: Quantity::MemoryUsedBytes, value };
    assert_eq!(used(phoenix.file(gtt, "51539607552\n")), reading(8192.0), "of the same pool");
    let of_four_sockets = with("0x74a0", Some("0\n"), 1 << 37).file(gtt, "549755813888\n");
    assert_eq!(used(of_four_sockets), reading(8192.0), "KFD ascribes a part of the pool to each");
    assert_eq!(used(with("0x74a5", Some("274877906944\n"), 1 << 38).file(gtt, "1024\n")), reading(4096.0));
}

#[test]
fn the_model_of_a_shared_id_follows_from_board_or_compute_units() {
    // 38 compute units: neither of the two models, so that the board decides alone.
    let with = |board: &str| {
        let folder = function(TestHost::new(), "0000:2f:00.0", "0x740c")
            .file("/sys/bus/pci/devices/0000:2f:00.0/product_name", board);
        node(folder, 2, "location_id 12032\n", 1 << 36)
    };
    let model = |folder: &TestHost| {
        let device = discovered(folder).devices.remove(0);
        device.product.into_value().and_then(|product| product.model.into_value())
    };
    assert_eq!(model(&with("AMD INSTINCT MI250X OAM\n")).as_deref(), Some("MI250X"));
    assert_eq!(model(&with("D65209\n")), None);
    let units = with("D65209\n").file(
        "/sys/class/kfd/kfd/topology/nodes/2/properties",
        "simd_count 416\nsimd_per_cu 4\nlocation_id 12032\n",
    );
    assert_eq!(model(&units).as_deref(), Some("MI250"));
}

#[test]
fn a_throttle_bit_that_a_sensor_contradicts_is_not_believed() {
    let judged = |celsius: &str| {
        let mut table = vec![0xff; 120];
        table[..4].copy_from_slice(&[120, 0, 1, 3]);
        table[112..120].copy_from_slice(&(1_u64 << 34 | 1 << 36).to_le_bytes());
        let hwmon = "/sys/bus/pci/devices/0000:07:00.0/hwmon/hwmon5";
        let mut folder = function(TestHost::new(), "0000:07:00.0", "0x744c")
            .file("/sys/bus/pci/devices/0000:07:00.0/gpu_metrics", table)
            .file(&format!("{hwmon}/name"), "amdgpu\n");
        for sensor in 2..=3 {
            folder = folder
                .file(&format!("{hwmon}/temp{sensor}_input"), celsius)
                .file(&format!("{hwmon}/temp{sensor}_crit"), "105000\n");
        }
        let folder = bound(folder, "0000:07:00.0", "amdgpu");
        let host = folder.open();
        let mut probe = Amd::default();
        let health = probe.discover(&host, &PciBus::read(&host)).devices.remove(0).health.state;
        let sampling = probe.sample(&host, Instant::now());
        let readings = sampling.samples.into_iter().flat_map(|sample| sample.readings);
        let active = readings
            .filter(|reading| matches!(reading.quantity, Quantity::Throttled(_)) && reading.value > 0.0)
            .count();
        (health, active)
    };
    assert_eq!(judged("44000\n"), (HealthState::Unknown, 0), "no cause, and so none at all");
    assert_eq!(judged("103000\n"), (HealthState::Degraded, 3), "any, and the two causes");
}

#[test]
fn the_version_is_that_of_the_driver_that_is_bound() {
    let version = |driver: &str| {
        let folder = function(TestHost::new(), "0000:46:00.0", "0x74a5")
            .file("/sys/module/amdgpu/version", "6.14.14\n")
            .file("/sys/module/gim/version", "9.0.1.K+a1b2c3\n");
        amd(&discovered(&bound(folder, "0000:46:00.0", driver)).devices[0]).module_version.clone()
    };
    assert_eq!(version("amdgpu"), Known::Value("6.14.14".to_owned()));
    assert_eq!(version("gim"), Known::Value("9.0.1.K".to_owned()), "as AMD's labeller cuts it");
    assert_eq!(version("vfio-pci").missing(), Some(Missing::DriverNotBound));
}
