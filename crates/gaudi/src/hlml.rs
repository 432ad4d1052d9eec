//! What HLML (`libhlml.so`) reports, queried by a process of its own (`afd probe gaudi`).
//!
//! In goes the path of the library, out come [`HlmlReport`]s: each call with its value or its error, not interpreted. No call
//! that changes a device is made.
//!
//! # What HLML adds to what the kernel reports
//!
//! | fact | call |
//! |---|---|
//! | serial number, by which the device plugin names a device, and UUID | `hlml_device_get_serial`, `hlml_device_get_uuid` |
//! | utilization, memory in use, energy | `hlml_device_get_utilization_rates`, `_memory_info`, `_total_energy_consumption` |
//! | ECC errors, replaced and pending rows | `hlml_device_get_total_ecc_errors`, `_replaced_rows`, `_replaced_rows_pending_status` |
//! | NIC ports with their links | `hlml_get_mac_addr_info` (masks of ports), `hlml_nic_get_link` |
//! | throttling, temperatures by sensor, thresholds | `hlml_device_get_current_clocks_throttle_reasons`, `_temperature`, `_temperature_threshold` |
//! | critical errors and errors of the memory, at once | events: `hlml_event_set_wait` |
//! | throughput of PCIe | `hlml_device_get_pcie_throughput`: measures for 10 ms, so it is called every [`SLOW_INTERVAL`] |
//!
//! No source says how the library numbers devices: they are matched by their PCI address. A device that is being reset answers no
//! call; its address is kept from earlier, so that its errors are recognised as its own.

pub(crate) mod calls;
pub(crate) mod events;
mod ffi;
mod layout;
pub(crate) mod readings;

use std::{
    ffi::OsStr,
    sync::Arc,
    time::{Duration, Instant},
};

use afd_model::{Missing, PciAddress};
use afd_probe::{
    answers::{Answer, LibraryCall},
    ffi::LoadedLibrary,
    library::{DIRECTORIES, LibraryInterface, LibrarySpec},
    report::{DeviceAnswers, LibraryAnswers, LibraryReport, ReportedUnit, Retention},
    row::{self, LibraryRow},
    status::{StatusCode, StatusRow, StatusTable},
};
use serde_json::Value;

pub use self::calls::STATUSES;
use self::{
    calls::{
        COUNT, DRIVER_VERSION, ECC_MODE, EVIDENCE, FIRMWARE, FIT_VERSION, HANDLE, INIT, LIBRARY_VERSION,
        MEMORY, MODULE_ID, NIC_LINK, NIC_PORTS, PCI_INFO, RARELY_SAMPLED, REGISTER_EVENTS, SAMPLED, SERIAL,
        SPI_VERSION, STATIC, STATUS, THROTTLE, UUID,
    },
    events::HlmlEventWatch,
    ffi::{HlmlApi, HlmlDevice},
};
use crate::{
    NAME,
    control::operations::{ADDRESS, ERRNOS, HW_IP_INFO, INFO, LINK_STATE},
};

/// `hlml_return_t`, by the name without `HLML_ERROR_`.
pub type HlmlStatus = StatusCode<HlmlStatuses>;
/// What HLML reported: `libraries/hlml.json` of a recording.
pub type HlmlReport = LibraryReport<HlmlStatuses>;
/// Answers by call.
pub type HlmlAnswers = LibraryAnswers<HlmlStatuses>;
/// What HLML reported of one device.
pub type HlmlDeviceAnswers = DeviceAnswers<HlmlStatuses>;
/// The value of a call, or its status.
pub(crate) type HlmlResult = Result<Value, HlmlStatus>;

/// The statuses of HLML, and the errors of the driver's ioctl.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HlmlStatuses;

impl StatusTable for HlmlStatuses {
    const C_TYPE: &'static str = "hlml_return_t";
    const TABLES: &'static [&'static [StatusRow]] = &[STATUSES, ERRNOS];
}

