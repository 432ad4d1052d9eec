use afd_model::{Health, HealthState, LibraryStatus, MaintenanceKind};

use super::player::{PROBE, Player, device, unbound, without_library};

/// The driver is away, and the library with it.
fn unload(player: &mut Player, status: LibraryStatus) {
    player.library = status;
    player.devices = player.devices.drain(..).map(unbound).collect();
}

fn load(player: &mut Player) {
    player.library = LibraryStatus::Answering;
    let count = u8::try_from(player.devices.len()).expect("there are few");
    player.devices = (1..=count).map(device).collect();
}

#[test]
fn an_announced_upgrade_of_the_driver_is_no_fault() {
    let mut player = Player::settled(8);
    player.signal = Some(MaintenanceKind::DriverUpgrade);
    player.play(5);
    assert!(player.believed().released.contains(PROBE));
    assert_eq!(player.ready(), "Unknown DriverUpgrade");
    unload(&mut player, LibraryStatus::Released);
    player.play(3600);
    assert!(player.keeps_memory() && player.health().is_none());
    assert_eq!(
        (player.ready().as_str(), player.problem().as_str()),
        ("Unknown DriverUpgrade", "False NoDeviceFault")
    );
    player.signal = None;
    load(&mut player);
    player.play(5);
    assert!(player.believed().released.is_empty());
    assert_eq!(
        (player.ready().as_str(), player.problem().as_str()),
        ("True AllHealthy", "False NoDeviceFault")
    );
}

#[test]
fn a_driver_that_goes_for_ten_minutes_removes_nothing() {
    let mut player = Player::settled(8);
    unload(&mut player, LibraryStatus::NotFound);
    player.play(300);
    player.restart_pod();
    player.play(300);
    assert!(player.keeps_memory());
    assert_eq!(
        (player.ready().as_str(), player.problem().as_str()),
        ("Unknown DriverInstalling", "False NoDeviceFault")
    );
    load(&mut player);
    player.play(5);
    assert_eq!(player.ready(), "True AllHealthy");
}

#[test]
fn a_driver_that_stays_away_is_a_problem() {
    let mut player = Player::settled(8);
    unload(&mut player, LibraryStatus::NotFound);
    player.play(900);
    player.restart_pod();
    player.play(890);
    assert_eq!(player.ready(), "Unknown DriverInstalling");
    player.play(120);
    assert_eq!(
        (player.ready().as_str(), player.problem().as_str()),
        ("False DriverMissing", "True DriverMissing")
    );
}

#[test]
fn a_new_node_may_get_its_driver_late() {
    let mut player = Player::new(8, 30);
    unload(&mut player, LibraryStatus::NotFound);
    player.play(720);
    assert_eq!((player.ready().as_str(), player.problem().as_str()), ("Unknown DriverInstalling", "none"));
    load(&mut player);
    player.play(10);
    assert_eq!(
        (player.ready().as_str(), player.problem().as_str()),
        ("True AllHealthy", "False NoDeviceFault")
    );
}

#[test]
fn a_node_that_never_had_a_driver_is_judged_half_an_hour_after_boot() {
    let mut player = Player::new(8, 10_800);
    unload(&mut player, LibraryStatus::NotFound);
    player.play(40);
    assert_eq!(
        (player.ready().as_str(), player.problem().as_str()),
        ("False DriverMissing", "True DriverMissing")
    );
}

#[test]
fn a_reconfiguration_releases_the_library_for_a_reset() {
    let mut player = Player::settled(8);
    player.signal = Some(MaintenanceKind::Reconfiguring);
    player.play(5);
    assert!(player.believed().released.contains(PROBE));
    player.library = LibraryStatus::Released;
    player.devices = player.devices.drain(..).map(without_library).collect();
    player.play(120);
    assert_eq!(player.ready(), "Unknown Reconfiguring");
    player.signal = None;
    player.library = LibraryStatus::Starting;
    player.play(30);
    assert_eq!(player.ready(), "Unknown Reconfiguring", "the library has not answered yet");
    assert!(player.believed().released.is_empty());
    load(&mut player);
    player.play(5);
    assert_eq!(player.ready(), "True AllHealthy");
}

#[test]
fn maintenance_ends_even_if_its_signal_does_not() {
    let mut player = Player::settled(8);
    player.signal = Some(MaintenanceKind::DriverUpgrade);
    player.play(7100);
    assert_eq!(player.ready(), "Unknown DriverUpgrade");
    player.play(120);
    assert_eq!((player.ready().as_str(), player.health()), ("True AllHealthy", Some(HealthState::Healthy)));
    assert!(player.believed().released.is_empty());
}

#[test]
fn devices_that_go_in_maintenance_are_no_problem_before_its_end() {
    let mut player = Player::settled(8);
    player.signal = Some(MaintenanceKind::DriverUpgrade);
    unload(&mut player, LibraryStatus::Silent);
    let last = player.devices.pop();
    player.play(120);
    assert_eq!(player.missing(), 1);
    let devices = std::mem::take(&mut player.devices);
    player.restarts = 2;
    player.play(700);
    player.restart_container();
    player.play(60);
    assert_eq!(player.missing(), 8);
    assert_eq!(
        (player.ready().as_str(), player.problem().as_str()),
        ("Unknown DriverUpgrade", "False NoDeviceFault")
    );
    player.signal = None;
    player.devices = devices;
    load(&mut player);
    player.play(5);
    assert_eq!(
        (player.ready().as_str(), player.problem().as_str()),
        ("False DeviceMissing", "True DeviceMissing")
    );
    player.devices.extend(last);
    load(&mut player);
    player.play(5);
    assert_eq!(player.ready(), "True AllHealthy");
}

