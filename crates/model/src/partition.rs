//! Partitions of a device: their identity, their modes, and what is known of each.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeviceId, Handle, Health, Known, MigInstance, PciAddress};

/// A device, or one partition of it: what Kubernetes allocates and what a series is about.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnitId {
    /// The device.
    pub device: DeviceId,
    /// The partition; none for the whole device.
    pub partition: Option<PartitionName>,
}

impl UnitId {
    /// The partition's name as metric labels spell it; empty for a whole device.
    pub fn partition_label(&self) -> String {
        self.partition.map(|partition| partition.to_string()).unwrap_or_default()
    }
}

impl From<DeviceId> for UnitId {
    fn from(device: DeviceId) -> Self {
        UnitId { device, partition: None }
    }
}

impl From<PciAddress> for UnitId {
    fn from(address: PciAddress) -> Self {
        DeviceId::from(address).into()
    }
}

impl From<PartitionId> for UnitId {
    fn from(id: PartitionId) -> Self {
        UnitId { device: id.device, partition: Some(id.name) }
    }
}

/// The name of a partition within its device.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum PartitionName {
    /// A MIG device, by the ids of its GPU instance and of its compute instance within that: `gi3-ci0`.
    Mig {
        /// The GPU instance.
        gpu_instance: u32,
        /// The compute instance.
        compute_instance: u32,
    },
    /// An accelerator partition (XCP) by its number: `xcp3`.
    Xcp(u32),
    /// An SR-IOV virtual function by its number: `vf0`.
    VirtualFunction(u32),
}

/// A string that does not name a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartitionNameError(String);

impl fmt::Display for PartitionNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a partition name such as gi3-ci0, xcp3 or vf0", self.0)
    }
}

impl std::error::Error for PartitionNameError {}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartitionName::Mig { gpu_instance, compute_instance } => {
                write!(f, "gi{gpu_instance}-ci{compute_instance}")
            }
            PartitionName::Xcp(number) => write!(f, "xcp{number}"),
            PartitionName::VirtualFunction(number) => write!(f, "vf{number}"),
        }
    }
}

impl FromStr for PartitionName {
    type Err = PartitionNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| PartitionNameError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<PartitionName> {
    // `parse` alone would accept a sign.
    let number =
        |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
    if let Some(number_of_xcp) = text.strip_prefix("xcp") {
        return number(number_of_xcp).map(PartitionName::Xcp);
    }
    if let Some(number_of_function) = text.strip_prefix("vf") {
        return number(number_of_function).map(PartitionName::VirtualFunction);
    }
    let (gpu_instance, compute_instance) = text.strip_prefix("gi")?.split_once("-ci")?;
    Some(PartitionName::Mig {
        gpu_instance: number(gpu_instance)?,
        compute_instance: number(compute_instance)?,
    })
}

impl TryFrom<String> for PartitionName {
    type Error = PartitionNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PartitionName> for String {
    fn from(name: PartitionName) -> String {
        name.to_string()
    }
}

impl JsonSchema for PartitionName {
    fn schema_name() -> Cow<'static, str> {
        "PartitionName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Name of a partition within its device: a MIG device, an XCP or a virtual function.",
            "pattern": "^(gi[0-9]+-ci[0-9]+|xcp[0-9]+|vf[0-9]+)$"
        })
    }
}

/// The identity of a partition: `<device>/<name>`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartitionId {
    /// The device.
    pub device: DeviceId,
    /// The name within it.
    pub name: PartitionName,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.name)
    }
}

impl TryFrom<String> for PartitionId {
    type Error = PartitionNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts = text.split_once('/').and_then(|(device, name)| {
            Some(PartitionId { device: device.parse::<PciAddress>().ok()?.into(), name: parse(name)? })
        });
        parts.ok_or(PartitionNameError(text))
    }
}

impl From<PartitionId> for String {
    fn from(id: PartitionId) -> String {
        id.to_string()
    }
}

impl JsonSchema for PartitionId {
    fn schema_name() -> Cow<'static, str> {
        "PartitionId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "Identity of a partition: <device>/<name>." })
    }
}

