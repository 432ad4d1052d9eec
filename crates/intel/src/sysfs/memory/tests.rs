use afd_host::testing::TestHost;
use afd_model::Missing;

use crate::{Intel, sysfs::memory::*};
use afd_probe::Probe;

const GPU: &str = "/sys/bus/pci/devices/0000:00:06.0";
const GIB: u64 = 1 << 30;

fn gpu(device: &str) -> TestHost {
    TestHost::with_files([
        (&*format!("{GPU}/vendor"), "0x8086\n"),
        (&*format!("{GPU}/device"), device),
        (&*format!("{GPU}/class"), "0x038000\n"),
        (&*format!("{GPU}/drm/card1/dev"), "226:1\n"),
    ])
}

fn with_bar(folder: TestHost, gib: u64) -> TestHost {
    let end = 0x20_0000_0000 + gib * GIB - 1;
    let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    folder.file(
        &format!("{GPU}/resource"),
        format!("{none}{none}0x0000002000000000 {end:#018x} 0x000000000014220c\n"),
    )
}

fn only(folder: &TestHost) -> Device {
    let host = folder.open();
    let mut devices = Intel::default().discover(&host, &PciBus::read(&host)).devices;
    assert_eq!(devices.len(), 1);
    devices.remove(0)
}

fn memory(folder: &TestHost) -> Option<(u64, MemorySource)> {
    let device = only(folder);
    device.memory_bytes.into_value().zip(device.memory_source.into_value())
}

#[test]
fn the_capacity_of_a_product_counts_only_for_what_is_known_to_be_whole() {
    let nominal = |gib: u64| Some((gib * GIB, MemorySource::ProductTable));
    // A Flex 140 of 6 GiB, a Max 1550 of 128 GiB and an Arc Pro B60 of 24 GiB.
    for (id, gib) in [("0x56c1\n", 6), ("0x0bd5\n", 128), ("0xe211\n", 24)] {
        assert_eq!(memory(&gpu(id)), None, "{id}: nothing says that it is whole");
        assert_eq!(memory(&with_bar(gpu(id), 2)), None, "{id}: a window, or a virtual function");
        assert_eq!(memory(&with_bar(gpu(id), 256)), nominal(gib), "{id}: the BAR maps all of it");
        let physical = gpu(id).file(&format!("{GPU}/sriov_totalvfs"), "31\n");
        assert_eq!(memory(&with_bar(physical, 2)), nominal(gib), "{id}: it may have virtual functions");
    }
    let on_host = with_bar(gpu("0x56c0\n"), 256).link(&format!("{GPU}/physfn"), "../0000:00:02.0");
    assert_eq!(memory(&on_host), None, "a virtual function has no more than its own");
}

#[test]
fn the_file_of_the_driver_takes_precedence_over_every_nominal_figure() {
    let file = |tile: u8| format!("{GPU}/tile{tile}/physical_vram_size_bytes");
    let whole = || with_bar(gpu("0x0bd5\n"), 256);
    let one = whole().file(&file(0), "68585259008\n");
    assert_eq!(memory(&one), Some((68_585_259_008, MemorySource::Drm)));
    let two = one.file(&file(1), "68585259000\n");
    assert_eq!(memory(&two), Some((137_170_518_008, MemorySource::Drm)), "the tiles together");
    assert_eq!(memory(&gpu("0xe221\n").file(&file(0), "0\n")), None, "0 is no size");
    let of_a_part = gpu("0x56c0\n").file(&format!("{GPU}/drm/card1/lmem_total_bytes"), "4294967296\n");
    assert_eq!(memory(&of_a_part), Some((4 * GIB, MemorySource::Drm)));
}

#[test]
fn a_virtual_function_has_the_memory_that_the_driver_gave_it() {
    let mut folder = gpu("0xe212\n")
        .file(&format!("{GPU}/sriov_numvfs"), "3\n")
        .file(&format!("{GPU}/sriov_admin/vf1/profile/vram_quota"), "5000000000\n")
        .file(&format!("{GPU}/sriov_admin/vf2/profile/vram_quota"), "0\n")
        .file(&format!("{GPU}/drm/card1/iov/vf3/gt0/lmem_quota"), "1000000000\n")
        .file(&format!("{GPU}/drm/card1/iov/vf3/gt1/lmem_quota"), "2000000000\n");
    for index in 0..3 {
        folder = folder.link(&format!("{GPU}/virtfn{index}"), &format!("../0000:00:06.{}", index + 1));
    }
    let quotas: Vec<_> = only(&folder).partitions.iter().map(|partition| partition.memory_bytes).collect();
    assert_eq!(
        quotas,
        [Known::Value(5_000_000_000), Missing::NotAvailable.into(), Known::Value(3_000_000_000)],
        "by number, 0 is no quota, and the quotas of all GTs count"
    );
}
