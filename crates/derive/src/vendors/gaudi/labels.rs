//! The keys of Habana's feature discovery (HabanaAI/gaudi-feature-discovery), and two that llm-d's tools and Red Hat's documents
//! select by.

use afd_model::{Device, Fact, GaudiFacts, Known, MemorySource};

use crate::{
    compat::labels::{CompatLabel, LabelFill, LabelScope, LabelSet, LeftOutLabel, agreed},
    value::{MAX_LENGTH, label_value},
};

const NO_OS_RELEASE: &str = "It describes the host's distribution, not the accelerators, and is in `/etc`, of which AFD's container has nothing.";

pub(super) const LABELS: LabelSet = LabelSet {
    tool: "Habana's feature discovery (HabanaAI/gaudi-feature-discovery)",
    notes: "",
    tables: &[ROWS],
    placeholders: &[],
    left_out: &[
        LeftOutLabel {
            key: "habana.ai/hfd.timestamp",
            reason: "It is the time at which the labeller was started: a write to every Node at every restart, which says nothing \
                     about the devices.",
        },
        LeftOutLabel { key: "habana.ai/distro.type", reason: NO_OS_RELEASE },
        LeftOutLabel { key: "habana.ai/distro.ostree-version", reason: NO_OS_RELEASE },
        LeftOutLabel {
            key: "habana.ai/product.serial",
            reason: "It is the serial number of the server, which identifies a purchase; labels can be read by every pod that may \
                     read Nodes.",
        },
    ],
    differences: &[
        "`product.name` is the accelerator, as llm-d's autoscaler compares it. Feature discovery writes the name of the server \
         (DMI) under this key; where it runs it owns the key, and AFD leaves it alone.",
        "`gaudi.present` and `device.memory` are not of feature discovery: Red Hat's documents select nodes by the one, llm-d's \
         autoscaler reads the other.",
        "A key describes all devices and is absent where they differ; feature discovery describes the first device.",
        "`device.count` counts every device; feature discovery counts those with one digit in the name of their accel node.",
        "`device.id` is in hexadecimal without `0x`, `device.revision` a decimal number.",
        "A device of PCI id 1030 has no `product.name`, `device.name` and `device.memory`: the sources disagree on what it is.",
        "`fw.version` is absent where the driver reports no firmware; feature discovery writes `na`.",
        "`driver.version` and `driver.hash` are the two parts of the version of an out-of-tree driver. The driver of the kernel \
         has the kernel's release as version.",
        "`device.family` ends in a word that llm-d's benchmark takes for the name of the model. It is feature discovery's own key; \
         nodes without it are described better by `accelerator.llm-d.ai/model`. `--compat gaudi=off` leaves it out.",
    ],
};

const ARCHITECTURE: &[Fact] = &[Fact::Product, Fact::Architecture];
const VENDOR: &[Fact] = &[Fact::VendorFacts];
const DRIVER: &[Fact] = &[Fact::DriverVersion];
const FIRMWARE: &[Fact] = &[Fact::FirmwareVersion];

