use super::*;

fn redacted(files: &[(&str, &str)]) -> Vec<String> {
    let reads: Vec<_> =
        files.iter().map(|(path, text)| (*path, RecordedRead::File(text.as_bytes().to_vec()))).collect();
    let redaction = Redaction::new(reads.iter().map(|(path, read)| (*path, read)));
    files
        .iter()
        .map(|(path, text)| {
            String::from_utf8(redaction.apply(path, text.as_bytes())).expect("redaction keeps UTF-8")
        })
        .collect()
}

#[test]
fn secrets_keep_their_form() {
    assert_eq!(
        redacted(&[
            ("/a/serial_number", "692234000123\n"),
            ("/b/address", "3c:6d:66:1f:aa:01\n"),
            ("/c/information", "Model: \t Tesla T4\nGPU UUID: \t GPU-eaf23aa1-4d3d-596c-da66-b86b0e5db584\n"),
            ("/d/hostname", "gpu-node-7\n"),
            ("/e/vendor", "0x10de\n"),
        ]),
        [
            "000000000001\n",
            "00:00:00:00:00:02\n",
            "Model: \t Tesla T4\nGPU UUID: \t GPU-00000000-0000-0000-0000-000000000003\n",
            "xxx-xxxx-4\n",
            "0x10de\n",
        ]
    );
}

#[test]
fn names_without_digits_stay_different() {
    let names: Vec<String> = ('m'..='w').map(|letter| letter.to_string().repeat(3)).collect();
    let containers = names.iter().map(|name| json!({ "pod": name, "namespace": "team" })).collect();
    let redacted = Redaction::default().apply_to_responses(Value::Array(containers));
    let pods: Vec<&str> =
        redacted.as_array().into_iter().flatten().filter_map(|own| own["pod"].as_str()).collect();
    assert_eq!((pods[0], pods[1], pods[10]), ("xx2", "xx3", "x12"));
    assert_eq!(redacted[0]["namespace"], redacted[10]["namespace"]);
}

#[test]
fn error_records_do_not_identify_the_board() {
    let mut ring = vec![0; 12];
    ring.extend(b"CPER\0\x01\xff\xff\xff\xff");
    ring.resize(12 + 20, 0);
    ring.extend(160_u32.to_le_bytes());
    ring.resize(12 + 140, 0);
    ring.extend(b"SERIAL-1");
    ring.resize(12 + 160, 0);
    let blank = Redaction::default().apply("/sys/kernel/debug/dri/0/amdgpu_ring_cper", &ring);
    assert_eq!(afd_amd::cper::parse(&blank), afd_amd::cper::parse(&ring));
    assert!(!String::from_utf8_lossy(&blank).contains("SERIAL"));
}

#[test]
fn a_library_may_spell_a_secret_in_another_way() {
    let unique_id = RecordedRead::File(b"afd0000000000001\n".to_vec());
    let mut redaction = Redaction::new([("/drm/unique_id", &unique_id)].into_iter());
    let responses = redaction.apply_to_responses(json!({
        "amdsmi_get_gpu_asic_info": { "value": { "market_name": "MI300X", "asic_serial": "0xAFD0000000000001" } },
        "rsmi_dev_unique_id_get": { "value": 0xafd0_0000_0000_0001_u64 },
        "amdsmi_get_gpu_device_uuid": { "error": "NOT_SUPPORTED" },
    }));
    let asic = &responses["amdsmi_get_gpu_asic_info"]["value"];
    assert_eq!(asic["asic_serial"], "0x0000000000000001");
    assert_eq!(asic["market_name"], "MI300X");
    assert_eq!(responses["rsmi_dev_unique_id_get"]["value"], 1);
    assert_eq!(responses["amdsmi_get_gpu_device_uuid"]["error"], "NOT_SUPPORTED");
}

#[test]
fn a_secret_stays_the_same_in_decimal_and_in_hexadecimal() {
    let texts = redacted(&[
        ("/drm/unique_id", "e3aa140f9a5f9e31\n"),
        ("/kfd/properties", "simd_count 304\nunique_id 16404946649897475633\nhive_id 0\n"),
        ("/drm2/unique_id", "2250f807caf2231a\n"),
        ("/drm3/unique_id", "00000000499602d2\n"),
        ("/kfd3/properties", "unique_id 1234567890\n"),
    ]);
    assert_eq!(texts[0], "0000000000000001\n");
    assert_eq!(texts[1], "simd_count 304\nunique_id 1\nhive_id 0\n");
    assert_eq!(texts[2], "0000000000000002\n");
    assert_eq!(texts[3..], ["0000000000000003\n", "unique_id 3\n"]);
}

