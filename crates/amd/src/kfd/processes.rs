//! The processes that use a GPU to compute (`/sys/class/kfd/kfd/proc`, kernel `kfd_process.c`), and how much of its memory
//! each holds.

use afd_probe::Facts;

const PROCESSES: &str = "/sys/class/kfd/kfd/proc";

/// The memory that one process holds of one KFD node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Held {
    pub(crate) pid: u32,
    pub(crate) gpu_id: u64,
    pub(crate) bytes: u64,
    /// Compute units that it keeps busy now; only some parts tell.
    pub(crate) compute_units: Option<u64>,
}

/// What is held, by process and node; a process has a file for every node, and 0 in those that it does not use.
pub(crate) fn held(facts: &mut Facts<'_>) -> Vec<Held> {
    let pids: Vec<u32> =
        facts.names("processes", PROCESSES).iter().filter_map(|name| name.parse().ok()).collect();
    pids.into_iter().flat_map(|pid| of_process(facts, pid)).collect()
}

fn of_process(facts: &mut Facts<'_>, pid: u32) -> Vec<Held> {
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
            Some(Held { pid, gpu_id, bytes, compute_units })
        })
        .collect()
}
