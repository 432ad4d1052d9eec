//! What AMD SMI or ROCm SMI told, to facts that the kernel did not tell. Pure.

use afd_model::{
    AmdFacts, Device, Findings, Handle, HandleKind, Known, Link, LinkKind, MemorySource, Missing, PciAddress,
    Problem, Product, VendorFacts,
};
use afd_probe::answers::of;

use crate::{
    library,
    smi::{
        amdsmi,
        answers::{Answers, DeviceReport, Report},
        rocmsmi,
    },
};

const ASIC: &str = "amdsmi_get_gpu_asic_info";
const VBIOS: &str = "amdsmi_get_gpu_vbios_info";
/// XGMI in `amdsmi_link_type_t`, the older `amdsmi_io_link_type_t` and `RSMI_IO_LINK_TYPE`.
const XGMI: u32 = 2;

/// Which processor of the node an answer is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// The function as the library numbers it: its last digit may be the number of a partition.
    address: PciAddress,
    /// The partition by ROCm SMI's word; 0 by AMD SMI's, which has it in the address.
    partition: u32,
}

impl Place {
    /// Where a processor of the report is; none if the library did not tell.
    pub(crate) fn of(answers: &Answers) -> Option<Place> {
        if let Known::Value(bdf) = answers.known::<u64>(amdsmi::BDF) {
            return Some(Place { address: address(bdf, bdf >> 16)?, partition: 0 });
        }
        let bdf: u64 = answers.known(rocmsmi::PCI_ID).into_value()?;
        Some(Place { address: address(bdf, bdf >> 32)?, partition: (bdf >> 28) as u32 & 0xf })
    }

    /// Whether it is this device as a whole, or its first partition.
    pub(crate) fn is(self, device: PciAddress) -> bool {
        self.address == device && self.partition == 0
    }
}

fn address(bdf: u64, domain: u64) -> Option<PciAddress> {
    Some(PciAddress {
        domain: u32::try_from(domain).ok()?,
        bus: (bdf >> 8) as u8,
        device: (bdf >> 3) as u8 & 0x1f,
        function: bdf as u8 & 7,
    })
}

/// Keeps what was told before by calls that now fail, and of processors that the library has lost: what does not change
/// while a device is there is not forgotten because of an error. Ways to other processors are by their place in a report,
/// which may be another one now.
pub(crate) fn keep(report: &mut Report, before: &Report) {
    let such = |call: &str| !call.contains("_topo_");
    for known in &before.devices {
        let Some(place) = Place::of(&known.answers) else { continue };
        match report.devices.iter_mut().find(|told| Place::of(&told.answers) == Some(place)) {
            Some(told) => told.answers.keep(&known.answers, such),
            None => {
                let mut answers = Answers::default();
                answers.keep(&known.answers, such);
                report.devices.push(DeviceReport { socket: known.socket, answers });
            }
        }
    }
}

/// Which calls failed although the part should have them.
pub(crate) fn refused(devices: &[Device], report: &Report) -> Vec<Problem> {
    let of_device = |device: &Device| {
        let told = told_of(report, device)?;
        Some(library::failures(device.id, &told.answers))
    };
    devices.iter().filter_map(of_device).flatten().collect()
}

/// Fills in what the kernel did not tell.
pub(crate) fn enrich(findings: &mut Findings, report: &Report) {
    for device in &mut findings.devices {
        let Some(told) = told_of(report, device) else { continue };
        describe(device, &report.system, &told.answers);
    }
    // What the table did not know has a name now.
    let named = |problem: &Problem| {
        problem.fact == "product"
            && problem.reason == Missing::Unrecognized
            && findings
                .devices
                .iter()
                .any(|device| Some(device.id) == problem.device && device.product.is_known())
    };
    findings.problems.retain(|problem| !named(problem));
    links(findings, report);
}

fn told_of<'r>(report: &'r Report, device: &Device) -> Option<&'r DeviceReport> {
    report.devices.iter().find(|told| Place::of(&told.answers).is_some_and(|place| place.is(device.id.0)))
}

fn describe(device: &mut Device, system: &Answers, answers: &Answers) {
    if let (Some(Missing::Unrecognized), Known::Value(name)) = (device.product.missing(), name(answers)) {
        let unknown = Missing::Unrecognized;
        let (model, architecture) = (unknown.into(), unknown.into());
        device.product = Known::Value(Product { name, model, architecture });
    }
    let fill = |fact: &mut Known<String>, told: Known<String>| {
        *fact = std::mem::replace(fact, Missing::NotExposed.into()).or_else(|| told);
    };
    let part_number = text(answers.field(VBIOS, "part_number"));
    fill(
        &mut device.firmware_version,
        part_number.or_else(|| text(answers.known("rsmi_dev_vbios_version_get"))),
    );
    let driver = text(answers.field("amdsmi_get_gpu_driver_info", "driver_version"));
    fill(&mut device.driver_version, driver.or_else(|| text(system.known(&of("rsmi_version_str_get", 0)))));
    // The first partition of a device that is cut tells its own memory.
    if !device.memory_bytes.is_known() && device.partitions.is_empty() {
        let told = answers.known::<u64>(&of("amdsmi_get_gpu_memory_total", 0));
        let told = told.or_else(|| answers.known(&of("rsmi_dev_memory_total_get", 0)));
        if let Some(bytes) = told.into_value().filter(|bytes| *bytes > 0) {
            device.memory_bytes = Known::Value(bytes);
            device.memory_source = Known::Value(MemorySource::Library);
        }
    }
    identify(device, answers);
    if let Some(VendorFacts::Amd(facts)) = &mut device.vendor_facts {
        vendor_facts(facts, answers);
    }
}

