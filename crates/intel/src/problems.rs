//! Problems of the sources besides those of reads and calls.

use afd_model::{DeviceId, Missing, Problem};

use crate::{NAME, levelzero::LIBRARY};

/// A device that sleeps keeps the others from being queried.
pub(crate) fn suspension(device: DeviceId) -> Problem {
    let message = "the device is suspended and Level Zero would wake it, so that no GPU of the node is queried: write `on` to its \
                   power/control to keep it awake";
    problem(Some(device), LIBRARY.fact, Missing::NotAvailable, message)
}

/// The driver hides what is in use.
pub(crate) fn memory(device: DeviceId) -> Problem {
    let message = "the driver reports all memory as free, as it does to processes without CAP_PERFMON";
    problem(Some(device), "memory_used", Missing::NotPermitted, message)
}

/// The counters of engines may not be opened, and nothing else reports how busy they are.
pub(crate) fn counters() -> Problem {
    let message = "the driver counts the time of the engines, which may not be read here: it takes CAP_PERFMON, or \
                   kernel.perf_event_paranoid of 0 or less; Level Zero reports engines to user 0 without it";
    problem(None, "utilization", Missing::NotPermitted, message)
}

/// Some clients may not have been seen.
pub(crate) fn clients() -> Problem {
    let message = "some processes, or too many open files, cannot be read for the engine time of the GPUs' clients: it takes \
                   CAP_SYS_PTRACE; Level Zero reports engines to user 0 without it";
    problem(None, "utilization", Missing::NotPermitted, message)
}

fn problem(device: Option<DeviceId>, fact: &str, reason: Missing, message: &str) -> Problem {
    Problem {
        probe: NAME.to_owned(),
        device,
        fact: fact.to_owned(),
        reason,
        path: None,
        message: message.to_owned(),
    }
}
