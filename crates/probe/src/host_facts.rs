//! What the host offers to pods besides its accelerators: memory, huge pages, local disks, limits, and the distribution.

use std::collections::BTreeMap;

use afd_host::{Host, ReadErrorKind};
use afd_model::{HostFacts, Known, Missing, OsRelease};

use crate::{
    Facts,
    facts::reason,
    node::{MEMORY, memory_total},
    pci::numbered,
    systemd::logical_lines,
};

/// Where udev and devtmpfs put the files of `drivers/infiniband/core/uverbs_main.c`.
const RDMA_FILES: &str = "/dev/infiniband";

/// The same devices in sysfs, for an agent that does not see the node's `/dev`: devtmpfs has a file for each.
const RDMA_CLASS: &str = "/sys/class/infiniband_verbs";

/// All block devices.
const BLOCK_DEVICES: &str = "/sys/class/block";

/// Models of NVMe devices that are disks of a network: of AWS, GCE and Azure, by their documentation on how to identify
/// attached disks.
const NETWORK_DISKS: [&str; 3] = ["Amazon Elastic Block Store", "nvme_card-pd", "MSFT NVMe Accelerator v1.0"];

/// The logical CPUs of the core of the first one (`Documentation/admin-guide/cputopology.rst`): servers have cores of one kind.
const FIRST_CORE: &str = "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list";

/// Bytes of a sector in `size` of a block device, whatever its real sectors are.
const SECTOR: u64 = 512;

/// The files that identify the distribution, the first of which counts (os-release(5)).
const OS_RELEASES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// The services that run containers.
const RUNTIMES: [&str; 6] = ["containerd", "crio", "k3s-agent", "k3s", "rke2-agent", "rke2-server"];

/// Where units of systemd are, the ones that count least first (systemd.unit(5)).
const UNIT_FOLDERS: [&str; 3] = ["/lib/systemd/system", "/usr/lib/systemd/system", "/etc/systemd/system"];

/// Reads them.
pub(crate) fn read(facts: &mut Facts<'_>) -> HostFacts {
    HostFacts {
        memory_bytes: memory_total(facts, "host.memory_bytes"),
        rdma_device_files: rdma_device_files(facts),
        threads_per_core: facts.parse("host.threads_per_core", FIRST_CORE, parse_threads),
        hugepages_bytes: facts.parse_known("host.hugepages_bytes", MEMORY, parse_hugepages),
        local_nvme_bytes: local_nvme(facts),
        locked_memory_bytes: locked_memory(facts.host()),
        rdma_carries_traffic: Missing::NotExposed.into(),
        os: OS_RELEASES.iter().fold(Missing::NotExposed.into(), |known: Known<OsRelease>, path| {
            known.or_else(|| facts.parse("host.os", path, parse_os_release))
        }),
    }
}

/// How many CPUs a list such as `0,64` or `0-1` has.
///
/// # Errors
/// When it is no list, or an empty one.
pub(crate) fn parse_threads(text: &str) -> Result<u32, &'static str> {
    const EXPECTED: &str = "expected a list of CPUs such as \"0,64\"";
    let count = |range: &str| -> Option<u32> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    let mut ranges = text.trim().split(',');
    ranges.try_fold(0_u32, |sum, range| sum.checked_add(count(range)?)).ok_or(EXPECTED)
}

fn rdma_device_files(facts: &mut Facts<'_>) -> Known<u32> {
    let sees_device_files = facts.host().exists("/dev");
    let names =
        facts.listing("host.rdma_device_files", if sees_device_files { RDMA_FILES } else { RDMA_CLASS });
    match names {
        // A node without RDMA does not have this directory. Without `/dev`, a missing class shows nothing: a recording may lack it.
        Known::Missing { missing: Missing::NotExposed } if sees_device_files => Known::Value(0),
        names => names.map(|names| {
            let count = names.iter().filter(|name| name.starts_with("uverbs")).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        }),
    }
}

