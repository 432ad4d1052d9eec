//! From what Level Zero reported to facts that the kernel did not report. Pure.

use afd_model::{
    Device, DeviceId, Findings, IntelComponent, IntelFacts, IntelFirmware, Known, Link, LinkKind,
    MemorySource, Missing, VendorFacts, XelinkPort, possible_memory,
};
use afd_probe::answers::{LibraryCall, trimmed};
use serde_json_borrow::Value;

use crate::drm;
use crate::levelzero::{
    LevelZeroAnswers, LevelZeroReport,
    calls::{
        ECC, ENGINE_PROPERTIES, FIRMWARE_PROPERTIES, FREQUENCY_PROPERTIES, MEMORY_PROPERTIES, MEMORY_STATE,
        PORT_PROPERTIES, PORT_STATE, PORTS, POWER_PROPERTIES, PROPERTIES, RAS_PROPERTIES,
        TEMPERATURE_PROPERTIES,
    },
    parts::{
        DEVICE_MEMORY, ENGINES, FREQUENCIES, MEMORY_TYPES, POWER_DOMAINS, RAS_TYPES, SENSORS, kind_name,
        name_of, tile, values,
    },
    unit_of,
};

/// `ZES_DEVICE_ECC_STATE_ENABLED`.
const ECC_ENABLED: u32 = 1;
/// `ZES_MEM_LOC_SYSTEM`.
const SYSTEM_MEMORY: u64 = 0;
/// The firmware images that a device is known by, preferred first.
const MAIN_FIRMWARE: [&str; 2] = ["GFX", "GSC"];

/// Fills in what the kernel did not report of the devices, and adds the links between them.
pub(crate) fn enrich(findings: &mut Findings, report: &LevelZeroReport) {
    let ends = PortEnds::of(report, &findings.devices);
    for device in &mut findings.devices {
        let Some(reported) = report.device(device.id.0, unit_of) else { continue };
        let facts = facts(&reported.answers, &ends);
        fill(device, &reported.answers, &facts);
        device.vendor_facts = Some(VendorFacts::Intel(Box::new(facts)));
    }
    for partition in findings.devices.iter_mut().flat_map(|device| &mut device.partitions) {
        let Some(address) = partition.function.value().map(|function| function.address) else { continue };
        let reported = report.device(address, unit_of);
        if let Some(bytes) = reported.and_then(|reported| memory(&reported.answers)) {
            partition.memory_bytes.fill(|| Known::Value(bytes));
        }
    }
    let links = links(&findings.devices, report);
    let are_read = findings.devices.iter().filter(|device| !device.integrated).all(|device| {
        report.device(device.id.0, unit_of).is_some_and(|reported| are_links_read(&reported.answers, &ends))
    });
    let has_peers = findings.devices.len() > 1;
    for device in &mut findings.devices {
        let is_linked = links.iter().any(|link| link.a == device.id || link.b == device.id);
        if device.integrated {
            continue;
        }
        let reported = report.device(device.id.0, unit_of);
        let ports = reported.and_then(|reported| number_of_ports(&reported.answers));
        let is_read = are_read || ports == Some(0);
        if is_linked {
            device.interconnect = Known::Value(LinkKind::Xelink);
        } else if has_peers && ports.is_some() {
            // A port that could not be read may lead to another device.
            let unread = Missing::Unreadable.into();
            device.interconnect = if is_read { Known::Value(LinkKind::Pcie) } else { unread };
        }
        if !is_read {
            device.linked_devices = Missing::Unreadable.into();
        }
    }
    findings.links.extend(links);
}

fn fill(device: &mut Device, answers: &LevelZeroAnswers, facts: &IntelFacts) {
    device.serial.fill(|| serial(answers));
    let main = MAIN_FIRMWARE.iter().find_map(|name| facts.firmware.iter().find(|image| image.name == *name));
    device
        .firmware_version
        .fill(|| Known::from_option(main.map(|image| image.version.clone()), Missing::NotAvailable));
    if !device.integrated
        && !device.memory_bytes.is_known()
        && let Some((bytes, source)) = memory(answers)
            .map(|bytes| (bytes, MemorySource::Library))
            .or_else(|| Some((drm::memory_bytes(answers)?.0, MemorySource::Drm)))
            .filter(|(bytes, _)| possible_memory(*bytes).is_known())
    {
        device.memory_bytes = Known::Value(bytes);
        device.memory_source = Known::Value(source);
    }
}

/// The serial number of the board. The driver writes `unknown` where it does not know.
fn serial(answers: &LevelZeroAnswers) -> Known<String> {
    trimmed(answers.field(PROPERTIES, "serialNumber")).and_then(|text| {
        if text.eq_ignore_ascii_case("unknown") { Missing::NotAvailable.into() } else { Known::Value(text) }
    })
}

