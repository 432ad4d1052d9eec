//! The raw calls of HLML: each returns a JSON value in the units and enums of hlml.h, or the status.
//!
//! Signatures are those of hlml.h in HabanaAI/gohlml and of habana-pyhlml 1.16 to 1.24, where a call has the same one in every
//! release. Every struct is filled into a buffer of 16 KiB, since structs grow.
#![allow(unsafe_code, reason = "the library is C; afd_probe::ffi explains why the calls are sound")]

use std::ffi::c_void;

use afd_probe::{
    answers::LibraryCall,
    call, call_number, call_struct, call_text,
    ffi::{LoadedLibrary, StructBuffer},
};
use serde_json::{Value, json};

use super::{
    HlmlResult, HlmlStatus,
    calls::{
        COUNT, ECC_MODE, EVENT_SET, HANDLE, INIT, MEMORY, MODULE_ID, NIC_LINK, NIC_PORTS, PCI_INFO,
        REGISTER_EVENTS, STATUS, STATUSES, THROTTLE, UTILIZATION, WAIT_EVENT,
    },
    layout,
};

/// More than any string of the library: names have 32 bytes, versions 128.
const TEXT_BYTES: usize = 256;
/// The length that the call of the operational status requires.
const STATUS_BYTES: usize = 30;
/// Rows for which the buffer has room: each is 6 bytes.
const MAX_ROWS: u32 = 2048;

pub(crate) struct HlmlApi(pub(super) LoadedLibrary);

/// A device.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct HlmlDevice(*mut c_void);

impl HlmlDevice {
    /// A number that distinguishes it from others.
    pub(super) fn key(self) -> usize {
        self.0 as usize
    }
}

/// A set of events.
pub(super) struct HlmlEventSet(*mut c_void);

// SAFETY: a set is a name that is passed to the library alone; Habana's device plugin waits for events in a thread of its own while
// others make calls.
unsafe impl Send for HlmlEventSet {}
// SAFETY: as above.
unsafe impl Sync for HlmlEventSet {}

impl HlmlApi {
    pub(super) fn init(&self) -> Result<(), HlmlStatus> {
        call!(self.0, STATUSES, INIT())
    }

    pub(super) fn event_set(&self) -> Result<HlmlEventSet, HlmlStatus> {
        let mut set = std::ptr::null_mut();
        call!(self.0, STATUSES, EVENT_SET(&mut set => *mut *mut c_void)).map(|()| HlmlEventSet(set))
    }

    /// Adds events of a device, by their bits, to a set.
    pub(super) fn register_events(
        &self,
        device: HlmlDevice,
        kinds: u64,
        set: &HlmlEventSet,
    ) -> Result<(), HlmlStatus> {
        call!(self.0, STATUSES, REGISTER_EVENTS(
            device.0 => *mut c_void,
            kinds => u64,
            set.0 => *mut c_void,
        ))
    }

    /// Waits for an event: its device and its bits. The error is TIMEOUT where there was none.
    pub(super) fn wait(
        &self,
        set: &HlmlEventSet,
        milliseconds: u32,
    ) -> Result<(HlmlDevice, u64), HlmlStatus> {
        let mut event = StructBuffer::new();
        call!(self.0, STATUSES, WAIT_EVENT(
            set.0 => *mut c_void,
            event.pointer() => *mut StructBuffer,
            milliseconds => u32,
        ))?;
        // `hlml_event_data_t`: a handle, and the bits of the event.
        let [device, kind] = [0, 8].map(|offset| wide_at(event.bytes(), offset));
        let (Some(device), Some(kind)) = (device, kind) else { return Err(HlmlStatus::UNEXPECTED_DATA) };
        Ok((HlmlDevice(device as usize as *mut c_void), kind))
    }

    /// A version of the library or the driver.
    pub(super) fn system_text(&self, call: LibraryCall) -> HlmlResult {
        call_text!(self.0, STATUSES, call(), TEXT_BYTES as u32)
    }

    pub(super) fn count(&self) -> Result<u32, HlmlStatus> {
        let mut count = 0;
        call!(self.0, STATUSES, COUNT(&mut count => *mut u32)).map(|()| count)
    }

    pub(super) fn handle(&self, index: u32) -> Result<HlmlDevice, HlmlStatus> {
        let mut handle = std::ptr::null_mut();
        call!(self.0, STATUSES, HANDLE(index => u32, &mut handle => *mut *mut c_void))?;
        Ok(HlmlDevice(handle))
    }

    pub(super) fn pci_info(&self, device: HlmlDevice) -> HlmlResult {
        call_struct!(self.0, STATUSES, PCI_INFO(device.0 => *mut c_void), layout::pci_info)
    }

