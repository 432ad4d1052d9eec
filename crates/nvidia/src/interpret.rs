//! NVML's report to facts of devices: pure, and every fact keeps the reason why it is missing.

mod mig;

use afd_model::{
    Device, DeviceId, HandleKind, Known, Link, LinkKind, MemorySource, Missing, NvidiaFacts, Partitioning,
    PciAddress, Problem, Product, Variant, Vendor, VendorFacts,
};
use serde_json::Value;

use crate::{
    NAME,
    handles::HandleSet,
    nvml::{
        HANDLE, INIT,
        answers::{Answers, Code, DeviceReport, Report},
        of, of_two,
    },
    products,
};

/// Words for `nvmlBrandType_t`.
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

/// Where a GPU of the report is.
pub(crate) fn address(answers: &Answers) -> Option<PciAddress> {
    let bus_id: String = answers.field("nvmlDeviceGetPciInfo_v3", "busId").into_value()?;
    bus_id.parse().ok()
}

/// Why the library could not be initialised, if it could not.
pub(crate) fn init_error(report: &Report) -> Option<Code> {
    report.system.error(INIT)
}

/// Joins what NVML told to the devices that the kernel showed. A GPU that the kernel does not show is a device all the
/// same. Calls that failed although the part should have them are problems.
pub(crate) fn enrich(
    devices: &mut Vec<Device>,
    links: &mut Vec<Link>,
    problems: &mut Vec<Problem>,
    report: &Report,
) {
    for (index, told) in report.devices.iter().enumerate() {
        let Some(address) = address(&told.answers) else { continue };
        let position = devices.iter().position(|device| device.id.0 == address).unwrap_or_else(|| {
            devices.push(Device::bare(address, Vendor::Nvidia, Variant::Gpu));
            devices.len() - 1
        });
        describe(&mut devices[position], index, &report.system, told);
        problems.extend(failures(address.into(), &told.answers));
        links.extend(peers(address, index, report));
    }
    lost(devices, report);
}

/// A handle that cannot be had says nothing of where its GPU is. If as many GPUs of the driver are without a report as
/// there are such handles, they are the ones.
fn lost(devices: &mut [Device], report: &Report) {
    let codes: Vec<Code> = report.devices.iter().filter_map(|told| told.answers.error(HANDLE)).collect();
    let told: Vec<PciAddress> = report.devices.iter().filter_map(|told| address(&told.answers)).collect();
    let silent: Vec<&mut Device> = devices
        .iter_mut()
        .filter(|device| !told.contains(&device.id.0) && device.driver == Known::Value(NAME.to_owned()))
        .collect();
    if codes.len() == silent.len() {
        for (device, code) in silent.into_iter().zip(codes) {
            device.health = crate::health::of_code(code);
        }
    }
}

/// Calls whose error is one that somebody should look into.
pub(crate) fn failures(device: DeviceId, answers: &Answers) -> impl Iterator<Item = Problem> {
    let failed = answers.errors().filter(|(_, code)| code.missing().is_problem());
    failed.map(move |(call, code)| Problem {
        probe: NAME.to_owned(),
        device: Some(device),
        fact: call.to_owned(),
        reason: code.missing(),
        path: None,
        message: format!("NVML answered {code}"),
    })
}

