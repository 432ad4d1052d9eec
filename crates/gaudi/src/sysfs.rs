//! What the kernel reports about a Gaudi: PCI, the accel class and the attributes of habanalabs (`sysfs-driver-habanalabs`).

use std::path::PathBuf;

use afd_host::Host;
use afd_model::{
    Clock, Device, DeviceId, ErrorDetail, ErrorKind, GaudiFacts, Handle, HandleKind, Known, LinkKind,
    MemorySource, Missing, Partitioning, PortState, Quantity, Reading, Sensor, Variant, Vendor, VendorFacts,
};
use afd_probe::{
    Facts, PciBus, PciFunction, device, hwmon,
    pci::{self, numbered},
    products::unrecognized,
    rdma,
};

use crate::{
    interpret::{GaudiStatus, firmware_version, sensor, status},
    products,
};

/// The maker of the server.
const SERVER_VENDOR: &str = "/sys/class/dmi/id/sys_vendor";
/// Names of PCIe cards in `device_type`.
const CARD_FORMS: [&str; 2] = ["HL-288", "HL-338"];
/// The PCI id of HL-338.
const CARD_ID: u16 = 0x1063;
const PROCESSING_ACCELERATOR_CLASS: u16 = 0x1200;

/// Where to sample one device.
#[derive(Debug)]
pub(crate) struct GaudiSource {
    /// The device.
    pub(crate) device: DeviceId,
    function: PciFunction,
    /// The directory of the driver's attributes.
    attributes: String,
    hwmon: Option<String>,
}

/// Whether a Habana function is a device: every id of the table, and every processing accelerator.
pub(crate) fn is_device(function: &PciFunction) -> bool {
    let known = function.device_id().and_then(products::find).is_some();
    known || function.class() == Some(PROCESSING_ACCELERATOR_CLASS)
}

/// The device of a function, and where to sample it.
pub(crate) fn describe(facts: &mut Facts<'_>, bus: &PciBus, function: &PciFunction) -> (Device, GaudiSource) {
    let mut device = device::begin(facts, bus, function, Vendor::Intel, Variant::Hpu);
    let generation = function.device_id().and_then(products::find);
    device.product = match generation {
        Some(generation) => Known::Value(generation.product()),
        None => unrecognized(facts, function),
    };
    if let Some(bytes) = generation.and_then(|generation| generation.facts.memory_bytes()) {
        device.memory_bytes = Known::Value(bytes);
        device.memory_source = Known::Value(MemorySource::ProductTable);
    }
    let node = accel_node(facts, function);
    let attributes = attributes(facts, function, node.as_ref());
    if let Some((name, _)) = node {
        device.handles.push(Handle::new(HandleKind::Accel, name));
    }
    // The device plugin uses the serial number, which only the library reports.
    let dra_name = dra_name(&device);
    device.handles.extend(dra_name);
    if let Known::Value(module) = facts.number::<u32>("module", &format!("{attributes}/module_id")) {
        device.handles.push(Handle::new(HandleKind::Module, module.to_string()));
    }
    let firmware_text = facts.text("firmware_version", &format!("{attributes}/fw_os_ver"));
    device.firmware_version = firmware_text.as_ref().map(|text: &String| firmware_version(text));
    device.vendor_facts = Some(VendorFacts::Gaudi(Box::new(GaudiFacts {
        device_type: facts.text("device_type", &format!("{attributes}/device_type")),
        firmware_text,
        server_vendor: facts.text("server_vendor", SERVER_VENDOR),
        ..GaudiFacts::default()
    })));
    device.partitioning.fill(|| Known::Value(Partitioning::Whole));
    if has_active_port(facts, function) {
        device.interconnect = Known::Value(LinkKind::Roce);
    }
    let hwmon = hwmon::directories(facts, function).into_iter().next().map(|(directory, _)| directory);
    let source = GaudiSource { device: device.id, function: function.clone(), attributes, hwmon };
    (device, source)
}