macro_rules! modes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// As the kernel and the vendor's tools spell it.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }

            /// The mode of this spelling, in either case.
            pub fn parse(text: &str) -> Option<$name> {
                [$($name::$variant),*].into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

modes!(
    /// Compute partition mode of a device with XCPs: how many partitions its compute units form.
    XcpComputeMode {
        /// One.
        Spx => "SPX",
        /// Two.
        Dpx => "DPX",
        /// Three.
        Tpx => "TPX",
        /// Four.
        Qpx => "QPX",
        /// One for each XCC.
        Cpx => "CPX",
    }
);

modes!(
    /// Memory partition mode of a device with XCPs: how many NUMA domains its memory forms.
    XcpMemoryMode {
        /// One.
        Nps1 => "NPS1",
        /// Two.
        Nps2 => "NPS2",
        /// Four.
        Nps4 => "NPS4",
        /// Eight.
        Nps8 => "NPS8",
    }
);

/// The partitioning mode of a device.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "scheme")]
pub enum Partitioning {
    /// Not partitioned, as a source reports.
    Whole,
    /// Accelerator partitions (XCPs).
    Xcp {
        /// Compute partition mode.
        compute: XcpComputeMode,
        /// Memory partition mode.
        memory: Known<XcpMemoryMode>,
    },
    /// Multi-Instance GPU (MIG) is enabled.
    Mig,
    /// SR-IOV virtual functions are enabled.
    Sriov {
        /// How many.
        functions: u32,
    },
}

impl Partitioning {
    /// Whether partitions of this kind are those of the mode.
    pub fn makes(&self, partition: PartitionName) -> bool {
        match self {
            Partitioning::Whole => false,
            Partitioning::Xcp { .. } => matches!(partition, PartitionName::Xcp(_)),
            Partitioning::Mig => matches!(partition, PartitionName::Mig { .. }),
            Partitioning::Sriov { .. } => matches!(partition, PartitionName::VirtualFunction(_)),
        }
    }
}

/// A partition of a device that can be allocated on its own.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Partition {
    /// Its identity.
    pub id: PartitionId,
    /// Its name within the device.
    pub name: PartitionName,
    /// Its profile as the vendor spells it: `1g.10gb`.
    pub profile: Known<String>,
    /// The PCI function, where the partition has one of its own.
    pub function: Known<PartitionFunction>,
    /// Memory of the partition in bytes.
    pub memory_bytes: Known<u64>,
    /// Compute units or multiprocessors of the partition.
    pub compute_units: Known<u32>,
    /// NUMA node.
    pub numa_node: Known<u32>,
    /// Whether it can take work, where a source reports that for the partition itself.
    pub health: Health,
    /// Other names of it.
    pub handles: Vec<Handle>,
    /// Placement and resources of a MIG device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig: Option<MigInstance>,
}

/// The PCI function of a partition.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionFunction {
    /// Its address.
    pub address: PciAddress,
    /// The driver bound to it.
    pub driver: Known<String>,
}

impl Partition {
    /// A partition of which only the identity is known.
    pub fn bare(device: DeviceId, name: PartitionName) -> Partition {
        Partition {
            id: PartitionId { device, name },
            name,
            profile: Known::default(),
            function: Known::default(),
            memory_bytes: Known::default(),
            compute_units: Known::default(),
            numa_node: Known::default(),
            health: Health::unknown(),
            handles: Vec::new(),
            mig: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_name_is_read_back_as_it_was_written() {
        for name in ["gi3-ci0", "xcp12", "vf0"] {
            assert_eq!(name.parse().map(|name: PartitionName| name.to_string()), Ok(name.to_owned()));
        }
        for wrong in ["", "xcp", "xcp+1", "gi3", "gi3-ci", "vf-1", "0000:01:00.0"] {
            assert!(wrong.parse::<PartitionName>().is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn a_partition_id_is_read_back_as_it_was_written() {
        let id = "0000:05:00.0/xcp3".to_owned();
        let read = PartitionId::try_from(id.clone()).expect("it is an id");
        assert_eq!((read.name, String::from(read)), (PartitionName::Xcp(3), id));
        assert!(PartitionId::try_from("0000:05:00.0".to_owned()).is_err());
    }

    #[test]
    fn modes_are_read_in_either_case_and_unknown_ones_are_none() {
        assert_eq!(XcpComputeMode::parse("CPX"), Some(XcpComputeMode::Cpx));
        assert_eq!(XcpMemoryMode::parse("nps4"), Some(XcpMemoryMode::Nps4));
        assert_eq!(XcpComputeMode::parse("SPX/2"), None);
    }
}