#[test]
fn a_verdict_of_an_earlier_driver_is_none_of_the_next() {
    let mut player = Player::settled(8);
    unload(&mut player, LibraryStatus::NotFound);
    player.play(300);
    load(&mut player);
    player.devices = player.devices.drain(..).map(without_library).collect();
    player.library = LibraryStatus::Starting;
    player.play(30);
    assert_eq!((player.health(), player.ready().as_str()), (None, "Unknown DriverInstalling"));
    load(&mut player);
    player.play(5);
    assert_eq!((player.health(), player.ready().as_str()), (Some(HealthState::Healthy), "True AllHealthy"));
}

#[test]
fn only_a_lasting_fault_of_a_device_itself_is_confirmed_and_none_in_maintenance() {
    let confirmed = |player: &Player| -> Vec<String> {
        let faults = player.track.confirmed_faults().iter();
        faults.map(|fault| format!("{} {}", fault.device, fault.reason)).collect()
    };
    let mut player = Player::settled(8);
    for (index, code) in
        [(1, "GpuLost"), (2, "DriverLibraryMismatch"), (3, "FabricNotReady"), (4, "DriverMissing")]
    {
        player.devices[index].health = Health::failed(code, "");
    }
    let lost = format!("{} GpuLost", player.devices[1].id);
    player.play(100);
    assert_eq!(confirmed(&player), [""; 0], "it may be over in a moment");
    player.play(60);
    assert_eq!(confirmed(&player), std::slice::from_ref(&lost));
    player.devices.pop();
    player.play(400);
    assert_eq!(confirmed(&player), ["missing-1 DeviceMissing".to_owned(), lost]);
    player.signal = Some(MaintenanceKind::DriverUpgrade);
    player.play(5);
    assert_eq!(confirmed(&player), [""; 0]);
    // `Problem` keeps its value meanwhile.
    assert_eq!(player.problem(), "True DeviceMissing");
}

#[test]
fn a_release_that_is_forgotten_does_not_keep_a_verdict() {
    let mut player = Player::settled(8);
    player.library = LibraryStatus::Released;
    player.devices = player.devices.drain(..).map(without_library).collect();
    player.play(7100);
    assert_eq!((player.ready().as_str(), player.health()), ("Unknown DriverUpgrade", None));
    player.play(120);
    assert_eq!(
        (player.ready().as_str(), player.health()),
        ("Unknown DriverUpgrade", Some(HealthState::Unknown))
    );
    let message = player.ready.as_ref().map(|ready| ready.message.clone()).unwrap_or_default();
    assert!(message.contains("afd release amd --end"), "{message}");
    assert!(player.keeps_memory(), "a fact stays what it was");
    load(&mut player);
    player.play(5);
    assert_eq!(player.ready(), "True AllHealthy");
}

#[test]
fn a_restart_in_maintenance_neither_prolongs_it_nor_queries_the_library() {
    let mut player = Player::settled(8);
    player.signal = Some(MaintenanceKind::DriverUpgrade);
    for _ in 0..7 {
        player.play(1000);
        player.restart_container();
        assert!(player.track.is_released_at_start(PROBE, player.now));
        // The Node is read after the first discovery.
        let signal = player.signal.take();
        player.observe_parts(true, false);
        assert!(player.track.is_released_at_start(PROBE, player.now));
        player.signal = signal;
        player.observe();
        assert!(!player.track.is_released_at_start(PROBE, player.now));
        assert!(player.believed().released.contains(PROBE));
    }
    assert_eq!(player.ready(), "Unknown DriverUpgrade");
    player.play(300);
    assert_eq!(player.ready(), "True AllHealthy");
    player.restart_container();
    assert!(!player.track.is_released_at_start(PROBE, player.now));
    player.play(5);
    assert_eq!(player.ready(), "True AllHealthy", "the same signal announces nothing more");
    player.signal = None;
    player.play(5);
    player.restart_container();
    player.play(5);
    assert_eq!(player.ready(), "True AllHealthy");
}

#[test]
fn the_end_of_a_signal_is_remembered_over_a_restart() {
    let mut player = Player::settled(8);
    player.signal = Some(MaintenanceKind::DriverUpgrade);
    unload(&mut player, LibraryStatus::Released);
    player.play(60);
    player.signal = None;
    player.library = LibraryStatus::Starting;
    player.devices = (1..=8).map(device).map(without_library).collect();
    player.play(300);
    for _ in 0..2 {
        player.restart_container();
        player.observe_parts(true, false);
        assert!(!player.track.is_released_at_start(PROBE, player.now), "the signal has ended");
        player.play(100);
        assert_eq!(player.ready(), "Unknown DriverUpgrade");
    }
    player.play(110);
    assert_ne!(player.ready(), "Unknown DriverUpgrade", "ten minutes have passed since it ended");
}