/// The device does not answer: it has fallen off the bus, or is being reset.
pub(crate) const LOST: HlmlStatus = HlmlStatus::named("AIP_IS_LOST");
const ALREADY_INITIALISED: HlmlStatus = HlmlStatus::named("ALREADY_INITIALIZED");

/// How often the throughput of PCIe and the links of the NIC ports are sampled; the samples between have the last values.
pub const SLOW_INTERVAL: Duration = Duration::from_secs(60);

/// Where HLML is. Habana's packages install it in a folder of their own.
pub(crate) static LIBRARY: LibrarySpec<HlmlStatuses> = LibrarySpec {
    probe: NAME,
    fact: "hlml",
    files: &["libhlml.so"],
    directories: &[&["/usr/lib/habanalabs"], &DIRECTORIES],
    roots: &[""],
    interfaces: &[
        LibraryInterface { init: INIT.symbol, title: "HLML", required: &[COUNT], recording: "hlml.json" },
        LibraryInterface {
            init: INFO.symbol,
            title: "the ioctl of the driver",
            required: &[],
            recording: "habanalabs.json",
        },
    ],
    drivers: &["habanalabs"],
    needed_by: &[],
    enumerates_once: true,
    start_deadline: Duration::from_secs(60),
    discover_deadline: Duration::from_secs(60),
    sample_deadline: Duration::from_secs(10),
    unit_of,
    retains: Retention {
        calls: |call| STATIC.iter().chain(&[HW_IP_INFO.call, ADDRESS]).any(|known| known.symbol == call),
        identity: &[SERIAL, UUID],
        partitions: &[],
    },
    init_advice: |code| match code.missing() {
        Missing::NotPermitted => "this process may not open the control nodes of the devices",
        _ => "the device files may not be visible here, or library and driver are of different releases",
    },
};

/// The device that answers are about: by the text of its address, which may lack the domain.
pub(crate) fn unit_of(answers: &HlmlAnswers) -> Option<ReportedUnit> {
    let by_library: Option<String> = answers.field(PCI_INFO, "bus_id").into_value();
    let text = by_library.or_else(|| answers.known(ADDRESS).into_value())?;
    let address: PciAddress = text.parse().or_else(|_| format!("0000:{text}").parse()).ok()?;
    Some(ReportedUnit { address, partition: 0 })
}

/// The ports of the masks that a device reported: their numbers, and whether they leave the server.
pub(crate) fn ports(answers: &HlmlAnswers) -> Vec<(u8, bool)> {
    let masks = |field: &str, of_driver: &str| -> Option<[u64; 2]> {
        let by_library = answers.field(NIC_PORTS, field).into_value();
        by_library.or_else(|| Some([answers.field(HW_IP_INFO.call, of_driver).into_value()?, 0]))
    };
    let ports = masks("mask", "nic_ports_mask");
    let (Some(ports), Some(external)) = (ports, masks("ext_mask", "nic_ports_external_mask")) else {
        return Vec::new();
    };
    let has = |mask: &[u64; 2], port: u8| mask[usize::from(port / 64)] >> (port % 64) & 1 == 1;
    (0..128).filter(|port| has(&ports, *port)).map(|port| (port, has(&external, port))).collect()
}

/// Whether the link of a port is up.
pub(crate) fn is_link_up(answers: &HlmlAnswers, port: u8) -> Option<bool> {
    let arguments = [port.into()];
    let by_library = answers.known(NIC_LINK.with(&arguments)).into_value();
    by_library.or_else(|| answers.known(LINK_STATE.call.with(&arguments)).into_value())
}

/// HLML, loaded and queried.
pub struct Hlml {
    api: Arc<HlmlApi>,
    events: HlmlEventWatch,
    initialised: bool,
    slots: Vec<HlmlSlot>,
    slow_queried: Option<Instant>,
}

/// An element of the report: a device of the last discovery; none where the library does not return its handle.
struct HlmlSlot {
    device: Option<HlmlDevice>,
    /// The answer that identifies the device.
    pci_info: Option<Value>,
    ports: Vec<(u8, bool)>,
    /// The last values of what is queried rarely.
    slow: HlmlAnswers,
}

