use std::collections::BTreeSet;

use afd_model::{
    AllocationMechanism, Device, Engine, Inventory, Partition, PartitionName, PciAddress, Quantity, Reading,
    Sample, Sampling,
};
use prometheus::{Encoder, TextEncoder};
use proptest::prelude::*;

use super::*;
use crate::{
    series::{InCluster, SeriesDetail},
    vendors::VENDORS,
};

fn text(families: &[MetricFamily]) -> String {
    let mut text = Vec::new();
    TextEncoder::new().encode(families, &mut text).expect("families have series");
    String::from_utf8(text).expect("it is text")
}

fn held(unit: UnitId, pod: &str) -> Allocation {
    Allocation {
        unit,
        namespace: "ml".to_owned(),
        pod: pod.to_owned(),
        container: "main".to_owned(),
        resource: "example.com/device".to_owned(),
        mechanism: AllocationMechanism::DevicePlugin,
    }
}

/// A device of some vendor with two partitions.
fn device(number: u8) -> Device {
    let record = VENDORS[usize::from(number) % VENDORS.len()];
    let address = PciAddress { domain: 0, bus: number + 1, device: 0, function: 0 };
    let mut device = Device::bare(address, record.vendor, record.variant);
    device.partitions =
        [0, 1].map(|part| Partition::bare(device.id, PartitionName::Xcp(part))).into_iter().collect();
    device
}

/// The device, or one of its partitions.
fn unit(device: &Device, part: u8) -> UnitId {
    device.partitions.get(usize::from(part)).map_or_else(|| device.id.into(), |part| part.id.into())
}

fn missing(number: u8) -> MissingDevice {
    MissingDevice {
        id: format!("missing-{number}"),
        probe: VENDORS[0].probe.to_owned(),
        vendor_id: None,
        device_id: None,
        product: None,
        uuid: Some(format!("u-{number}")),
        last_id: None,
        message: String::new(),
    }
}

fn door(
    inventory: &Inventory,
    samples: &[Sample],
    allocations: &[Allocation],
    faults: &[DoorFault],
) -> String {
    let page = CompatInput { inventory, samples, allocations, node: Some("a") };
    text(&door_families(&DoorInput { page, faults }))
}

#[test]
fn a_failed_device_is_busy_for_the_pods_that_hold_it_and_otherwise_as_it_was_read() {
    let inventory = Inventory { devices: vec![device(0), device(1)], ..Inventory::default() };
    let [first, second] = [0, 1].map(|index| UnitId::from(inventory.devices[index].id));
    let reading = Reading { quantity: Quantity::Utilization(Engine::Compute), value: 0.07 };
    let samples = [first, second].map(|unit| Sample { unit, readings: vec![reading] });
    let fault =
        |id: UnitId| DoorFault { device: FaultyDevice::Present(id.device), reason: "NeedsReset".to_owned() };
    let values = |allocations: &[Allocation], faults: &[DoorFault]| -> Vec<String> {
        let text = door(&inventory, &samples, allocations, faults);
        let lines = text.lines().filter(|line| line.starts_with("DCGM_FI_DEV_GPU_UTIL{"));
        lines
            .map(|line| {
                let pod = line.split("pod=\"").nth(1).and_then(|rest| rest.split('"').next());
                let synthetic = if line.contains("afd_synthetic=\"NeedsReset\"") { "!" } else { "" };
                format!("{} {}{synthetic}", pod.unwrap_or("?"), line.rsplit(' ').next().unwrap_or("?"))
            })
            .collect()
    };
    assert_eq!(values(&[], &[fault(second)]), [" 7", " 7"], "nothing holds it");
    let pods = [held(second, "p"), held(second, "q"), held(first, "r")];
    assert_eq!(values(&pods, &[fault(second)]), ["r 7", "p 100!", "q 100!"]);
    assert_eq!(values(&pods, &[]), ["r 7", "p 7", "q 7"], "it is turned off");
    // One that was not sampled, as a device that its driver has lost.
    let gone = device(2);
    let lost = Inventory { devices: vec![gone.clone()], ..Inventory::default() };
    let of_lost = [held(gone.id.into(), "p")];
    assert!(door(&lost, &[], &of_lost, &[fault(gone.id.into())]).contains("} 100\n"));
    assert_eq!(door(&lost, &[], &of_lost, &[]), "");
}

