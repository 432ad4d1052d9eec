//! The facts of a node apart from its accelerators: kernel release, machine, memory, NUMA nodes, RDMA devices.

use afd_host::Host;
use afd_model::{Device, Inventory, Known, Missing, NumaNode, Scanned};

use crate::{Facts, PciBus, PciFunction, host_facts, pci::numbered, rdma};

/// The kernel's release (`uname -r`).
pub const KERNEL_RELEASE: &str = "/proc/sys/kernel/osrelease";

/// Product name of the machine, from its firmware (`drivers/firmware/dmi-id.c`); world-readable.
const MACHINE: &str = "/sys/class/dmi/id/product_name";

/// The memory of the system (`Documentation/filesystems/proc.rst`, "meminfo").
pub const MEMORY: &str = "/proc/meminfo";

/// The fact of the problem that a GPU was not examined.
const UNEXAMINED: &str = "gpu";

/// An inventory without devices, to which the findings of the probes are added.
pub fn surroundings(host: &Host, bus: &PciBus) -> Inventory {
    let mut facts = Facts::new(host, "node");
    let kernel_release = facts.text("kernel_release", KERNEL_RELEASE);
    let machine = machine(&mut facts);
    let numa_nodes = numa_nodes(&mut facts);
    let for_pods = host_facts::read(&mut facts);
    unexamined_gpus(&mut facts, bus);
    let mut problems = facts.into_problems();
    let (nics, nic_problems) = rdma::nics(host, bus);
    problems.extend(nic_problems);
    problems.extend_from_slice(bus.problems());
    Inventory {
        kernel_release,
        machine,
        host: for_pods,
        numa_nodes,
        scanned: Scanned {
            pci_functions: u32::try_from(bus.functions().count()).unwrap_or(u32::MAX),
            rdma_devices: u32::try_from(nics.len()).unwrap_or(u32::MAX),
        },
        nics,
        problems,
        ..Inventory::default()
    }
}

/// The driver of a GPU that a Windows host shares with this machine (WSL2, GPU paravirtualisation of Hyper-V).
pub const PARAVIRTUAL: &str = "dxgkrnl";

/// The functions that stand for such GPUs. Each is Microsoft's, and shows nothing of the GPU behind it.
pub fn paravirtual_gpus<'b>(host: &Host, bus: &'b PciBus) -> impl Iterator<Item = &'b PciFunction> {
    const MICROSOFT: u16 = 0x1414;
    bus.of_vendor(MICROSOFT).filter(|function| {
        let driver = host.link(&function.attribute("driver"));
        driver.is_ok_and(|target| target.strip_suffix(PARAVIRTUAL).is_some_and(|path| path.ends_with('/')))
    })
}

/// That such GPUs were not examined.
fn unexamined_gpus(facts: &mut Facts<'_>, bus: &PciBus) {
    for function in paravirtual_gpus(facts.host(), bus) {
        let message = format!(
            "a GPU of the Windows host (WSL2, /dev/dxg) is behind {}: it was not examined",
            function.address
        );
        let driver = function.attribute("driver");
        let _: Known<()> = facts.missing(UNEXAMINED, Missing::Unrecognized, Some(&driver), message);
    }
}

/// Withdraws that GPUs of the Windows host were not examined, where a library lists some.
pub fn withdraw_examined(inventory: &mut Inventory) {
    let is_examined = |device: &Device| device.driver.value().is_some_and(|driver| driver == PARAVIRTUAL);
    if inventory.devices.iter().any(is_examined) {
        inventory.problems.retain(|problem| problem.fact != UNEXAMINED);
    }
}

/// Product name of the machine.
pub fn machine(facts: &mut Facts<'_>) -> Known<String> {
    facts.text("machine", MACHINE)
}

/// The memory of the machine in bytes.
pub fn memory_total(facts: &mut Facts<'_>, fact: &str) -> Known<u64> {
    facts.parse(fact, MEMORY, parse_memory_total)
}

