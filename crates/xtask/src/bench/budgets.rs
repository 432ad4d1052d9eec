//! What the agent may cost. A change that breaks a budget is a regression like a failing test.

use std::time::Duration;

/// Resident memory of `afd run`, 8 devices, no vendor library loaded: 12 MiB.
pub(super) const RESIDENT_KIBIBYTES: u64 = 12 * 1024;
/// Anonymous part of it: 4 MiB.
pub(super) const ANONYMOUS_KIBIBYTES: u64 = 4 * 1024;
/// `/metrics` of 8 devices over keep-alive on loopback, median.
pub(super) const SCRAPE_P50: Duration = Duration::from_micros(150);
/// The same, 99th percentile.
pub(super) const SCRAPE_P99: Duration = Duration::from_micros(500);
/// The fewest series for which the scrape budgets count.
pub(super) const SERIES: usize = 400;
/// How many times faster than node_exporter a scrape is at least, in the same run.
pub(super) const PEER_RATIO: f64 = 10.0;
/// CPU at rest in percent of one core: 8 devices sampled every 5 s, nobody scraping.
pub(super) const REST_PERCENT: f64 = 0.2;
/// From an event of the driver to what it means.
pub(super) const EVENT: Duration = Duration::from_secs(1);
/// Start to the first complete inventory, 8 devices among 500 PCI functions, without vendor libraries.
pub(super) const START: Duration = Duration::from_millis(50);
/// The stripped binary: 12 MiB.
pub(super) const BINARY_BYTES: u64 = 12 * 1024 * 1024;
/// Requests a second on the door of the endpoint pickers: 8 pods, 2 pickers, 20 Hz.
pub(super) const DOOR_RATE: u32 = 320;
/// 99th percentile of its answers under that load.
pub(super) const DOOR_P99: Duration = Duration::from_millis(1);
/// CPU under that load, in percent of one core.
pub(super) const DOOR_PERCENT: f64 = 2.0;
/// Growth of resident memory under a minute of that load: a few pages of the allocator's.
pub(super) const DOOR_GROWTH_KIBIBYTES: u64 = 64;
