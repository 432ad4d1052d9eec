//! The clocks of the machine. What is believed depends on the time since boot, which runs on while the machine is suspended.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use afd_host::Host;
use rustix::time::{ClockId, clock_gettime};

/// The id of the running boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The time since boot (`CLOCK_BOOTTIME`).
pub(crate) fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// The wall time in seconds since 1970.
pub(crate) fn wall() -> Option<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// The same with its fraction.
pub(crate) fn wall_seconds() -> Option<f64> {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}

/// The id of the running boot; none where it cannot be read, as on a recorded host.
pub(crate) fn boot_id(host: &Host) -> Option<String> {
    let text = String::from_utf8(host.read(BOOT_ID).ok()?).ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
