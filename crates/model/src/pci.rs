//! PCI addresses, ids and links: the identity of a device and how it is attached.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Known;

/// The address of a PCI function, `DDDD:BB:DD.F` in lower-case hexadecimal. The domain has at least four digits
/// and may have more (VMD, Hyper-V).
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    /// PCI domain (segment).
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device (slot) number, 0-31.
    pub device: u8,
    /// Function number, 0-7.
    pub function: u8,
}

/// A string that is not a PCI address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PciAddressError(pub String);

impl fmt::Display for PciAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a PCI address of the form 0000:1b:00.0", self.0)
    }
}

impl std::error::Error for PciAddressError {}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = PciAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| PciAddressError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (domain, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let hex = |digits: &str, lengths: std::ops::RangeInclusive<usize>| {
        (lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u32::from_str_radix(digits, 16).ok())
            .flatten()
    };
    let address = PciAddress {
        domain: hex(domain, 4..=8)?,
        bus: hex(bus, 2..=2)? as u8,
        device: hex(device, 2..=2)? as u8,
        function: hex(function, 1..=1)? as u8,
    };
    (address.device < 32 && address.function < 8).then_some(address)
}

impl TryFrom<String> for PciAddress {
    type Error = PciAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> String {
        address.to_string()
    }
}

impl JsonSchema for PciAddress {
    fn schema_name() -> Cow<'static, str> {
        "PciAddress".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Address of a PCI function in lower-case hexadecimal; the domain has at least four digits.",
            "pattern": "^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$"
        })
    }
}

/// The identity of a device: its PCI address. All other names of it are handles.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct DeviceId(pub PciAddress);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<PciAddress> for DeviceId {
    fn from(address: PciAddress) -> Self {
        DeviceId(address)
    }
}

macro_rules! hexadecimal {
    ($(#[$doc:meta])* $name:ident, $int:ty, $digits:literal, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $digits, "x}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            /// Hexadecimal with or without `0x`, in either case.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
                // `from_str_radix` takes a sign before the digits; no id has one, and a sign alone is no number.
                let digits = if digits.starts_with(['+', '-']) { "+" } else { digits };
                <$int>::from_str_radix(digits, 16).map($name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = std::num::ParseIntError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                format!("0x{id}")
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

hexadecimal!(
    /// A PCI vendor or device id. `0x10de` in JSON, `10de` when displayed.
    PciId, u16, "4", "^0x[0-9a-f]{4}$"
);
hexadecimal!(
    /// A PCI class code of 24 bits: base class, subclass, programming interface. `0x030200` in JSON.
    PciClass, u32, "6", "^0x[0-9a-f]{6}$"
);

impl PciClass {
    /// Base class and subclass without the programming interface, e.g. `0x0302`.
    pub fn base_and_subclass(self) -> u16 {
        (self.0 >> 8) as u16
    }
}

/// How a device is attached to PCI.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Pci {
    /// Its address.
    pub address: PciAddress,
    /// PCI vendor id.
    pub vendor_id: Known<PciId>,
    /// PCI device id.
    pub device_id: Known<PciId>,
    /// Class code.
    pub class: Known<PciClass>,
    /// Revision id, 0-255.
    pub revision: Known<u8>,
    /// Vendor of the board.
    pub subsystem_vendor_id: Known<PciId>,
    /// Id of the board.
    pub subsystem_device_id: Known<PciId>,
    /// The link as it runs now; it may be slower than its maximum while the device idles.
    pub link: PcieLink,
    /// The fastest link that the device can drive.
    pub max_link: PcieLink,
    /// The bridges between the root complex and the device, root port first. Empty where the kernel does not report them.
    pub upstream: Vec<PciAddress>,
    /// Whether it can be unplugged while the machine runs, as an external GPU can.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removable: bool,
}

impl Pci {
    /// PCI vendor and device id, as one text: `10de:2330`. None where one of them is not known.
    pub fn id(&self) -> Option<String> {
        Some(format!("{}:{}", self.vendor_id.value()?, self.device_id.value()?))
    }
}

/// Speed and width of a PCI Express link.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PcieLink {
    /// Transfers per second on each lane, e.g. 32000000000 for PCIe 5.
    pub transfers_per_second: Known<u64>,
    /// Number of lanes.
    pub width: Known<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_in_lower_case_with_at_least_four_digits_of_domain() {
        let parse = |text: &str| text.parse::<PciAddress>().map(|address| address.to_string());
        assert_eq!(parse("0000:1B:00.0").as_deref(), Ok("0000:1b:00.0"));
        assert_eq!(parse("10000:00:02.7").as_deref(), Ok("10000:00:02.7"));
        for wrong in
            ["", "1b:00.0", "0000:1b:00", "0000:1b:00.8", "0000:1b:20.0", "+000:1b:00.0", "0000:1b:00.0 "]
        {
            assert!(parse(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn ids_are_read_with_and_without_prefix() {
        assert_eq!("0x10DE".parse(), Ok(PciId(0x10de)));
        assert_eq!("10de".parse(), Ok(PciId(0x10de)));
        for wrong in ["", "0x", "0x110de", "0x+10de", "-10de", "0x10dé"] {
            assert!(wrong.parse::<PciId>().is_err(), "{wrong:?} was accepted");
        }
    }
}
