//! From what AMD SMI or ROCm SMI reported to facts that the kernel did not report. Pure.

use afd_model::{
    AmdFacts, Device, DeviceId, Findings, Handle, HandleKind, Known, Link, LinkKind, MemorySource, Missing,
    Problem, Product, VendorFacts, possible_memory,
};
use afd_probe::answers::trimmed;

use crate::smi::{
    AmdAnswers, AmdReport,
    amdsmi::calls::{
        self as amd, ASIC_INFO, BAD_PAGE_THRESHOLD, DRIVER_INFO, PARTITION_PROFILE, VBIOS_INFO,
        VIRTUALIZATION_MODE,
    },
    rocmsmi::calls as rocm,
    unit_of,
};

/// XGMI in `amdsmi_link_type_t`, the older `amdsmi_io_link_type_t` and `RSMI_IO_LINK_TYPE`.
const XGMI: u32 = 2;

/// Fills in what the kernel did not report.
pub(crate) fn enrich(findings: &mut Findings, report: &AmdReport) {
    for device in &mut findings.devices {
        if let Some(reported) = report.device(device.id.0, unit_of) {
            describe(device, &report.system, &reported.answers);
        }
    }
    // A product that the table does not know may have a name now.
    let is_solved = |problem: &Problem| {
        problem.fact == "product"
            && problem.reason == Missing::Unrecognized
            && findings
                .devices
                .iter()
                .any(|device| Some(device.id) == problem.device && device.product.is_known())
    };
    findings.problems.retain(|problem| !is_solved(problem));
    links(findings, report);
}

fn describe(device: &mut Device, system: &AmdAnswers, answers: &AmdAnswers) {
    if let (Some(Missing::Unrecognized), Known::Value(name)) = (device.product.missing(), name(answers)) {
        let unknown = Missing::Unrecognized;
        let (model, architecture) = (unknown.into(), unknown.into());
        device.product = Known::Value(Product { name, model, architecture });
    }
    device.firmware_version.fill(|| {
        let part_number = trimmed(answers.field(VBIOS_INFO, "part_number"));
        part_number.or_else(|| trimmed(answers.known(rocm::VBIOS_VERSION)))
    });
    device.driver_version.fill(|| {
        let version = trimmed(answers.field(DRIVER_INFO, "driver_version"));
        version.or_else(|| trimmed(system.known(rocm::DRIVER_VERSION)))
    });
    // The first partition of a partitioned device reports its own memory. A figure of the kernel that could not be read once is
    // not replaced by another.
    let is_unread = matches!(device.memory_bytes.missing(), Some(Missing::Unreadable | Missing::Malformed));
    if !device.memory_bytes.is_known() && !is_unread && device.partitions.is_empty() {
        let bytes: Known<u64> =
            answers.known(amd::MEMORY_TOTAL).or_else(|| answers.known(rocm::MEMORY_TOTAL));
        if let Some(bytes) = bytes.and_then(possible_memory).into_value().filter(|bytes| *bytes > 0) {
            device.memory_bytes = Known::Value(bytes);
            device.memory_source = Known::Value(MemorySource::Library);
        }
    }
    identify(device, answers);
    if let Some(VendorFacts::Amd(facts)) = &mut device.vendor_facts {
        vendor_facts(facts, answers);
    }
}

/// The unique id and the UUID where the kernel does not report them, as for a virtual function.
fn identify(device: &mut Device, answers: &AmdAnswers) {
    if device.handle(HandleKind::UniqueId).is_none()
        && let Some(id) = unique_id(answers)
    {
        super::identify(device, Known::Value(id));
    }
    // Releases since ROCm 7.12 write the number of the partition: others may know the GPU by that name.
    if let Some(uuid) = uuid(answers) {
        let handle = Handle::new(HandleKind::Uuid, uuid.as_str());
        if !device.handles.contains(&handle) {
            device.handles.push(handle);
        }
        device.uuid.fill(|| Known::Value(uuid));
    }
}

/// The serial number of the chip is its unique id, in hexadecimal with AMD SMI, which reports `0x` and zeros where it has
/// none.
fn unique_id(answers: &AmdAnswers) -> Option<u64> {
    let serial = trimmed(answers.field(ASIC_INFO, "asic_serial")).into_value();
    let digits = serial.as_deref().map(|serial| serial.trim_start_matches("0x").trim_start_matches("0X"));
    let by_serial = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let id = by_serial.or_else(|| answers.known(rocm::UNIQUE_ID).into_value())?;
    (id != 0 && id != u64::MAX).then_some(id)
}

