//! What the driver reports on its control nodes (`HL_IOCTL_INFO`), queried by a process of its own (`afd probe gaudi`) where HLML is
//! not installed.
//!
//! In go the control nodes with the PCI addresses of their devices, out come [`HlmlReport`]s, in which the name of an operation
//! stands for a C symbol. An ioctl may block in the kernel while the firmware hangs: then the process is killed, and the agent
//! goes on.
//!
//! # What it adds to what sysfs reports
//!
//! | fact | operation |
//! |---|---|
//! | utilization, memory in use, energy | `HL_INFO_DEVICE_UTILIZATION`, `_DRAM_USAGE` and `_HW_IP_INFO`, `_TOTAL_ENERGY` |
//! | throttling and its time | `HL_INFO_CLK_THROTTLE_REASON` |
//! | status, where the attribute cannot be read | `HL_INFO_DEVICE_STATUS` |
//! | rows that wait for their replacement | `HL_INFO_DRAM_PENDING_ROWS` |
//! | NIC ports with their links | `HL_INFO_HW_IP_INFO` (masks of ports), `HL_INFO_NIC_LINK_STATE` |
//! | throughput of PCIe | `HL_INFO_PCI_COUNTERS`, every [`SLOW_INTERVAL`] |
//!
//! Where HLML is installed, only for how long clocks were lowered is asked here. The driver reports no serial number and no UUID.
//! A device in reset answers `EBUSY` to most operations. The nodes are closed after each request: an open one would keep the
//! driver from being removed.

mod ffi;
pub(crate) mod operations;
pub(crate) mod readings;
pub(crate) mod throttle;

use std::{os::fd::OwnedFd, path::PathBuf, time::Instant};

use afd_model::PciAddress;
use serde_json::Value;

pub use self::operations::ERRNOS;
use self::operations::{
    ADDRESS, CLK_THROTTLE, DEVICE_STATUS, DEVICE_UTILIZATION, DRAM_USAGE, HW_IP_INFO, INFO, InfoOperation,
    LINK_STATE, PCI_COUNTERS, PENDING_ROWS, TOTAL_ENERGY,
};
use crate::hlml::{
    HlmlAnswers, HlmlDeviceAnswers, HlmlReport, HlmlResult, HlmlStatus, SLOW_INTERVAL, ports, unit_of,
};

/// What changes.
const SAMPLED: [InfoOperation; 5] =
    [DRAM_USAGE, DEVICE_UTILIZATION, CLK_THROTTLE, TOTAL_ENERGY, PENDING_ROWS];

/// The control nodes of the devices.
#[derive(Debug)]
pub struct ControlNodes {
    nodes: Vec<ControlNode>,
    /// Which of the requests the driver has.
    request: usize,
    slow_queried: Option<Instant>,
}

#[derive(Debug)]
struct ControlNode {
    address: PciAddress,
    path: PathBuf,
    /// The last answer of what does not change.
    info: Option<Value>,
    /// The last values of what is queried rarely.
    slow: HlmlAnswers,
}

impl ControlNodes {
    /// The control node of each device.
    pub fn new(nodes: Vec<(PciAddress, PathBuf)>) -> ControlNodes {
        let node = |(address, path)| ControlNode { address, path, info: None, slow: HlmlAnswers::default() };
        ControlNodes { nodes: nodes.into_iter().map(node).collect(), request: 0, slow_queried: None }
    }

    /// The devices and what does not change while they are there. Where no node may be opened the report holds that alone.
    pub fn discover(&mut self) -> HlmlReport {
        let mut report = HlmlReport::default();
        let mut refused = Vec::new();
        for index in 0..self.nodes.len() {
            let mut answers = self.beginning(index);
            match self.open(index) {
                Ok(node) => self.describe(index, &node, &mut answers),
                Err(error) => {
                    answers.put(HW_IP_INFO.call, Err(error));
                    refused.push(error);
                }
            }
            report.devices.push(device(answers));
        }
        let is_refused = refused.len() == self.nodes.len();
        match refused.first().filter(|_| is_refused) {
            // One problem, and not one for each device.
            Some(error) => {
                report.devices.clear();
                report.system.put(INFO, Err(*error));
            }
            None => report.system.put(INFO, Ok(Value::Null)),
        }
        report
    }