/// The line `Hugetlb:        10485760 kB` of `/proc/meminfo`, which kernels before 4.15 do not have.
///
/// # Errors
/// When it has no number of KiB.
pub(crate) fn parse_hugepages(text: &str) -> Result<Known<u64>, &'static str> {
    let Some(size) = text.lines().find_map(|line| line.strip_prefix("Hugetlb:")) else {
        return Ok(Missing::NotExposed.into());
    };
    let kibibytes: Option<u64> = size.trim().strip_suffix("kB").and_then(|number| number.trim().parse().ok());
    let bytes = kibibytes.and_then(|kibibytes| kibibytes.checked_mul(1024));
    bytes.map(Known::Value).ok_or("expected a line such as \"Hugetlb: 0 kB\"")
}

/// The sum over the NVMe namespaces on this machine's PCIe. Missing where the model of one is, or no block device is shown.
fn local_nvme(facts: &mut Facts<'_>) -> Known<u64> {
    const FACT: &str = "host.local_nvme_bytes";
    facts.listing(FACT, BLOCK_DEVICES).and_then(|names| {
        if names.is_empty() {
            return Missing::NotExposed.into();
        }
        let mut total = Known::Value(0_u64);
        for name in names.iter().filter(|name| is_namespace(name)) {
            let folder = format!("{BLOCK_DEVICES}/{name}");
            let is_local = match is_remote(facts, FACT, &folder) {
                Known::Value(true) => continue,
                is_remote => is_remote.map(|_| ()),
            };
            let model = facts.text(FACT, &format!("{folder}/device/model"));
            if model.value().is_some_and(|model| NETWORK_DISKS.contains(&model.as_str())) {
                continue;
            }
            let sectors = facts.number::<u64>(FACT, &format!("{folder}/size"));
            let bytes = is_local
                .and_then(|()| model)
                .and_then(|_| sectors)
                .and_then(|sectors| Known::from_option(sectors.checked_mul(SECTOR), Missing::Malformed));
            total = total.and_then(|total| {
                bytes.and_then(|bytes| Known::from_option(total.checked_add(bytes), Missing::Malformed))
            });
        }
        total
    })
}

/// Whether a disk says that it is reached over a network: itself, or the controllers of one with several paths. One that says nothing
/// is local by its model; of one that could not be read it is not known.
fn is_remote(facts: &mut Facts<'_>, fact: &str, folder: &str) -> Known<bool> {
    let device = format!("{folder}/device");
    let names = facts.listing(fact, &device);
    let mut unread = names.missing().filter(|missing| missing.is_undecided());
    let names = names.into_value().unwrap_or_default().into_iter();
    let controllers = names.filter(|name| numbered(name, "nvme").is_some());
    let mut paths: Vec<String> = controllers.map(|name| format!("{device}/{name}")).collect();
    paths.push(device);
    for path in paths {
        match facts.text(fact, &format!("{path}/transport")) {
            Known::Value(transport) if transport != "pcie" => return Known::Value(true),
            Known::Missing { missing } if missing.is_undecided() => unread = Some(missing),
            _ => {}
        }
    }
    unread.map_or(Known::Value(false), Known::from)
}

/// `nvme0n1`, and neither the partition `nvme0n1p1` nor the path `nvme0c1n1`.
fn is_namespace(name: &str) -> bool {
    let parts = name.rsplit_once('n');
    parts.is_some_and(|(controller, namespace)| {
        numbered(controller, "nvme").is_some() && numbered(namespace, "").is_some()
    })
}

/// The limit of the service that runs containers, which they inherit: that of its unit, as drop-ins change it. Where no unit says
/// it, or a file that could change it cannot be read, it is not known.
fn locked_memory(host: &Host) -> Known<u64> {
    for runtime in RUNTIMES {
        match settings_of_unit(host, &format!("{runtime}.service")) {
            Ok(None) => {}
            Ok(Some(texts)) => {
                let limit = texts.iter().filter_map(|text| parse_locked_memory(text)).next_back();
                return Known::from_option(limit, Missing::NotExposed);
            }
            Err(missing) => return missing.into(),
        }
    }
    Missing::NotExposed.into()
}