/// The line `MemTotal:       2113465292 kB` of `/proc/meminfo`, in bytes.
///
/// # Errors
/// When the line is absent or has no number of KiB.
pub fn parse_memory_total(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "expected a line such as \"MemTotal: 65843456 kB\"";
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).ok_or(EXPECTED)?;
    let kibibytes: u64 =
        line.trim().strip_suffix("kB").and_then(|number| number.trim().parse().ok()).ok_or(EXPECTED)?;
    kibibytes.checked_mul(1024).ok_or(EXPECTED)
}

/// Takes the memory of devices out of that of the host: the kernel has it online as NUMA nodes without CPUs, and counts it, but no
/// pod can have it as memory of the host. `of_devices` is the memory of each such device.
///
/// A NUMA node without CPUs may be a memory expander as well, which is the host's. The nodes of the devices come first, and together
/// have at most a little more than the devices report.
pub fn withdraw_device_memory(host: &Host, inventory: &mut Inventory, of_devices: &[Known<u64>]) {
    if of_devices.is_empty() || !inventory.host.memory_bytes.is_known() {
        return;
    }
    let mut facts = Facts::new(host, "node");
    let without_cpus =
        inventory.numa_nodes.iter().filter(|node| node.cpus.value().is_some_and(String::is_empty));
    let online: Vec<Known<u64>> = without_cpus
        .map(|node| {
            facts.parse("host.memory_bytes", &format!("{NODES}/node{}/meminfo", node.number), |text| {
                let line = text.lines().find_map(|line| line.split_once("MemTotal:"));
                parse_memory_total(&format!("MemTotal:{}", line.map_or("", |(_, size)| size)))
            })
        })
        .filter(|memory| *memory != Known::Value(0))
        .collect();
    inventory.problems.extend(facts.into_problems());
    let host_memory = &mut inventory.host.memory_bytes;
    let sum = |memories: &[Known<u64>]| {
        memories.iter().try_fold(0_u64, |sum, memory| sum.checked_add(*memory.value()?))
    };
    match (sum(&online), sum(of_devices), &*host_memory) {
        (Some(0), ..) => {}
        (Some(_), Some(of_devices), Known::Value(total)) => {
            // The driver reserves some of the memory that the kernel has online.
            let mut room = of_devices.saturating_add(of_devices / 10);
            let of_nodes = online.into_iter().filter_map(Known::into_value).take_while(|memory| {
                let fits = *memory <= room;
                room -= if fits { *memory } else { 0 };
                fits
            });
            *host_memory = Known::from_option(total.checked_sub(of_nodes.sum()), Missing::Malformed);
        }
        // How much of it is the devices' is as unknown as what they have.
        _ => {
            let missing = of_devices.iter().chain(&online).find_map(Known::missing);
            *host_memory = missing.unwrap_or(Missing::Malformed).into();
        }
    }
}

const NODES: &str = "/sys/devices/system/node";

/// `/sys/devices/system/node/node<N>/cpulist`.
fn numa_nodes(facts: &mut Facts<'_>) -> Vec<NumaNode> {
    let mut nodes: Vec<NumaNode> = facts
        .names("numa_nodes", NODES)
        .iter()
        .filter_map(|name| Some((name, numbered(name, "node")?)))
        .map(|(name, number)| NumaNode { number, cpus: cpus(facts, &format!("{NODES}/{name}/cpulist")) })
        .collect();
    nodes.sort_by_key(|node| node.number);
    nodes
}

