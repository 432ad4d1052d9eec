//! AMD GPUs by the kernel's word: PCI, amdgpu's attributes, KFD's topology.
//!
//! What is peculiar to this vendor:
//!
//! - Three layers tell of a device, and any may be missing: PCI always, amdgpu's attributes with the driver, KFD where the
//!   reader's device cgroup allows the render node. What one layer lacks another often has.
//! - An Instinct of the MI300 family can be cut into partitions. KFD shows each as a node of its own; the partition number
//!   is in the function bits of its `location_id`. The first partition is the PCI device, the others have a platform device
//!   (`amdgpu_xcp_N`, `amdgpu_xcp.N` on older kernels) of which more may exist than are in use: only those count that a
//!   KFD node names by its render minor.
//! - The PCI domain matters: four MI300A have the same bus in four domains.
//! - ES1000 and its kin on server boards are displays of the same vendor and no accelerators.

pub mod gpu_metrics;
mod interpret;
pub mod kfd;
pub mod products;
mod sysfs;

use std::{collections::BTreeMap, time::Instant};

use afd_host::Host;
use afd_model::{Device, DeviceId, Findings, Known, Missing, Product, Sample, Sampling, Variant, Vendor};
use afd_probe::{Facts, PciBus, PciFunction, Probe, device};

use crate::{interpret::Parts, sysfs::Place};

const NAME: &str = "amd";
const VENDOR_ID: u16 = 0x1002;
/// VGA, 3D and other display controllers, and processing accelerators.
const CLASSES: [u16; 4] = [0x0300, 0x0302, 0x0380, 0x1200];

/// The probe of AMD GPUs.
#[derive(Debug, Default)]
pub struct Amd {
    places: Vec<Place>,
}

impl Probe for Amd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn discover(&mut self, host: &Host, bus: &PciBus) -> Findings {
        let functions: Vec<&PciFunction> =
            bus.of_vendor(VENDOR_ID).filter(|function| is_gpu(host, function)).collect();
        if functions.is_empty() {
            self.places.clear();
            return Findings::default();
        }
        let mut facts = Facts::new(host, NAME);
        let nodes = kfd::nodes(&mut facts);
        let xcp_devices = xcp_devices(&mut facts);
        let mut findings = Findings::default();
        self.places.clear();
        for function in functions {
            let mut device = device_of(&mut facts, bus, function);
            let parts = Parts { nodes: &nodes, xcp_devices: &xcp_devices };
            interpret::partitions(&mut device, &parts);
            self.places.push(Place::of(&mut facts, function));
            findings.devices.push(device);
        }
        findings.links = interpret::links(&mut findings.devices, &nodes);
        facts.about(None);
        findings.problems = facts.into_problems();
        findings
    }

    fn sample(&mut self, host: &Host, _: Instant) -> Sampling {
        let mut facts = Facts::new(host, NAME);
        let samples = self
            .places
            .iter()
            .map(|place| {
                let device: DeviceId = place.function().address.into();
                facts.about(Some(device));
                Sample { device, partition: None, readings: place.sample(&mut facts) }
            })
            .filter(|sample| !sample.readings.is_empty())
            .collect();
        Sampling { samples, problems: facts.into_problems() }
    }
}

fn is_gpu(host: &Host, function: &PciFunction) -> bool {
    let id = function.device_id();
    let named = id.is_some_and(|id| products::find(id).is_some());
    let of_class = function.class().is_some_and(|class| CLASSES.contains(&class));
    let display = id.is_some_and(products::is_display_only);
    (named || of_class && !display) && function.physical_function(host).is_none()
}

fn device_of(facts: &mut Facts<'_>, bus: &PciBus, function: &PciFunction) -> Device {
    let mut device = device::begin(facts, bus, function, Vendor::Amd, Variant::Gpu);
    let attributes = sysfs::attributes(facts, function);
    let row = function.device_id().and_then(products::find);
    device.product = match (row, &attributes.product_name) {
        (Some(row), _) => Known::Value(Product {
            name: row.name.to_owned(),
            model: Known::Value(row.model.to_owned()),
            architecture: Known::Value(row.architecture.to_owned()),
        }),
        (None, Known::Value(name)) => Known::Value(Product {
            name: name.clone(),
            model: Missing::Unrecognized.into(),
            architecture: Missing::Unrecognized.into(),
        }),
        (None, Known::Missing { .. }) => {
            let id = function.device_id.value().map_or_else(|| "????".to_owned(), ToString::to_string);
            facts.missing(
                "product",
                Missing::Unrecognized,
                None,
                format_args!("device id {id} is not in the table"),
            )
        }
    };
    device.integrated = row.is_some_and(|row| row.integrated);
    device.virtual_function = row.is_some_and(|row| row.virtual_function);
    interpret::attributes(&mut device, attributes, row);
    device
}

/// Platform devices of partitions, by the number of their render node.
fn xcp_devices(facts: &mut Facts<'_>) -> BTreeMap<u64, String> {
    const PLATFORM: &str = "/sys/devices/platform";
    let names = facts.names("partitions", PLATFORM);
    names
        .into_iter()
        .filter(|name| name.starts_with("amdgpu_xcp"))
        .flat_map(|name| {
            let nodes = facts.names("partitions", &format!("{PLATFORM}/{name}/drm"));
            let minors = nodes.into_iter().filter_map(|node| node.strip_prefix("renderD")?.parse().ok());
            minors.map(move |minor| (minor, name.clone())).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests;