/// The text of a unit and of its drop-ins, in their order: by name, of which that of the folder with the highest priority counts
/// (systemd.unit(5)). `None` if there is no such unit.
fn settings_of_unit(host: &Host, unit: &str) -> Result<Option<Vec<String>>, Missing> {
    let mut own = None;
    for folder in UNIT_FOLDERS.iter().rev() {
        let path = format!("{folder}/{unit}");
        if is_masked(host, &path) {
            return Ok(None);
        }
        own = setting(host, &path)?;
        if own.is_some() {
            break;
        }
    }
    let Some(own) = own else { return Ok(None) };
    let mut texts = vec![own];
    let mut drop_ins = BTreeMap::new();
    for folder in UNIT_FOLDERS {
        let folder = format!("{folder}/{unit}.d");
        let names = match host.list(&folder) {
            Ok(names) => names,
            Err(error) if error.kind == ReadErrorKind::Absent => continue,
            Err(error) => return Err(reason(error.kind)),
        };
        let names = names.into_iter().filter(|name| name.ends_with(".conf"));
        drop_ins.extend(names.map(|name| (name.clone(), format!("{folder}/{name}"))));
    }
    for path in drop_ins.values().filter(|path| !is_masked(host, path)) {
        texts.extend(setting(host, path)?);
    }
    Ok(Some(texts))
}

/// Whether a file is a link to `/dev/null`: it stands for nothing, and hides that of another folder.
fn is_masked(host: &Host, path: &str) -> bool {
    host.link(path).is_ok_and(|target| target == "/dev/null")
}

/// The text of a file of settings; `None` if there is none.
fn setting(host: &Host, path: &str) -> Result<Option<String>, Missing> {
    match host.read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind == ReadErrorKind::Absent => Ok(None),
        Err(error) => Err(reason(error.kind)),
    }
}

/// The last setting `LimitMEMLOCK=` of a unit that is a limit, as the hard limit in bytes: `infinity`, `64M`, `8388608:infinity`
/// (systemd.exec(5), "Process Properties").
pub(crate) fn parse_locked_memory(text: &str) -> Option<u64> {
    const LIMIT: &str = "LimitMEMLOCK=";
    let lines = logical_lines(text);
    let settings = lines.iter().filter_map(|line| line.split_once('='));
    let limits = settings.filter(|(name, _)| Some(name.trim()) == LIMIT.strip_suffix('='));
    limits.filter_map(|(_, limit)| parse_limit(limit)).next_back()
}

fn parse_limit(limit: &str) -> Option<u64> {
    let hard = limit.rsplit(':').next()?.trim();
    if hard == "infinity" {
        return Some(u64::MAX);
    }
    let unit = |suffix: char| "KMGTPE".find(suffix).and_then(|index| u32::try_from(10 * (index + 1)).ok());
    let (number, shift) = match hard.chars().next_back().and_then(unit) {
        Some(shift) => (&hard[..hard.len() - 1], shift),
        None => (hard, 0),
    };
    let number: u64 = number.trim().parse().ok()?;
    number.checked_mul(1_u64.checked_shl(shift)?)
}

/// What `/etc/os-release` says: lines `NAME=value`, where a value may be quoted.
///
/// # Errors
/// When it has no `ID`.
pub(crate) fn parse_os_release(text: &str) -> Result<OsRelease, &'static str> {
    let value = |name: &str| {
        let lines = text.lines().filter_map(|line| line.trim().split_once('='));
        let mut values =
            lines.filter(|(own, _)| *own == name).map(|(_, value)| value.trim_matches(['"', '\'']));
        values.next_back().filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let id_like = value("ID_LIKE").unwrap_or_default();
    Ok(OsRelease {
        id: value("ID").ok_or("expected a line such as ID=debian")?,
        id_like: id_like.split_whitespace().map(str::to_owned).collect(),
        version: value("VERSION_ID"),
        variant: value("VARIANT_ID"),
    })
}

#[cfg(test)]
mod tests;
