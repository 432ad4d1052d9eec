use afd_model::{Partition, PartitionName, PciAddress, Variant, Vendor};
use serde_json::json;

use super::*;

fn device(bus: u8) -> Device {
    let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
    let mut device = Device::bare(address, Vendor::Amd, Variant::Gpu);
    device.product = Missing::Unrecognized.into();
    device
}

fn findings(devices: Vec<Device>) -> Findings {
    Findings { devices, ..Findings::default() }
}

/// The report of AMD SMI with these answers on the devices of buses 1, 2, ...
fn report(devices: &[serde_json::Value]) -> AmdReport {
    let devices: Vec<_> = (1..)
        .zip(devices)
        .map(|(bus, answers)| {
            let mut answers = answers.clone();
            answers[amd::BDF.symbol] = json!({ "value": bus << 8 });
            json!({ "answers": answers })
        })
        .collect();
    serde_json::from_value(json!({ "system": { "amdsmi_init": { "value": null } }, "devices": devices }))
        .expect("it is a report")
}

#[test]
fn a_name_of_the_library_solves_the_problem_of_an_unknown_product() {
    let mut findings = findings(vec![device(1)]);
    findings.problems.push(Problem {
        probe: "amd".to_owned(),
        device: Some(findings.devices[0].id),
        fact: "product".to_owned(),
        reason: Missing::Unrecognized,
        path: None,
        message: "device id 75ff is not in the table".to_owned(),
    });
    let asic = json!({ "value": { "market_name": "AMD Instinct MI999X", "asic_serial": "0x0" } });
    enrich(&mut findings, &report(&[json!({ ASIC_INFO.symbol: asic })]));
    assert_eq!(findings.devices[0].product_name(), Some("AMD Instinct MI999X"));
    assert!(findings.problems.is_empty(), "{:?}", findings.problems);
    assert!(findings.devices[0].handles.is_empty(), "a serial of zeros is none");
}

#[test]
fn what_the_kernel_reports_takes_precedence() {
    let kernel = |text: &str| Known::Value(text.to_owned());
    let mut known = device(1);
    (known.uuid, known.firmware_version) = (kernel("kernel-uuid"), kernel("113-KERNEL"));
    (known.driver_version, known.memory_bytes) = (kernel("6.12.12"), Known::Value(7));
    let mut findings = findings(vec![known]);
    let answers = json!({
        "amdsmi_get_gpu_device_uuid": { "value": "e3ff74a1-0000-1000-80a9-f00d00000001" },
        "amdsmi_get_gpu_memory_total(0)": { "value": 8 },
        "amdsmi_get_gpu_driver_info": { "value": { "driver_version": "6.16.6" } },
        VBIOS_INFO.symbol: { "value": { "part_number": "113-LIBRARY", "version": "022.040" } },
    });
    enrich(&mut findings, &report(&[answers]));
    let device = &findings.devices[0];
    assert_eq!(device.uuid, kernel("kernel-uuid"));
    assert_eq!(device.firmware_version, kernel("113-KERNEL"));
    assert_eq!(device.driver_version, kernel("6.12.12"));
    assert_eq!(device.memory_bytes, Known::Value(7));
    let handles: Vec<&str> = device.handles.iter().map(|handle| handle.value.as_str()).collect();
    assert_eq!(handles, ["e3ff74a1-0000-1000-80a9-f00d00000001"], "the library's own spelling is a handle");
}

#[test]
fn a_uuid_of_zeros_and_a_name_that_is_a_number_are_none() {
    let mut findings = findings(vec![device(1)]);
    let answers = json!({
        "amdsmi_get_gpu_device_uuid": { "value": "00ff74b5-0000-1000-8000-000000000000" },
        ASIC_INFO.symbol: { "value": { "market_name": "0x74b5", "asic_serial": "N/A" } },
    });
    enrich(&mut findings, &report(&[answers]));
    assert!(!findings.devices[0].uuid.is_known());
    assert_eq!(findings.devices[0].product.missing(), Some(Missing::Unrecognized));
}

#[test]
fn links_are_taken_from_the_library_where_the_kernel_reports_none() {
    let linked = |findings: &mut Findings| {
        let answers = json!({
            "amdsmi_topo_get_link_type(1)": { "value": { "hops": 1, "type": 2 } },
            "amdsmi_topo_get_link_weight(1)": { "value": 15 },
            "amdsmi_topo_get_link_type(2)": { "value": { "hops": 2, "type": 1 } },
        });
        enrich(findings, &report(&[answers, json!({}), json!({})]));
    };
    let mut bare = findings(vec![device(1), device(2), device(3)]);
    linked(&mut bare);
    assert_eq!(bare.links.len(), 1);
    let link = bare.links.remove(0);
    assert_eq!((link.a, link.b), (bare.devices[0].id, bare.devices[1].id));
    assert_eq!((link.kind, link.weight), (LinkKind::Xgmi, Known::Value(15)));
    assert_eq!(bare.devices[1].interconnect, Known::Value(LinkKind::Xgmi));
    assert!(!bare.devices[2].interconnect.is_known(), "PCIe is no link");

    let mut reported = findings(vec![device(1), device(2), device(3)]);
    let of_kernel = [Link { weight: Known::Value(13), ..link }];
    reported.links = of_kernel.to_vec();
    linked(&mut reported);
    assert_eq!(reported.links, of_kernel);
}

#[test]
fn a_link_that_the_library_could_not_report_leaves_their_number_unknown() {
    let mut bare = findings(vec![device(1), device(2), device(3)]);
    bare.devices[2].interconnect = Known::Value(LinkKind::Pcie);
    let answers = json!({
        "amdsmi_topo_get_link_type(1)": { "error": 34 },
        "amdsmi_topo_get_link_type(2)": { "error": 34 },
    });
    enrich(&mut bare, &report(&[answers, json!({}), json!({})]));
    let unread = |device: &Device| device.linked_devices.missing().is_some_and(Missing::is_undecided);
    assert_eq!(
        bare.devices.iter().map(unread).collect::<Vec<_>>(),
        [true, true, false],
        "the kernel knows the last"
    );
}

#[test]
fn the_memory_of_a_first_partition_is_not_the_devices() {
    let memory_with = |partitions: u32| {
        let mut device = device(1);
        device.partitions =
            (0..partitions).map(|number| Partition::bare(device.id, PartitionName::Xcp(number))).collect();
        let mut findings = findings(vec![device]);
        enrich(&mut findings, &report(&[json!({ "amdsmi_get_gpu_memory_total(0)": { "value": 9 } })]));
        findings.devices.remove(0).memory_bytes
    };
    assert_eq!(memory_with(0), Known::Value(9));
    assert!(!memory_with(2).is_known());
}
