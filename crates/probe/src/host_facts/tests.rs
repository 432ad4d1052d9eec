use afd_host::testing::TestHost;
use proptest::prelude::*;

use super::*;

fn facts_of(folder: &TestHost) -> HostFacts {
    let host = folder.open();
    let mut facts = Facts::new(&host, "node");
    let read = read(&mut facts);
    assert_eq!(facts.into_problems(), []);
    read
}

#[test]
fn what_no_file_shows_is_not_known() {
    assert_eq!(facts_of(&TestHost::new()), HostFacts::default());
}

#[test]
fn memory_rdma_files_and_huge_pages_of_the_host_are_reported() {
    let folder = TestHost::new()
        .file(
            "/proc/meminfo",
            "MemTotal:       2113465292 kB\nMemFree:        1 kB\nHugetlb:        10485760 kB\n",
        )
        .file("/dev/infiniband/rdma_cm", "")
        .file("/dev/infiniband/uverbs0", "")
        .file("/dev/infiniband/uverbs1", "");
    assert_eq!(
        facts_of(&folder),
        HostFacts {
            memory_bytes: Known::Value(2_113_465_292 << 10),
            rdma_device_files: Known::Value(2),
            hugepages_bytes: Known::Value(10 << 30),
            ..HostFacts::default()
        }
    );
    assert!(parse_hugepages("Hugetlb: many\n").is_err());
    assert_eq!(parse_hugepages("MemTotal: 1 kB\n").map(|known| known.is_known()), Ok(false));
}

#[test]
fn no_rdma_files_are_counted_only_where_there_are_device_files() {
    let files = |folder: TestHost| facts_of(&folder).rdma_device_files;
    assert_eq!(files(TestHost::new().file("/dev/null", "")), Known::Value(0));
    assert_eq!(files(TestHost::new()).missing(), Some(Missing::NotExposed));
    let device = || TestHost::new().file("/sys/class/infiniband/mlx5_0/node_type", "1: CA\n");
    assert_eq!(
        files(device()).missing(),
        Some(Missing::NotExposed),
        "a class that is not there shows nothing"
    );
    assert_eq!(files(device().file("/sys/class/infiniband_verbs/uverbs0/dev", "231:192\n")), Known::Value(1));
}

/// A block device with a size in sectors, and its model and transport where they are shown.
fn disk(folder: TestHost, name: &str, sectors: &str, model: &str, transport: &str) -> TestHost {
    let file = |name_of_file: &str| format!("{BLOCK_DEVICES}/{name}/{name_of_file}");
    let texts = [("size", sectors), ("device/model", model), ("device/transport", transport)];
    let shown = texts.into_iter().filter(|(_, text)| !text.is_empty());
    shown.fold(folder, |folder, (name, text)| folder.file(&file(name), format!("{text}\n")))
}

#[test]
fn local_disks_are_nvme_namespaces_that_are_not_of_a_network() {
    let bytes = |disks: &[(&str, &str, &str, &str)]| {
        let add = |folder, disk_of: &(&str, &str, &str, &str)| {
            disk(folder, disk_of.0, disk_of.1, disk_of.2, disk_of.3)
        };
        facts_of(&disks.iter().fold(TestHost::new(), add)).local_nvme_bytes.into_value()
    };
    assert_eq!(bytes(&[("sda", "100", "DISK", "")]), Some(0));
    let local = ("nvme0n1", "7501476528", "SAMSUNG MZWLO3T8HCLS-00A07  ", "pcie");
    assert_eq!(bytes(&[local]), Some(7_501_476_528 * 512));
    assert_eq!(bytes(&[local, ("nvme1n1", "10", "nvme_card", "pcie")]), Some(7_501_476_538 * 512));
    assert_eq!(bytes(&[("nvme0n1", "10", "x", "")]), Some(5120), "several paths");
    let of_subsystem = |transport: &str| {
        let controller = |number| format!("{BLOCK_DEVICES}/nvme0n1/device/nvme{number}/transport");
        let folder = disk(TestHost::new(), "nvme0n1", "10", "Linux", "");
        let folder = folder.file(&controller(0), transport).file(&controller(1), transport);
        facts_of(&folder).local_nvme_bytes.into_value()
    };
    assert_eq!((of_subsystem("tcp\n"), of_subsystem("pcie\n")), (Some(0), Some(5120)), "by its controllers");
    for network in NETWORK_DISKS {
        assert_eq!(bytes(&[("nvme0n1", "10", network, "pcie")]), Some(0), "{network}");
    }
    for other in
        [("nvme0n1", "10", "x", "tcp"), ("nvme0n1p1", "10", "x", "pcie"), ("nvme0c0n1", "10", "x", "pcie")]
    {
        assert_eq!(bytes(&[other]), Some(0), "{other:?}");
    }
    assert_eq!(bytes(&[local, ("nvme1n1", "", "x", "pcie")]), None, "a size is missing");
    assert_eq!(bytes(&[local, ("nvme1n1", "10", "", "pcie")]), None, "it may be a disk of a network");
    assert_eq!(bytes(&[]), None);
}

