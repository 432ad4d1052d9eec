//! The PCIe link of a function (`current_link_speed`, `max_link_width` and their counterparts).

use afd_model::{Known, Missing, PcieLink, Quantity, Reading, Which};

use crate::{Facts, PciFunction};

/// The link of a function; `which` is `current` or `max`.
pub fn pcie_link(facts: &mut Facts<'_>, function: &PciFunction, which: &str) -> PcieLink {
    PcieLink {
        transfers_per_second: facts.parse_known(
            "pci.link.transfers_per_second",
            &function.attribute(&format!("{which}_link_speed")),
            parse_link_speed,
        ),
        width: facts.parse_known(
            "pci.link.width",
            &function.attribute(&format!("{which}_link_width")),
            parse_link_width,
        ),
    }
}

/// Readings of the link of a function.
pub fn link_readings(facts: &mut Facts<'_>, function: &PciFunction) -> Vec<Reading> {
    let mut readings = Vec::new();
    for (name, which) in [("current", Which::Current), ("max", Which::Max)] {
        let link = pcie_link(facts, function, name);
        if let Known::Value(speed) = link.transfers_per_second {
            readings.push(Reading { quantity: Quantity::PcieTransfersPerSecond(which), value: speed as f64 });
        }
        if let Known::Value(width) = link.width {
            readings.push(Reading { quantity: Quantity::PcieWidth(which), value: f64::from(width) });
        }
    }
    readings
}

/// `32.0 GT/s PCIe`, `8 GT/s` or `Unknown`: transfers per second on each lane.
///
/// # Errors
/// When no number precedes `GT/s`.
pub fn parse_link_speed(text: &str) -> Result<Known<u64>, &'static str> {
    if text.starts_with("Unknown") {
        return Ok(Missing::NotAvailable.into());
    }
    let number = text.split(" GT/s").next().filter(|number| number.len() < text.len());
    number.and_then(giga).map(Known::Value).ok_or("expected a speed such as \"32.0 GT/s PCIe\"")
}

/// A number in units of 10^9, as the kernel writes rates, with at most one decimal: `2.5` or `400`.
pub(crate) fn giga(number: &str) -> Option<u64> {
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(tenth) || tenth.len() != 1 {
        return None;
    }
    let tenths = whole.parse::<u64>().ok()?.checked_mul(10)?.checked_add(tenth.parse().ok()?)?;
    tenths.checked_mul(100_000_000)
}

/// Number of lanes; 0, 63 and 255 are unknown (`PCIE_LNK_WIDTH_UNKNOWN` is 0xff).
///
/// # Errors
/// When it is not a number.
pub fn parse_link_width(text: &str) -> Result<Known<u32>, std::num::ParseIntError> {
    if text == "Unknown" {
        return Ok(Missing::NotAvailable.into());
    }
    text.parse().map(|width| match width {
        0 | 63 | 255 => Missing::NotAvailable.into(),
        width => Known::Value(width),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn link_speeds_of_old_and_new_kernels() {
        assert_eq!(parse_link_speed("32.0 GT/s PCIe"), Ok(Known::Value(32_000_000_000)));
        assert_eq!(parse_link_speed("2.5 GT/s"), Ok(Known::Value(2_500_000_000)));
        assert_eq!(parse_link_speed("8 GT/s"), Ok(Known::Value(8_000_000_000)));
        assert_eq!(parse_link_speed("Unknown speed"), Ok(Missing::NotAvailable.into()));
        assert!(parse_link_speed("fast").is_err());
        assert!(parse_link_speed("-1.0 GT/s").is_err());
        assert!(parse_link_speed("1844674407370955161.9 GT/s").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_link_speed(&text);
            let _ = parse_link_width(&text);
        }
    }
}
