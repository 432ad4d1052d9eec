//! What a Node says over time: the real binary on a host with the fake NVML, against a real API server. A witness keeps every
//! version of the Node. So a test fails also for what was wrong between two looks at the Node: a label that was gone for a
//! moment, a condition that turned and turned back, a write that changed nothing.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

#[path = "over_time/devices.rs"]
mod devices;
#[path = "over_time/driver.rs"]
mod driver;
#[path = "over_time/faults.rs"]
mod faults;
#[path = "over_time/library.rs"]
mod library;
#[path = "over_time/maintenance.rs"]
mod maintenance;
#[path = "over_time/metadata.rs"]
mod metadata;
#[path = "over_time/node.rs"]
mod node;
#[path = "over_time/offers.rs"]
mod offers;
#[path = "over_time/scene.rs"]
mod scene;
#[path = "kubernetes/setup.rs"]
mod setup;
#[path = "over_time/witness.rs"]
mod witness;
#[path = "over_time/workload.rs"]
mod workload;

use std::process::ExitCode;

use afd_test_cluster::Suite;

fn main() -> ExitCode {
    // Built before the bed starts, because the bed has no access to the registry.
    afd_tests::binary();
    afd_tests::fake_nvml();
    Suite::new()
        .parallel(2)
        .test("a_restart_while_the_library_starts_changes_nothing", library::slow_start)
        .test("a_library_that_is_older_than_the_driver_removes_no_label", library::mismatch)
        .test("one_observation_in_which_calls_fail_changes_nothing", library::failed_calls)
        .test("a_restart_while_calls_fail_removes_nothing", library::failed_calls_after_restart)
        .test("a_library_that_hangs_turns_health_unknown_and_removes_nothing_else", library::hanging)
        .test("another_manager_that_changes_keys_while_the_library_hangs_is_corrected", library::contested)
        .test("a_crash_loop_while_the_library_hangs_lengthens_no_grace", library::crash_loop)
        .test("a_device_that_leaves_the_bus_for_a_moment_changes_nothing", devices::rescan)
        .test("devices_that_stay_away_are_missing_until_they_are_forgotten", devices::missing)
        .test("an_announced_upgrade_of_the_driver_is_no_fault", maintenance::announced_upgrade)
        .test("an_upgrade_of_the_driver_without_an_announcement_is_no_fault", maintenance::silent_upgrade)
        .test("a_reconfiguration_of_mig_finds_no_process_that_holds_the_library", maintenance::mig)
        .test(
            "a_device_that_is_reset_after_a_job_changes_no_label_and_no_condition",
            workload::reset_after_release,
        )
        .test("a_lost_gpu_fails_at_once_and_is_a_problem_after_its_grace", faults::lost)
        .test("an_xid_is_a_fault_until_an_operator_clears_it", faults::xid)
        .test("devices_without_a_plugin_are_not_allocatable_after_their_grace", offers::late_plugin)
        .test("tpus_without_a_driver_are_not_ready_and_the_image_is_the_advice", metadata::without_driver)
        .test("a_metadata_server_that_refuses_removes_no_label", metadata::refused)
        .test("an_old_node_under_a_new_machine_hands_nothing_down", node::other_machine)
        .test("a_node_of_an_earlier_boot_is_not_written", node::earlier_boot)
        .test("the_number_that_an_admin_expects_is_honoured_and_never_written", node::expect)
        .main()
}
