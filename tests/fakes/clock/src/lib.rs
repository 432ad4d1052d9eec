//! A wall clock that a test can move: `clock_gettime` of the C library, for a program that is started with `LD_PRELOAD`.
//!
//! `CLOCK_REALTIME` is ahead of the kernel's by the seconds that the file of the variable `AFD_FAKE_CLOCK` says, which may be
//! negative and is read at each call. All other clocks are the kernel's: no clock of theirs ever jumps (`clock_gettime(2)`).
#![allow(unsafe_code, clippy::disallowed_methods, unreachable_pub, reason = "this is a symbol of C's")]

use std::{
    env,
    ffi::{c_int, c_long},
    fs,
};

use rustix::time::{ClockId, clock_gettime as kernel_time};

/// C's `struct timespec` where `time_t` and `long` are of 64 bits, as on all that the product runs on.
#[repr(C)]
#[derive(Debug)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

/// The clocks of `linux/time.h` that Rust's and C's libraries ask for.
const CLOCKS: [ClockId; 6] = [
    ClockId::Realtime,
    ClockId::Monotonic,
    ClockId::ProcessCPUTime,
    ClockId::ThreadCPUTime,
    ClockId::RealtimeCoarse,
    ClockId::Boottime,
];

/// Tells a clock's time: 0, or -1 for a clock that is not known here.
///
/// # Safety
/// As `clock_gettime(3)` asks: `time` points to a `timespec` that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    let Some(known) = CLOCKS.into_iter().find(|known| *known as c_int == clock) else { return -1 };
    let told = kernel_time(known);
    let ahead = if known == ClockId::Realtime { ahead() } else { 0 };
    // SAFETY: the caller's promise.
    unsafe { time.write(Timespec { seconds: told.tv_sec + ahead, nanoseconds: told.tv_nsec }) };
    0
}

/// By how many seconds the clock is ahead now.
fn ahead() -> i64 {
    let told = env::var_os("AFD_FAKE_CLOCK").and_then(|file| fs::read_to_string(file).ok());
    told.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}