/// A node without CPUs has an empty list, which is a value.
fn cpus(facts: &mut Facts<'_>, path: &str) -> Known<String> {
    match facts.bytes("numa_nodes.cpus", path) {
        Known::Value(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Known::Value(String::new()),
        Known::Value(_) => facts.text("numa_nodes.cpus", path),
        Known::Missing { missing } => missing.into(),
    }
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use proptest::prelude::*;

    use super::*;

    fn host_facts_of(folder: &TestHost) -> afd_model::HostFacts {
        let host = folder.open();
        surroundings(&host, &PciBus::read(&host)).host
    }

    #[test]
    fn the_memory_of_a_host_that_does_not_report_it_is_missing() {
        assert_eq!(host_facts_of(&TestHost::new()).memory_bytes.missing(), Some(Missing::NotExposed));
        let folder = TestHost::new().file("/proc/meminfo", "MemTotal: much\n");
        assert_eq!(host_facts_of(&folder).memory_bytes.missing(), Some(Missing::Malformed));
    }

    #[test]
    fn a_gpu_of_a_windows_host_is_a_problem() {
        let problems = |driver: &str| {
            let path = "/sys/bus/pci/devices/1f4b:00:00.0";
            let folder = TestHost::new()
                .file(&format!("{path}/vendor"), "0x1414\n")
                .file(&format!("{path}/device"), "0x008e\n")
                .link(&format!("{path}/driver"), &format!("../../../bus/pci/drivers/{driver}"));
            let host = folder.open();
            let found = surroundings(&host, &PciBus::read(&host)).problems;
            found.into_iter().map(|problem| problem.message).collect::<Vec<_>>()
        };
        assert!(problems("dxgkrnl")[0].contains("1f4b:00:00.0"));
        assert!(problems("hyperv_drm").is_empty());
    }

    #[test]
    fn memory_of_devices_that_is_online_is_not_the_hosts() {
        const GIB: u64 = 1 << 30;
        let node = |folder: TestHost, number: usize, cpus: &str, gibibytes: u64| {
            let file = |name: &str| format!("/sys/devices/system/node/node{number}/{name}");
            folder.file(&file("cpulist"), format!("{cpus}\n")).file(
                &file("meminfo"),
                format!(
                    "Node {number} MemTotal:       {} kB\nNode {number} MemFree: 1 kB\n",
                    gibibytes << 20
                ),
            )
        };
        let host = |sizes: &[(&str, u64)]| {
            let total: u64 = sizes.iter().map(|(_, gibibytes)| gibibytes << 20).sum();
            let folder = TestHost::new().file("/proc/meminfo", format!("MemTotal: {total} kB\n"));
            sizes
                .iter()
                .enumerate()
                .fold(folder, |folder, (number, (cpus, gibibytes))| node(folder, number, cpus, *gibibytes))
        };
        let memory_left = |sizes: &[(&str, u64)], of_devices: &[Known<u64>]| {
            let folder = host(sizes);
            let host = folder.open();
            let mut inventory = surroundings(&host, &PciBus::read(&host));
            withdraw_device_memory(&host, &mut inventory, of_devices);
            inventory.host.memory_bytes
        };
        let left = |sizes: &[(&str, u64)], of_devices: &[Known<u64>]| {
            memory_left(sizes, of_devices).into_value().map(|bytes| bytes / GIB)
        };
        let gpu = Known::Value(186 * GIB);
        let sizes = [("0-71", 480), ("72-143", 480), ("", 188), ("", 188), ("", 0), ("", 256)];
        assert_eq!(left(&sizes, &[gpu, gpu]), Some(960 + 256), "the last one is a memory expander");
        assert_eq!(left(&sizes, &[]), Some(960 + 376 + 256), "no device has memory online");
        for missing in [Missing::Pending, Missing::NotExposed] {
            let memory = memory_left(&sizes, &[gpu, missing.into()]);
            assert_eq!(memory.missing(), Some(missing), "it is not known how much is theirs");
        }
        assert_eq!(left(&sizes, &[Known::Value(u64::MAX)]), Some(960), "any number is added up");
        assert_eq!(memory_left(&sizes, &[gpu, Known::Value(u64::MAX)]).missing(), Some(Missing::Malformed));
        assert_eq!(left(&[("0-71", 480), ("", 0)], &[Missing::Pending.into()]), Some(480));
        assert_eq!(left(&[("0-71", 480), ("", 512)], &[gpu]), Some(992), "too large for the device");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*", number in any::<u64>()) {
            let _ = parse_memory_total(&text);
            let _ = parse_memory_total(&format!("MemTotal: {number} kB"));
        }
    }
}
