//! The compute processes of a GPU and the memory that each uses (`/sys/class/kfd/kfd/proc`, kernel `kfd_process.c`).

use afd_probe::Facts;

const PROCESSES: &str = "/sys/class/kfd/kfd/proc";

/// The memory that a process uses on a KFD node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct KfdProcessMemory {
    pub(crate) pid: u32,
    pub(crate) gpu_id: u64,
    pub(crate) bytes: u64,
    /// The compute units that it occupies now, where the product reports it.
    pub(crate) compute_units: Option<u64>,
}

/// The memory used, by process and node. A process has a file for every node, with 0 for those that it does not use.
pub(crate) fn memory(facts: &mut Facts<'_>) -> Vec<KfdProcessMemory> {
    let pids: Vec<u32> =
        facts.names("processes", PROCESSES).iter().filter_map(|name| name.parse().ok()).collect();
    pids.into_iter().flat_map(|pid| memory_of_process(facts, pid)).collect()
}

fn memory_of_process(facts: &mut Facts<'_>, pid: u32) -> Vec<KfdProcessMemory> {
    let directory = format!("{PROCESSES}/{pid}");
    let names = facts.names("processes", &directory);
    names
        .iter()
        .filter_map(|name| {
            let gpu_id: u64 = name.strip_prefix("vram_")?.parse().ok()?;
            let bytes = facts.number("processes", &format!("{directory}/{name}")).into_value()?;
            if bytes == 0 {
                return None;
            }
            let units = format!("{directory}/stats_{gpu_id}/cu_occupancy");
            let compute_units = facts.number("processes", &units).into_value();
            Some(KfdProcessMemory { pid, gpu_id, bytes, compute_units })
        })
        .collect()
}
