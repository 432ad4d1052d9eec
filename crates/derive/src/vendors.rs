//! The vendors: everything that shared code needs to know of one and that only the vendor decides, one record each.
//!
//! A record is data and pure functions: how devices are offered to pods, which labels and metrics the vendor's own tools
//! publish, which kernel events announce a change, what a recording must not contain, which library can be loaded. Code
//! outside of this folder and of the vendors' crates asks the records and names no vendor.

mod amd;
mod chart;
mod gaudi;
mod intel;
mod nvidia;
mod offering;
mod tpu;

use afd_model::{Device, HandleKind, Variant, Vendor};

use crate::compat::{labels::LabelSet, metrics::MetricSet};

pub use self::chart::chart_vendors;
pub use self::nvidia::{MigStrategy, NvidiaOptions, Sharing, SharingStrategy};
pub(crate) use self::offering::units;
pub use self::offering::{Offering, ResourceQuery};

/// What shared code knows of one vendor's kind of device.
#[derive(Debug)]
pub struct VendorRecord {
    /// Name of the probe, of `afd probe <name>`, of `afd release <name>` and of the compatibility sets.
    pub probe: &'static str,
    /// The vendor.
    pub vendor: Vendor,
    /// The kind of device.
    pub variant: Variant,
    /// What the devices are called in sentences: `NVIDIA GPUs`.
    pub title: &'static str,
    /// Values of AFD's own labels as they occur with these devices, by key.
    pub label_examples: &'static [(&'static str, &'static str)],
    /// How Kubernetes offers the devices to pods.
    pub offers: Offering,
    /// Labels as the vendor's labeller spells them.
    pub labels: Option<LabelSet>,
    /// Metrics as the vendor's exporter spells them.
    pub metrics: Option<MetricSet>,
    /// Name of the device node by which the vendor's tools call a device.
    pub device_node: fn(&Device) -> Option<String>,
    /// Subsystems whose uevents can change what the probe finds, besides those of every PCI device.
    pub uevent_subsystems: &'static [&'static str],
    /// What a recording of the vendor's devices must not contain.
    pub redactions: Redactions,
    /// The vendor's library; `None` if there is nothing to load, and so nothing to release.
    pub library: Option<VendorLibrary>,
    /// Folders of the host that the probe reads besides sysfs and procfs.
    pub mounts: &'static [VendorMount],
    /// Labels of the Node that announce that the driver is about to be replaced.
    pub maintenance: &'static [MaintenanceSignal],
}

/// How the vendors' device plugins are configured, as far as labels depend on it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VendorOptions {
    /// NVIDIA's.
    pub nvidia: NvidiaOptions,
}

/// All records, in the order in which the probes run.
pub static VENDORS: [&VendorRecord; 5] =
    [&nvidia::NVIDIA, &amd::AMD, &intel::INTEL, &gaudi::GAUDI, &tpu::TPU];

/// The record of the probe with this name.
pub fn by_probe(name: &str) -> Option<&'static VendorRecord> {
    VENDORS.into_iter().find(|record| record.probe == name)
}

/// The record of a device.
pub fn of_device(device: &Device) -> Option<&'static VendorRecord> {
    VENDORS.into_iter().find(|record| record.covers(device))
}

/// The record whose device plugin makes this extended resource.
pub fn owner_of_resource(resource: &str) -> Option<&'static VendorRecord> {
    VENDORS.into_iter().find(|record| record.offers.makes(resource))
}

/// The record of this DRA driver.
pub fn owner_of_driver(driver: &str) -> Option<&'static VendorRecord> {
    VENDORS.into_iter().find(|record| record.offers.dra_driver == driver)
}

impl VendorRecord {
    /// A value of one of AFD's own labels as it occurs with these devices.
    pub fn label_example(&self, key: &str) -> Option<&'static str> {
        match key {
            "vendor" => Some(self.vendor.as_str()),
            "variant" => Some(self.variant.as_str()),
            _ => self.label_examples.iter().find(|(own, _)| *own == key).map(|(_, value)| *value),
        }
    }

    /// Whether a device is of this vendor and kind.
    pub fn covers(&self, device: &Device) -> bool {
        (device.vendor, device.variant) == (self.vendor, self.variant)
    }

    /// The fixed keys that the vendor's label set can publish.
    pub fn label_keys(&self) -> Vec<&'static str> {
        self.labels.as_ref().map_or_else(Vec::new, LabelSet::keys)
    }

    /// Regular expressions (RE2) that match the other keys that the vendor's label set can publish.
    pub fn label_key_patterns(&self) -> Vec<String> {
        self.labels.as_ref().map_or_else(Vec::new, LabelSet::key_patterns)
    }

    /// Whether labels of the Node announce that the driver is about to be replaced.
    pub fn driver_is_about_to_be_replaced<'l>(
        &self,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    ) -> bool {
        labels.into_iter().any(|(key, value)| self.maintenance.iter().any(|signal| signal.is_set(key, value)))
    }
}

