use afd_model::{Decision, Known, LibraryStatus, Missing, PciId, Product};

use super::player::{KIND, Player, device, without_library};

#[test]
fn a_virtual_machine_on_another_host_misses_nothing() {
    let mut player = Player::settled(8);
    for (device, number) in player.devices.iter_mut().zip(100..) {
        device.uuid = Known::Value(format!("uuid-{number}"));
    }
    player.reboot(30);
    player.play(400);
    assert_eq!((player.missing(), player.ready().as_str()), (0, "True AllHealthy"));
    assert!(player.believed().inherits);
}

#[test]
fn another_machine_under_an_old_node_inherits_nothing() {
    let mut player = Player::settled(8);
    player.node.system_uuid = "11111111-2222-3333-4444-555555555555".to_owned();
    player.devices = vec![without_library(device(1))];
    player.library = LibraryStatus::Starting;
    player.reboot(30);
    player.play(5);
    assert!(player.believed().is_settled && !player.believed().inherits);
    assert_eq!((player.missing(), player.ready().as_str(), player.problem().as_str()), (0, "none", "none"));
}

#[test]
fn what_the_agent_itself_wrote_stays_while_its_library_is_silent() {
    let mut player = Player::new(8, 10_800);
    player.observe();
    assert!(!player.believed().inherits, "others may have written it");
    player.play(700);
    assert!(player.believed().inherits);
    player.library = LibraryStatus::Silent;
    player.devices = player.devices.drain(..).map(without_library).collect();
    player.play(300);
    assert_eq!(player.ready(), "Unknown LibraryNotResponding");
    assert_eq!(player.problem(), "False NoDeviceFault");
}

#[test]
fn devices_that_were_seen_for_a_short_time_are_waited_for() {
    let mut player = Player::new(8, 10_800);
    player.play(60);
    let writes = player.writes;
    player.restart_pod();
    let devices = std::mem::take(&mut player.devices);
    player.play(25);
    assert!(!player.believed().is_settled, "a driver that is loaded may bind them soon");
    player.devices = devices;
    player.play(5);
    assert_eq!((player.believed().is_settled, player.count(), player.writes), (true, 8, writes));
    player.restart_pod();
    player.devices.clear();
    player.play(40);
    assert_eq!((player.believed().is_settled, player.count(), player.ready()), (true, 0, "none".to_owned()));
}

#[test]
fn a_missing_device_has_the_name_of_its_product_after_a_restart() {
    let mut player = Player::settled(8);
    for device in &mut player.devices {
        // Not every device has a UUID by which it could be named.
        device.uuid = Missing::NotExposed.into();
        device.product = Known::Value(Product {
            name: "AMD Instinct MI300X".to_owned(),
            model: Missing::Unrecognized.into(),
            architecture: Missing::Unrecognized.into(),
        });
    }
    player.play(700);
    player.restart_pod();
    player.devices.truncate(6);
    player.play(60);
    let products = |player: &Player| -> Vec<Option<String>> {
        player.believed().for_node.missing.iter().map(|missing| missing.product.clone()).collect()
    };
    let named = Some("AMD Instinct MI300X".to_owned());
    assert_eq!(products(&player), vec![named.clone(); 2]);
    player.devices.clear();
    player.restart_pod();
    player.play(60);
    assert_eq!(products(&player), vec![named; 8]);
}

#[test]
fn other_devices_in_the_machine_inherit_nothing() {
    let mut player = Player::settled(8);
    player.restart_pod();
    for device in &mut player.devices {
        device.pci.device_id = Known::Value(PciId(KIND + 1));
    }
    // The Node is read after the first discovery.
    player.observe_parts(true, false);
    player.observe_parts(false, true);
    assert!(!player.believed().inherits);
    player.restart_pod();
    for device in &mut player.devices {
        device.virtual_function = true;
    }
    player.observe_parts(true, false);
    player.observe_parts(false, true);
    assert!(player.believed().inherits, "virtual functions are not learnt");
}

#[test]
fn a_node_of_an_earlier_boot_is_not_believed() {
    let mut player = Player::settled(8);
    player.node.boot_id = "earlier".to_owned();
    player.reboot(30);
    player.play(60);
    assert!(!player.believed().is_settled);
    player.node.boot_id = "boot".to_owned();
    player.play(5);
    assert!(player.believed().is_settled && player.believed().inherits);
}

#[test]
fn a_smaller_instance_type_misses_nothing() {
    let mut player = Player::settled(8);
    player.annotate("expect", "any=4");
    player.devices.truncate(4);
    player.play(60);
    assert_eq!((player.missing(), player.ready().as_str()), (0, "True AllHealthy"));
}

#[test]
fn a_release_can_expect_devices_of_nodes_without_the_annotation() {
    let mut player = Player::expecting("any=8", 7);
    player.play(40);
    assert_eq!((player.missing(), player.ready().as_str()), (1, "False DeviceMissing"));
    player.annotate("expect", "any=7");
    player.play(5);
    assert_eq!(player.missing(), 0, "the Node's own annotation takes precedence");
}