/// The UUID, unless it is one of zeros, which AMD SMI reports for a device of unknown unique id.
fn uuid(answers: &AmdAnswers) -> Option<String> {
    let uuid: String = trimmed(answers.known(amd::UUID)).into_value()?;
    let of_chip = format!("{}{}", uuid.get(..2)?, uuid.get(21..)?);
    of_chip.bytes().any(|byte| byte.is_ascii_hexdigit() && byte != b'0').then_some(uuid)
}

fn market_name(answers: &AmdAnswers) -> Known<String> {
    name_not_number(trimmed(answers.field(ASIC_INFO, "market_name")))
}

/// The name of a device that is not in the product table. ROCm SMI takes its names from the public PCI id list, which lacks the
/// names of AMD's own tools.
fn name(answers: &AmdAnswers) -> Known<String> {
    market_name(answers).or_else(|| name_not_number(trimmed(answers.known(rocm::NAME))))
}

/// Both libraries report the device id where they have no name.
fn name_not_number(name: Known<String>) -> Known<String> {
    name.and_then(
        |name| if name.starts_with("0x") { Missing::NotAvailable.into() } else { Known::Value(name) },
    )
}

fn vendor_facts(facts: &mut AmdFacts, answers: &AmdAnswers) {
    let number = |known: Known<u32>| {
        known.and_then(|number| match number {
            0 | u32::MAX => Missing::NotAvailable.into(),
            number => Known::Value(number),
        })
    };
    facts.market_name = market_name(answers);
    facts.vbios_version = trimmed(answers.field(VBIOS_INFO, "version"));
    facts.virtualization = answers.known::<u32>(VIRTUALIZATION_MODE).and_then(|mode| {
        let name = match mode {
            1 => "baremetal",
            2 => "host",
            3 => "guest",
            4 => "passthrough",
            _ => return Missing::NotAvailable.into(),
        };
        Known::Value(name.to_owned())
    });
    facts.bad_page_threshold = number(answers.known(BAD_PAGE_THRESHOLD));
    facts.nominal_partitions = number(answers.field(PARTITION_PROFILE, "num_partitions"));
}

/// XGMI links that the kernel did not report.
fn links(findings: &mut Findings, report: &AmdReport) {
    let ids: Vec<Option<DeviceId>> = report
        .devices
        .iter()
        .map(|reported| {
            let unit = unit_of(&reported.answers)?;
            findings.devices.iter().map(|device| device.id).find(|id| unit.is_device(id.0))
        })
        .collect();
    let (mut added, mut unread) = (Vec::new(), Vec::new());
    for (index, (from, reported)) in ids.iter().zip(&report.devices).enumerate() {
        for (other, to) in (0_u32..).zip(&ids).skip(index + 1) {
            let (Some(from), Some(to)) = (from, to) else { continue };
            let (a, b) = (*from.min(to), *from.max(to));
            if a == b || findings.links.iter().any(|link| (link.a, link.b) == (a, b)) {
                continue;
            }
            match xgmi_weight(&reported.answers, other) {
                Known::Value(weight) => {
                    let bandwidth_bytes_per_second = Missing::NotExposed.into();
                    added.push(Link { a, b, kind: LinkKind::Xgmi, weight, bandwidth_bytes_per_second });
                }
                Known::Missing { missing } if missing.is_undecided() => unread.push((a, b, missing)),
                Known::Missing { .. } => {}
            }
        }
    }
    for device in findings.devices.iter_mut().filter(|device| !device.interconnect.is_known()) {
        if let Some((.., missing)) = unread.iter().find(|(a, b, _)| [*a, *b].contains(&device.id)) {
            device.linked_devices = (*missing).into();
        }
    }
    for device in &mut findings.devices {
        if added.iter().any(|link| link.a == device.id || link.b == device.id) {
            device.interconnect = Known::Value(LinkKind::Xgmi);
        }
    }
    findings.links.extend(added);
}

/// The weight of the link to the processor with an index; not available if it is no XGMI link.
fn xgmi_weight(answers: &AmdAnswers, other: u32) -> Known<Known<u32>> {
    let [amd_type, rocm_type, amd_weight, rocm_weight] =
        [amd::LINK_TYPE, rocm::LINK_TYPE, amd::LINK_WEIGHT, rocm::LINK_WEIGHT]
            .map(|call| call.with(&[other]));
    let kind = answers.field::<u32>(&amd_type, "type").or_else(|| answers.field(&rocm_type, "type"));
    kind.and_then(|kind| match kind {
        XGMI => Known::Value(answers.known(&amd_weight).or_else(|| answers.known(&rocm_weight))),
        _ => Missing::NotAvailable.into(),
    })
}

#[cfg(test)]
mod tests;
