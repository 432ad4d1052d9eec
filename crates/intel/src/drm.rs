//! What xe and i915 report on their render nodes, queried by the process of the library (`afd probe intel`) where Level Zero is not
//! installed or does not answer it.
//!
//! In go the render nodes with the PCI addresses of their devices, out come answers in the same reports as Level Zero's, in which the
//! name of a query stands for a C symbol.
//!
//! | fact | query |
//! |---|---|
//! | the driver behind the node | `DRM_IOCTL_VERSION` |
//! | memory and memory in use, for each tile | `DRM_XE_DEVICE_QUERY_MEM_REGIONS`, `DRM_I915_QUERY_MEMORY_REGIONS` |
//!
//! To readers without `CAP_PERFMON` xe reports that nothing is in use, and i915 that all is free; to others they report at least
//! what the driver uses itself. A query wakes a device: those that sleep are not given to the process. A query may wait for the
//! driver, so the agent makes none. The nodes are closed after each request.

mod ffi;

use std::path::PathBuf;

use afd_model::{Missing, PciAddress};
use afd_probe::{answers::LibraryCall, report::DeviceAnswers, status::StatusRow};
use serde_json::{Value, json};

use crate::levelzero::{
    LevelZeroAnswers, LevelZeroReport, SysmanResult, SysmanStatus, calls::MEMORY_STATE, parts::values,
    unit_of,
};

/// The name of the driver behind a node; of all nodes: whether they can be used at all.
pub(crate) const VERSION: LibraryCall = LibraryCall::new("DRM_IOCTL_VERSION");
/// The PCI address of the device, which the agent passes: the driver does not return it.
pub(crate) const ADDRESS: LibraryCall = LibraryCall::new("pci_address");
/// The regions of memory of xe and of i915.
pub(crate) const REGIONS: [LibraryCall; 2] =
    [LibraryCall::new("DRM_XE_DEVICE_QUERY_MEM_REGIONS"), LibraryCall::new("DRM_I915_QUERY_MEMORY_REGIONS")];
/// The names of a region's class, size and free or used bytes, in the order of [`REGIONS`].
const FIELDS: [[&str; 3]; 2] =
    [["mem_class", "total_size", "used"], ["memory_class", "probed_size", "unallocated_size"]];
/// The bytes before the regions, in the order of [`REGIONS`], and those of a region.
const HEADER_BYTES: [usize; 2] = [8, 16];
const REGION_BYTES: usize = 88;
/// `DRM_XE_MEM_REGION_CLASS_VRAM` and `I915_MEMORY_CLASS_DEVICE`.
const OF_DEVICE: u64 = 1;

/// The errors of the queries, and of opening counters, by their names in `errno.h`.
pub const ERRNOS: &[StatusRow] = &[
    // A cgroup that does not have the device refuses so.
    (1, "EPERM", Missing::NotPermitted),
    (2, "ENOENT", Missing::NotExposed),
    (5, "EIO", Missing::Unreadable),
    (6, "ENXIO", Missing::NotAvailable),
    (13, "EACCES", Missing::NotPermitted),
    (19, "ENODEV", Missing::NotAvailable),
    // The driver is older than the query.
    (22, "EINVAL", Missing::NotExposed),
    (24, "EMFILE", Missing::Unreadable),
    (25, "ENOTTY", Missing::Unrecognized),
    (95, "EOPNOTSUPP", Missing::NotExposed),
    (125, "ECANCELED", Missing::Unreadable),
];

/// The render nodes of devices.
#[derive(Debug)]
pub struct RenderNodes(Vec<(PciAddress, PathBuf)>);

impl RenderNodes {
    /// The render node of each device.
    pub fn new(nodes: Vec<(PciAddress, PathBuf)>) -> RenderNodes {
        RenderNodes(nodes)
    }

    /// What the drivers of all nodes report. Where no node may be opened the report holds that alone: one problem, and not one for
    /// each device. Without nodes it is empty.
    pub fn report(&self) -> LevelZeroReport {
        let mut report = LevelZeroReport::default();
        if self.0.is_empty() {
            return report;
        }
        for (address, path) in &self.0 {
            report
                .devices
                .push(DeviceAnswers { answers: answers(*address, path), ..DeviceAnswers::default() });
        }
        let refused = |device: &DeviceAnswers<_>| device.answers.error(VERSION);
        let refusals: Option<Vec<SysmanStatus>> = report.devices.iter().map(refused).collect();
        match refusals.and_then(|refusals| refusals.first().copied()) {
            Some(status) => {
                report.devices.clear();
                report.system.put(VERSION, Err(status));
            }
            None => report.system.put(VERSION, Ok(Value::Null)),
        }
        report
    }

    /// Adds to what Level Zero reported the memory of devices of which it reported none. A node that does not answer adds nothing.
    pub fn complete(&self, report: &mut LevelZeroReport) {
        for (address, path) in &self.0 {
            let is_it = |device: &&mut DeviceAnswers<_>| {
                unit_of(&device.answers).is_some_and(|unit| unit.is_device(*address))
            };
            let reported = report.devices.iter_mut().find(is_it);
            let has_memory = |answers| values(answers, MEMORY_STATE).iter().any(|state| !state.is_null());
            if reported.as_ref().is_some_and(|reported| has_memory(&reported.answers)) {
                continue;
            }
            let answers = answers(*address, path);
            if !REGIONS.iter().any(|call| answers.known::<Value>(*call).is_known()) {
                continue;
            }
            match reported {
                Some(reported) => reported.answers.extend(answers),
                None => report.devices.push(DeviceAnswers { answers, ..DeviceAnswers::default() }),
            }
            report.system.put(VERSION, Ok(Value::Null));
        }
    }
}

