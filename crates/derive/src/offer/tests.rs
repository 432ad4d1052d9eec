use std::collections::{BTreeMap, BTreeSet};

use afd_model::{
    DeviceId, Health, OfferedUnit, Partition, PartitionName, PciAddress, PublishedOffers, ResourceCount,
    Variant, Vendor,
};

use super::*;

const GPU: &str = "nvidia.com/gpu";
const DRIVER: &str = "gpu.nvidia.com";

fn id(bus: u8) -> DeviceId {
    PciAddress { domain: 0, bus, device: 0, function: 0 }.into()
}

fn gpus(count: u8) -> Inventory {
    let devices = (1..=count).map(|bus| Device::bare(id(bus).0, Vendor::Nvidia, Variant::Gpu));
    Inventory { devices: devices.collect(), ..Inventory::default() }
}

fn resources(counts: &[(&str, u64, u64)]) -> Option<BTreeMap<String, ResourceCount>> {
    let counts = counts.iter().map(|(name, capacity, allocatable)| {
        ((*name).to_owned(), ResourceCount { capacity: *capacity, allocatable: *allocatable })
    });
    Some(counts.collect())
}

fn units(by: &str, buses: &[u8]) -> BTreeSet<OfferedUnit> {
    let unit = |bus: &u8| OfferedUnit { by: by.to_owned(), unit: id(*bus).into() };
    buses.iter().map(unit).collect()
}

fn published(buses: &[u8]) -> Option<PublishedOffers> {
    let drivers = BTreeSet::from([DRIVER.to_owned()]);
    Some(PublishedOffers { units: units(DRIVER, buses), drivers, ..PublishedOffers::default() })
}

fn no_slices() -> Option<PublishedOffers> {
    Some(PublishedOffers::default())
}

fn compared(inventory: &Inventory, offers: &Offers) -> (Option<&'static str>, String) {
    let offered = offered(inventory, offers, false);
    let verdict = match offered.verdict {
        OfferVerdict::Complete => "complete".to_owned(),
        OfferVerdict::Unknown => "unknown".to_owned(),
        OfferVerdict::Incomplete(message) => format!("incomplete: {message}"),
        OfferVerdict::Duplicate(message) => format!("duplicate: {message}"),
    };
    (offered.allocation.value().copied(), verdict)
}

#[track_caller]
fn check(inventory: &Inventory, offers: &Offers, allocation: Option<&str>, verdict: &str) {
    let (found_allocation, found_verdict) = compared(inventory, offers);
    assert_eq!(found_allocation, allocation);
    assert!(found_verdict.starts_with(verdict), "{found_verdict}");
}

#[test]
fn a_plugin_that_offers_all_devices_is_complete_and_one_that_does_not_is_reported() {
    let inventory = gpus(8);
    let of = |capacity, allocatable| Offers {
        resources: resources(&[(GPU, capacity, allocatable), ("rdma/ib", 1, 1)]),
        published: no_slices(),
        ..Offers::default()
    };
    check(&inventory, &of(8, 8), Some("device-plugin"), "complete");
    let incomplete = "incomplete: 8 devices have not failed and 7 are allocatable as nvidia.com/gpu";
    check(&inventory, &of(8, 7), Some("device-plugin"), incomplete);
    check(&inventory, &of(7, 7), Some("device-plugin"), incomplete);
    check(&inventory, &of(32, 32), Some("device-plugin"), "complete");
    check(&inventory, &of(32, 28), Some("device-plugin"), incomplete);
    let ready = Some(units(GPU, &[1, 2, 3, 5, 6, 7, 8]));
    check(
        &inventory,
        &Offers { ready, ..of(8, 7) },
        Some("device-plugin"),
        &format!("{incomplete} (not 0000:04:00.0)"),
    );
}

#[test]
fn a_plugin_for_virtual_machines_offers_the_devices_as_well() {
    let names =
        ["nvidia.com/GA106_RTX_A2000_12GB", "nvidia.com/TU104GL_TESLA_T4", "nvidia.com/GRID_A100D-4C"];
    for name in
        names.into_iter().chain(["nvidia.com/NVIDIA_L40S-48Q", "nvidia.com/AD102GL_L40S", "nvidia.com/pgpu"])
    {
        let offers =
            Offers { resources: resources(&[(name, 3, 3)]), published: no_slices(), ..Offers::default() };
        check(&gpus(2), &offers, Some("device-plugin"), "complete");
        let counts = offered(&gpus(2), &offers, false).counts;
        assert_eq!((counts[0].resource.as_str(), counts[0].discovered), (name, None), "no guess");
    }
    let other = Offers {
        resources: resources(&[("nvidia.com/something", 2, 2)]),
        published: no_slices(),
        ..Offers::default()
    };
    check(&gpus(2), &other, Some("none"), "incomplete");
}