    fn describe(&mut self, index: usize, node: &OwnedFd, answers: &mut HlmlAnswers) {
        for operation in [HW_IP_INFO, DEVICE_STATUS, PENDING_ROWS] {
            answers.put(operation.call, self.ask(node, operation));
        }
        self.nodes[index].info = answers.known(HW_IP_INFO.call).into_value();
        self.links(node, answers);
    }

    /// The links of the ports that the device has.
    fn links(&mut self, node: &OwnedFd, answers: &mut HlmlAnswers) {
        for (port, _) in ports(answers) {
            let argument = u32::from(port);
            let state = self.ask(node, InfoOperation { argument, ..LINK_STATE });
            answers.put(LINK_STATE.call.with(&[argument]), state);
        }
    }

    /// The changing values of the devices, in the same order.
    pub fn sample(&mut self) -> HlmlReport {
        let is_due = self.slow_queried.is_none_or(|queried| queried.elapsed() >= SLOW_INTERVAL);
        let mut report = HlmlReport::default();
        report.system.put(INFO, Ok(Value::Null));
        for index in 0..self.nodes.len() {
            let mut answers = self.beginning(index);
            if let Ok(node) = self.open(index) {
                let info = self.nodes[index].info.clone();
                answers.put(HW_IP_INFO.call, info.map_or_else(|| self.ask(&node, HW_IP_INFO), Ok));
                self.nodes[index].info = answers.known(HW_IP_INFO.call).into_value();
                for operation in SAMPLED {
                    answers.put(operation.call, self.ask(&node, operation));
                }
                if is_due {
                    self.query_slow(index, &node);
                }
                // A device that answers nothing now, as in a reset, has no values of before either.
                if answers.error(DEVICE_UTILIZATION.call).is_none() {
                    answers.extend(self.nodes[index].slow.clone());
                }
            }
            report.devices.push(device(answers));
        }
        if is_due {
            self.slow_queried = Some(Instant::now());
        }
        report
    }

    /// Adds to what HLML sampled for how long clocks were lowered, which it does not report. A node that may not be opened adds
    /// nothing.
    pub fn add_throttling(&mut self, report: &mut HlmlReport) {
        for sampled in &mut report.devices {
            let Some(unit) = unit_of(&sampled.answers) else { continue };
            let index = self.nodes.iter().position(|node| unit.is_device(node.address));
            let Some(node) = index.and_then(|index| self.open(index).ok()) else { continue };
            if let Ok(value) = self.ask(&node, CLK_THROTTLE) {
                sampled.answers.put(CLK_THROTTLE.call, Ok(value));
            }
        }
    }

    fn query_slow(&mut self, index: usize, node: &OwnedFd) {
        let mut slow = HlmlAnswers::default();
        if let Some(info) = &self.nodes[index].info {
            slow.put(HW_IP_INFO.call, Ok(info.clone()));
        }
        self.links(node, &mut slow);
        slow.put(PCI_COUNTERS.call, self.ask(node, PCI_COUNTERS));
        self.nodes[index].slow = slow;
    }

    /// Answers that name their device.
    fn beginning(&self, index: usize) -> HlmlAnswers {
        let mut answers = HlmlAnswers::default();
        answers.put(ADDRESS, Ok(self.nodes[index].address.to_string().into()));
        answers
    }

    fn open(&self, index: usize) -> Result<OwnedFd, HlmlStatus> {
        ffi::open(&self.nodes[index].path).map_err(status)
    }

    /// What an operation returns, by the request that the driver has.
    fn ask(&mut self, node: &OwnedFd, operation: InfoOperation) -> HlmlResult {
        let InfoOperation { number, argument, decode, .. } = operation;
        let ask = |request: usize| ffi::info(node, ffi::REQUESTS[request], number, argument);
        let other = 1 - self.request;
        let result = match ask(self.request) {
            Err(rustix::io::Errno::NOTTY) => ask(other).inspect(|_| self.request = other),
            result => result,
        };
        decode(&result.map_err(status)?).ok_or(HlmlStatus::UNEXPECTED_DATA)
    }
}

fn device(answers: HlmlAnswers) -> HlmlDeviceAnswers {
    HlmlDeviceAnswers { answers, ..HlmlDeviceAnswers::default() }
}

fn status(error: rustix::io::Errno) -> HlmlStatus {
    HlmlStatus::numbered(error.raw_os_error().unsigned_abs(), ERRNOS)
}
