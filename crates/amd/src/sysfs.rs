//! The attributes of amdgpu in the directory of the PCI function (`Documentation/gpu/amdgpu/`). Static facts are read here,
//! changing values in [`sampling`].
//!
//! Every attribute is optional: which ones exist depends on the product, the kernel, and whether the device is a virtual
//! function.

mod levels;
pub(crate) mod ras;
pub(crate) mod sampling;

use afd_model::{Known, Missing, XcpComputeMode, XcpMemoryMode};
use afd_probe::{Facts, PciBus, PciFunction};

/// The static attributes of a device.
#[derive(Clone, Debug)]
pub(crate) struct AmdAttributes {
    pub(crate) vram_bytes: Known<u64>,
    pub(crate) unique_id: Known<u64>,
    pub(crate) serial: Known<String>,
    pub(crate) vbios: Known<String>,
    pub(crate) compute_mode: Known<XcpComputeMode>,
    pub(crate) memory_mode: Known<XcpMemoryMode>,
    pub(crate) hive_id: Known<u64>,
}

pub(crate) fn attributes(facts: &mut Facts<'_>, function: &PciFunction) -> AmdAttributes {
    let at = |name: &str| function.attribute(name);
    AmdAttributes {
        vram_bytes: facts.number("memory_bytes", &at("mem_info_vram_total")).and_then(nonzero),
        unique_id: facts
            .parse("unique_id", &at("unique_id"), |text| u64::from_str_radix(text, 16))
            .and_then(nonzero),
        serial: fru_text(facts, "serial", &at("serial_number")),
        vbios: facts.text("firmware_version", &at("vbios_version")),
        compute_mode: mode(facts, "partitioning", &at("current_compute_partition"), XcpComputeMode::parse),
        memory_mode: mode(
            facts,
            "partitioning.memory",
            &at("current_memory_partition"),
            XcpMemoryMode::parse,
        ),
        hive_id: facts.number("link_domain", &at("xgmi_hive_info/xgmi_hive_id")).and_then(nonzero),
    }
}

fn nonzero(number: u64) -> Known<u64> {
    Known::from_option((number > 0).then_some(number), Missing::NotAvailable)
}

/// The product name of the driver.
pub(crate) fn product_name(facts: &mut Facts<'_>, function: &PciFunction) -> Known<String> {
    fru_text(facts, "product", &function.attribute("product_name"))
}

/// The product number of the manufacturer.
pub(crate) fn product_number(facts: &mut Facts<'_>, function: &PciFunction) -> Known<String> {
    fru_text(facts, "product", &function.attribute("product_number"))
}

/// A string from the FRU memory of the board. Boards without that memory have an empty file.
fn fru_text(facts: &mut Facts<'_>, fact: &str, path: &str) -> Known<String> {
    facts.bytes(fact, path).and_then(|bytes| {
        if bytes.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace()) {
            return Missing::NotAvailable.into();
        }
        facts.text(fact, path)
    })
}

/// `SPX` or `NPS1`; `UNKNOWN` where the firmware does not report it.
fn mode<M>(facts: &mut Facts<'_>, fact: &str, path: &str, parse: fn(&str) -> Option<M>) -> Known<M> {
    facts.text(fact, path).and_then(|text| match parse(&text) {
        Some(mode) => Known::Value(mode),
        None if text.eq_ignore_ascii_case("UNKNOWN") => Missing::NotAvailable.into(),
        None => {
            let message = format_args!("{text:?} is not a known partition mode");
            facts.missing(fact, Missing::Unrecognized, Some(path), message)
        }
    })
}

/// Upstream and downstream port of the PCIe switches on AMD's boards, by vendor and device id.
///
/// Source: the public PCI id list for those of Vega 10 and Navi 10, which later products have as well; 14a0 and 14a1 are
/// above each MI50 of a recorded host (LLNL's Corona).
const SWITCHES: [[(u16, u16); 2]; 3] = [
    [(0x1022, 0x1470), (0x1022, 0x1471)],
    [(0x1002, 0x14a0), (0x1002, 0x14a1)],
    [(0x1002, 0x1478), (0x1002, 0x1479)],
];

/// The function whose link files report the PCIe link of the board: the GPU itself, or the upstream port of the switch on the
/// board, behind which the GPU's own link never changes.
pub(crate) fn link_function<'b>(bus: &'b PciBus, function: &'b PciFunction) -> &'b PciFunction {
    let ids = |port: &PciFunction| Some((port.vendor_id.value()?.0, port.device_id()?));
    let upstream = bus.ports_above(function).filter(|(upstream, downstream)| {
        let pair = ids(upstream).zip(downstream.and_then(ids));
        pair.is_some_and(|(upstream, downstream)| SWITCHES.contains(&[upstream, downstream]))
    });
    upstream.map_or(function, |(upstream, _)| upstream)
}