#[test]
fn containers_inherit_the_limit_of_their_runtime() {
    let of = |files: &[(&str, &str)]| {
        let add = |folder: TestHost, (path, limit): &(&str, &str)| {
            folder.file(path, format!("[Service]\nExecStart=/usr/bin/x\nLimitMEMLOCK={limit}\n"))
        };
        facts_of(&files.iter().fold(TestHost::new(), add)).locked_memory_bytes.into_value()
    };
    let unit = "/usr/lib/systemd/system/containerd.service";
    assert_eq!(of(&[(unit, "infinity")]), Some(u64::MAX));
    assert_eq!(of(&[(unit, "65536")]), Some(65536));
    let drop_in = "/etc/systemd/system/containerd.service.d/50-memlock.conf";
    assert_eq!(of(&[(unit, "64K"), (drop_in, "infinity")]), Some(u64::MAX));
    let earlier = "/etc/systemd/system/containerd.service.d/10-other.conf";
    assert_eq!(of(&[(unit, "64K"), (earlier, "1G"), (drop_in, "8M:16M")]), Some(16 << 20));
    assert_eq!(
        of(&[(unit, "1"), ("/etc/systemd/system/containerd.service", "2")]),
        Some(2),
        "/etc replaces it"
    );
    let in_unit = |line: &str| {
        facts_of(&TestHost::new().file(unit, format!("[Service]\n{line}\n"))).locked_memory_bytes
    };
    assert_eq!(in_unit("LimitMEMLOCK = 5"), Known::Value(5));
    let of_command = "ExecStart=/usr/bin/x \\\nLimitMEMLOCK=5";
    assert!(!in_unit(of_command).is_known(), "it continues the line before");
    assert_eq!(
        in_unit("#ExecStart=/usr/bin/x \\\nLimitMEMLOCK=6"),
        Known::Value(6),
        "nothing continues a comment"
    );
    assert_eq!(in_unit("LimitMEMLOCK=64\nLimitMEMLOCK="), Known::Value(64), "it is no limit");
    let packaged = "/usr/lib/systemd/system/containerd.service.d/99-last.conf";
    assert_eq!(of(&[(unit, "1"), (drop_in, "2"), (packaged, "3")]), Some(3), "their names order them");
    let hidden = "/usr/lib/systemd/system/containerd.service.d/50-memlock.conf";
    assert_eq!(of(&[(unit, "1"), (hidden, "2"), (drop_in, "3")]), Some(3), "/etc replaces it");
    let masked = TestHost::new()
        .file(unit, "[Service]\nLimitMEMLOCK=1\n")
        .file(hidden, "[Service]\nLimitMEMLOCK=2\n")
        .link(drop_in, "/dev/null");
    assert_eq!(facts_of(&masked).locked_memory_bytes.into_value(), Some(1));
    let without_containerd = TestHost::new()
        .file(unit, "[Service]\nLimitMEMLOCK=1\n")
        .link("/etc/systemd/system/containerd.service", "/dev/null")
        .file("/etc/systemd/system/crio.service", "[Service]\nLimitMEMLOCK=4\n");
    assert_eq!(facts_of(&without_containerd).locked_memory_bytes.into_value(), Some(4), "it is masked");
    let unread = TestHost::new()
        .file(unit, "[Service]\nLimitMEMLOCK=1\n")
        .file(&format!("{drop_in}/x"), "it is a folder");
    assert_eq!(
        facts_of(&unread).locked_memory_bytes,
        Missing::Unreadable.into(),
        "it may have another limit"
    );
    assert_eq!(of(&[("/etc/systemd/system/crio.service", "3")]), Some(3));
    assert_eq!(of(&[(drop_in, "1")]), None, "there is no such service");
    assert_eq!(of(&[(unit, "much")]), None);
    let silent = TestHost::new().file(unit, "[Service]\nLimitNOFILE=infinity\n");
    assert_eq!(facts_of(&silent).locked_memory_bytes.into_value(), None);
}

#[test]
fn distributions_are_identified_by_their_file() {
    let os = |text: &str| facts_of(&TestHost::new().file("/usr/lib/os-release", text)).os.into_value();
    let ubuntu =
        os("NAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nID=ubuntu\nID_LIKE=debian\n").expect("it is known");
    assert_eq!((ubuntu.id.as_str(), ubuntu.version.as_deref()), ("ubuntu", Some("24.04")));
    assert_eq!(ubuntu.id_like, ["debian"]);
    let red_hat = os("ID=\"rhel\"\nID_LIKE=\"rhel fedora\"\nVARIANT_ID=coreos\n").expect("it is known");
    assert_eq!((red_hat.id.as_str(), red_hat.variant.as_deref()), ("rhel", Some("coreos")));
    let both = TestHost::new().file("/etc/os-release", "ID=talos\n").file("/usr/lib/os-release", "ID=x\n");
    assert_eq!(facts_of(&both).os.into_value().map(|os| os.id).as_deref(), Some("talos"));
    assert!(parse_os_release("NAME=x\n").is_err() && parse_os_release("ID=\n").is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*", number in any::<u64>(), suffix in "[KMGTPEkm:a]?") {
        let _ = (parse_hugepages(&text), parse_os_release(&text), parse_locked_memory(&text), is_namespace(&text));
        let _ = parse_locked_memory(&format!("LimitMEMLOCK={number}{suffix}"));
        let _ = parse_hugepages(&format!("Hugetlb: {number} kB"));
    }
}

#[test]
fn the_threads_of_a_core_are_those_of_the_first_one() {
    for (list, threads) in [("0,64\n", 2), ("0-1\n", 2), ("0\n", 1), ("0,32,64,96\n", 4)] {
        let host = TestHost::new().file(FIRST_CORE, list);
        assert_eq!(facts_of(&host).threads_per_core, Known::Value(threads), "{list}");
    }
    for list in ["", "x\n", "3-1\n", "0,\n"] {
        assert!(parse_threads(list).is_err(), "{list:?}");
    }
}