#[test]
fn a_failed_device_is_not_expected_to_be_offered() {
    let mut inventory = gpus(8);
    inventory.devices[3].health = Health::failed("GpuLost", "gone");
    let offers = Offers { resources: resources(&[(GPU, 8, 7)]), published: no_slices(), ..Offers::default() };
    check(&inventory, &offers, Some("device-plugin"), "complete");
}

#[test]
fn the_verdict_is_unknown_until_both_mechanisms_are_known() {
    let inventory = gpus(2);
    let nothing = Offers::default();
    check(&inventory, &nothing, None, "unknown");
    let only_resources = Offers { resources: resources(&[]), ..nothing.clone() };
    check(&inventory, &only_resources, None, "unknown");
    let neither = Offers { published: no_slices(), ..only_resources };
    check(
        &inventory,
        &neither,
        Some("none"),
        "incomplete: no device plugin and no DRA driver offers the 2 devices of nvidia",
    );
    let plugin = Offers { resources: resources(&[(GPU, 2, 2)]), ..nothing };
    check(&inventory, &plugin, None, "complete");
    check(&Inventory::default(), &neither, None, "complete");
}

#[test]
fn a_driver_is_compared_device_by_device() {
    let inventory = gpus(2);
    let of = |published| Offers { resources: resources(&[]), published, ..Offers::default() };
    check(&inventory, &of(published(&[1, 2])), Some("dra"), "complete");
    check(
        &inventory,
        &of(published(&[1])),
        Some("dra"),
        "incomplete: the DRA driver gpu.nvidia.com does not publish 0000:02:00.0",
    );
    check(
        &inventory,
        &of(published(&[])),
        Some("none"),
        "incomplete: the DRA driver gpu.nvidia.com publishes none of 2 devices",
    );
    let half =
        PublishedOffers { incomplete: BTreeSet::from([DRIVER.to_owned()]), ..PublishedOffers::default() };
    check(&inventory, &of(Some(half)), None, "unknown");
}

#[test]
fn a_device_that_the_plugin_does_not_offer_may_be_published_in_slices_that_were_not_read() {
    let inventory = gpus(3);
    let of = |published| Offers {
        resources: resources(&[(GPU, 1, 1)]),
        published,
        ready: Some(units(GPU, &[1])),
        ..Offers::default()
    };
    let half = |buses: &[u8]| PublishedOffers {
        units: units(DRIVER, buses),
        incomplete: BTreeSet::from([DRIVER.to_owned()]),
        ..PublishedOffers::default()
    };
    check(&inventory, &of(None), None, "unknown");
    check(&inventory, &of(Some(half(&[]))), None, "unknown");
    check(&inventory, &of(Some(half(&[2]))), Some("both"), "unknown");
    check(&inventory, &of(published(&[2])), Some("both"), "incomplete: neither");
    check(&inventory, &of(no_slices()), Some("device-plugin"), "incomplete: 3 devices");
}

#[test]
fn a_device_of_both_mechanisms_is_a_duplicate_and_one_of_each_is_not() {
    let inventory = gpus(2);
    let of = |count, buses: &[u8], ready: Option<&[u8]>| Offers {
        resources: resources(&[(GPU, count, count)]),
        published: published(buses),
        ready: ready.map(|buses| units(GPU, buses)),
        ..Offers::default()
    };
    check(&inventory, &of(2, &[1, 2], None), Some("both"), "duplicate: of 2 devices some are");
    check(&inventory, &of(2, &[2], Some(&[1, 2])), Some("both"), "duplicate: 0000:02:00.0 is offered");
    check(&inventory, &of(1, &[2], Some(&[1])), Some("both"), "complete");
    check(&inventory, &of(1, &[2], None), Some("both"), "complete");
    check(&inventory, &of(1, &[2], Some(&[2])), Some("both"), "duplicate");
    check(&gpus(3), &of(1, &[2], Some(&[1])), Some("both"), "incomplete: neither");
}

