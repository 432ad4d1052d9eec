//! RDMA devices and their ports (`Documentation/ABI/stable/sysfs-class-infiniband`): InfiniBand, RoCE, EFA, and the
//! ports of accelerators themselves.

pub mod counters;

use afd_host::Host;
use afd_model::{Known, LinkLayer, Missing, Nic, NicPort, NicProtocol, PciAddress, PortState, Problem};

use crate::{
    Facts, PciBus,
    pci::{giga, parse_numa_node},
};

const CLASS: &str = "/sys/class/infiniband";

/// PCI ids of the vendors whose accelerators have RDMA ports.
const ACCELERATOR_VENDORS: [u16; 1] = [0x1da3];
const AMAZON: u16 = 0x1d0f;

/// The RDMA devices of the host, and what could not be read. A device without hardware of its own is left out: soft-RoCE and
/// soft-iWARP (`rdma_rxe`, `siw`) run on any network interface.
pub fn nics(host: &Host, bus: &PciBus) -> (Vec<Nic>, Vec<Problem>) {
    let mut facts = Facts::new(host, "rdma");
    let names = facts.names("nics", CLASS);
    let nics = names.into_iter().filter_map(|name| nic(&mut facts, bus, name)).collect();
    (nics, facts.into_problems())
}

/// An RDMA device; none if it has no parent device, as one that is made of software.
fn nic(facts: &mut Facts<'_>, bus: &PciBus, name: String) -> Option<Nic> {
    let directory = format!("{CLASS}/{name}");
    let parent = facts.link_name("nics.pci_address", &format!("{directory}/device"));
    if parent.missing() == Some(Missing::NotExposed) {
        return None;
    }
    let pci_address = parent
        .and_then(|target| Known::from_option(target.parse::<PciAddress>().ok(), Missing::NotAvailable));
    let function = pci_address.value().and_then(|address| bus.function(*address));
    let no_function = Known::from(Missing::NotExposed);
    let vendor_id = function.map_or(no_function, |function| function.vendor_id);
    let device_id = function.map_or(Missing::NotExposed.into(), |function| function.device_id);
    let vendor = vendor_id.value().map(|id| id.0);
    let node_type = facts.text("nics.node_type", &format!("{directory}/node_type"));
    let ports = ports(facts, &directory, vendor, node_type.value().map(String::as_str));
    Some(Nic {
        pci_address,
        vendor_id,
        device_id,
        product: product(vendor, device_id.value().map(|id| id.0)),
        driver: facts.link_name("nics.driver", &format!("{directory}/device/driver")),
        firmware_version: facts.text("nics.firmware_version", &format!("{directory}/fw_ver")),
        numa_node: facts.parse_known(
            "nics.numa_node",
            &format!("{directory}/device/numa_node"),
            parse_numa_node,
        ),
        upstream: function.map(|function| function.upstream.clone()).unwrap_or_default(),
        virtual_function: facts.host().link(&format!("{directory}/device/physfn")).is_ok(),
        of_accelerator: vendor.is_some_and(|vendor| ACCELERATOR_VENDORS.contains(&vendor)),
        ports,
        name,
    })
}

/// Lines `vvvv:dddd <vendor> <product>` of the public PCI id list, of the vendors of RDMA devices, after an empty line.
const NAMES: &str = include_str!(concat!(env!("OUT_DIR"), "/rdma_names.txt"));

/// Vendor and product in the public PCI id list.
fn product(vendor: Option<u16>, device: Option<u16>) -> Known<String> {
    let Some((vendor, device)) = vendor.zip(device) else { return Missing::NotExposed.into() };
    let start = format!("\n{vendor:04x}:{device:04x} ");
    let name = NAMES.find(&start).and_then(|position| NAMES[position + start.len()..].lines().next());
    Known::from_option(name.map(str::to_owned), Missing::Unrecognized)
}

fn ports(
    facts: &mut Facts<'_>,
    directory: &str,
    vendor: Option<u16>,
    node_type: Option<&str>,
) -> Vec<NicPort> {
    let mut numbers: Vec<u32> = facts
        .names("nics.ports", &format!("{directory}/ports"))
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
        .into_iter()
        .map(|number| {
            let port = format!("{directory}/ports/{number}");
            let link_layer =
                facts.parse_known("nics.ports.link_layer", &format!("{port}/link_layer"), parse_link_layer);
            NicPort {
                number,
                state: facts.parse("nics.ports.state", &format!("{port}/state"), parse_state),
                link_layer,
                protocol: protocol(link_layer, vendor, node_type),
                rate_bits_per_second: facts.parse("nics.ports.rate", &format!("{port}/rate"), parse_rate),
            }
        })
        .collect()
}

/// The protocol of a port. An Amazon device is EFA, whose driver reports an unspecified link layer. iWARP has the node type RNIC.
fn protocol(layer: Known<LinkLayer>, vendor: Option<u16>, node_type: Option<&str>) -> Known<NicProtocol> {
    if vendor == Some(AMAZON) {
        return Known::Value(NicProtocol::Efa);
    }
    layer.map(|layer| match (layer, node_type) {
        (LinkLayer::Infiniband, _) => NicProtocol::Infiniband,
        (LinkLayer::Ethernet, Some(text)) if !text.ends_with("CA") => NicProtocol::Other,
        (LinkLayer::Ethernet, _) => NicProtocol::Roce,
    })
}

