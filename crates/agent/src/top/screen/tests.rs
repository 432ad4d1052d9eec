use std::time::Duration;

use afd_model::{DeviceId, Inventory, Known, Partition, PartitionName, PciAddress};
use expect_test::{Expect, expect};
use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::{
    live::tests::{device, inventory, report},
    top::{SourcedReport, TopEvent, TopKey},
};

/// A state after a report.
fn state(inventory: &Inventory) -> TopState {
    let mut state = TopState::new("http://127.0.0.1:9109".to_owned(), true);
    state.observe(TopEvent::Report(Box::new(SourcedReport {
        report: report(inventory),
        age: Duration::ZERO,
    })));
    state
}

/// What is seen on a screen of this size.
fn seen(state: &mut TopState, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("the backend cannot fail");
    terminal.draw(|frame| draw(state, frame.area(), frame.buffer_mut())).expect("the backend cannot fail");
    let cells = terminal.backend().buffer().content();
    let lines = cells
        .chunks(usize::from(width))
        .map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned() + "\n"
}

fn assert_seen(width: u16, height: u16, expected: &Expect) {
    let mut state = state(&inventory());
    // Seconds pass on a busy machine.
    state.read_at = None;
    expected.assert_eq(&seen(&mut state, width, height));
}

#[test]
fn a_screen_of_80_columns() {
    assert_seen(
        80,
        24,
        &expect![[r#"
        gpu-7  2 devices  1 missing  1 failed  1 healthy
        Ready: False (GpuLost)  from http://127.0.0.1:9109
        DEVICE       HEALTH   UTIL               MEMORY      POWER  TEMP HELD BY
        missing-1    missing     -                    -          -     - -
        0000:19:00.0 healthy   35%        ▃ 20.0G/80.0G   350/700W  45°C serving/vllm-0
        0000:29:00.0 failed      -                    -          -     -
          gi3-ci0                -                    -          -     -

        missing-1 Accelerator X80
        DeviceMissing: was at 0000:39:00.0













        q end  s sort: device  / filter  p panel: device  ? help
    "#]],
    );
}

#[test]
fn a_screen_of_120_columns() {
    assert_seen(
        120,
        40,
        &expect![[r#"
        gpu-7  2 devices  1 missing  1 failed  1 healthy
        Ready: False (GpuLost)  from http://127.0.0.1:9109
        DEVICE       PRODUCT          HEALTH   UTIL               MEMORY               POWER           TEMP HELD BY
        missing-1    Accelerator X80  missing     -                    -                   -              - -
        0000:19:00.0 Accelerator X80  healthy   35%        ▃ 20.0G/80.0G        ▃   350/700W        ▅  45°C serving/vllm-0
        0000:29:00.0 Accelerator X80  failed      -                    -                   -              -
          gi3-ci0    1g.10gb                      -                    -                   -              -

        missing-1 Accelerator X80
        DeviceMissing: was at 0000:39:00.0





























        q end  s sort: device  / filter  p panel: device  ? help
    "#]],
    );
}

#[test]
fn a_screen_of_200_columns() {
    assert_seen(
        200,
        60,
        &expect![[r#"
        gpu-7  2 devices  1 missing  1 failed  1 healthy
        Ready: False (GpuLost)  from http://127.0.0.1:9109
        DEVICE       PRODUCT                          HEALTH   UTIL                           MEMORY                       POWER                   TEMP             HELD BY
        missing-1    Accelerator X80                  missing     -                                -                           -                      -             -
        0000:19:00.0 Accelerator X80                  healthy   35%                    ▃ 20.0G/80.0G                ▃   350/700W                ▅  45°C           ▄ serving/vllm-0
        0000:29:00.0 Accelerator X80                  failed      -                                -                           -                      -
          gi3-ci0    1g.10gb                                      -                                -                           -                      -

        missing-1 Accelerator X80
        DeviceMissing: was at 0000:39:00.0

















































        q end  s sort: device  / filter  p panel: device  ? help
    "#]],
    );
}

#[test]
fn a_narrow_screen() {
    assert_seen(
        40,
        12,
        &expect![[r#"
        gpu-7  2 devices  1 missing  1 failed
        Ready: False (GpuLost)  from http://127…
        DEVICE       HEALTH   UTIL      MEMORY
        missing-1    missing     -           -
        0000:19:00.0 healthy   35% 20.0G/80.0G
        0000:29:00.0 failed      -           -
          gi3-ci0                -           -

        missing-1 Accelerator X80
        DeviceMissing: was at 0000:39:00.0

        q end  s sort: device  / filter  p pane…
    "#]],
    );
}

#[test]
fn no_size_of_a_screen_fails() {
    let mut state = state(&inventory());
    for width in 1..90 {
        for height in 1..20 {
            seen(&mut state, width, height);
        }
    }
}

/// A node with so many devices, of four partitions each.
fn large(devices: u8) -> Inventory {
    let partitioned = |bus: u8| {
        let mut device = device(bus, "Accelerator X80");
        let id: DeviceId = PciAddress { domain: 0, bus, device: 0, function: 0 }.into();
        device.partitions = (0..4).map(|number| Partition::bare(id, PartitionName::Xcp(number))).collect();
        device
    };
    Inventory { devices: (0..devices).map(partitioned).collect(), ..Inventory::default() }
}

#[test]
fn the_selected_device_of_many_is_visible() {
    let mut state = state(&large(64));
    assert!(seen(&mut state, 80, 24).contains("0000:00:00.0"));
    state.press(TopKey::Last);
    let last = seen(&mut state, 80, 24);
    assert!(
        last.contains("0000:3f:00.0") && last.contains("xcp3") && !last.contains("0000:00:00.0"),
        "{last}"
    );
    state.press(TopKey::First);
    state.press(TopKey::Page(1));
    assert!(state.selected > 5, "a page has several rows: {}", state.selected);
    assert!(seen(&mut state, 80, 24).contains("xcp"));
}

#[test]
fn keys_sort_filter_and_end() {
    let mut state = state(&inventory());
    state.press(TopKey::Char('s'));
    state.press(TopKey::Char('r'));
    let sorted = seen(&mut state, 80, 24);
    assert!(sorted.contains("s sort: utilization, reversed"), "{sorted}");
    let place = |text: &str, of: &str| text.find(of).expect("it is there");
    assert!(place(&sorted, "0000:29:00.0") < place(&sorted, "0000:19:00.0"), "{sorted}");
    state.press(TopKey::Char('/'));
    "VLLM".chars().for_each(|character| state.press(TopKey::Char(character)));
    let filtered = seen(&mut state, 80, 24);
    assert!(filtered.contains("filter: VLLM_") && !filtered.contains("0000:29:00.0"), "{filtered}");
    state.press(TopKey::Enter);
    state.press(TopKey::Char('p'));
    assert!(seen(&mut state, 80, 24).contains("optimized-baseline"));
    state.press(TopKey::Escape);
    assert!(!state.has_ended() && seen(&mut state, 80, 24).contains("0000:29:00.0"));
    state.press(TopKey::Char('?'));
    assert!(seen(&mut state, 80, 24).contains("reverse the order"));
    state.press(TopKey::Char('q'));
    assert!(!state.has_ended(), "the key closes the help");
    state.press(TopKey::Char('q'));
    assert!(state.has_ended());
}

#[test]
fn the_history_grows_with_each_sample_and_once() {
    let mut state = state(&inventory());
    let mut next = report(&inventory());
    next.sampled_at = Some(2e9);
    next.devices[0].values.utilization_ratio = Known::Value(1.0);
    for _ in 0..2 {
        let read = SourcedReport { report: next.clone(), age: Duration::ZERO };
        state.observe(TopEvent::Report(Box::new(read)));
    }
    let history = state.history("0000:19:00.0", LiveValue::Utilization).expect("it has one");
    assert_eq!(history.iter().copied().collect::<Vec<_>>(), [Some(0.35), Some(1.0)]);
    assert!(seen(&mut state, 80, 24).contains("▃█"), "{}", seen(&mut state, 80, 24));
}

#[test]
fn what_is_old_or_fails_is_said() {
    let mut state = state(&inventory());
    let read = SourcedReport { report: report(&inventory()), age: Duration::from_secs(95) };
    state.observe(TopEvent::Report(Box::new(read)));
    let old = seen(&mut state, 80, 24);
    assert!(old.contains("The agent's loop is stuck: these values are "), "{old}");
    state.observe(TopEvent::Failed("no agent answers".to_owned()));
    assert!(seen(&mut state, 80, 24).contains("no agent answers"));
}

#[test]
fn an_address_with_a_large_domain_is_complete() {
    for (domain, address) in [(0x1_0000, "10000:19:00.0"), (0xffff_ffff, "ffffffff:19:00.0")] {
        let mut inventory = inventory();
        let device = &mut inventory.devices[0];
        device.pci.address = PciAddress { domain, ..device.pci.address };
        device.id = device.pci.address.into();
        inventory.missing[0].id = "GPU-00000000-0000-0000-0000-000000000001".to_owned();
        let shown = seen(&mut state(&inventory), 80, 24);
        assert!(shown.contains(&format!("{address} healthy ")), "{shown}");
    }
}
