//! NVML's report to facts of devices: pure, and every fact keeps the reason why it is missing.

mod mig;

use afd_model::{
    Device, HandleKind, Known, Link, LinkKind, MemorySource, Missing, NvidiaFacts, Partitioning, PciAddress,
    Product, VendorFacts, possible_memory,
};

use crate::{
    handles::HandleSet,
    nvml::{
        report::{self, INVALID_ARGUMENT, NvmlAnswers, NvmlDeviceReport, NvmlReport, address, field, text},
        table::{self, call},
    },
    products,
};

/// Spellings of `nvmlBrandType_t`.
const BRANDS: [&str; 17] = [
    "unknown",
    "quadro",
    "tesla",
    "nvs",
    "grid",
    "geforce",
    "titan",
    "vapps",
    "vpc",
    "vcs",
    "vws",
    "cloud_gaming",
    "quadro_rtx",
    "nvidia_rtx",
    "nvidia",
    "geforce_rtx",
    "titan_rtx",
];

/// Adds what NVML reported to the devices that the kernel reports. A GPU that the kernel does not have is none, whatever NVML
/// reported: the report may be older.
pub(crate) fn enrich(devices: &mut [Device], links: &mut Vec<Link>, report: &NvmlReport) {
    let indices = report::indices(report);
    for (index, reported) in report.devices.iter().enumerate() {
        let Some(address) = address(&reported.answers) else { continue };
        let Some(device) = devices.iter_mut().find(|device| device.id.0 == address) else { continue };
        describe(device, Some(index).filter(|index| *index < indices), &report.system, reported);
        links.extend(peers(address, index, report));
        device.linked_devices = unread_peer(index, report).unwrap_or(Missing::NotExposed).into();
    }
    links.retain(|link| [link.a, link.b].iter().all(|id| devices.iter().any(|device| device.id == *id)));
}

fn describe(device: &mut Device, index: Option<usize>, system: &NvmlAnswers, reported: &NvmlDeviceReport) {
    let answers = &reported.answers;
    name(device, answers);
    let prefer = |fact: &mut Known<String>, call| {
        *fact = text(answers, call).or_else(|| std::mem::take(fact));
    };
    prefer(&mut device.uuid, call::UUID);
    prefer(&mut device.serial, call::SERIAL);
    prefer(&mut device.firmware_version, call::VBIOS_VERSION);
    // What the kernel reports takes precedence: a report stays while the driver is replaced.
    device.driver_version.fill(|| text(system, call::DRIVER_VERSION));
    device.runtime_version = system
        .known::<u32>(call::CUDA_VERSION)
        .map(|version| format!("{}.{}", version / 1000, version % 1000 / 10));
    let capability = compute_capability(answers).map(|(major, minor)| format!("{major}.{minor}"));
    device.compute = capability.or_else(|| std::mem::take(&mut device.compute));
    let memory = field(answers, call::MEMORY, "total").and_then(possible_memory);
    if memory.is_known() {
        (device.memory_bytes, device.memory_source) = (memory, Known::Value(MemorySource::Library));
    } else if !device.memory_bytes.is_known() {
        device.memory_bytes = memory;
    }
    (device.fabric_domain, device.fabric_partition) = fabric(answers);
    let vgpu = device.nvidia().and_then(|facts| facts.vgpu.clone());
    let facts = NvidiaFacts { vgpu, ..facts(system, answers) };
    match facts.nvlinks {
        // Every link is down, or the GPU has none.
        Known::Value(0) | Known::Missing { missing: Missing::NotAvailable } => {
            device.interconnect = Known::Value(LinkKind::Pcie);
        }
        Known::Value(_) => device.interconnect = Known::Value(LinkKind::Nvlink),
        Known::Missing { missing } if missing.is_undecided() => device.interconnect.fill(|| missing.into()),
        Known::Missing { .. } => {}
    }
    match facts.mig_enabled {
        Known::Value(true) => device.partitioning = Known::Value(Partitioning::Mig),
        Known::Value(false) | Known::Missing { missing: Missing::NotAvailable } => {
            device.partitioning.fill(|| Known::Value(Partitioning::Whole));
        }
        Known::Missing { missing } if missing.is_undecided() => device.partitioning.fill(|| missing.into()),
        Known::Missing { .. } => {}
    }
    handles(device, index, answers);
    if device.partitioning == Known::Value(Partitioning::Mig) {
        // Its virtual functions are none of them: what is allocated is the MIG devices.
        device.partitions = mig::devices(device, reported);
    }
    device.vendor_facts = Some(VendorFacts::Nvidia(Box::new(facts)));
}