fn identify(device: &mut Device, answers: &Answers) {
    if device.handle(HandleKind::UniqueId).is_none()
        && let Some(id) = unique_id(answers)
    {
        super::identify(device, Known::Value(id));
    }
    // Releases before ROCm 7 write `ff` for the partition of the GPU itself: others may know it by that name.
    if let Some(uuid) = uuid(answers) {
        let handle = Handle::new(HandleKind::Uuid, uuid.as_str());
        if !device.handles.contains(&handle) {
            device.handles.push(handle);
        }
        if !device.uuid.is_known() {
            device.uuid = Known::Value(uuid);
        }
    }
}

/// The serial number of the chip is its unique id, in hexadecimal with AMD SMI, which says `0x` and zeros where it has
/// none.
fn unique_id(answers: &Answers) -> Option<u64> {
    let serial = text(answers.field(ASIC, "asic_serial")).into_value();
    let digits = serial.as_deref().map(|serial| serial.trim_start_matches("0x").trim_start_matches("0X"));
    let by_serial = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let id = by_serial.or_else(|| answers.known("rsmi_dev_unique_id_get").into_value())?;
    (id != 0 && id != u64::MAX).then_some(id)
}

/// AMD SMI makes a UUID of zeros for a device whose unique id it does not know; several devices would share it.
fn uuid(answers: &Answers) -> Option<String> {
    let uuid: String = text(answers.known("amdsmi_get_gpu_device_uuid")).into_value()?;
    let of_chip = format!("{}{}", uuid.get(..2)?, uuid.get(21..)?);
    of_chip.bytes().any(|byte| byte.is_ascii_hexdigit() && byte != b'0').then_some(uuid)
}

fn market_name(answers: &Answers) -> Known<String> {
    name_not_number(text(answers.field(ASIC, "market_name")))
}

/// ROCm SMI has its names from the public list of PCI ids, where those of AMD's own tools are not: good for a device that
/// nobody else knows.
fn name(answers: &Answers) -> Known<String> {
    market_name(answers).or_else(|| name_not_number(text(answers.known("rsmi_dev_name_get"))))
}

/// Both libraries give the device's number where they know no name.
fn name_not_number(name: Known<String>) -> Known<String> {
    name.and_then(
        |name| if name.starts_with("0x") { Missing::NotAvailable.into() } else { Known::Value(name) },
    )
}

fn vendor_facts(facts: &mut AmdFacts, answers: &Answers) {
    let number = |known: Known<u32>| {
        known.and_then(|number| match number {
            0 | u32::MAX => Missing::NotAvailable.into(),
            number => Known::Value(number),
        })
    };
    facts.market_name = market_name(answers);
    facts.vbios_version = text(answers.field(VBIOS, "version"));
    facts.virtualization = answers.known::<u32>("amdsmi_get_gpu_virtualization_mode").and_then(|mode| {
        let word = match mode {
            1 => "baremetal",
            2 => "host",
            3 => "guest",
            4 => "passthrough",
            _ => return Missing::NotAvailable.into(),
        };
        Known::Value(word.to_owned())
    });
    facts.bad_page_threshold = number(answers.known("amdsmi_get_gpu_bad_page_threshold"));
    facts.nominal_partitions =
        number(answers.field("amdsmi_get_gpu_accelerator_partition_profile", "num_partitions"));
}

/// A text of a library; an empty one is none.
fn text(told: Known<String>) -> Known<String> {
    told.and_then(|text| match text.trim() {
        "" | "N/A" => Missing::NotAvailable.into(),
        text => Known::Value(text.to_owned()),
    })
}

/// XGMI links that the kernel did not tell.
fn links(findings: &mut Findings, report: &Report) {
    let device = |told: &DeviceReport| {
        let place = Place::of(&told.answers)?;
        findings.devices.iter().map(|device| device.id).find(|id| place.is(id.0))
    };
    let mut missed = Vec::new();
    for (index, told) in report.devices.iter().enumerate() {
        for (other, peer) in (0_u32..).zip(&report.devices).skip(index + 1) {
            let answer = |call: [&str; 2]| call.map(|call| of(call, other));
            let [kind, older] = answer(["amdsmi_topo_get_link_type", "rsmi_topo_get_link_type"]);
            let kind =
                told.answers.field::<u32>(&kind, "type").or_else(|| told.answers.field(&older, "type"));
            let (Known::Value(XGMI), Some(a), Some(b)) = (kind, device(told), device(peer)) else { continue };
            let (a, b) = (a.min(b), a.max(b));
            if a == b || findings.links.iter().any(|link| (link.a, link.b) == (a, b)) {
                continue;
            }
            let [weight, older] = answer(["amdsmi_topo_get_link_weight", "rsmi_topo_get_link_weight"]);
            let weight = told.answers.known::<u32>(&weight).or_else(|| told.answers.known(&older));
            missed.push(Link {
                a,
                b,
                kind: LinkKind::Xgmi,
                weight,
                bandwidth_bytes_per_second: Missing::NotExposed.into(),
            });
        }
    }
    for device in &mut findings.devices {
        if missed.iter().any(|link| link.a == device.id || link.b == device.id) {
            device.interconnect = Known::Value(LinkKind::Xgmi);
        }
    }
    findings.links.extend(missed);
}

#[cfg(test)]
mod tests;