/// The sum of the device's modules.
fn memory(answers: &LevelZeroAnswers) -> Option<u64> {
    let (properties, states) = (values(answers, MEMORY_PROPERTIES), values(answers, MEMORY_STATE));
    let of_device = properties
        .iter()
        .zip(&states)
        .filter(|(module, _)| module.get("location").as_u64() == Some(DEVICE_MEMORY));
    if properties.iter().any(Value::is_null) {
        return None;
    }
    let mut sizes = of_device.map(|(_, state)| state.get("size").as_u64());
    // A library may report any number.
    let sum = sizes.try_fold(0_u64, |sum, bytes| sum.checked_add(bytes?));
    sum.filter(|bytes| *bytes > 0)
}

fn facts(answers: &LevelZeroAnswers, ends: &PortEnds) -> IntelFacts {
    let kinds = |call, names: &'static [&'static str]| {
        components(answers, call, |properties| kind_name(properties, names).into_value().unwrap_or_default())
    };
    IntelFacts {
        tiles: answers.field(PROPERTIES, "numSubdevices"),
        ecc_enabled: answers.field::<u32>(ECC, "currentState").and_then(|state| match state {
            0 => Missing::NotAvailable.into(),
            state => Known::Value(state == ECC_ENABLED),
        }),
        firmware: values(answers, FIRMWARE_PROPERTIES).iter().filter_map(firmware).collect(),
        memory_modules: memory_modules(kinds(MEMORY_PROPERTIES, &MEMORY_TYPES), answers),
        engines: kinds(ENGINE_PROPERTIES, &ENGINES),
        power_domains: components(answers, POWER_PROPERTIES, |properties| {
            name_of(&POWER_DOMAINS, properties.get("domain").as_u64().unwrap_or(0))
        }),
        sensors: kinds(TEMPERATURE_PROPERTIES, &SENSORS),
        frequency_domains: kinds(FREQUENCY_PROPERTIES, &FREQUENCIES),
        error_sets: kinds(RAS_PROPERTIES, &RAS_TYPES),
        ports: ports(answers, ends),
    }
}

fn components(
    answers: &LevelZeroAnswers,
    call: LibraryCall,
    kind: impl Fn(&Value<'_>) -> String,
) -> Vec<IntelComponent> {
    let component = |properties: &Value<'_>| IntelComponent {
        kind: kind(properties),
        tile: tile(properties),
        is_of_system: properties.get("location").as_u64() == Some(SYSTEM_MEMORY),
    };
    values(answers, call).iter().map(component).collect()
}

/// The modules by the library, or else the memory of each tile by the driver, which does not report its type.
fn memory_modules(by_library: Vec<IntelComponent>, answers: &LevelZeroAnswers) -> Vec<IntelComponent> {
    if !by_library.is_empty() {
        return by_library;
    }
    let tiles = drm::tiles(answers);
    let tile = |number: u32| IntelComponent {
        kind: String::new(),
        tile: (tiles.len() > 1).then_some(number),
        is_of_system: false,
    };
    (0..).zip(&tiles).map(|(number, _)| tile(number)).collect()
}

/// A firmware image. The driver writes `unknown` for the version of one that it cannot read.
fn firmware(properties: &Value<'_>) -> Option<IntelFirmware> {
    let text =
        |field: &'static str| properties.get(field).as_str().map(str::trim).filter(|text| !text.is_empty());
    let (name, version) = (text("name")?, text("version")?);
    if version.eq_ignore_ascii_case("unknown") {
        return None;
    }
    Some(IntelFirmware { name: name.to_owned(), version: version.to_owned(), tile: tile(properties) })
}

/// The tile of each port of the fabric: which device it is on. The first two numbers of a port's id identify a tile.
struct PortEnds(Vec<(TileId, DeviceId, Option<u32>)>);

/// `fabricId` and `attachId`.
type TileId = (u64, u64);

impl PortEnds {
    fn of(report: &LevelZeroReport, devices: &[Device]) -> PortEnds {
        let mut ends = Vec::new();
        for reported in &report.devices {
            let unit = unit_of(&reported.answers);
            let is_unit = |device: &&Device| unit.is_some_and(|unit| unit.is_device(device.id.0));
            let Some(device) = devices.iter().find(is_unit) else { continue };
            for properties in values(&reported.answers, PORT_PROPERTIES) {
                let Some(id) = tile_id(properties.get("portId")) else { continue };
                ends.push((id, device.id, tile(&properties)));
            }
        }
        PortEnds(ends)
    }

