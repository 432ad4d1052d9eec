use afd_model::{Device, Known, OfferVerdict};

use super::player::{Player, device, without_library};

#[test]
fn a_rescan_of_the_bus_changes_nothing() {
    let mut player = Player::settled(8);
    let writes = player.writes;
    let devices = std::mem::take(&mut player.devices);
    for _ in 0..5 {
        player.play(5);
        assert_eq!((player.count(), player.missing()), (8, 0));
    }
    player.devices = devices;
    player.play(120);
    assert_eq!((player.count(), player.writes), (8, writes));
}

#[test]
fn a_device_that_stays_away_is_missing() {
    let mut player = Player::settled(8);
    player.devices.pop();
    player.play(25);
    assert_eq!((player.count(), player.ready().as_str()), (8, "True AllHealthy"));
    player.play(15);
    assert_eq!((player.count(), player.missing()), (7, 1));
    assert_eq!(player.ready(), "False DeviceMissing");
    assert_eq!(player.problem(), "True DeviceMissing");
    let missing = &player.believed().for_node.missing[0];
    assert_eq!(missing.uuid.as_deref(), Some("uuid-8"));
    assert!(missing.message.contains("0000:08:00.0"), "{}", missing.message);
    player.devices.push(device(8));
    player.play(5);
    assert_eq!((player.missing(), player.ready().as_str()), (0, "True AllHealthy"));
    assert_eq!(player.problem(), "True DeviceMissing", "it has just come back");
    player.play(310);
    assert_eq!(player.problem(), "False NoDeviceFault");
}

#[test]
fn a_node_without_any_device_left_is_not_ready() {
    let mut player = Player::settled(8);
    player.devices.clear();
    player.play(40);
    assert_eq!((player.count(), player.missing()), (0, 8));
    assert_eq!(player.ready(), "False DeviceMissing");
    player.restart_pod();
    player.play(60);
    assert_eq!((player.missing(), player.ready().as_str()), (8, "False DeviceMissing"));
    assert_eq!(player.track.forget(None).expect("they were learnt").len(), 8);
    player.play(5);
    assert_eq!((player.ready(), player.missing()), ("none".to_owned(), 0));
}

#[test]
fn a_replaced_board_is_no_missing_one() {
    let mut player = Player::settled(8);
    let writes = player.writes;
    let mut replaced = device(8);
    replaced.uuid = Known::Value("uuid-new".to_owned());
    player.devices[7] = replaced;
    player.play(60);
    assert_eq!((player.count(), player.missing()), (8, 0));
    assert_eq!(player.writes, writes + 1, "the annotation names the new board");
    assert_eq!(player.ready(), "True AllHealthy");
}

#[test]
fn a_reboot_with_one_dead_device_and_other_bus_numbers() {
    let mut player = Player::settled(8);
    player.devices = (1..=7).map(|bus| device(bus + 0x20)).collect();
    player.reboot(40);
    player.play(200);
    assert_eq!(player.missing(), 0, "buses may still be scanned");
    assert_eq!(player.ready(), "True AllHealthy");
    player.play(150);
    assert_eq!((player.missing(), player.ready().as_str()), (1, "False DeviceMissing"));
    player.play(10);
    assert_eq!(player.problem(), "True DeviceMissing");
}

#[test]
fn a_suspension_of_the_machine_restarts_all_graces() {
    let mut player = Player::settled(8);
    let last = player.devices.pop();
    player.play(20);
    player.now += std::time::Duration::from_secs(600);
    player.observe();
    assert_eq!((player.count(), player.missing()), (8, 0), "after ten minutes of suspension");
    player.play(20);
    player.devices.extend(last);
    player.play(20);
    assert_eq!((player.count(), player.missing()), (8, 0));
}

#[test]
fn a_sleeping_device_keeps_its_verdict() {
    let mut player = Player::settled(2);
    let writes = player.writes;
    let mut asleep = without_library(device(1));
    asleep.health.reasons =
        vec![afd_model::HealthReason { code: "Suspended".to_owned(), message: "it sleeps".to_owned() }];
    player.devices[0] = asleep;
    player.play(3600);
    assert_eq!(player.health(), Some(afd_model::HealthState::Healthy));
    assert_eq!(player.writes, writes);
}