impl Hlml {
    /// Loads the library; it is initialised at the first discovery.
    ///
    /// # Errors
    /// The message of the loader, or that the library lacks what is required.
    pub fn open(path: &OsStr) -> Result<Hlml, String> {
        let loaded = LoadedLibrary::open(path)?;
        if let Some(call) = [INIT, COUNT, HANDLE, PCI_INFO].iter().find(|call| !loaded.has(call.symbol)) {
            return Err(format!("it has no {call}"));
        }
        Ok(Hlml {
            api: Arc::new(HlmlApi(loaded)),
            events: HlmlEventWatch::default(),
            initialised: false,
            slots: Vec::new(),
            slow_queried: None,
        })
    }

    /// The devices and what does not change while they are there. Where the library cannot be initialised the report holds
    /// that alone; the next discovery tries again.
    pub fn discover(&mut self) -> HlmlReport {
        let mut report = HlmlReport::default();
        if !self.initialised {
            match self.api.init() {
                Ok(()) => self.initialised = true,
                Err(code) if code == ALREADY_INITIALISED => self.initialised = true,
                Err(code) => {
                    report.system.put(LIBRARY_VERSION, self.api.system_text(LIBRARY_VERSION));
                    report.system.put(INIT, Err(code));
                    return report;
                }
            }
        }
        report.system.put(INIT, Ok(Value::Null));
        for call in [LIBRARY_VERSION, DRIVER_VERSION] {
            report.system.put(call, self.api.system_text(call));
        }
        let count = self.api.count();
        report.system.put(COUNT, count.map(Value::from));
        let earlier = std::mem::take(&mut self.slots);
        for index in 0..count.unwrap_or(0) {
            let (slot, answers) = self.describe(index, &earlier);
            self.slots.push(slot);
            report.devices.push(HlmlDeviceAnswers { answers, ..HlmlDeviceAnswers::default() });
        }
        report
    }

    /// Forwards the events of all devices of the last discovery, from a thread of its own, and adds to its report whether they are
    /// registered. May be called again after each discovery.
    pub fn watch(&mut self, report: &mut HlmlReport, forward: impl Fn(Value) + Send + 'static) {
        for (slot, device) in self.slots.iter().zip(&mut report.devices) {
            let (Some(handle), Some(info)) = (slot.device, &slot.pci_info) else { continue };
            let registered = self.events.add(&self.api, handle, info["bus_id"].clone());
            device.answers.put(REGISTER_EVENTS, registered);
        }
        self.events.forward(&self.api, forward);
    }

    fn describe(&self, index: u32, earlier: &[HlmlSlot]) -> (HlmlSlot, HlmlAnswers) {
        let api = &self.api;
        let mut answers = HlmlAnswers::default();
        let mut slot =
            HlmlSlot { device: None, pci_info: None, ports: Vec::new(), slow: HlmlAnswers::default() };
        let device = match api.handle(index) {
            Ok(device) => device,
            Err(code) => {
                answers.put(HANDLE, Err(code));
                return (slot, answers);
            }
        };
        slot.device = Some(device);
        let known = earlier.iter().find(|slot| slot.device == Some(device));
        let pci_info = api.pci_info(device);
        slot.pci_info = match (&pci_info, known) {
            (Ok(info), _) => Some(info.clone()),
            (Err(_), known) => known.and_then(|slot| slot.pci_info.clone()),
        };
        answers.put(PCI_INFO, slot.pci_info.clone().map_or(pci_info, Ok));
        for call in [SERIAL, UUID, FIRMWARE, FIT_VERSION, SPI_VERSION] {
            answers.put(call, api.text(device, call));
        }
        answers.put(STATUS, api.status(device));
        answers.put(MODULE_ID, api.module_id(device));
        answers.put(MEMORY, api.memory(device, MEMORY));
        answers.put(ECC_MODE, api.ecc_mode(device));
        answers.put(NIC_PORTS, api.nic_ports(device));
        slot.ports = ports(&answers);
        if let Some(known) = known {
            if slot.ports.is_empty() {
                slot.ports.clone_from(&known.ports);
            }
            slot.slow = known.slow.clone();
        }
        self.links(&slot, device, &mut answers);
        let is_evidence = |call: &LibraryCall| EVIDENCE.contains(call);
        for row in SAMPLED.iter().filter(|row| is_evidence(&row.call)) {
            answers.put(row.call, (row.source)(api, device, row.call));
        }
        (slot, answers)
    }