    fn find(&self, port: &Value<'_>) -> Option<(DeviceId, Option<u32>)> {
        let id = tile_id(port)?;
        self.0.iter().find(|(known, ..)| *known == id).map(|(_, device, tile)| (*device, *tile))
    }
}

fn tile_id(port: &Value<'_>) -> Option<TileId> {
    Some((port.get("fabricId").as_u64()?, port.get("attachId").as_u64()?))
}

fn ports(answers: &LevelZeroAnswers, ends: &PortEnds) -> Vec<XelinkPort> {
    let states = values(answers, PORT_STATE);
    let port = |(index, properties): (usize, Value)| {
        let peer = states
            .get(index)
            .filter(|state| is_up(state))
            .and_then(|state| ends.find(state.get("remotePortId")));
        XelinkPort {
            number: Known::from_option(
                properties.get("portId").get("portNumber").as_u64().and_then(|number| number.try_into().ok()),
                Missing::Unreadable,
            ),
            tile: tile(&properties),
            peer: Known::from_option(peer.map(|(device, _)| device), Missing::NotAvailable),
            peer_tile: peer.and_then(|(_, tile)| tile),
            lanes: Known::from_option(
                properties.get("maxTxSpeed").get("width").as_u64().and_then(|width| width.try_into().ok()),
                Missing::NotAvailable,
            ),
        }
    };
    values(answers, PORT_PROPERTIES).into_iter().enumerate().map(port).collect()
}

/// How many ports there are. Where the library does not say it, there may be one.
fn number_of_ports(answers: &LevelZeroAnswers) -> Option<usize> {
    match answers.known::<u32>(PORTS) {
        Known::Value(count) => usize::try_from(count).ok(),
        Known::Missing { missing: Missing::NotAvailable } => Some(0),
        Known::Missing { .. } => None,
    }
}

/// Whether it is known where each port leads.
fn are_links_read(answers: &LevelZeroAnswers, ends: &PortEnds) -> bool {
    let (properties, states) = (values(answers, PORT_PROPERTIES), values(answers, PORT_STATE));
    let is_read = |state: &Value<'_>| {
        is_without_end(state) || is_up(state) && ends.find(state.get("remotePortId")).is_some()
    };
    let ports = number_of_ports(answers);
    [properties.len(), states.len()].iter().all(|count| Some(*count) == ports)
        && !properties.iter().any(Value::is_null)
        && states.iter().all(is_read)
}

/// `ZES_FABRIC_PORT_STATUS_HEALTHY` or `DEGRADED`.
fn is_up(state: &Value<'_>) -> bool {
    matches!(state.get("status").as_u64(), Some(1 | 2))
}

/// `ZES_FABRIC_PORT_STATUS_FAILED` or `DISABLED`: the port has no other end. Of another status it may have one.
fn is_without_end(state: &Value<'_>) -> bool {
    matches!(state.get("status").as_u64(), Some(3 | 4))
}

/// One link for each pair of devices with a port between them, with the bandwidth of all its ports in one direction.
fn links(devices: &[Device], report: &LevelZeroReport) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for device in devices {
        let (Some(facts), Some(reported)) = (device.intel(), report.device(device.id.0, unit_of)) else {
            continue;
        };
        let properties = values(&reported.answers, PORT_PROPERTIES);
        for (port, properties) in facts.ports.iter().zip(properties) {
            // Each link has two ends, of which one is counted. Tiles of one device are linked as well.
            let Known::Value(peer) = port.peer else { continue };
            if peer <= device.id {
                continue;
            }
            let bandwidth = bandwidth(properties.get("maxTxSpeed"));
            match links.iter_mut().find(|link| (link.a, link.b) == (device.id, peer)) {
                Some(link) => {
                    let known = link.bandwidth_bytes_per_second.value().copied();
                    let sum = known.zip(bandwidth).and_then(|(a, b): (u64, u64)| a.checked_add(b));
                    link.bandwidth_bytes_per_second = Known::from_option(sum, Missing::NotAvailable);
                }
                None => links.push(Link {
                    a: device.id,
                    b: peer,
                    kind: LinkKind::Xelink,
                    weight: Missing::NotExposed.into(),
                    bandwidth_bytes_per_second: Known::from_option(bandwidth, Missing::NotAvailable),
                }),
            }
        }
    }
    links
}

/// The bit rate is that of one lane.
fn bandwidth(speed: &Value<'_>) -> Option<u64> {
    let (rate, width) = (speed.get("bitRate").as_u64()?, speed.get("width").as_u64()?);
    rate.checked_mul(width).map(|bits| bits / 8).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests;
