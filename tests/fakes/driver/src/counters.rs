//! Counters of xe and i915: `perf_event_open` with the type of a PMU that the fixture's `/sys` has. The descriptor that a program gets is
//! that of a file in memory with what the kernel would return to its first read.

use std::{fs, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{MemfdFlags, SeekFrom, memfd_create, seek},
    io::{Errno, write},
};

use crate::call::DriverCall;

/// `PERF_FORMAT_TOTAL_TIME_ENABLED` and `PERF_FORMAT_GROUP`, in which programs read here.
const READ_FORMAT: u64 = 1 << 0 | 1 << 3;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: u64 = 1 << 3;
/// The bits of the event in a configuration of xe, and that of the clock.
const XE_EVENT: u64 = 0xfff;
const XE_TOTAL: u64 = 3;
const COUNTERS: &str = "perf_event_open";
const PMUS: &str = "sys/bus/event_source/devices";

/// Opens a counter. None where the call does not return.
pub(crate) fn open(call: &DriverCall<'_>) -> Result<Option<OwnedFd>, Errno> {
    let [attributes, pid, cpu, group, flags, _] = call.arguments;
    let bytes: [u8; 64] = call.read(attributes)?;
    let word = |offset: usize| u64::from_ne_bytes(*bytes[offset..].first_chunk().expect("it is within"));
    let kind = u32::from_ne_bytes(*bytes.first_chunk().expect("it is within"));
    let config = word(8);
    let (driver, address) = device_of(&call.host_root().join(PMUS), kind).ok_or(Errno::NOENT)?;
    let is_of_all = pid as i32 == -1 && flags == CLOSE_ON_EXEC;
    // Nothing but a counter that is read, on a processor that the PMU has.
    let counts = [16, 24, 40, 48, 56].iter().all(|offset| word(*offset) == 0) && word(32) == READ_FORMAT;
    if !is_of_all || !counts || cpu != 0 {
        return Err(Errno::INVAL);
    }
    if call.hangs(COUNTERS) {
        return Ok(None);
    }
    let counted = call.answer(&address, COUNTERS)?;
    let is_clock = group as i32 != -1;
    let of_busy = if is_clock { config & !XE_EVENT | 2 } else { config };
    let known = counted.as_array().into_iter().flatten();
    let engine = known.into_iter().find(|engine| engine["config"] == of_busy).ok_or(Errno::NOENT)?;
    if is_clock && config & XE_EVENT != XE_TOTAL {
        return Err(Errno::INVAL);
    }
    let number = |name: &str| engine[name].as_u64().unwrap_or_default();
    let words = if driver == "xe" {
        // The two counters of a group, and the time for which they were open.
        vec![2, 100_000_000, number("busy"), number("total")]
    } else {
        vec![1, number("total"), number("busy")]
    };
    let file = memfd_create("counter", MemfdFlags::CLOEXEC)?;
    let bytes: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_ne_bytes()).collect();
    write(&file, &bytes)?;
    seek(&file, SeekFrom::Start(0))?;
    Ok(Some(file))
}

/// The driver and the device of a PMU: `xe` and `0000:03:00.0` of `xe_0000_03_00.0`.
fn device_of(pmus: &Path, kind: u32) -> Option<(String, String)> {
    let names = fs::read_dir(pmus).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_it = |name: &String| {
        let text = fs::read_to_string(pmus.join(name).join("type")).unwrap_or_default();
        text.trim().parse() == Ok(kind)
    };
    let name = names.into_iter().find(is_it)?;
    let (driver, address) = name.split_once('_')?;
    Some((driver.to_owned(), address.replace('_', ":")))
}