#[test]
fn partitions_are_counted_as_each_strategy_offers_them() {
    let mut inventory = gpus(2);
    let device = &mut inventory.devices[0];
    device.partitioning = afd_model::Known::Value(afd_model::Partitioning::Mig);
    device.partitions = (0..7)
        .map(|number| Partition {
            profile: afd_model::Known::Value("1g.10gb".to_owned()),
            ..Partition::bare(device.id, PartitionName::Mig { gpu_instance: number, compute_instance: 0 })
        })
        .collect();
    let of = |counts: &[(&str, u64, u64)]| Offers {
        resources: resources(counts),
        published: no_slices(),
        ..Offers::default()
    };
    let numbers = |counts: &[(&str, u64, u64)]| -> Vec<Option<u64>> {
        offered(&inventory, &of(counts), false).counts.iter().map(|count| count.discovered).collect()
    };
    check(&inventory, &of(&[(GPU, 8, 8)]), Some("device-plugin"), "complete");
    assert_eq!(numbers(&[(GPU, 8, 8)]), [Some(8)]);
    assert_eq!(numbers(&[(GPU, 2, 2)]), [Some(2)]);
    assert_eq!(numbers(&[(GPU, 5, 5)]), [None], "the strategy would be a guess");
    let mixed = [(GPU, 1, 1), ("nvidia.com/mig-1g.10gb", 7, 6)];
    assert_eq!(numbers(&mixed), [Some(1), Some(7)]);
    check(&inventory, &of(&mixed), Some("device-plugin"), "incomplete: 7 devices have not failed and 6");
}

#[test]
fn a_device_is_allocatable_if_either_mechanism_offers_it_and_that_is_known() {
    let inventory = gpus(2);
    let allocatable = |offers: &Offers| {
        let offered = offered(&inventory, offers, false);
        [1, 2].map(|bus| offered.allocatable.get(&id(bus)).copied())
    };
    let plugin = Offers { resources: resources(&[(GPU, 2, 1)]), published: no_slices(), ..Offers::default() };
    assert_eq!(allocatable(&plugin), [None, None], "the kubelet has not reported which one");
    let ready = Offers { ready: Some(units(GPU, &[2])), ..plugin.clone() };
    assert_eq!(allocatable(&ready), [Some(false), Some(true)]);
    let unread = Offers { published: None, ..ready };
    assert_eq!(allocatable(&unread), [None, Some(true)], "a driver may publish the other one");
    let dra = Offers { resources: resources(&[]), published: published(&[1]), ..Offers::default() };
    assert_eq!(allocatable(&dra), [Some(true), Some(false)]);
    assert_eq!(allocatable(&Offers::default()), [None, None]);
    let mut with_display = gpus(2);
    with_display.devices[0].display_only = true;
    let offered = offered(&with_display, &dra, false);
    assert_eq!(offered.allocatable.get(&id(1)), None);
}

#[test]
fn a_driver_that_also_publishes_devices_that_do_not_count_is_compared_by_those_that_do() {
    let mut inventory = gpus(2);
    inventory.devices[0].integrated = true;
    // Of the two published devices only one counts; the plugin offers none that is known by name.
    let both = |capacity| Offers {
        resources: resources(&[(GPU, capacity, capacity)]),
        published: published(&[1, 2]),
        ..Offers::default()
    };
    check(&inventory, &both(1), Some("both"), "duplicate: of 1 devices some are");
    inventory.devices[1].integrated = true;
    inventory.devices.push(Device::bare(id(3).0, Vendor::Nvidia, Variant::Gpu));
    check(&inventory, &both(1), Some("both"), "complete");
    check(&inventory, &both(u64::MAX), Some("both"), "duplicate");
    let twice = Offers {
        resources: resources(&[(GPU, u64::MAX, 1), ("nvidia.com/mig-1g.10gb", u64::MAX, 1)]),
        ..both(1)
    };
    check(&inventory, &twice, Some("both"), "duplicate");
}

#[test]
fn an_accelerator_that_is_no_gpu_is_compared_by_its_own_plugin_and_driver() {
    const PLUGIN: &str = "habana.ai/gaudi";
    const HPU_DRIVER: &str = "gaudi.intel.com";
    let devices = (1..=8).map(|bus| Device::bare(id(bus).0, Vendor::Intel, Variant::Hpu));
    let inventory = Inventory { devices: devices.collect(), ..Inventory::default() };
    let plugin = |allocatable| Offers {
        resources: resources(&[(PLUGIN, 8, allocatable)]),
        published: no_slices(),
        ..Offers::default()
    };
    check(&inventory, &plugin(8), Some("device-plugin"), "complete");
    let incomplete = "incomplete: 8 devices have not failed and 7 are allocatable as habana.ai/gaudi";
    check(&inventory, &plugin(7), Some("device-plugin"), incomplete);
    let driver = |buses: &[u8]| {
        let drivers = BTreeSet::from([HPU_DRIVER.to_owned()]);
        let published =
            PublishedOffers { units: units(HPU_DRIVER, buses), drivers, ..PublishedOffers::default() };
        Offers { resources: resources(&[]), published: Some(published), ..Offers::default() }
    };
    check(&inventory, &driver(&[1, 2, 3, 4, 5, 6, 7, 8]), Some("dra"), "complete");
    let message = "incomplete: the DRA driver gaudi.intel.com does not publish 0000:08:00.0";
    check(&inventory, &driver(&[1, 2, 3, 4, 5, 6, 7]), Some("dra"), message);
}
