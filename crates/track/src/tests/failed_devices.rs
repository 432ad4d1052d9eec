//! Which devices are reported as failed.

use afd_model::{Decision, DeviceId, Health};

use super::player::Player;

/// The devices that are reported as failed, as numbers in the order of the node.
fn failed(player: &mut Player) -> Option<Vec<usize>> {
    let failed = player.track.conditions(&player.offer).failed;
    let place = |id: &DeviceId| player.devices.iter().position(|device| device.id == *id);
    match failed {
        Decision::Undecided => None,
        Decision::Absent => Some(Vec::new()),
        Decision::Decided(failed) => Some(failed.keys().filter_map(place).collect()),
    }
}

#[test]
fn a_fault_that_has_begun_keeps_the_failed_devices_undecided_only_after_a_start() {
    let mut player = Player::settled(8);
    player.devices[1].health = Health::failed("GpuLost", "");
    player.play(200);
    assert_eq!(failed(&mut player), Some(vec![1]));
    player.restart_container();
    player.devices[2].health = Health::failed("GpuLost", "");
    player.play(60);
    assert_eq!(failed(&mut player), None, "the earlier agent may have reported both");
    player.play(70);
    assert_eq!(failed(&mut player), Some(vec![1, 2]));
    player.play(600);
    player.devices[3].health = Health::failed("GpuLost", "");
    player.play(60);
    assert_eq!(failed(&mut player), Some(vec![1, 2]), "a fault that begins later holds nothing up");
}

#[test]
fn only_faults_of_devices_themselves_are_reported_as_failed_devices() {
    let mut player = Player::settled(8);
    player.devices[4].health = Health::failed("DriverMissing", "");
    player.play(400);
    assert_eq!(player.problem(), "True DriverMissing");
    assert_eq!(failed(&mut player), Some(Vec::new()));
    player.devices[1].health = Health::failed("GpuLost", "");
    player.play(200);
    assert_eq!(failed(&mut player), Some(vec![1]));
}
