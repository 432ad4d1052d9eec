use afd_model::{Device, Health, HealthState, LibraryStatus};

use super::player::{Player, device, without_library};

/// The library stops answering: devices as the kernel alone reports them.
fn silence(player: &mut Player, status: LibraryStatus) {
    player.library = status;
    player.devices = player.devices.drain(..).map(without_library).collect();
}

fn answer(player: &mut Player) {
    player.library = LibraryStatus::Answering;
    let count = u8::try_from(player.devices.len()).expect("there are few");
    player.devices = (1..=count).map(device).collect();
}

#[test]
fn a_restart_while_the_library_initialises_changes_nothing() {
    let mut player = Player::settled(8);
    let writes = player.writes;
    silence(&mut player, LibraryStatus::Starting);
    player.restart_pod();
    player.play(55);
    assert!(player.keeps_memory() && player.health().is_none());
    assert_eq!(player.ready(), "True AllHealthy");
    answer(&mut player);
    player.play(60);
    assert_eq!((player.writes, player.ready().as_str()), (writes, "True AllHealthy"));
}

#[test]
fn one_failed_answer_changes_nothing() {
    let mut player = Player::settled(8);
    let writes = player.writes;
    silence(&mut player, LibraryStatus::Silent);
    player.play(5);
    assert!(player.keeps_memory());
    assert_eq!(player.health(), Some(HealthState::Healthy));
    answer(&mut player);
    player.play(60);
    assert_eq!(player.writes, writes);
}

#[test]
fn a_silent_library_does_not_stay_healthy() {
    let mut player = Player::settled(8);
    silence(&mut player, LibraryStatus::Silent);
    player.play(60);
    assert_eq!(player.health(), Some(HealthState::Healthy));
    player.play(10);
    assert_eq!(player.health(), Some(HealthState::Unknown));
    assert_eq!(player.ready(), "Unknown LibraryNotResponding");
    assert!(player.keeps_memory());
    player.play(700);
    assert_eq!(player.problem(), "False NoDeviceFault", "no other process has tried");
    player.restarts = 2;
    player.play(5);
    assert_eq!(player.problem(), "True LibraryNotResponding");
    answer(&mut player);
    player.play(5);
    assert_eq!(player.ready(), "True AllHealthy");
}

#[test]
fn a_crash_loop_does_not_lengthen_a_grace() {
    for restart in [Player::restart_container, Player::restart_pod] {
        let mut player = Player::settled(8);
        silence(&mut player, LibraryStatus::Silent);
        player.play(65);
        assert_eq!(player.ready(), "Unknown LibraryNotResponding");
        player.library = LibraryStatus::Starting;
        for _ in 0..20 {
            restart(&mut player);
            player.play(20);
            assert_ne!(player.health(), Some(HealthState::Healthy));
            assert_eq!(player.ready(), "Unknown LibraryNotResponding");
        }
    }
    let mut player = Player::new(8, 10_800);
    silence(&mut player, LibraryStatus::Starting);
    for _ in 0..12 {
        player.restart_container();
        player.play(20);
    }
    assert_eq!(player.ready(), "Unknown LibraryNotResponding");
}

#[test]
fn a_device_that_is_lost_is_failed_at_once_and_a_problem_after_its_grace() {
    let mut player = Player::settled(8);
    player.devices[2].health = Health::failed("GpuLost", "it is lost");
    player.play(5);
    assert_eq!(
        (player.ready().as_str(), player.problem().as_str()),
        ("False GpuLost", "False NoDeviceFault")
    );
    player.play(125);
    assert_eq!(player.problem(), "True GpuLost");
    player.restart_pod();
    player.play(60);
    assert_eq!(player.problem(), "True GpuLost", "an agent that starts keeps it");
    player.devices[2].health = Health::healthy();
    player.play(10);
    assert_eq!(player.ready(), "True AllHealthy");
}