/// Sets PCIe as the interconnect of several cards for which no port was reported: those have none, or none that is connected.
pub(crate) fn connect_cards(devices: &mut [Device]) {
    let cards = devices.iter().filter(|device| is_card(device)).count();
    for device in devices.iter_mut().filter(|device| cards > 1 && is_card(device)) {
        if device.interconnect.missing() == Some(Missing::NotExposed) {
            device.interconnect = Known::Value(LinkKind::Pcie);
        }
    }
}

/// Whether a device is a PCIe card, and not a module on a board that connects it with others.
fn is_card(device: &Device) -> bool {
    let by_form = |form: &str| CARD_FORMS.iter().any(|card| form.contains(card));
    let is_named =
        device.gaudi().and_then(|facts| facts.device_type.value()).is_some_and(|form| by_form(form));
    is_named || device.pci.device_id.value().is_some_and(|id| id.0 == CARD_ID)
}

/// The name in the DRA driver: `0000-33-00-0-0x1020`.
fn dra_name(device: &Device) -> Option<Handle> {
    let id = device.pci.device_id.value()?;
    Some(Handle::new(HandleKind::Dra, format!("{}-0x{id}", device.id.to_string().replace([':', '.'], "-"))))
}

/// The control nodes of devices, where they are visible: under the host root, or else in the agent's own container.
///
/// The driver gives the control node the number of the accel node.
pub(crate) fn control_nodes(host: &Host, devices: &[Device]) -> Vec<(DeviceId, PathBuf)> {
    let container = Host::open("/").ok();
    let node = |device: &Device| {
        let name = device.handle(HandleKind::Accel)?;
        let path = match (numbered(name, "accel"), numbered(name, "hl")) {
            (Some(number), _) => format!("/dev/accel/accel_controlD{number}"),
            (None, number) => format!("/dev/hl_controlD{}", number?),
        };
        let under = |host: &Host| host.real_path(&path).ok();
        Some((device.id, under(host).or_else(|| under(container.as_ref()?))?))
    };
    devices.iter().filter_map(node).collect()
}

/// The accel node of a function, or `hl<N>` on kernels before 6.2: its name and its class directory.
fn accel_node(facts: &mut Facts<'_>, function: &PciFunction) -> Option<(String, String)> {
    for (class, prefix) in [("accel", "accel"), ("habanalabs", "hl")] {
        let parent = function.attribute(class);
        let names = facts.names("accel_node", &parent);
        if let Some(name) = names.into_iter().find(|name| numbered(name, prefix).is_some()) {
            let directory = format!("{parent}/{name}");
            return Some((name, directory));
        }
        // A node with a virtual parent has a link or a file that names its function.
        let class = format!("/sys/class/{class}");
        for name in
            facts.names("accel_node", &class).into_iter().filter(|name| numbered(name, prefix).is_some())
        {
            let directory = format!("{class}/{name}");
            let addresses = [
                facts.link_name("accel_node", &format!("{directory}/device")),
                facts.text("accel_node", &format!("{directory}/device/pci_addr")),
                facts.text("accel_node", &format!("{directory}/pci_addr")),
            ];
            if addresses.iter().filter_map(Known::value).any(|text| text.parse() == Ok(function.address)) {
                return Some((name, directory));
            }
        }
    }
    None
}

/// The directory with the driver's attributes; the PCI directory if there is none.
fn attributes(facts: &Facts<'_>, function: &PciFunction, node: Option<&(String, String)>) -> String {
    let of_node = node.map(|(_, directory)| [directory.clone(), format!("{directory}/device")]);
    let mut candidates = of_node.into_iter().flatten();
    let has_status = |directory: &String| facts.host().exists(&format!("{directory}/status"));
    let own = function.directory.clone();
    if has_status(&own) { own } else { candidates.find(has_status).unwrap_or(own) }
}

