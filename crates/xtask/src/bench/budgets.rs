//! What the agent may cost. A change that exceeds a budget is a regression, like a failing test.

use std::time::Duration;

/// Resident memory of `afd run`, 8 devices, no vendor library loaded: 10 MiB.
pub(super) const RESIDENT_KIBIBYTES: u64 = 10 * 1024;
/// Anonymous part of it: 2.5 MiB.
pub(super) const ANONYMOUS_KIBIBYTES: u64 = 2560;
/// Resident memory of an agent whose devices have a library, which a child process has loaded: 12 MiB.
pub(super) const RESIDENT_WITH_LIBRARY_KIBIBYTES: u64 = 12 * 1024;
/// Resident memory of the child process with a fake library: 9 MiB.
pub(super) const CHILD_RESIDENT_KIBIBYTES: u64 = 9 * 1024;
/// CPU of the child process while idle, in percent of one core.
pub(super) const CHILD_PERCENT: f64 = 0.3;
/// A sample of 8 devices by a library.
pub(super) const SAMPLE: Duration = Duration::from_millis(5);
/// `/metrics` of 8 devices over keep-alive on loopback, median.
pub(super) const SCRAPE_P50: Duration = Duration::from_micros(100);
/// The same, 99th percentile.
pub(super) const SCRAPE_P99: Duration = Duration::from_micros(300);
/// The budgets of scrapes apply from this many series.
pub(super) const SERIES: usize = 400;
/// A scrape is at least this many times faster than one of node_exporter in the same run.
pub(super) const PEER_RATIO: f64 = 50.0;
/// CPU while idle, in percent of one core: 8 devices sampled every 5 s, no scrapes.
pub(super) const IDLE_PERCENT: f64 = 0.1;
/// From an event of the driver to its metric.
pub(super) const EVENT: Duration = Duration::from_millis(300);
/// Start to the first complete inventory, 8 devices among 500 PCI functions, without vendor libraries.
pub(super) const START: Duration = Duration::from_millis(30);
/// The stripped binary: 12 MiB.
pub(super) const BINARY_BYTES: u64 = 12 * 1024 * 1024;
/// Requests a second to the listener for endpoint pickers: 8 pods, 2 pickers, 20 Hz.
pub(super) const LISTENER_RATE: u32 = 320;
/// 99th percentile of its response times under that load.
pub(super) const LISTENER_P99: Duration = Duration::from_micros(500);
/// CPU under that load, in percent of one core.
pub(super) const LISTENER_PERCENT: f64 = 2.0;
/// Growth of anonymous memory under that load: a few pages of the allocator.
pub(super) const LISTENER_GROWTH_KIBIBYTES: u64 = 64;
/// Resident memory under any attack: 24 MiB.
pub(super) const ATTACKED_KIBIBYTES: u64 = 24 * 1024;
/// Private memory that remains ten seconds after an attack, after one like it.
pub(super) const REMAINDER_KIBIBYTES: u64 = 1024;
