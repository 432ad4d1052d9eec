//! From what HLML reported to facts that the kernel did not report. Pure.

use afd_model::{Device, Handle, HandleKind, Known, MemorySource, VendorFacts};
use afd_probe::answers::trimmed;

use super::firmware_version;
use crate::hlml::{
    HlmlAnswers,
    calls::{DRIVER_VERSION, ECC_MODE, FIRMWARE, FIT_VERSION, MEMORY, MODULE_ID, SERIAL, SPI_VERSION, UUID},
};

/// Fills in what the kernel did not report of a device. The driver version is that of the kernel's module where it has one.
pub(crate) fn enrich(device: &mut Device, system: &HlmlAnswers, answers: &HlmlAnswers) {
    device.serial.fill(|| trimmed(answers.known(SERIAL)));
    device.uuid.fill(|| trimmed(answers.known(UUID)));
    if let Some(uuid) = device.uuid.value() {
        let handle = Handle::new(HandleKind::Uuid, uuid.as_str());
        if !device.handles.contains(&handle) {
            device.handles.push(handle);
        }
    }
    if device.handle(HandleKind::Module).is_none()
        && let Known::Value(module) = answers.known::<u32>(MODULE_ID)
    {
        device.handles.push(Handle::new(HandleKind::Module, module.to_string()));
    }
    let firmware = trimmed(answers.known(FIRMWARE));
    device.firmware_version.fill(|| firmware.as_ref().map(|text: &String| firmware_version(text)));
    device.driver_version.fill(|| trimmed(system.known(DRIVER_VERSION)));
    if !device.memory_bytes.is_known()
        && let Known::Value(bytes @ 1..) = answers.field(MEMORY, "total")
    {
        device.memory_bytes = Known::Value(bytes);
        device.memory_source = Known::Value(MemorySource::Library);
    }
    if let Some(VendorFacts::Gaudi(facts)) = &mut device.vendor_facts {
        facts.firmware_text.fill(|| firmware);
        facts.fit_version = trimmed(answers.known(FIT_VERSION));
        facts.spi_version = trimmed(answers.known(SPI_VERSION));
        facts.ecc_enabled = answers.field::<u32>(ECC_MODE, "current").map(|mode| mode != 0);
    }
}