/// What identifies a machine, a board or a device in the files and library answers of a vendor, besides what every vendor
/// may have (serial numbers, MAC addresses, host names).
#[derive(Debug)]
pub struct Redactions {
    /// Names of files that hold one secret each.
    pub files: &'static [(&'static str, SecretForm)],
    /// Beginnings of lines, in files of many lines, that hold one secret each.
    pub lines: &'static [(&'static str, SecretForm)],
    /// Names of binary files with records that may name the board; the vendor's crate blanks them.
    pub binary_files: &'static [&'static str],
    /// Library calls that answer with a secret.
    pub calls: &'static [&'static str],
    /// Fields of a library's structures that hold a secret.
    pub fields: &'static [&'static str],
    /// Prefixes of the vendor's UUIDs, which stay.
    pub uuid_prefixes: &'static [&'static str],
}

impl Redactions {
    /// No secrets of the vendor's own.
    pub const NONE: Redactions =
        Redactions { files: &[], lines: &[], binary_files: &[], calls: &[], fields: &[], uuid_prefixes: &[] };
}

/// How a secret is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretForm {
    /// A decimal number, which another file may write in hexadecimal.
    Decimal,
    /// A UUID, a name or hexadecimal digits.
    Text,
}

/// A vendor's library, which `afd probe <name>` loads in a process of its own.
#[derive(Debug)]
pub struct VendorLibrary {
    /// Name of the library in a problem: `nvml`.
    pub fact: &'static str,
    /// What the library is called in sentences: `NVML`.
    pub title: &'static str,
    /// The option that sets the root under which the library is looked up, without the dashes.
    pub root_option: &'static str,
    /// Help of that option.
    pub root_help: &'static str,
    /// The value of the chart that sets that root; `None` if the chart has none.
    pub chart_value: Option<&'static str>,
    /// Variables in the environment of the process.
    pub environment: &'static [(&'static str, &'static str)],
    /// Resident memory above which the process ends, since the library leaks then.
    pub max_resident_bytes: u64,
    /// Device files that the library opens; a name that ends in `*` stands for all that begin so.
    pub device_files: &'static [&'static str],
}

/// A folder of the host that a probe reads.
#[derive(Debug)]
pub struct VendorMount {
    /// The folder.
    pub host_path: &'static str,
    /// What it is read for.
    pub reason: &'static str,
    /// Whether the chart mounts it unless it is switched off.
    pub by_default: bool,
}

/// A label of the Node that announces that the vendor's driver is about to be replaced.
#[derive(Debug)]
pub struct MaintenanceSignal {
    /// The key; one that ends in `*` stands for all that begin so.
    pub key: &'static str,
    /// The values that announce it.
    pub values: &'static [&'static str],
}

impl MaintenanceSignal {
    fn is_set(&self, key: &str, value: &str) -> bool {
        matches(self.key, key) && self.values.contains(&value)
    }
}

/// Whether a name fits a pattern: one that ends in `*` stands for all names that begin so.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

/// The DRM render node of a device: `renderD128`.
fn render_node(device: &Device) -> Option<String> {
    device.handle(HandleKind::DrmRender).map(str::to_owned)
}

/// The accel node of a device, else its DRM render node.
fn accel_node(device: &Device) -> Option<String> {
    device.handle(HandleKind::Accel).map(str::to_owned).or_else(|| render_node(device))
}

/// Resident memory above which a library's process ends: no library needs a third of it.
const MAX_RESIDENT_BYTES: u64 = 256 << 20;

/// A device of which only the bus number of its address is known.
#[cfg(test)]
pub(crate) fn bare_device(bus: u8) -> Device {
    let address = afd_model::PciAddress { domain: 0, bus, device: 0, function: 0 };
    Device::bare(address, VENDORS[0].vendor, VENDORS[0].variant)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_resources_and_drivers_have_one_owner() {
        let mut names = BTreeSet::new();
        for record in VENDORS {
            let resources = record.offers.resources.iter().copied();
            for name in resources.chain([record.probe, record.offers.dra_driver]) {
                assert!(names.insert(name), "{name} is in two records");
            }
            assert_eq!(by_probe(record.probe).map(|found| found.title), Some(record.title));
        }
        let options: Vec<_> =
            VENDORS.iter().filter_map(|record| Some(record.library.as_ref()?.root_option)).collect();
        assert_eq!(options.iter().collect::<BTreeSet<_>>().len(), options.len());
    }

    #[test]
    fn resources_and_drivers_are_found() {
        let probe = |record: Option<&'static VendorRecord>| record.map(|record| record.probe);
        assert_eq!(probe(owner_of_resource("nvidia.com/mig-1g.10gb")), Some("nvidia"));
        assert_eq!(probe(owner_of_resource("habana.ai/gaudi")), Some("gaudi"));
        assert_eq!(probe(owner_of_resource("rdma/ib")), None);
        assert_eq!(probe(owner_of_driver("gpu.intel.com")), Some("intel"));
        assert_eq!(probe(owner_of_driver("nic.example.com")), None);
    }
}