    /// A string of a device.
    pub(super) fn text(&self, device: HlmlDevice, call: LibraryCall) -> HlmlResult {
        call_text!(self.0, STATUSES, call(device.0 => *mut c_void), TEXT_BYTES as u32)
    }

    pub(super) fn status(&self, device: HlmlDevice) -> HlmlResult {
        call_text!(self.0, STATUSES, STATUS(device.0 => *mut c_void), STATUS_BYTES as u32)
    }

    pub(super) fn module_id(&self, device: HlmlDevice) -> HlmlResult {
        self.number(device, MODULE_ID)
    }

    /// `hlml_device_get_power_usage` and others that fill a `u32`.
    pub(super) fn number(&self, device: HlmlDevice, call: LibraryCall) -> HlmlResult {
        call_number!(self.0, STATUSES, call(device.0 => *mut c_void), u32)
    }

    /// `hlml_device_get_total_energy_consumption`: fills a `u64`.
    pub(super) fn wide_number(&self, device: HlmlDevice, call: LibraryCall) -> HlmlResult {
        call_number!(self.0, STATUSES, call(device.0 => *mut c_void), u64)
    }

    /// `hlml_device_get_temperature` and others that fill a `u32` for one enumerator.
    pub(super) fn selected(&self, device: HlmlDevice, call: LibraryCall) -> HlmlResult {
        call_number!(self.0, STATUSES, call(device.0 => *mut c_void, call.arguments[0] => u32), u32)
    }

    /// `hlml_device_get_total_ecc_errors`.
    pub(super) fn ecc_errors(&self, device: HlmlDevice, call: LibraryCall) -> HlmlResult {
        let [kind, counter] = [call.arguments[0], call.arguments[1]];
        call_number!(
            self.0,
            STATUSES,
            call(device.0 => *mut c_void, kind => u32, counter => u32),
            u64
        )
    }

    /// `hlml_device_get_replaced_rows`: the number of rows.
    pub(super) fn replaced_rows(&self, device: HlmlDevice, call: LibraryCall) -> HlmlResult {
        let (mut count, mut rows) = (MAX_ROWS, StructBuffer::new());
        call!(self.0, STATUSES, call(
            device.0 => *mut c_void,
            call.arguments[0] => u32,
            &mut count => *mut u32,
            rows.pointer() => *mut StructBuffer,
        ))?;
        Ok(count.into())
    }

    /// `hlml_utilization_t`: from 1.19 on the struct has a second number, of which no source says what it is.
    pub(super) fn utilization(&self, device: HlmlDevice, _: LibraryCall) -> HlmlResult {
        call_struct!(self.0, STATUSES, UTILIZATION(device.0 => *mut c_void), |bytes: &[u8]| {
            Some(json!({ "aip": u32::from_ne_bytes(*bytes.first_chunk()?) }))
        })
    }

    /// `hlml_memory_t`, bytes.
    pub(super) fn memory(&self, device: HlmlDevice, _: LibraryCall) -> HlmlResult {
        call_struct!(self.0, STATUSES, MEMORY(device.0 => *mut c_void), |bytes: &[u8]| {
            let [free, total, used] = [0, 8, 16].map(|offset| wide_at(bytes, offset));
            Some(json!({ "free": free?, "total": total?, "used": used? }))
        })
    }

    pub(super) fn ecc_mode(&self, device: HlmlDevice) -> HlmlResult {
        let (mut current, mut pending) = (0, 0);
        call!(self.0, STATUSES, ECC_MODE(
            device.0 => *mut c_void,
            &mut current => *mut u32,
            &mut pending => *mut u32,
        ))?;
        Ok(json!({ "current": current, "pending": pending }))
    }

    /// Bits: 0 power, 1 temperature.
    pub(super) fn throttle(&self, device: HlmlDevice) -> HlmlResult {
        self.wide_number(device, THROTTLE)
    }

    /// The ports that the device has and those of them that leave the server, as bits. The call does not return addresses.
    pub(super) fn nic_ports(&self, device: HlmlDevice) -> HlmlResult {
        let (mut ports, mut external) = ([0_u64; 2], [0_u64; 2]);
        call!(self.0, STATUSES, NIC_PORTS(
            device.0 => *mut c_void,
            ports.as_mut_ptr() => *mut u64,
            external.as_mut_ptr() => *mut u64,
        ))?;
        Ok(json!({ "mask": ports, "ext_mask": external }))
    }

    /// Whether the link of a port is up.
    pub(super) fn nic_link(&self, device: HlmlDevice, port: u32) -> HlmlResult {
        let mut up = [0_u8; 8];
        call!(self.0, STATUSES, NIC_LINK(
            device.0 => *mut c_void,
            port => u32,
            up.as_mut_ptr() => *mut u8,
        ))?;
        Ok(Value::from(up[0] != 0))
    }
}

fn wide_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(offset..)?.first_chunk().copied()?))
}