/// NVML's name takes precedence over the table's, which adds what NVML does not report.
fn name(device: &mut Device, answers: &NvmlAnswers) {
    let Known::Value(name) = text(answers, call::NAME) else { return };
    device.display_only = products::is_display_only(&name);
    let mut product = match products::of_device(&device.pci, Some(&name)) {
        Some(row) => row.product(Some(&name)),
        None => {
            Product { name, model: Missing::Unrecognized.into(), architecture: Missing::Unrecognized.into() }
        }
    };
    // As GPU Feature Discovery names it.
    let capability = compute_capability(answers).into_value();
    if let Some(architecture) = capability.and_then(|(major, minor)| products::architecture(major, minor)) {
        product.architecture = Known::Value(architecture.to_owned());
    }
    device.product = Known::Value(product);
}

fn compute_capability(answers: &NvmlAnswers) -> Known<(u32, u32)> {
    let part = |name| field::<u32>(answers, call::COMPUTE_CAPABILITY, name);
    part("major").and_then(|major| part("minor").map(|minor| (major, minor)))
}

fn facts(system: &NvmlAnswers, answers: &NvmlAnswers) -> NvidiaFacts {
    let is_on = |call, name| field::<u32>(answers, call, name).map(|mode| mode == 1);
    let (nvlinks, first_up) = nvlinks(answers);
    NvidiaFacts {
        mig_enabled: is_on(call::MIG_MODE, "currentMode"),
        mig_pending: is_on(call::MIG_MODE, "pendingMode"),
        ecc_enabled: is_on(call::ECC_MODE, "current"),
        persistence: answers.known::<u32>(call::PERSISTENCE_MODE).map(|mode| mode == 1),
        compute_mode: spelling(
            answers.known(call::COMPUTE_MODE),
            &["default", "exclusive_thread", "prohibited", "exclusive_process"],
        ),
        virtualization: spelling(
            answers.known(call::VIRTUALIZATION_MODE),
            &["none", "passthrough", "vgpu", "host_vgpu", "host_vsga"],
        ),
        addressing_mode: spelling(field(answers, call::ADDRESSING_MODE, "value"), &["none", "hmm", "ats"]),
        confidential_compute: field::<u32>(system, call::CONFIDENTIAL_COMPUTE, "ccFeature")
            .map(|feature| feature == 1),
        board_part_number: text(answers, call::BOARD_PART_NUMBER),
        gsp_firmware_version: text(answers, call::GSP_FIRMWARE_VERSION),
        brand: spelling(answers.known(call::BRAND), &BRANDS),
        inforom_version: text(answers, call::INFOROM_VERSION),
        min_power_limit_milliwatts: field(answers, call::POWER_LIMIT_RANGE, "minLimit"),
        max_power_limit_milliwatts: field(answers, call::POWER_LIMIT_RANGE, "maxLimit"),
        default_power_limit_milliwatts: answers.known(call::DEFAULT_POWER_LIMIT),
        nvlinks,
        nvlink_version: answers.known(call::NVLINK_VERSION.with(&[first_up])),
        fabric_state: spelling(
            field(answers, call::FABRIC, "state"),
            &["not_supported", "not_started", "in_progress", "completed"],
        ),
        vgpu: None,
    }
}

