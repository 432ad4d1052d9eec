//! Who offers devices, under which names, and how many units a name stands for.

use afd_model::{Device, Partitioning, Variant, Vendor};

/// The device plugin and the DRA driver of one vendor's kind of device.
pub(super) struct Provider {
    pub(super) vendor: Vendor,
    variant: Variant,
    /// The DRA driver.
    pub(super) driver: &'static str,
    /// The extended resources of the device plugin; a name that ends in `*` stands for all that begin so.
    resources: &'static [&'static str],
    /// How many units an extended resource stands for: several numbers where the plugin's settings decide. The last
    /// argument is all extended resources of the plugin that the Node has.
    readings: fn(&str, &[&Device], &[&str]) -> Vec<u64>,
}

/// Resource names as the vendors' plugins and DRA drivers have them by default.
pub(super) const PROVIDERS: [Provider; 5] = [
    Provider {
        vendor: Vendor::Nvidia,
        variant: Variant::Gpu,
        driver: "gpu.nvidia.com",
        resources: &["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-*"],
        readings: nvidia,
    },
    Provider {
        vendor: Vendor::Amd,
        variant: Variant::Gpu,
        driver: "gpu.amd.com",
        // Partitioned devices may have a name of their own, `amd.com/cpx_nps4`.
        resources: &[
            "amd.com/gpu",
            "amd.com/spx_*",
            "amd.com/dpx_*",
            "amd.com/tpx_*",
            "amd.com/qpx_*",
            "amd.com/cpx_*",
        ],
        readings: amd,
    },
    Provider {
        vendor: Vendor::Intel,
        variant: Variant::Xpu,
        driver: "gpu.intel.com",
        resources: &["gpu.intel.com/i915", "gpu.intel.com/xe"],
        readings: intel,
    },
    Provider {
        vendor: Vendor::Intel,
        variant: Variant::Hpu,
        driver: "gaudi.intel.com",
        resources: &["habana.ai/gaudi"],
        readings: whole,
    },
    Provider {
        vendor: Vendor::Google,
        variant: Variant::Tpu,
        driver: "tpu.google.com",
        resources: &["google.com/tpu"],
        readings: whole,
    },
];

impl Provider {
    pub(super) fn is_of(&self, device: &Device) -> bool {
        (device.vendor, device.variant) == (self.vendor, self.variant)
    }

    /// Whether an extended resource is of its device plugin.
    pub(super) fn makes(&self, resource: &str) -> bool {
        self.resources.iter().any(|name| match name.strip_suffix('*') {
            Some(beginning) => resource.starts_with(beginning),
            None => resource == *name,
        })
    }

    /// How many units of these devices a resource may stand for.
    pub(super) fn readings(&self, resource: &str, devices: &[&Device], all: &[&str]) -> Vec<u64> {
        (self.readings)(resource, devices, all)
    }
}

fn sum(devices: &[&Device], units: impl Fn(&Device) -> usize) -> u64 {
    devices.iter().map(|device| units(device) as u64).sum()
}

fn whole(_: &str, devices: &[&Device], _: &[&str]) -> Vec<u64> {
    vec![devices.len() as u64]
}

/// With the MIG strategy `mixed` MIG devices have names of their own, `mig-1g.10gb`; with `single` they are called as
/// whole GPUs are, and with `none` they are not offered but their GPUs are.
fn nvidia(resource: &str, devices: &[&Device], all: &[&str]) -> Vec<u64> {
    const MIG: &str = "nvidia.com/mig-";
    let name = resource.strip_suffix(".shared").unwrap_or(resource);
    if let Some(profile) = name.strip_prefix(MIG) {
        let of = |device: &Device| {
            let profiles = device.partitions.iter().filter_map(|partition| partition.profile.value());
            profiles.filter(|own| own.replace('+', ".") == profile).count()
        };
        return vec![sum(devices, of)];
    }
    let uncut = |device: &Device| usize::from(device.partitioning.value() != Some(&Partitioning::Mig));
    let (uncut, parts) = (sum(devices, uncut), sum(devices, |device| device.partitions.len()));
    if all.iter().any(|name| name.starts_with(MIG)) {
        return vec![uncut];
    }
    let (single, none) = (uncut + parts, devices.len() as u64);
    if single == none { vec![none] } else { vec![single, none] }
}

/// A partition is offered as a device is, under the common name or under that of its modes.
fn amd(resource: &str, devices: &[&Device], all: &[&str]) -> Vec<u64> {
    let own_name = |device: &Device| match device.partitioning.value() {
        Some(Partitioning::Xcp { compute, memory }) => {
            memory.value().map(|memory| format!("amd.com/{compute}_{memory}").to_lowercase())
        }
        _ => None,
    };
    let named = |device: &Device| own_name(device).is_some_and(|name| all.contains(&name.as_str()));
    let units = |device: &Device| device.partitions.len().max(1);
    let of = |device: &Device| match resource {
        "amd.com/gpu" => !named(device),
        name => own_name(device).as_deref() == Some(name),
    };
    vec![sum(devices, |device| if of(device) { units(device) } else { 0 })]
}

/// The resource has the name of the driver. A device with virtual functions is not offered, they are.
fn intel(resource: &str, devices: &[&Device], _: &[&str]) -> Vec<u64> {
    let driver = resource.rsplit('/').next();
    let of = |device: &Device| device.driver.value().map(String::as_str) == driver;
    vec![sum(devices, |device| if of(device) { device.partitions.len().max(1) } else { 0 })]
}