#[test]
fn a_missing_device_is_busy_for_the_pod_that_still_holds_it() {
    let of = |holders: Vec<Allocation>| {
        let device = FaultyDevice::Missing { device: missing(1), holders };
        let fault = DoorFault { device, reason: "DeviceMissing".to_owned() };
        door(&Inventory::default(), &[], &[], &[fault])
    };
    assert_eq!(of(Vec::new()), "");
    let text = of(vec![held(device(1).id.into(), "decode")]);
    let series = "DCGM_FI_DEV_GPU_UTIL{gpu=\"missing-1\",UUID=\"u-1\",modelName=\"\",Hostname=\"a\",pod=\"decode\",\
                  namespace=\"ml\",container=\"main\",afd_synthetic=\"DeviceMissing\"} 100\n";
    assert!(text.ends_with(series), "{text}");
}

/// A device by its number, and one of its partitions, which is the device itself for 2.
type Part = (u8, u8);

proptest! {
    #[test]
    fn nothing_synthetic_is_anywhere_but_on_the_door_and_there_only_for_held_devices_with_a_fault(
        sampled in prop::collection::btree_map((0_u8..6, 0_u8..3), 0.0..1.0, 0..12),
        allocated in prop::collection::btree_set(((0_u8..6, 0_u8..3), 0_u8..3), 0..12),
        faulty in prop::collection::btree_set(0_u8..6, 0..6),
        gone in prop::collection::btree_map(0_u8..3, any::<bool>(), 0..3),
    ) {
        let devices: Vec<Device> = (0..6).map(device).collect();
        let inventory = Inventory { devices: devices.clone(), ..Inventory::default() };
        let unit = |(number, part): Part| unit(&devices[usize::from(number)], part);
        let samples: Vec<Sample> = sampled
            .iter()
            .map(|(part, value)| {
                let engines = [Engine::Compute, Engine::Graphics];
                let readings = engines
                    .map(|engine| Reading { quantity: Quantity::Utilization(engine), value: *value });
                Sample { unit: unit(*part), readings: readings.into() }
            })
            .collect();
        let allocations: Vec<Allocation> =
            allocated.iter().map(|(part, pod)| held(unit(*part), &format!("pod-{pod}"))).collect();
        let present = faulty.iter().map(|number| DoorFault {
            device: FaultyDevice::Present(devices[usize::from(*number)].id),
            reason: "GpuLost".to_owned(),
        });
        let missing = gone.iter().map(|(number, is_held)| {
            let holders = if *is_held { vec![held(devices[0].id.into(), "old")] } else { Vec::new() };
            DoorFault {
                device: FaultyDevice::Missing { device: missing(*number), holders },
                reason: "DeviceMissing".to_owned(),
            }
        });
        let faults: Vec<DoorFault> = present.chain(missing).collect();

        let page = CompatInput { inventory: &inventory, samples: &samples, allocations: &allocations, node: None };
        let own = InCluster { allocations: Some(&allocations), ..InCluster::default() };
        let sampling = Sampling { samples: samples.clone(), ..Sampling::default() };
        let mut others = text(&series::families(&inventory, &sampling, &own, &[], SeriesDetail::default()));
        for set in CompatSet::all() {
            others += &text(&set.metric_families(&page));
        }
        prop_assert!(!others.contains(SYNTHETIC_LABEL), "{}", others);

        let door = text(&door_families(&DoorInput { page, faults: &faults }));
        let is_synthetic = |line: &&str| line.contains(SYNTHETIC_LABEL);
        for line in door.lines().filter(is_synthetic) {
            prop_assert!(line.starts_with("DCGM_FI_DEV_GPU_UTIL{") && line.ends_with("} 100"), "{}", line);
            prop_assert!(!line.contains("pod=\"\""), "{}", line);
        }
        let expected = allocated.iter().filter(|((number, _), _)| faulty.contains(number)).count()
            + gone.values().filter(|is_held| **is_held).count();
        prop_assert_eq!(door.lines().filter(is_synthetic).count(), expected, "{}", door);
        // What is not synthetic is what was read, and no two series are equal.
        let without = text(&door_families(&DoorInput { page, faults: &[] }));
        let mut series = BTreeSet::new();
        for line in door.lines().filter(|line| !line.starts_with('#')) {
            prop_assert!(is_synthetic(&line) || without.lines().any(|read| read == line), "{}", line);
            prop_assert!(series.insert(line.rsplit_once(' ').map(|(labels, _)| labels)), "{}", line);
        }
    }
}