/// What the driver of a node reports of its device.
fn answers(address: PciAddress, path: &std::path::Path) -> LevelZeroAnswers {
    let status =
        |error: rustix::io::Errno| SysmanStatus::numbered(error.raw_os_error().unsigned_abs(), ERRNOS);
    let mut answers = LevelZeroAnswers::default();
    answers.put(ADDRESS, Ok(address.to_string().into()));
    let opened = ffi::open(path).and_then(|node| Ok((ffi::driver(&node)?, node))).map_err(status);
    let (driver, node) = match opened {
        Ok(opened) => opened,
        Err(status) => {
            answers.put(VERSION, Err(status));
            return answers;
        }
    };
    let (number, bytes) = match driver.as_str() {
        "xe" => (0, ffi::xe_regions(&node)),
        "i915" => (1, ffi::i915_regions(&node)),
        // The node has become that of another device.
        _ => {
            answers.put(VERSION, Err(SysmanStatus::UNEXPECTED_DATA));
            return answers;
        }
    };
    answers.put(VERSION, Ok(driver.into()));
    answers.put(REGIONS[number], bytes.map_err(status).and_then(|bytes| regions(number, &bytes)));
    answers
}

/// The regions in what a query has filled. A driver reports no more of them than the data has.
fn regions(number: usize, data: &[u8]) -> SysmanResult {
    let wide = |region: &[u8], offset: usize| Some(u64::from_ne_bytes(*region.get(offset..)?.first_chunk()?));
    let region = |region: &[u8]| {
        let class = u16::from_ne_bytes(*region.first_chunk()?);
        let [of_class, size, rest] = FIELDS[number];
        Some(json!({ of_class: class, size: wide(region, 8)?, rest: wide(region, 16)? }))
    };
    let regions = || -> Option<Value> {
        let count = u32::from_ne_bytes(*data.first_chunk()?);
        let (regions, _) = data.get(HEADER_BYTES[number]..)?.as_chunks::<REGION_BYTES>();
        let regions = regions.get(..usize::try_from(count).ok()?)?;
        regions.iter().map(|bytes| region(bytes)).collect()
    };
    regions().ok_or(SysmanStatus::UNEXPECTED_DATA)
}

/// The bytes of the device's own memory on each of its tiles, and those of them that are free; empty where the driver did not report
/// them, or reported what cannot be.
pub(crate) fn tiles(answers: &LevelZeroAnswers) -> Vec<(u64, u64)> {
    let reported = |(number, call): (usize, &LibraryCall)| {
        let regions: Vec<Value> = answers.known(*call).into_value()?;
        let [class, size, rest] = FIELDS[number];
        let of_device = regions.iter().filter(|region| region[class] == OF_DEVICE);
        let bytes = of_device.map(|region| {
            let (size, rest) = (region[size].as_u64()?, region[rest].as_u64()?);
            let free = if number == 0 { size.checked_sub(rest)? } else { rest };
            Some((size, free)).filter(|_| size > 0 && free <= size)
        });
        bytes.collect()
    };
    REGIONS.iter().enumerate().find_map(reported).unwrap_or_default()
}

/// The sums of [`tiles`].
pub(crate) fn memory_bytes(answers: &LevelZeroAnswers) -> Option<(u64, u64)> {
    let add =
        |sum: (u64, u64), tile: (u64, u64)| Some((sum.0.checked_add(tile.0)?, sum.1.checked_add(tile.1)?));
    tiles(answers).into_iter().try_fold((0, 0), add).filter(|(size, _)| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a query with these regions: class, size, and what is free or in use.
    fn data(number: usize, regions: &[(u16, u64, u64)]) -> Vec<u8> {
        let mut data = vec![0; HEADER_BYTES[number]];
        data[..4].copy_from_slice(&(regions.len() as u32).to_ne_bytes());
        for (class, size, rest) in regions {
            let mut region = [0; REGION_BYTES];
            region[..2].copy_from_slice(&class.to_ne_bytes());
            region[8..16].copy_from_slice(&size.to_ne_bytes());
            region[16..24].copy_from_slice(&rest.to_ne_bytes());
            data.extend(region);
        }
        data
    }

    fn memory(number: usize, regions: &[(u16, u64, u64)]) -> Option<(u64, u64)> {
        let mut answers = LevelZeroAnswers::default();
        answers.put(REGIONS[number], super::regions(number, &data(number, regions)));
        memory_bytes(&answers)
    }

    #[test]
    fn the_memory_is_the_sum_of_the_tiles_without_that_of_the_system() {
        // xe reports what is in use, i915 what is free.
        assert_eq!(memory(0, &[(0, 900, 800), (1, 64, 4), (1, 64, 8)]), Some((128, 116)));
        assert_eq!(memory(1, &[(0, 900, 800), (1, 64, 60), (1, 64, 56)]), Some((128, 116)));
        assert_eq!(memory(0, &[(0, 900, 800)]), None, "an integrated GPU has none");
        assert_eq!(memory(0, &[(1, 64, 65)]), None, "more is in use than there is");
        assert_eq!(memory(1, &[(1, 64, u64::MAX), (1, 64, 1)]), None);
    }

    #[test]
    fn data_that_is_shorter_than_its_regions_is_not_read() {
        let complete = data(0, &[(1, 64, 4), (1, 64, 8)]);
        assert!(regions(0, &complete).is_ok());
        for length in [0, 3, 7, 8, 95, complete.len() - 1] {
            assert_eq!(regions(0, &complete[..length]), Err(SysmanStatus::UNEXPECTED_DATA), "{length}");
        }
    }
}