#[test]
fn a_fabric_that_is_not_up_is_a_failure_after_its_grace() {
    let mut player = Player::settled(8);
    for device in &mut player.devices {
        device.health = Health::failed("FabricNotReady", "it is in progress");
    }
    player.play(600);
    assert_eq!(player.ready(), "True AllHealthy");
    player.play(10);
    assert_eq!(
        (player.ready().as_str(), player.problem().as_str()),
        ("False FabricNotReady", "False NoDeviceFault")
    );
}

#[test]
fn a_verdict_whose_evidence_cannot_be_read_survives_one_minute() {
    let mut player = Player::settled(4);
    let (writes, healthy) = (player.writes, player.devices[1].health.clone());
    player.devices[1].health =
        Health { state: HealthState::Unknown, ..Health::failed("EvidenceUnreadable", "bad pages") };
    player.play(50);
    assert_eq!((player.writes, player.ready().as_str()), (writes, "True AllHealthy"));
    player.devices[1].health = healthy;
    player.play(5);
    player.devices[1].health =
        Health { state: HealthState::Unknown, ..Health::failed("EvidenceUnreadable", "bad pages") };
    player.play(50);
    assert_eq!(player.writes, writes, "the minute begins again");
    player.play(20);
    assert_eq!(player.ready(), "Unknown EvidenceUnreadable");
    assert_eq!(player.problem(), "False NoDeviceFault");
}

#[test]
fn an_old_library_beside_a_new_driver_is_judged_at_once() {
    let mut player = Player::settled(8);
    for device in &mut player.devices {
        device.health = Health::failed("DriverLibraryMismatch", "the versions differ");
    }
    player.library = LibraryStatus::Silent;
    player.play(5);
    assert_eq!(player.ready(), "False DriverLibraryMismatch");
    player.play(900);
    assert_ne!(player.problem().split(' ').next(), Some("True"));
}

#[test]
fn a_crash_loop_does_not_lengthen_the_grace_of_a_device_that_is_gone() {
    let mut player = Player::settled(8);
    player.devices.pop();
    silence(&mut player, LibraryStatus::Silent);
    for _ in 0..10 {
        player.restart_container();
        player.play(20);
    }
    assert_eq!(player.ready(), "False DeviceMissing");
}

#[test]
fn a_crash_loop_does_not_lengthen_the_grace_of_a_fabric() {
    let mut player = Player::settled(8);
    let in_progress: Vec<_> = (1..=8)
        .map(device)
        .map(|device| Device { health: Health::failed("FabricNotReady", "it is in progress"), ..device })
        .collect();
    for _ in 0..25 {
        // An agent that starts has no answer of the library at first.
        player.library = LibraryStatus::Starting;
        player.devices = in_progress.iter().cloned().map(without_library).collect();
        player.restart_container();
        player.play(10);
        answer(&mut player);
        player.devices.clone_from(&in_progress);
        player.play(15);
    }
    assert_eq!(player.ready(), "False FabricNotReady");
}

#[test]
fn a_restart_neither_forgets_nor_invents_a_fault() {
    let mut player = Player::settled(8);
    player.devices[1].health = Health::failed("GpuLost", "it is lost");
    player.play(130);
    assert_eq!(player.problem(), "True GpuLost");
    player.devices[1].health = Health::healthy();
    player.restart_container();
    player.play(290);
    assert_eq!(player.problem(), "True GpuLost", "it has just ended");
    player.play(20);
    assert_eq!(player.problem(), "False NoDeviceFault");

    player.devices[1].health = Health::failed("GpuLost", "it is lost");
    player.play(20);
    player.restart_container();
    player.devices[1].health = Health::healthy();
    player.play(5000);
    player.devices[1].health = Health::failed("GpuLost", "it is lost");
    player.play(10);
    assert_eq!(player.problem(), "False NoDeviceFault", "the fault of before is none of now");

    let mut player = Player::settled(8);
    player.devices[1].health = Health::failed("GpuLost", "it is lost");
    player.play(130);
    player.devices[1].health = Health::healthy();
    player.play(60);
    player.restart_container();
    player.play(60);
    assert_eq!(player.problem(), "True GpuLost", "it ended two minutes ago");
}