#[test]
fn a_display_card_without_a_driver_turns_neither_condition() {
    let mut player = Player::settled(2);
    let mut card = without_library(device(9));
    card.pci.device_id = Known::Value(afd_model::PciId(0x6613));
    card.driver = afd_model::Missing::DriverNotBound.into();
    card.health = afd_model::Health::failed("DriverMissing", "no driver is bound");
    player.devices.push(card.clone());
    for _ in 0..60 {
        player.play(60);
        assert_eq!(
            (player.ready().as_str(), player.problem().as_str()),
            ("True AllHealthy", "False NoDeviceFault")
        );
    }
    // Where nothing else is, it is what the node has.
    player.devices = vec![card];
    player.play(4000);
    assert_ne!(player.ready(), "True AllHealthy");
}

#[test]
fn an_offer_that_comes_late_is_no_fault() {
    let mut player = Player::new(8, 20);
    player.offer = OfferVerdict::Incomplete("no plugin".to_owned());
    player.play(250);
    assert_eq!((player.ready(), player.writes), ("none".to_owned(), player.writes));
    player.offer = OfferVerdict::Complete;
    player.play(5);
    assert_eq!(player.ready(), "True AllHealthy");
    player.play(600);
    player.offer = OfferVerdict::Incomplete("no plugin".to_owned());
    player.play(115);
    assert_eq!(player.ready(), "True AllHealthy");
    player.play(15);
    assert_eq!(player.ready(), "False NotAllocatable");
    assert_eq!(player.problem(), "False NoDeviceFault");
}

#[test]
fn devices_on_a_driver_for_virtual_machines_are_passed_through() {
    for driver in ["vfio-pci", "gim"] {
        let mut player = Player::settled(2);
        for device in &mut player.devices {
            device.driver = Known::Value(driver.to_owned());
        }
        player.play(60);
        assert_eq!(player.ready(), "True Passthrough", "{driver}");
    }
}

#[test]
fn each_device_that_is_gone_is_named_once() {
    let mut player = Player::settled(8);
    player.restart_pod();
    player.devices.pop();
    player.play(60);
    player.devices.remove(0);
    player.play(60);
    let missing = &player.believed().for_node.missing;
    let mut uuids: Vec<_> = missing.iter().filter_map(|missing| missing.uuid.as_deref()).collect();
    uuids.sort_unstable();
    assert_eq!(uuids, ["uuid-1", "uuid-8"]);
}

#[test]
fn a_device_at_another_address_is_the_same_one() {
    let mut player = Player::settled(8);
    let writes = player.writes;
    let moved = device(9);
    player.devices[7] = Device { uuid: player.devices[7].uuid.clone(), ..moved };
    player.play(5);
    assert_eq!((player.count(), player.missing()), (8, 0));
    player.play(600);
    assert_eq!((player.count(), player.missing(), player.writes), (8, 0, writes));
}

#[test]
fn the_links_to_a_device_that_is_gone_count_as_long_as_it_does() {
    let mut player = Player::settled(8);
    let linked = |player: &mut Player, count: u32| {
        player.devices.iter_mut().for_each(|device| device.linked_devices = Known::Value(count));
    };
    let believed = |player: &Player| player.believed().for_node.devices[0].linked_devices;
    linked(&mut player, 7);
    player.play(5);
    let gone = player.devices.pop();
    linked(&mut player, 6);
    player.play(20);
    assert_eq!(believed(&player), Known::Value(7));
    let shown = &player.believed().inventory.devices;
    assert_eq!(
        (shown.len(), shown[0].linked_devices),
        (7, Known::Value(6)),
        "without it as long as it is gone"
    );
    player.devices.extend(gone);
    linked(&mut player, 7);
    player.play(5);
    player.devices.pop();
    linked(&mut player, 6);
    player.play(40);
    assert_eq!(believed(&player), Known::Value(6));
}