fn describe(device: &mut Device, index: usize, system: &Answers, told: &DeviceReport) {
    let answers = &told.answers;
    name(device, answers);
    let take = |fact: &mut Known<String>, call: &str| {
        *fact = text(answers, call).or_else(|| std::mem::replace(fact, Missing::NotExposed.into()));
    };
    take(&mut device.uuid, "nvmlDeviceGetUUID");
    take(&mut device.serial, "nvmlDeviceGetSerial");
    take(&mut device.firmware_version, "nvmlDeviceGetVbiosVersion");
    // The kernel's word goes before: a report stays while the driver is replaced.
    device.driver_version = std::mem::replace(&mut device.driver_version, Missing::NotExposed.into())
        .or_else(|| text(system, "nvmlSystemGetDriverVersion"));
    device.runtime_version = system
        .known::<u32>("nvmlSystemGetCudaDriverVersion_v2")
        .map(|version| format!("{}.{}", version / 1000, version % 1000 / 10));
    let major = answers.field::<u32>("nvmlDeviceGetCudaComputeCapability", "major");
    let minor = answers.field::<u32>("nvmlDeviceGetCudaComputeCapability", "minor");
    device.compute = major
        .and_then(|major| minor.map(|minor| format!("{major}.{minor}")))
        .or_else(|| std::mem::take(&mut device.compute));
    let memory = answers
        .field::<u64>("nvmlDeviceGetMemoryInfo_v2", "total")
        .or_else(|| answers.field("nvmlDeviceGetMemoryInfo", "total"));
    if memory.is_known() {
        (device.memory_bytes, device.memory_source) = (memory, Known::Value(MemorySource::Library));
    } else if !device.memory_bytes.is_known() {
        device.memory_bytes = memory;
    }
    (device.fabric_domain, device.fabric_partition) = fabric(answers);
    let vgpu = device.nvidia().and_then(|facts| facts.vgpu.clone());
    let facts = NvidiaFacts { vgpu, ..facts(system, answers) };
    if facts.nvlinks.value().is_some_and(|links| *links > 0) {
        device.interconnect = Known::Value(LinkKind::Nvlink);
    }
    match facts.mig_enabled {
        Known::Value(true) => device.partitioning = Known::Value(Partitioning::Mig),
        Known::Value(false) | Known::Missing { missing: Missing::NotAvailable } => {
            device.partitioning.fill(|| Known::Value(Partitioning::Whole));
        }
        Known::Missing { .. } => {}
    }
    handles(device, index, answers);
    device.partitions.extend(mig::devices(device, told));
    device.vendor_facts = Some(VendorFacts::Nvidia(Box::new(facts)));
}

/// NVML's name goes before the table's, which adds what NVML does not tell.
fn name(device: &mut Device, answers: &Answers) {
    let Known::Value(name) = text(answers, "nvmlDeviceGetName") else { return };
    let row = device.pci.device_id.value().and_then(|id| products::find(id.0));
    let capability = answers
        .field::<u32>("nvmlDeviceGetCudaComputeCapability", "major")
        .into_value()
        .zip(answers.field::<u32>("nvmlDeviceGetCudaComputeCapability", "minor").into_value());
    let architecture = row
        .map(|row| row.architecture)
        .or_else(|| capability.and_then(|(major, minor)| products::architecture(major, minor)));
    device.product = Known::Value(Product {
        model: Known::from_option(row.map(|row| row.model.to_owned()), Missing::Unrecognized),
        architecture: Known::from_option(architecture.map(str::to_owned), Missing::Unrecognized),
        name,
    });
}

fn facts(system: &Answers, answers: &Answers) -> NvidiaFacts {
    let on = |call: &str, field: &str| answers.field::<u32>(call, field).map(|mode| mode == 1);
    let limits = "nvmlDeviceGetPowerManagementLimitConstraints";
    let up: Vec<u32> = (0..32)
        .filter(|link| answers.known(of("nvmlDeviceGetNvLinkState", *link)) == Known::Value(1))
        .collect();
    let first_state = answers.known::<u32>(&of("nvmlDeviceGetNvLinkState", 0));
    let first_up = up.first().copied().unwrap_or(0);
    NvidiaFacts {
        mig_enabled: on("nvmlDeviceGetMigMode", "currentMode"),
        mig_pending: on("nvmlDeviceGetMigMode", "pendingMode"),
        ecc_enabled: on("nvmlDeviceGetEccMode", "current"),
        persistence: answers.known::<u32>("nvmlDeviceGetPersistenceMode").map(|mode| mode == 1),
        compute_mode: named(
            answers.known("nvmlDeviceGetComputeMode"),
            &["default", "exclusive_thread", "prohibited", "exclusive_process"],
        ),
        virtualization: named(
            answers.known("nvmlDeviceGetVirtualizationMode"),
            &["none", "passthrough", "vgpu", "host_vgpu", "host_vsga"],
        ),
        addressing_mode: named(
            answers.field("nvmlDeviceGetAddressingMode", "value"),
            &["none", "hmm", "ats"],
        ),
        confidential_compute: system
            .field::<u32>("nvmlSystemGetConfComputeState", "ccFeature")
            .map(|feature| feature == 1),
        board_part_number: text(answers, "nvmlDeviceGetBoardPartNumber"),
        gsp_firmware_version: text(answers, "nvmlDeviceGetGspFirmwareVersion"),
        brand: named(answers.known("nvmlDeviceGetBrand"), &BRANDS),
        inforom_version: text(answers, "nvmlDeviceGetInforomImageVersion"),
        min_power_limit_milliwatts: answers.field(limits, "minLimit"),
        max_power_limit_milliwatts: answers.field(limits, "maxLimit"),
        default_power_limit_milliwatts: answers.known("nvmlDeviceGetPowerManagementDefaultLimit"),
        nvlinks: first_state.map(|_| up.len() as u32),
        nvlink_version: answers.known(of("nvmlDeviceGetNvLinkVersion", first_up)),
        fabric_state: named(
            fabric_field(answers, "state"),
            &["not_supported", "not_started", "in_progress", "completed"],
        ),
        vgpu: None,
    }
}

