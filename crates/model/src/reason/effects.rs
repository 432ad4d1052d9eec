//! What reasons do to the conditions, and rows of common kinds.

use super::{
    ReasonClass::{self, Degraded, DeviceFault, Fine, Unknown},
    ReasonEffect, ReasonRow,
};

const fn effect(ready: &'static str, problem: &'static str, grace: &'static str) -> ReasonEffect {
    ReasonEffect { ready, problem, grace }
}

/// Nothing is wrong.
pub(super) const FINE: ReasonEffect = effect("`True`", "`False`", "none");
/// A fault with which devices take work.
pub(super) const DEGRADED: ReasonEffect = effect("`True`, reason `Degraded`", "`False`", "none");
/// A fault of a device.
pub(super) const FAULT: ReasonEffect = effect(
    "`False`",
    "`True`",
    "none for `Ready`; 2 minutes for `Problem`, which ends 5 minutes after the fault",
);
/// A fault whose severity its number decides.
pub(super) const BY_SEVERITY: ReasonEffect = effect(
    "`False`, or `True` with reason `Degraded`",
    "`True` where the device has failed",
    "as for every device fault",
);
/// A device is not there.
pub(super) const MISSING: ReasonEffect =
    effect("`False`", "`True`", "30 seconds; 5 minutes in the first 5 minutes after boot");
/// A device has no driver.
pub(super) const NO_DRIVER: ReasonEffect =
    effect("`False`", "`True`", "30 minutes after boot, and after the driver went");
/// What is no fault of a device.
pub(super) const NEVER_PROBLEM: ReasonEffect = effect("`False`", "`False`", "none");
/// A library does not answer.
pub(super) const SILENT_LIBRARY: ReasonEffect = effect(
    "`Unknown`",
    "`True`",
    "1 minute for `Ready`, 2 minutes while it starts; for `Problem` 10 minutes and two new processes without an answer",
);
/// The fabric is not up.
pub(super) const NO_FABRIC: ReasonEffect = effect("`False`", "`False`", "10 minutes");
/// Devices are not offered.
pub(super) const NOT_OFFERED: ReasonEffect =
    effect("`False`", "`False`", "2 minutes; 5 minutes in the first 5 minutes after boot");
/// It is not known what is offered.
pub(super) const UNKNOWN_OFFER: ReasonEffect =
    effect("`Unknown`", "`False`", "2 minutes; 5 minutes in the first 5 minutes after boot");
/// Nothing reports the health.
pub(super) const NO_HEALTH: ReasonEffect =
    effect("`Unknown`", "`False`", "none; 2 minutes after the agent started, where the vendor has a library");
/// The driver or the devices are being worked on.
pub(super) const MAINTENANCE: ReasonEffect = effect(
    "`Unknown`",
    "unchanged",
    "none; until 10 minutes after the signal, at most 2 hours, and 30 minutes without a driver",
);
/// Nothing is known.
const UNKNOWN: ReasonEffect = effect("`Unknown`", "`False`", "none");
/// A state that follows the workload.
pub(super) const WORKLOAD: ReasonEffect =
    effect("`Unknown`", "`False`", "2 minutes, in which the last verdict holds");
/// Evidence that could not be read.
pub(super) const UNREADABLE: ReasonEffect =
    effect("`Unknown`", "`False`", "1 minute, in which the last verdict holds");
/// What no condition shows.
pub(super) const NO_CONDITION: ReasonEffect =
    effect("unchanged", "unchanged", "none: it is counted as a problem of the agent");

/// A row.
pub(super) const fn row(
    code: &'static str,
    class: ReasonClass,
    effect: ReasonEffect,
    meaning: &'static str,
    action: &'static str,
) -> ReasonRow {
    ReasonRow { code, class, effect, meaning, action }
}

/// A row of what is no fault.
pub(super) const fn fine(code: &'static str, meaning: &'static str, action: &'static str) -> ReasonRow {
    row(code, Fine, FINE, meaning, action)
}

/// A row of a fault with which a device takes work.
pub(super) const fn degraded(code: &'static str, meaning: &'static str, action: &'static str) -> ReasonRow {
    row(code, Degraded, DEGRADED, meaning, action)
}

/// A row of what leaves the health unknown at once.
pub(super) const fn unknown(code: &'static str, meaning: &'static str, action: &'static str) -> ReasonRow {
    row(code, Unknown, UNKNOWN, meaning, action)
}

/// A row of a fault of a device.
pub(super) const fn fault(code: &'static str, meaning: &'static str, action: &'static str) -> ReasonRow {
    row(code, DeviceFault, FAULT, meaning, action)
}
