//! A wall clock that a test can set: `clock_gettime` of the C library, for a program that is started with `LD_PRELOAD`.
//!
//! `CLOCK_REALTIME` is ahead of the kernel's clock by the number of seconds in the file that the variable `AFD_FAKE_CLOCK`
//! names. The number may be negative, and the file is read at each call. All other clocks are those of the kernel.
#![allow(unsafe_code, clippy::disallowed_methods, unreachable_pub, reason = "this is a C symbol")]

use std::{
    env,
    ffi::{c_int, c_long},
    fs,
};

use rustix::time::{ClockId, clock_gettime as kernel_time};

/// C's `struct timespec` where `time_t` and `long` have 64 bits, as on all supported platforms.
#[repr(C)]
#[derive(Debug)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

/// The clocks of `linux/time.h` that the libraries of Rust and C read.
const CLOCKS: [ClockId; 6] = [
    ClockId::Realtime,
    ClockId::Monotonic,
    ClockId::ProcessCPUTime,
    ClockId::ThreadCPUTime,
    ClockId::RealtimeCoarse,
    ClockId::Boottime,
];

/// Reads a clock. Returns 0, or -1 for an unknown clock.
///
/// # Safety
/// As for `clock_gettime(3)`: `time` points to a writable `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    let Some(known) = CLOCKS.into_iter().find(|known| *known as c_int == clock) else { return -1 };
    let kernel = kernel_time(known);
    let ahead = if known == ClockId::Realtime { ahead() } else { 0 };
    // SAFETY: guaranteed by the caller.
    unsafe { time.write(Timespec { seconds: kernel.tv_sec + ahead, nanoseconds: kernel.tv_nsec }) };
    0
}

/// The number of seconds by which the clock is ahead.
fn ahead() -> i64 {
    let text = env::var_os("AFD_FAKE_CLOCK").and_then(|file| fs::read_to_string(file).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}