const fn row(
    key: &'static str,
    examples: &'static str,
    meaning: &'static str,
    needs: &'static [Fact],
    value: fn(&LabelScope<'_>) -> Option<String>,
) -> CompatLabel {
    CompatLabel { key, examples, meaning, needs, unread: |_| false, fill: LabelFill::One(value) }
}

const ROWS: &[CompatLabel] = &[
    row("habana.ai/gaudi.present", "`true`", "the node has a Gaudi", &[], |_| Some("true".to_owned())),
    row("habana.ai/device.count", "`8`", "number of devices", &[], |scope| {
        Some(scope.devices.len().to_string())
    }),
    row(
        "habana.ai/device.family",
        "`gaudi`, `generic`",
        "`gaudi`, or `generic` for an older accelerator",
        ARCHITECTURE,
        |scope| {
            of_devices(scope, |device| {
                let architecture = architecture(device)?;
                Some(if architecture.starts_with("gaudi") { "gaudi" } else { "generic" }.to_owned())
            })
        },
    ),
    row("habana.ai/device.name", "`gaudi2`, `gaudi3`", "generation", ARCHITECTURE, |scope| {
        of_devices(scope, |device| match architecture(device)? {
            "gaudi" => Some("gaudi1".to_owned()),
            other => Some(other.to_owned()),
        })
    }),
    CompatLabel {
        unread: |scope| scope.is_unread(|device| device.gaudi()?.device_type.missing()),
        ..row(
            "habana.ai/device.type",
            "`GAUDI2`, `GAUDI3_HL-338`",
            "form, as the driver names it",
            VENDOR,
            |scope| of_facts(scope, |facts| &facts.device_type),
        )
    },
    row("habana.ai/device.id", "`1060`", "PCI device id", &[], |scope| {
        of_devices(scope, |device| Some(device.pci.device_id.value()?.to_string()))
    }),
    row("habana.ai/device.revision", "`1`", "PCI revision", &[], |scope| {
        of_devices(scope, |device| Some(device.pci.revision.value()?.to_string()))
    }),
    row("habana.ai/device.memory", "`131072`", "memory of a device in whole MiB", &[Fact::Memory], |scope| {
        of_devices(scope, |device| Some((device.memory_bytes.value()? >> 20).to_string()))
    }),
    row(
        "habana.ai/product.name",
        "`Intel-Gaudi-2-96GB`, `Intel-Gaudi-3-128GB`",
        "the accelerator with its memory",
        &[Fact::Product, Fact::Memory],
        |scope| of_devices(scope, product_name),
    ),
    row("habana.ai/driver.version", "`1.22.1`", "version of the driver", DRIVER, |scope| {
        of_devices(scope, |device| Some(driver_version(device)?.0.to_owned()))
    }),
    row("habana.ai/driver.hash", "`ee698fb`", "revision of the driver's source", DRIVER, |scope| {
        of_devices(scope, |device| driver_version(device)?.1.map(str::to_owned))
    }),
    row(
        "habana.ai/fw.version",
        "`hl-gaudi2-1.16.0-fw-50.0.0-sec-9`",
        "version of the firmware",
        FIRMWARE,
        |scope| of_devices(scope, |device| device.firmware_version.value().cloned()),
    ),
    CompatLabel {
        unread: |scope| scope.is_unread(|device| device.gaudi()?.firmware_text.missing()),
        ..row("habana.ai/fw.os", "`Zephyr`, `Linux`", "operating system of the firmware", VENDOR, |scope| {
            of_devices(scope, |device| {
                let text = device.gaudi()?.firmware_text.value()?;
                text.split_whitespace().next().map(str::to_owned)
            })
        })
    },
    row("habana.ai/kernel.version", "`6.8.0-60-generic`", "release of the host's kernel", &[], |scope| {
        label_value(scope.inventory.kernel_release.value()?, MAX_LENGTH)
    }),
    CompatLabel {
        unread: |scope| scope.is_unread(|device| device.gaudi()?.server_vendor.missing()),
        ..row("habana.ai/sys.vendor", "`Supermicro`", "maker of the server (DMI)", VENDOR, |scope| {
            of_facts(scope, |facts| &facts.server_vendor)
        })
    },
];

/// The value that all devices have, as a label value.
fn of_devices(scope: &LabelScope<'_>, value: impl Fn(&Device) -> Option<String>) -> Option<String> {
    let values: Vec<String> = scope.devices.iter().filter_map(|device| value(device)).collect();
    label_value(&agreed(&values)?, MAX_LENGTH)
}

fn of_facts(scope: &LabelScope<'_>, value: fn(&GaudiFacts) -> &Known<String>) -> Option<String> {
    of_devices(scope, |device| value(device.gaudi()?).value().cloned())
}

fn architecture(device: &Device) -> Option<&str> {
    device.product.value()?.architecture.value().map(String::as_str)
}

/// `Intel Gaudi 2` and 96 GiB as `Intel-Gaudi-2-96GB`. A size that the product table does not have may be that of any product.
fn product_name(device: &Device) -> Option<String> {
    let gibibytes = device.memory_bytes.value()? >> 30;
    let is_listed = device.memory_source == Known::Value(MemorySource::ProductTable);
    is_listed.then(|| Some(format!("{}-{gibibytes}GB", device.product_name()?.replace(' ', "-"))))?
}

/// The version of the driver, and the revision of its source behind the first dash.
fn driver_version(device: &Device) -> Option<(&str, Option<&str>)> {
    let version = device.driver_version.value()?;
    Some(version.split_once('-').map_or((version, None), |(version, hash)| (version, Some(hash))))
}
