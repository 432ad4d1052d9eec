//! From what HLML reported to facts that the kernel did not report. Pure.

use afd_model::{
    Device, DeviceId, Handle, HandleKind, Known, Link, LinkKind, MemorySource, Missing, VendorFacts,
    possible_memory,
};
use afd_probe::answers::trimmed;

use super::firmware_version;
use crate::{
    control::operations::HW_IP_INFO,
    hlml::{
        HlmlAnswers,
        calls::{
            DRIVER_VERSION, ECC_MODE, FIRMWARE, FIT_VERSION, MEMORY, MODULE_ID, SERIAL, SPI_VERSION, UUID,
        },
        is_link_up, ports,
    },
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
    let module = answers.known::<u32>(MODULE_ID).into_value();
    let module = module.or_else(|| answers.field(HW_IP_INFO.call, "module_id").into_value());
    if device.handle(HandleKind::Module).is_none()
        && let Some(module) = module
    {
        device.handles.push(Handle::new(HandleKind::Module, module.to_string()));
    }
    let mut firmware = trimmed(answers.known(FIRMWARE));
    firmware.fill(|| trimmed(answers.field(HW_IP_INFO.call, "cpucp_version")));
    device.firmware_version.fill(|| firmware.as_ref().map(|text: &String| firmware_version(text)));
    device.driver_version.fill(|| trimmed(system.known(DRIVER_VERSION)));
    if !device.memory_bytes.is_known()
        && let Some(bytes @ 1..) = total_memory(answers).filter(|bytes| possible_memory(*bytes).is_known())
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

/// All memory: by the driver's ioctl what can be used, and what is reserved.
fn total_memory(answers: &HlmlAnswers) -> Option<u64> {
    let by_driver = |field: &str| answers.field::<u64>(HW_IP_INFO.call, field).into_value();
    let by_library = answers.field(MEMORY, "total").into_value();
    by_library.or_else(|| by_driver("dram_size")?.checked_add(by_driver("reserved_dram_size")?))
}

/// The states of the ports to other devices of the server, where they are known.
fn internal_links(answers: &HlmlAnswers) -> Vec<Option<bool>> {
    let internal = ports(answers).into_iter().filter(|(_, is_external)| !is_external);
    internal.map(|(port, _)| is_link_up(answers, port)).collect()
}

/// RoCE if a port to another device of the server is up. A device in reset answers for none of its ports; when several were
/// reset all their ports are down for a while, so `are_unused` says whether such ports are not in use.
pub(crate) fn interconnect(answers: &HlmlAnswers, are_unused: bool) -> Known<LinkKind> {
    let links = internal_links(answers);
    if links.contains(&Some(true)) {
        Known::Value(LinkKind::Roce)
    } else if links.is_empty() || are_unused {
        Missing::NotExposed.into()
    } else {
        Missing::Unreadable.into()
    }
}

/// The links between the devices of a server.
///
/// No source reports which device is at the other end of a port. On the boards whose internal ports divide evenly among the other
/// devices (21, 14 or 7 for eight devices) each device is connected with each other one.
///
/// `devices`: those whose ports are in use. `count` is the number of all devices of the server, also of those that were never
/// reported or are gone: the wiring of a board stays.
pub(crate) fn links(devices: &[(DeviceId, &HlmlAnswers)], count: usize) -> Vec<Link> {
    let Some(others) = count.checked_sub(1).filter(|others| *others > 0) else { return Vec::new() };
    let is_linked = |(_, answers): &&(DeviceId, &HlmlAnswers)| {
        let links = internal_links(answers);
        !links.is_empty() && links.len().is_multiple_of(others)
    };
    let mut linked: Vec<DeviceId> = devices.iter().filter(is_linked).map(|(device, _)| *device).collect();
    linked.sort();
    let link = |a, b| Link {
        a,
        b,
        kind: LinkKind::Roce,
        weight: Known::default(),
        bandwidth_bytes_per_second: Known::default(),
    };
    let pairs = linked
        .iter()
        .enumerate()
        .flat_map(|(index, a)| linked[index + 1..].iter().map(|b| link(*a, *b)).collect::<Vec<_>>());
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use afd_model::PciAddress;
    use serde_json::json;

    use super::*;
    use crate::hlml::calls::{NIC_LINK, NIC_PORTS};

    /// A device with internal ports in these states.
    fn with_ports(states: &[Option<bool>]) -> HlmlAnswers {
        let mut answers = HlmlAnswers::default();
        let mask = (1_u64 << states.len()) - 1;
        // The port behind them leaves the server.
        let external = 1_u64 << states.len();
        answers.put(NIC_PORTS, Ok(json!({ "mask": [mask | external, 0], "ext_mask": [external, 0] })));
        for (port, state) in states.iter().enumerate() {
            if let Some(up) = state {
                answers.put(NIC_LINK.with(&[port as u32]), Ok(json!(up)));
            }
        }
        answers
    }

    #[test]
    fn internal_ports_that_are_up_make_roce_the_interconnect() {
        let of = |states: &[Option<bool>]| interconnect(&with_ports(states), false);
        assert_eq!(of(&[Some(false), Some(true)]), Known::Value(LinkKind::Roce));
        assert_eq!(of(&[Some(false), Some(false)]).missing(), Some(Missing::Unreadable), "they may go up");
        let unused = interconnect(&with_ports(&[Some(false), Some(false)]), true);
        assert_eq!(unused.missing(), Some(Missing::NotExposed));
        assert_eq!(of(&[]).missing(), Some(Missing::NotExposed), "the external port does not count");
        assert_eq!(of(&[None, None]).missing(), Some(Missing::Unreadable), "what was published stays");
    }

    #[test]
    fn devices_are_linked_where_their_ports_divide_evenly_among_the_others() {
        let count = |each: &[&HlmlAnswers]| {
            let device = |bus| DeviceId::from(PciAddress { domain: 0, bus, device: 0, function: 0 });
            let devices: Vec<_> = (1..).map(device).zip(each.iter().copied()).collect();
            links(&devices, devices.len()).len()
        };
        let (up, unknown) = (with_ports(&[Some(true); 6]), with_ports(&[None; 6]));
        assert_eq!(count(&[&up, &up, &up, &up]), 6);
        assert_eq!(count(&[&up, &up, &unknown, &up]), 6, "it is reset, and its links stay");
        assert_eq!(count(&[&up; 5]), 0, "six ports do not divide among four others");
        assert_eq!(count(&[&up]), 0);
        let device = |bus| DeviceId::from(PciAddress { domain: 0, bus, device: 0, function: 0 });
        let reported = [(device(1), &up), (device(2), &up), (device(3), &up)];
        assert_eq!(links(&reported, 4).len(), 3, "of the fourth one nothing is known");
    }
}