/// The number of links that are up, and the first of them. That none is up is known only if each link has answered.
fn nvlinks(answers: &NvmlAnswers) -> (Known<u32>, u32) {
    let state = |link: u32| answers.known::<u32>(call::NVLINK_STATE.with(&[link]));
    let up: Vec<u32> = (0..table::MAX_LINKS).filter(|link| state(*link) == Known::Value(1)).collect();
    // The number after that of the last link is refused.
    let is_link = |link: &u32| {
        let call = call::NVLINK_STATE.with(&[*link]);
        *link == 0 || answers.error(call) != Some(INVALID_ARGUMENT)
    };
    let missing = (0..table::MAX_LINKS).take_while(is_link).filter_map(|link| state(link).missing());
    let number = match (up.first(), missing.into_iter().find(|missing| missing.is_undecided())) {
        (None, Some(missing)) => missing.into(),
        (None, None) => state(0).map(|_| 0),
        (Some(_), _) => Known::Value(up.len() as u32),
    };
    (number, up.first().copied().unwrap_or(0))
}

/// The spelling of a number of an enum; a number that is newer than this program is spelt in digits.
fn spelling(number: Known<u32>, spellings: &[&str]) -> Known<String> {
    number.map(|number| {
        spellings.get(number as usize).map_or_else(|| number.to_string(), |spelling| (*spelling).to_owned())
    })
}

/// The fabric, `<cluster uuid>`, and the part of it that the GPU reaches, `<cluster uuid>.<clique>`: only where registration
/// is complete, succeeded and names a cluster. An H100 without a multi-node fabric is complete as well, with a cluster of
/// zeros.
fn fabric(answers: &NvmlAnswers) -> (Known<String>, Known<String>) {
    let state: Known<u64> = field(answers, call::FABRIC, "state");
    let status: Known<u32> = field(answers, call::FABRIC, "status");
    let cluster: Known<String> = field(answers, call::FABRIC, "clusterUuid");
    let clique: Known<u32> = field(answers, call::FABRIC, "cliqueId");
    match (state, status, cluster, clique) {
        (
            Known::Value(table::FABRIC_COMPLETED),
            Known::Value(0),
            Known::Value(cluster),
            Known::Value(clique),
        ) if cluster.len() == 32 && cluster.bytes().any(|byte| byte != b'0') => {
            let cluster = uuid(&cluster);
            let partition = format!("{cluster}.{clique}");
            (Known::Value(cluster), Known::Value(partition))
        }
        (Known::Missing { missing }, ..) => (missing.into(), missing.into()),
        _ => (Missing::NotAvailable.into(), Missing::NotAvailable.into()),
    }
}