#[test]
fn an_instance_type_expects_devices_that_were_never_seen() {
    let mut player = Player::new(7, 10_800);
    player.set_instance_type("Standard_ND96isr_MI300X_v5");
    player.play(20);
    assert_eq!(player.missing(), 0);
    player.play(20);
    assert_eq!((player.missing(), player.ready().as_str()), (1, "False DeviceMissing"));
    let refused = player.track.forget(Some("missing-1")).expect_err("it was not learnt");
    assert!(refused.contains("instance type Standard_ND96isr_MI300X_v5"), "{refused}");
    assert_eq!(player.track.forget(Some("missing-2")), Ok(Vec::new()));
}

#[test]
fn an_admin_can_turn_expectations_off_and_ignore_devices() {
    let mut player = Player::settled(8);
    player.devices[0].health = afd_model::Health::failed("GpuLost", "it is lost");
    player.devices.pop();
    player.annotate("expect", "off");
    player.annotate("ignore", "0000:01:00.0");
    player.play(300);
    assert_eq!((player.missing(), player.ready().as_str()), (0, "True AllHealthy"));
    player.annotate("expect", "seven");
    player.play(5);
    assert_eq!(player.missing(), 1, "a mistake is no wish");
    assert!(player.believed().inventory.problems.iter().any(|problem| problem.message.contains("seven")));
}

#[test]
fn an_annotation_of_a_newer_version_stays() {
    let mut player = Player::settled(8);
    let newer = player.node.annotations["p/expected"].replace("\"v\":1", "\"v\":2");
    player.annotate("expected", &newer);
    player.devices.pop();
    player.restart_pod();
    player.play(300);
    assert_eq!(player.believed().memory, Decision::Decided(newer.clone()));
    assert_eq!(player.missing(), 0);
    assert!(player.believed().inherits);
    assert_eq!(player.node.annotations["p/expected"], newer);
}

#[test]
fn an_annotation_that_cannot_be_read_stays_until_it_is_removed() {
    let mut player = Player::settled(8);
    player.annotate("expected", "{");
    player.restart_pod();
    player.play(300);
    assert_eq!(player.node.annotations["p/expected"], "{");
    assert!(!player.believed().inherits);
    player.node.annotations.remove("p/expected");
    player.play(700);
    assert!(player.node.annotations["p/expected"].contains("\"n\":8"));
    assert!(player.believed().inherits && player.believed().inventory.problems.is_empty());
}

#[test]
fn the_memory_of_a_machine_survives_a_node_that_is_of_another_boot_for_long() {
    let mut player = Player::settled(8);
    let memory = player.node.annotations["p/expected"].clone();
    player.node.boot_id = "earlier".to_owned();
    player.reboot(30);
    player.play(400);
    assert!(player.believed().is_settled && !player.believed().inherits);
    assert_eq!(player.node.annotations["p/expected"], memory);
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let mut player = Player::settled(8);
    let writes = player.writes;
    player.play(7200);
    player.restart_pod();
    player.play(7200);
    player.restart_container();
    player.play(600);
    assert_eq!(player.writes, writes);
}

#[test]
fn an_instance_type_that_says_otherwise_in_two_boots_is_distrusted() {
    let mut player = Player::new(7, 400);
    player.set_instance_type("Standard_ND96isr_MI300X_v5");
    player.play(700);
    assert_eq!((player.missing(), player.ready().as_str()), (1, "False DeviceMissing"));
    player.reboot_as("boot-2", 400);
    player.play(700);
    assert_eq!((player.missing(), player.ready().as_str()), (0, "True AllHealthy"));
    let problems = &player.believed().inventory.problems;
    assert!(problems.iter().any(|problem| problem.message.contains("InstanceTypeDiffers")), "{problems:?}");
    player.devices.push(device(8));
    player.play(30);
    player.devices.pop();
    player.play(60);
    assert_eq!(player.missing(), 1, "it was right after all");
}

#[test]
fn a_refitted_machine_is_reported_once() {
    let mut player = Player::settled(2);
    for device in &mut player.devices {
        device.pci.device_id = Known::Value(PciId(KIND + 1));
    }
    player.play(300);
    assert!(!player.track.take_refitted());
    player.play(400);
    assert!(player.track.take_refitted() && !player.track.take_refitted());
    assert_eq!(player.missing(), 0);
}

#[test]
fn a_saved_time_that_no_machine_reaches_ends_no_agent() {
    let mut player = Player::settled(2);
    player.restart_pod();
    let state = format!(
        r#"{{"boot_id": "boot", "unconfirmed": {{"amd": {0}}}, "faults": {{"0000:01:00.0": {0}, "amd": {0}}},
            "tentative": [["0000:01:00.0", "GpuLost", {0}]], "incomplete_offers": {0}, "lacking": [1, {0}]}}"#,
        u64::MAX
    );
    player.track.restore(serde_json::from_str(&state).expect("it is a state"), "boot");
    player.library = LibraryStatus::Silent;
    player.devices = vec![without_library(device(1))];
    player.play(600);
    player.library = LibraryStatus::Answering;
    player.devices = vec![device(1), device(2)];
    player.play(900);
    assert!(player.believed().is_settled);
}