#[test]
fn the_domain_of_a_fabric_is_replaced_and_the_same_everywhere() {
    let mut redaction = Redaction::default();
    let fabric = |uuid: &str| json!({ "value": { "clusterUuid": uuid, "cliqueId": 32766, "state": 3 } });
    let responses = redaction.apply_to_responses(json!({ "devices": [
        { "answers": { "nvmlDeviceGetGpuFabricInfoV": fabric("c0ffee00afd0400080000000000000c1") } },
        { "answers": { "nvmlDeviceGetGpuFabricInfoV": fabric("c0ffee00afd0400080000000000000c1") } },
        { "answers": { "nvmlDeviceGetGpuFabricInfo": fabric("c0ffee00afd0400080000000000000c2") } },
        { "answers": { "nvmlDeviceGetGpuFabricInfoV": fabric("00000000000000000000000000000000") } },
    ] }));
    assert!(!responses.to_string().contains("c0ffee"));
    let uuids: Vec<&str> = responses["devices"]
        .as_array()
        .expect("devices are a list")
        .iter()
        .flat_map(|device| device["answers"].as_object().expect("answers are an object").values())
        .map(|fabric| fabric["value"]["clusterUuid"].as_str().expect("it is a string"))
        .collect();
    assert_eq!(uuids[0], "00000000000000000000000000000001");
    assert_eq!((uuids[1], uuids[2]), (uuids[0], "00000000000000000000000000000002"));
    assert_eq!(uuids[3], "0".repeat(32), "a GPU without a fabric");
}

#[test]
fn what_names_a_port_a_switch_or_the_machine_is_replaced() {
    let secret = |path: &str, text: &str| {
        let redacted = redacted(&[(path, text)]).remove(0);
        assert!(redacted.ends_with("1\n") && redacted.len() == text.len(), "{path}: {redacted}");
        assert_ne!(redacted, text);
    };
    secret("/sys/class/infiniband/mlx5_0/node_guid", "946d:ae03:00f1:2a5c\n");
    secret("/sys/class/infiniband/mlx5_0/ports/1/gids/0", "fe80:0000:0000:0000:946d:ae03:00f1:2a5c\n");
    secret("/sys/class/net/eth0/phys_switch_id", "946dae0300f12a5c\n");
    secret("/sys/class/dmi/id/board_asset_tag", "RACK-42-17\n");
    secret("/etc/machine-id", "946dae0300f12a5c946dae0300f12a5c\n");
    let unset = "0000:0000:0000:0000\n";
    assert_eq!(redacted(&[("/sys/class/infiniband/irdma0/node_guid", unset)]), [unset]);
}

#[test]
fn secrets_that_are_not_utf_8_are_replaced() {
    let redacted = |path: &str, content: &[u8]| {
        let read = RecordedRead::File(content.to_vec());
        Redaction::new([(path, &read)].into_iter()).apply(path, content)
    };
    for path in ["/a/serial_number", "/sys/class/infiniband/mlx5_0/ports/1/gids/0"] {
        assert_eq!(redacted(path, b"S3CR\xfe7\n"), b"x0xx\xff1\n");
    }
    assert_eq!(redacted("/a/serial_number", b"\xfe\xfd\n"), b"\xff\xff\n");
    assert_eq!(
        redacted("/c/information", b"Model: \xfe\nGPU UUID: \t S3CR\xfe7\nX: \xfd\n"),
        b"Model: \xfe\nGPU UUID: \t x0xx\xff1\nX: \xfd\n"
    );
}

#[test]
fn who_built_a_module_and_where_is_replaced() {
    let version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.71.05  Release Build  (root@gpu-7.example)  Fri\n\
                   GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n";
    let expected = version.replace("root@gpu-7.example", "xxxx@xxx-1.xxxxxxx");
    assert_eq!(redacted(&[("/proc/driver/nvidia/version", version)]), [expected]);
    let linux = "Linux version 6.8.0 (buildd@lcy02-amd64-115) (x86_64-linux-gnu-gcc-13) #1 SMP\n";
    assert!(!redacted(&[("/proc/version", linux)])[0].contains("lcy02"));
}

#[test]
fn a_unit_keeps_only_the_limit_of_locked_memory() {
    let path = "/etc/systemd/system/containerd.service.d/http-proxy.conf";
    let text = "[Service]\nEnvironment=\"HTTP_PROXY=http://user:pass@proxy.corp:3128\"\nLimitMEMLOCK=64M\n";
    assert_eq!(redacted(&[(path, text)]), ["[Service]\nLimitMEMLOCK=64M\n"]);
}

#[test]
fn a_secret_in_a_path_is_the_same_as_in_files() {
    let guid = "6d71a2f4-1111-2222-3333-444444444444";
    let uevent = RecordedRead::File(format!("DEVICE={{{guid}}}\n").into_bytes());
    let mut redaction = Redaction::new([("/sys/uevent", &uevent)].into_iter());
    let placeholder = "00000000-0000-0000-0000-000000000001";
    assert_eq!(
        redaction.path(&format!("../VMBUS:00/{}/pci6d71:00/6d71:00:00.0", guid.to_uppercase())),
        format!("../VMBUS:00/{placeholder}/pci6d71:00/6d71:00:00.0")
    );
    assert_eq!(redaction.path("/sys/class/net/enx3c6d661faa01/"), "/sys/class/net/enx000000000002/");
    assert_eq!(
        redaction.path("/a/00000000-0000-0000-0000-000000000000"),
        "/a/00000000-0000-0000-0000-000000000000"
    );
    let RecordedRead::File(content) = &uevent else { unreachable!("it is a file") };
    assert_eq!(redaction.apply("/sys/uevent", content), format!("DEVICE={{{placeholder}}}\n").into_bytes());
}