    fn links(&self, slot: &HlmlSlot, device: HlmlDevice, answers: &mut HlmlAnswers) {
        for (port, _) in &slot.ports {
            let port = u32::from(*port);
            answers.put(NIC_LINK.with(&[port]), self.api.nic_link(device, port));
        }
    }

    /// The changing values of the devices of the last discovery, in the same order.
    pub fn sample(&mut self) -> HlmlReport {
        let is_due = self.slow_queried.is_none_or(|measured| measured.elapsed() >= SLOW_INTERVAL);
        if is_due {
            self.query_slow();
        }
        let mut report = HlmlReport::default();
        report.system.put(INIT, Ok(Value::Null));
        for slot in &self.slots {
            let mut answers = HlmlAnswers::default();
            if let (Some(device), Some(pci_info)) = (slot.device, &slot.pci_info) {
                answers.put(PCI_INFO, Ok(pci_info.clone()));
                row::query(SAMPLED, &mut answers, |query, call| query(&self.api, device, call));
                answers.put(THROTTLE, self.api.throttle(device));
                // A device that answers no call now, as in a reset, has no values of before either.
                let answered = |row: &LibraryRow<_>| matches!(answers.get(row.call), Some(Answer::Value(_)));
                if SAMPLED.iter().any(answered) {
                    answers.extend(slot.slow.clone());
                }
            }
            report.devices.push(HlmlDeviceAnswers { answers, ..HlmlDeviceAnswers::default() });
        }
        report
    }

    /// Queries what takes long, and the links, which are many and change rarely.
    fn query_slow(&mut self) {
        for index in 0..self.slots.len() {
            let (slot, mut slow) = (&self.slots[index], HlmlAnswers::default());
            if let Some(device) = slot.device {
                row::query(RARELY_SAMPLED, &mut slow, |query, call| query(&self.api, device, call));
                self.links(slot, device, &mut slow);
            }
            self.slots[index].slow = slow;
        }
        self.slow_queried = (!self.slots.is_empty()).then(Instant::now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_has_a_domain_or_none() {
        let unit = |text: &str| {
            let mut answers = HlmlAnswers::default();
            answers.put(PCI_INFO, Ok(json!({ "bus_id": text })));
            unit_of(&answers)
        };
        let device = PciAddress { domain: 0, bus: 0x19, device: 0, function: 0 };
        for text in ["0000:19:00.0", "19:00.0"] {
            assert!(unit(text).is_some_and(|unit| unit.is_device(device)), "{text}");
        }
        assert_eq!(unit(""), None);
        assert_eq!(unit("19"), None);
    }

    #[test]
    fn ports_are_the_bits_of_the_masks() {
        let mut answers = HlmlAnswers::default();
        assert!(ports(&answers).is_empty());
        answers.put(NIC_PORTS, Ok(json!({ "mask": [0x8000_0000_0000_0005_u64, 1], "ext_mask": [4, 0] })));
        assert_eq!(ports(&answers), [(0, false), (2, true), (63, false), (64, false)]);
    }

    #[test]
    fn a_recording_is_read_back_as_it_was_written() {
        let text = json!({
            "system": {"hlml_init": {"value": null}},
            "devices": [
                {"answers": {"hlml_device_get_serial": {"value": "AN01234567"}}},
                {"answers": {"hlml_device_get_serial": {"error": "AIP_IS_LOST"}, "hlml_device_get_uuid": {"error": 4711}}},
            ],
        });
        let report: HlmlReport = serde_json::from_value(text.clone()).expect("it is a recording");
        assert_eq!(serde_json::to_value(&report).expect("it can be written"), text);
    }
}