/// Whether a port of an RDMA device of this function is up.
fn has_active_port(facts: &mut Facts<'_>, function: &PciFunction) -> bool {
    const FACT: &str = "interconnect";
    let parent = function.attribute("infiniband");
    facts.names(FACT, &parent).into_iter().any(|name| {
        let ports = format!("{parent}/{name}/ports");
        facts.names(FACT, &ports).into_iter().any(|port| {
            facts.parse(FACT, &format!("{ports}/{port}/state"), rdma::parse_state)
                == Known::Value(PortState::Active)
        })
    })
}

impl GaudiSource {
    /// What the driver says that the device does.
    pub(crate) fn status(&self, facts: &mut Facts<'_>) -> Option<GaudiStatus> {
        facts.parse("health", &format!("{}/status", self.attributes), status).into_value()
    }

    /// Hard and soft resets since the driver was loaded.
    pub(crate) fn resets(&self, facts: &mut Facts<'_>) -> Option<u64> {
        let mut count =
            |file: &str| facts.number::<u64>(file, &format!("{}/{file}", self.attributes)).into_value();
        count("hard_reset_cnt")?.checked_add(count("soft_reset_cnt").unwrap_or(0))
    }

    /// Reads the changing values: clocks in MHz, the power limit in milliwatts, resets, hwmon, the PCIe link.
    pub(crate) fn read(&self, facts: &mut Facts<'_>) -> Vec<Reading> {
        let scaled = [
            ("clk_cur_freq_mhz", Quantity::ClockHertz(Clock::Compute), 1e6),
            ("clk_max_freq_mhz", Quantity::ClockMaxHertz(Clock::Compute), 1e6),
            ("max_power", Quantity::PowerLimitWatts, 1e-3),
            ("hard_reset_cnt", Quantity::Errors(ErrorKind::Reset, ErrorDetail::Block("hard")), 1.0),
            ("soft_reset_cnt", Quantity::Errors(ErrorKind::Reset, ErrorDetail::Block("soft")), 1.0),
        ];
        let mut readings = Vec::new();
        for (file, quantity, scale) in scaled {
            if let Known::Value(value) = facts.number::<u64>(file, &format!("{}/{file}", self.attributes)) {
                readings.push(Reading { quantity, value: value as f64 * scale });
            }
        }
        if let Some(directory) = &self.hwmon {
            readings.extend(sensors(facts, directory));
        }
        readings.extend(pci::link_readings(facts, &self.function));
        readings
    }
}

/// The power in microwatts and the temperatures in thousandths of a degree from hwmon; of several temperatures of one
/// sensor the highest.
fn sensors(facts: &mut Facts<'_>, directory: &str) -> Vec<Reading> {
    let mut readings = Vec::new();
    if let Known::Value(microwatts) = facts.number::<u64>("power", &format!("{directory}/power1_input")) {
        readings.push(Reading { quantity: Quantity::PowerWatts, value: microwatts as f64 / 1e6 });
    }
    let mut highest: Vec<(Sensor, i32)> = Vec::new();
    for name in facts.names("temperature", directory) {
        let Some(stem) = name.strip_suffix("_input").filter(|stem| numbered(stem, "temp").is_some()) else {
            continue;
        };
        let Known::Value(thousandths) = facts.number::<i32>("temperature", &format!("{directory}/{name}"))
        else {
            continue;
        };
        let label = facts.text("temperature", &format!("{directory}/{stem}_label"));
        let sensor = sensor(label.value().map(String::as_str));
        match highest.iter_mut().find(|(other, _)| *other == sensor) {
            Some((_, highest)) => *highest = thousandths.max(*highest),
            None => highest.push((sensor, thousandths)),
        }
    }
    readings.extend(highest.into_iter().map(|(sensor, thousandths)| Reading {
        quantity: Quantity::TemperatureCelsius(sensor),
        value: f64::from(thousandths) / 1000.0,
    }));
    readings
}