/// `4: ACTIVE`: the number and name of `enum ib_port_state`.
///
/// # Errors
/// When it is not a number of the enum.
pub fn parse_state(text: &str) -> Result<PortState, &'static str> {
    match text.split(':').next().map(str::trim) {
        Some("1") => Ok(PortState::Down),
        Some("2") => Ok(PortState::Init),
        Some("3") => Ok(PortState::Armed),
        Some("4") => Ok(PortState::Active),
        Some("5") => Ok(PortState::ActiveDefer),
        _ => Err("expected a port state such as \"4: ACTIVE\""),
    }
}

/// `InfiniBand`, `Ethernet`, or `Unknown` and `Unspecified`.
///
/// # Errors
/// When it is another text.
pub fn parse_link_layer(text: &str) -> Result<Known<LinkLayer>, &'static str> {
    match text {
        "InfiniBand" => Ok(Known::Value(LinkLayer::Infiniband)),
        "Ethernet" => Ok(Known::Value(LinkLayer::Ethernet)),
        "Unknown" | "Unspecified" => Ok(Missing::NotAvailable.into()),
        _ => Err("expected a link layer such as \"InfiniBand\""),
    }
}

/// `400 Gb/sec (4X NDR)` or `2.5 Gb/sec (1X SDR)`: bits per second. The parentheses repeat the number.
///
/// # Errors
/// When no number precedes `Gb/sec`.
pub fn parse_rate(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "expected a rate such as \"400 Gb/sec (4X NDR)\"";
    let (number, _) = text.split_once(" Gb/sec").ok_or(EXPECTED)?;
    giga(number).ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_of_all_generations() {
        assert_eq!(parse_rate("400 Gb/sec (4X NDR)"), Ok(400_000_000_000));
        assert_eq!(parse_rate("2.5 Gb/sec (1X SDR)"), Ok(2_500_000_000));
        for wrong in [
            "",
            "fast",
            "Gb/sec",
            " Gb/sec",
            "-1 Gb/sec",
            "1.25 Gb/sec",
            "99999999999999999999 Gb/sec",
            "1844674407370955161.9 Gb/sec (4X)",
        ] {
            assert!(parse_rate(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    fn nics_of(folder: &TestHost) -> (Vec<Nic>, Vec<Problem>) {
        let host = folder.open();
        nics(&host, &PciBus::read(&host))
    }

    #[test]
    fn a_port_with_malformed_files_keeps_the_nic() {
        let folder = TestHost::with_files([
            ("/sys/class/infiniband/mlx5_0/ports/1/rate", "fast"),
            ("/sys/class/infiniband/mlx5_0/ports/1/state", ""),
            ("/sys/class/infiniband/mlx5_0/ports/1/link_layer", "Ethernet\n"),
        ])
        .link("/sys/class/infiniband/mlx5_0/device", "../../../0000:18:00.0");
        let (nics, problems) = nics_of(&folder);
        assert_eq!(nics.len(), 1);
        assert_eq!(nics[0].ports[0].protocol, Known::Value(NicProtocol::Roce));
        assert_eq!(nics[0].ports[0].state.missing(), Some(Missing::Malformed));
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn an_amazon_device_is_efa_whatever_its_link_layer() {
        let port = |layer: &str| {
            let folder = TestHost::with_files([
                ("/sys/bus/pci/devices/0000:18:00.0/vendor", "0x1d0f\n"),
                ("/sys/bus/pci/devices/0000:18:00.0/device", "0xefa2\n"),
                ("/sys/class/infiniband/rdmap24s0/node_type", "7: unspecified\n"),
                ("/sys/class/infiniband/rdmap24s0/ports/1/link_layer", layer),
            ])
            .link("/sys/class/infiniband/rdmap24s0/device", "../../../0000:18:00.0");
            let (mut nics, problems) = nics_of(&folder);
            assert_eq!(problems, [], "{layer}");
            nics.remove(0).ports.remove(0)
        };
        for layer in ["Unknown\n", "Unspecified\n", "Ethernet\n"] {
            assert_eq!(port(layer).protocol, Known::Value(NicProtocol::Efa), "{layer}");
        }
        assert_eq!(port("Unknown\n").link_layer.missing(), Some(Missing::NotAvailable));
    }

    #[test]
    fn a_device_made_of_software_is_no_nic() {
        let port = "/sys/class/infiniband/rxe0/ports/1/link_layer";
        let software = TestHost::with_files([(port, "Ethernet\n")]);
        assert_eq!(nics_of(&software), (Vec::new(), Vec::new()));
        // A NIC whose parent is on another bus than PCI.
        let hardware = software.link("/sys/class/infiniband/rxe0/device", "../../../mlx5_core.sf.2");
        assert_eq!(nics_of(&hardware).0[0].pci_address.missing(), Some(Missing::NotAvailable));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_rate(&text);
            let _ = parse_state(&text);
            let _ = parse_link_layer(&text);
        }

        #[test]
        fn a_rate_is_read_back(tenths in 0_u64..100_000) {
            let text = format!("{}.{} Gb/sec (4X HDR)", tenths / 10, tenths % 10);
            prop_assert_eq!(parse_rate(&text), Ok(tenths * 100_000_000));
        }
    }
}
