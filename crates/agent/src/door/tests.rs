use afd_derive::vendors::VENDORS;
use afd_model::{AllocationMechanism, PodNetwork};

use super::*;

fn device(bus: u8, uuid: &str) -> Device {
    let address = PciAddress { domain: 0, bus, device: 0, function: 0 };
    let bare = Device::bare(address, VENDORS[0].vendor, VENDORS[0].variant);
    Device { uuid: Known::Value(uuid.to_owned()), ..bare }
}

fn held(device: &Device, namespace: &str, pod: &str) -> Allocation {
    Allocation {
        unit: device.id.into(),
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: "main".to_owned(),
        resource: "example.com/device".to_owned(),
        mechanism: AllocationMechanism::DevicePlugin,
    }
}

/// Pods by namespace, name, partner and the devices that they name.
fn pods(pods: &[(&str, &str, &str, &[&str])]) -> PodNetworks {
    let pod = |(namespace, name, partner, used): &(&str, &str, &str, &[&str])| {
        let network = PodNetwork {
            partner: Some((*partner).to_owned()).filter(|partner| !partner.is_empty()),
            used_devices: used.iter().map(|uuid| (*uuid).to_owned()).collect(),
            ..PodNetwork::default()
        };
        (((*namespace).to_owned(), (*name).to_owned()), network)
    };
    pods.iter().map(pod).collect()
}

/// The pods that are credited with the device that `requester` in `a` holds.
fn credited(known: &[(&str, &str, &str, &[&str])]) -> Vec<String> {
    let devices = [device(1, "GPU-1"), device(2, "GPU-2")];
    let allocations = [held(&devices[0], "a", "requester")];
    let credited = with_partners(&allocations, &pods(known), &devices);
    assert!(credited.contains(&allocations[0]), "never instead of the holder");
    credited.into_iter().map(|held| format!("{}/{}", held.namespace, held.pod)).collect()
}

#[test]
fn the_pod_that_serves_is_credited_beside_the_one_that_holds() {
    let requester = ("a", "requester", "launcher", &["GPU-1"][..]);
    let launcher = ("a", "launcher", "requester", &["GPU-1"][..]);
    assert_eq!(credited(&[requester, launcher]), ["a/launcher", "a/requester"]);
}

#[test]
fn what_a_tenant_writes_credits_no_other_pod() {
    let requester = ("a", "requester", "launcher", &["GPU-1"][..]);
    for (what, known) in [
        ("nothing is known", vec![]),
        ("it was not read", vec![requester]),
        ("it is of another namespace", vec![requester, ("b", "launcher", "requester", &["GPU-1"][..])]),
        (
            "it names a device that the holder does not hold",
            vec![requester, ("a", "launcher", "requester", &["GPU-2"][..])],
        ),
        ("it names another holder", vec![requester, ("a", "launcher", "other", &["GPU-1"][..])]),
        (
            "the holder names another pod",
            vec![("a", "requester", "launcher", &["GPU-1"][..]), ("a", "thief", "requester", &["GPU-1"][..])],
        ),
        (
            "the holder names none",
            vec![("a", "requester", "", &["GPU-1"][..]), ("a", "launcher", "requester", &["GPU-1"][..])],
        ),
        ("it is its own partner", vec![("a", "requester", "requester", &["GPU-1"][..])]),
        ("it names nothing", vec![requester, ("a", "launcher", "requester", &[])]),
    ] {
        assert_eq!(credited(&known), ["a/requester"], "{what}");
    }
}

#[test]
fn a_device_that_is_gone_keeps_its_names() {
    let mut seen = LastSeen::default();
    let mut inventory =
        Inventory { devices: vec![device(1, "GPU-1"), device(2, "GPU-2")], ..Inventory::default() };
    assert!(seen.update(&inventory).is_empty());
    let gone = inventory.devices.remove(1);
    let missing = |id: &str, uuid: Option<&str>, last_id: Option<DeviceId>| MissingDevice {
        id: id.to_owned(),
        probe: VENDORS[0].probe.to_owned(),
        vendor_id: None,
        device_id: None,
        product: None,
        uuid: uuid.map(str::to_owned),
        last_id,
        message: String::new(),
    };
    inventory.missing =
        vec![missing("missing-1", None, Some(gone.id)), missing("missing-2", Some("GPU-7"), None)];
    // Of the third one nothing is known, and the place of the fourth one has another device.
    inventory.missing.push(missing("missing-3", None, None));
    inventory.missing.push(missing("missing-4", None, Some(inventory.devices[0].id)));
    let found = seen.update(&inventory);
    let names: Vec<_> = found
        .iter()
        .map(|gone| {
            (gone.missing.as_deref().unwrap_or_default(), gone.device.uuid.value().map(String::as_str))
        })
        .collect();
    assert_eq!(names, [("missing-1", Some("GPU-2")), ("missing-2", Some("GPU-7"))]);
    let confirmed =
        [("missing-1", "DeviceMissing"), ("0000:01:00.0", "GpuLost"), ("0000:09:00.0", "GpuLost")];
    let confirmed = confirmed
        .map(|(device, reason)| ConfirmedFault { device: device.to_owned(), reason: reason.to_owned() });
    let of_gone =
        [("missing-1".to_owned(), held(&gone, "a", "p")), ("missing-2".to_owned(), held(&gone, "a", "q"))];
    let faults = faults(&confirmed, &inventory, &of_gone);
    assert_eq!(faults.len(), 2, "one of a device that is not known is none: {faults:?}");
    assert!(
        matches!(&faults[0].device, FaultyDevice::Missing { holders, .. } if holders[0].pod == "p" && holders.len() == 1)
    );
    assert_eq!(faults[1].device, FaultyDevice::Present(inventory.devices[0].id));
}

#[test]
fn a_device_that_its_driver_has_lost_keeps_its_names_and_one_that_was_replaced_does_not() {
    let named =
        |uuid: &str| Device { handles: vec![Handle::new(HandleKind::DevicePlugin, uuid)], ..device(1, uuid) };
    let lost = Device { uuid: Known::default(), handles: Vec::new(), ..device(1, "") };
    let mut seen = LastSeen::default();
    let mut update = |device: &Device| {
        let inventory = Inventory { devices: vec![device.clone()], ..Inventory::default() };
        let former = seen.update(&inventory);
        former.into_iter().map(|former| (former.missing, former.device)).collect::<Vec<_>>()
    };
    assert_eq!(update(&named("GPU-1")), []);
    assert_eq!(update(&lost), [(None, named("GPU-1"))]);
    assert_eq!(update(&lost), [(None, named("GPU-1"))], "as long as it is lost");
    assert_eq!(update(&named("GPU-2")), []);
    let mut other = lost.clone();
    other.pci.device_id = Known::Value(afd_model::PciId(1));
    assert_eq!(update(&other), [], "another model");
}