/// The word for a number of an enum; a number that is newer than this program stands for itself.
fn named(number: Known<u32>, words: &[&str]) -> Known<String> {
    number.map(|number| {
        words.get(number as usize).map_or_else(|| number.to_string(), |word| (*word).to_owned())
    })
}

/// A text of NVML; an empty one is none.
fn text(answers: &Answers, call: &str) -> Known<String> {
    answers.known::<String>(call).and_then(|text| {
        let text = text.trim().to_owned();
        if text.is_empty() || text == "N/A" { Missing::NotAvailable.into() } else { Known::Value(text) }
    })
}

pub(crate) fn fabric_field<T: serde::de::DeserializeOwned>(answers: &Answers, field: &str) -> Known<T> {
    answers
        .field("nvmlDeviceGetGpuFabricInfoV", field)
        .or_else(|| answers.field("nvmlDeviceGetGpuFabricInfo", field))
}

/// The fabric, `<cluster uuid>`, and the part of it that the GPU reaches, `<cluster uuid>.<clique>`: only where registration
/// is complete, succeeded and names a cluster. An H100 without a multi-node fabric is complete as well, with a cluster of
/// zeros.
fn fabric(answers: &Answers) -> (Known<String>, Known<String>) {
    const COMPLETED: u32 = 3;
    let state: Known<u32> = fabric_field(answers, "state");
    let status: Known<u32> = fabric_field(answers, "status");
    let cluster: Known<String> = fabric_field(answers, "clusterUuid");
    let clique: Known<u32> = fabric_field(answers, "cliqueId");
    match (state, status, cluster, clique) {
        (Known::Value(COMPLETED), Known::Value(0), Known::Value(cluster), Known::Value(clique))
            if cluster.len() == 32 && cluster.bytes().any(|byte| byte != b'0') =>
        {
            let cluster = uuid(&cluster);
            let partition = format!("{cluster}.{clique}");
            (Known::Value(cluster), Known::Value(partition))
        }
        (Known::Missing { missing }, ..) => (missing.into(), missing.into()),
        _ => (Missing::NotAvailable.into(), Missing::NotAvailable.into()),
    }
}

/// 32 hexadecimal digits as a UUID is written.
fn uuid(digits: &str) -> String {
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

fn handles(device: &mut Device, index: usize, answers: &Answers) {
    let mut handles = HandleSet(&mut device.handles);
    if let Known::Value(uuid) = text(answers, "nvmlDeviceGetUUID") {
        handles.add_uuid(&uuid);
    }
    if let Known::Value(minor) = answers.known::<u32>("nvmlDeviceGetMinorNumber") {
        handles.add_minor(minor);
    }
    if let Known::Value(module) = answers.known::<u32>("nvmlDeviceGetModuleId") {
        handles.add(HandleKind::Module, module.to_string());
    }
    handles.add(HandleKind::Index, index.to_string());
}

/// The GPUs that this one reaches over NVLink, each pair told once.
fn peers(address: PciAddress, index: usize, report: &Report) -> Vec<Link> {
    const OVER_NVLINK: u32 = 2;
    let others = report.devices.iter().enumerate().skip(index + 1);
    others
        .filter_map(|(other, told)| {
            let call = of_two("nvmlDeviceGetP2PStatus", u32::try_from(other).ok()?, OVER_NVLINK);
            let reached = report.devices[index].answers.known::<u32>(&call) == Known::Value(0);
            let peer = self::address(&told.answers).filter(|_| reached)?;
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

/// A number of a report, or none.
pub(crate) fn number(answers: &Answers, call: &str) -> Option<f64> {
    answers.known::<Value>(call).into_value()?.as_f64()
}