/// 32 hexadecimal digits in the form of a UUID.
fn uuid(digits: &str) -> String {
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

fn handles(device: &mut Device, index: Option<usize>, answers: &NvmlAnswers) {
    let mut handles = HandleSet(&mut device.handles);
    if let Known::Value(uuid) = text(answers, call::UUID) {
        handles.add_uuid(&uuid);
    }
    if let Known::Value(minor) = answers.known::<u32>(call::MINOR_NUMBER) {
        handles.add_minor(minor);
    }
    if let Known::Value(module) = answers.known::<u32>(call::MODULE_ID) {
        handles.add(HandleKind::Module, module.to_string());
    }
    if let Some(index) = index {
        handles.add(HandleKind::Index, index.to_string());
    }
}

/// Why it is not known whether this GPU reaches one of the others over NVLink, or the other one this, if it is not.
fn unread_peer(index: usize, report: &NvmlReport) -> Option<Missing> {
    let answer = |from: usize, to: usize| {
        let call = call::P2P_STATUS.with(&[u32::try_from(to).ok()?, table::P2P_NVLINK]);
        report.devices[from].answers.known::<u32>(call).missing().filter(|missing| missing.is_undecided())
    };
    (0..report.devices.len()).find_map(|other| answer(index, other).or_else(|| answer(other, index)))
}

/// The GPUs of a higher index that this one reaches over NVLink.
fn peers(address: PciAddress, index: usize, report: &NvmlReport) -> Vec<Link> {
    let others = report.devices.iter().enumerate().skip(index + 1);
    others
        .filter_map(|(other, reported)| {
            let call = call::P2P_STATUS.with(&[u32::try_from(other).ok()?, table::P2P_NVLINK]);
            let is_reached = report.devices[index].answers.known::<u32>(call) == Known::Value(0);
            let peer = self::address(&reported.answers).filter(|_| is_reached)?;
            Some(Link {
                a: address.min(peer).into(),
                b: address.max(peer).into(),
                kind: LinkKind::Nvlink,
                weight: Missing::NotExposed.into(),
                bandwidth_bytes_per_second: Missing::NotExposed.into(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use afd_model::{Variant, Vendor};
    use serde_json::json;

    use super::*;
    use crate::nvml::report::NvmlCode;

    /// A GPU of which NVML answers calls so.
    fn described(answers: impl FnOnce(&mut NvmlAnswers)) -> Device {
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let mut device = Device::bare(address, Vendor::Nvidia, Variant::Gpu);
        let mut reported = NvmlDeviceReport::default();
        answers(&mut reported.answers);
        describe(&mut device, Some(0), &NvmlAnswers::default(), &reported);
        device
    }

    #[test]
    fn one_link_that_is_up_is_nvlink_and_all_have_to_be_down_for_pcie() {
        let of = |states: &[Result<u32, NvmlCode>]| {
            let device = described(|answers| {
                for (link, state) in states.iter().enumerate() {
                    let state = state.map(|state| json!(state));
                    answers.put(call::NVLINK_STATE.with(&[link as u32]), state);
                }
            });
            device.interconnect
        };
        let unknown = || Err(NvmlCode::named("UNKNOWN"));
        let (nvlink, pcie) = (Known::Value(LinkKind::Nvlink), Known::Value(LinkKind::Pcie));
        assert_eq!(of(&[Ok(0), Ok(1)]), nvlink);
        assert_eq!(of(&[unknown(), Ok(1)]), nvlink, "the first link decides nothing");
        assert_eq!(of(&[Err(report::NOT_SUPPORTED), Ok(1)]), nvlink);
        assert_eq!(of(&[Ok(0), unknown()]), Missing::Unreadable.into(), "it may be up");
        assert_eq!(of(&[unknown()]), Missing::Unreadable.into());
        assert_eq!(of(&[Ok(0), Ok(0), Err(INVALID_ARGUMENT)]), pcie, "it has two links");
        assert_eq!(of(&[Err(report::NOT_SUPPORTED)]), pcie);
        assert_eq!(of(&[]), Missing::NotExposed.into());
    }

    #[test]
    fn a_peer_whose_status_could_not_be_read_leaves_the_number_of_links_unknown() {
        let of = |status: Result<u32, NvmlCode>| {
            let mut answers = NvmlAnswers::default();
            answers.put(call::P2P_STATUS.with(&[1, table::P2P_NVLINK]), status.map(|status| json!(status)));
            let device = |answers| NvmlDeviceReport { answers, ..NvmlDeviceReport::default() };
            let devices = vec![device(answers), device(NvmlAnswers::default())];
            let report = NvmlReport { devices, ..NvmlReport::default() };
            [0, 1].map(|index| unread_peer(index, &report))
        };
        assert_eq!(of(Ok(0)), [None; 2]);
        assert_eq!(of(Err(NvmlCode::named("NOT_SUPPORTED"))), [None; 2]);
        assert_eq!(of(Err(NvmlCode::named("UNKNOWN"))), [Some(Missing::Unreadable); 2]);
    }

    #[test]
    fn a_memory_that_cannot_be_is_none() {
        let of = |total: u64| {
            described(|answers| answers.put(call::MEMORY, Ok(json!({ "total": total })))).memory_bytes
        };
        assert_eq!(of(80 << 30), Known::Value(80 << 30));
        assert_eq!(of(u64::MAX), Missing::Malformed.into());
    }
}
