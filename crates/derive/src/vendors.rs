//! The vendors: everything that shared code needs to know of one and that only the vendor decides, one record each.
//!
//! A record is data and pure functions: how devices are offered to pods, which labels and metrics the vendor's own tools
//! publish, which kernel events announce a change, what a recording must not contain, which library can be loaded. Code
//! outside of this folder and of the vendors' crates reads the records and names no vendor.

mod amd;
mod chart;
mod driven;
mod gaudi;
mod host_mount;
mod intel;
mod library;
mod maintenance;
mod network;
mod nvidia;
mod offering;
mod plugin_option;
mod redactions;
mod tpu;

use afd_model::{Device, HandleKind, MaintenanceKind, NodeFacts, Variant, Vendor};

use self::nvidia::NvidiaOptions;
pub use self::{
    chart::{chart_mounts, chart_vendors},
    driven::withdraw_foreign_facts,
    host_mount::{HostMount, MountCondition, SHARED_MOUNTS},
    library::VendorLibrary,
    maintenance::{MaintenanceSignal, SignalPlace, SignalValues},
    network::{NetworkSource, PodServer, VendorNetwork},
    offering::{Offering, ResourceQuery},
    plugin_option::{PluginOption, PluginOptionValue},
    redactions::{Redactions, SecretForm},
};
pub(crate) use self::{
    driven::{can_compute, driver_is_undecided, has_compute_driver, is_driven, obstacle},
    offering::units,
};
use crate::{
    compat::{labels::LabelSet, metrics::MetricSet},
    labels::GUIDE_VARIANT_KEY,
};

/// Everything that shared code needs to know of one vendor's kind of device.
#[derive(Debug)]
pub struct VendorRecord {
    /// Name of the probe, of `afd probe <name>`, of `afd release <name>` and of the compatibility sets.
    pub probe: &'static str,
    /// The vendor.
    pub vendor: Vendor,
    /// The kind of device.
    pub variant: Variant,
    /// What llm-d's guides call models, by model, where that is not the kind of device.
    pub guide_variants: &'static [(&'static str, &'static str)],
    /// What the devices are called in sentences: `NVIDIA GPUs`.
    pub title: &'static str,
    /// Values of AFD's own labels as they occur with these devices, by key.
    pub label_examples: &'static [(&'static str, &'static str)],
    /// How Kubernetes offers the devices to pods.
    pub offers: Offering,
    /// Options that describe how the device plugin is configured.
    pub plugin_options: &'static [PluginOption],
    /// Labels as the vendor's labeller spells them.
    pub labels: Option<LabelSet>,
    /// Metrics as the vendor's exporter spells them.
    pub metrics: Option<MetricSet>,
    /// Further pages of metrics, where the exporter has another generation with other names.
    pub further_metrics: &'static [MetricSet],
    /// Name of the device node by which the vendor's tools call a device.
    pub device_node: fn(&Device) -> Option<String>,
    /// Subsystems whose uevents can change what the probe finds, besides those of every PCI device.
    pub uevent_subsystems: &'static [&'static str],
    /// What a recording of the vendor's devices must not contain.
    pub redactions: Redactions,
    /// The vendor's library; `None` if there is nothing to load, and so nothing to release.
    pub library: Option<VendorLibrary>,
    /// Servers on the node that the probe queries; `None` if it queries none.
    pub network: Option<VendorNetwork>,
    /// Paths of the host that the probe and the library read besides [`SHARED_MOUNTS`].
    pub mounts: &'static [HostMount],
    /// PCI vendor ids of the devices.
    pub pci_vendors: &'static [u16],
    /// The kernel drivers with which a device computes on this node. A name that ends in `*` stands for all that begin so.
    pub compute_drivers: &'static [&'static str],
    /// The drivers of devices that are no PCI functions of this machine, and compute as well.
    pub platform_drivers: &'static [&'static str],
    /// The vendor's kernel drivers that only divide a device among virtual machines.
    pub host_drivers: &'static [&'static str],
    /// Whether the kernel has the memory of a device online as a NUMA node of its own.
    pub has_online_memory: fn(&Device) -> bool,
    /// Why no program can use a device although its driver is bound, in words; `None` if nothing is known against it.
    pub(crate) obstacle: fn(&Device) -> Option<&'static str>,
    /// Drivers that give a device to virtual machines instead of computing on this node.
    pub passthrough_drivers: &'static [&'static str],
    /// What on the Node announces that the driver or the devices are about to be worked on.
    pub maintenance: &'static [MaintenanceSignal],
}

/// How the vendors' device plugins are configured, as far as labels depend on it. [`VendorRecord::plugin_options`] set it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VendorOptions {
    nvidia: NvidiaOptions,
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
            GUIDE_VARIANT_KEY => Some(self.guide_variants.first().map_or(self.variant.as_str(), |own| own.1)),
            _ => self.label_examples.iter().find(|(own, _)| *own == key).map(|(_, value)| *value),
        }
    }

    /// Whether a device is of this vendor and kind.
    pub fn covers(&self, device: &Device) -> bool {
        (device.vendor, device.variant) == (self.vendor, self.variant)
    }

    /// The servers within pods that hold devices, where there are some.
    pub fn pod_server(&self) -> Option<&PodServer> {
        self.network.as_ref()?.pods.as_ref()
    }

    /// The fixed keys that the vendor's label set can publish.
    pub fn label_keys(&self) -> Vec<&'static str> {
        self.labels.as_ref().map_or_else(Vec::new, LabelSet::keys)
    }

    /// Regular expressions (RE2) that match the other keys that the vendor's label set can publish.
    pub fn label_key_patterns(&self) -> Vec<String> {
        self.labels.as_ref().map_or_else(Vec::new, LabelSet::key_patterns)
    }

    /// The work on driver or devices that the Node announces.
    pub fn announced_maintenance(&self, node: &NodeFacts) -> Option<MaintenanceKind> {
        self.maintenance.iter().find(|signal| signal.is_set(node)).map(|signal| signal.kind)
    }
}

/// Drivers that give any device to virtual machines.
const VFIO_DRIVERS: &[&str] = &["vfio-pci", "pci-stub"];

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
