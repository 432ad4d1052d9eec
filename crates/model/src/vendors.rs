//! What only one vendor's devices have: facts and quantities that are read for labels and metrics in that vendor's
//! spelling and by the vendor's own probe. AFD's own names never depend on them.

mod amd;
mod gaudi;
mod intel;
mod nvidia;
mod tpu;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    amd::{AmdFacts, AmdQuantity, BlockFirmware, HostLimitCause},
    gaudi::{GaudiFacts, GaudiQuantity},
    intel::{IntelComponent, IntelFacts, IntelFirmware, IntelQuantity, IntelValue, XelinkPort},
    nvidia::{MigInstance, NvidiaFacts, NvidiaQuantity, VgpuGuest},
    tpu::TpuSlice,
};
use crate::{Device, Fact, Known, Quantity};

/// Facts of one vendor's device beyond what all devices have.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VendorFacts {
    /// Of an AMD GPU.
    Amd(Box<AmdFacts>),
    /// Of a Gaudi.
    Gaudi(Box<GaudiFacts>),
    /// Of an Intel GPU.
    Intel(Box<IntelFacts>),
    /// Of an NVIDIA GPU.
    Nvidia(Box<NvidiaFacts>),
    /// Of a TPU chip.
    Tpu(Box<TpuSlice>),
}

/// A quantity of one vendor's exporter that AFD's own vocabulary does not have.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum VendorQuantity {
    /// Of AMD's device metrics exporter.
    Amd(AmdQuantity),
    /// Of Habana's exporter.
    Gaudi(GaudiQuantity),
    /// Of XPU Manager.
    Intel(IntelQuantity),
    /// Of dcgm-exporter.
    Nvidia(NvidiaQuantity),
}

impl VendorQuantity {
    /// Whether it counts errors.
    pub(crate) fn is_error_count(self) -> bool {
        matches!(self, VendorQuantity::Amd(AmdQuantity::AllErrors(_)))
    }
}

impl From<AmdQuantity> for Quantity {
    fn from(quantity: AmdQuantity) -> Self {
        Quantity::Vendor(VendorQuantity::Amd(quantity))
    }
}

impl From<GaudiQuantity> for Quantity {
    fn from(quantity: GaudiQuantity) -> Self {
        Quantity::Vendor(VendorQuantity::Gaudi(quantity))
    }
}

impl From<IntelQuantity> for Quantity {
    fn from(quantity: IntelQuantity) -> Self {
        Quantity::Vendor(VendorQuantity::Intel(quantity))
    }
}

impl From<NvidiaQuantity> for Quantity {
    fn from(quantity: NvidiaQuantity) -> Self {
        Quantity::Vendor(VendorQuantity::Nvidia(quantity))
    }
}

impl Device {
    /// Facts that only AMD's devices have.
    pub fn amd(&self) -> Option<&AmdFacts> {
        match self.vendor_facts.as_ref()? {
            VendorFacts::Amd(facts) => Some(facts),
            _ => None,
        }
    }

    /// Facts that only Gaudi accelerators have.
    pub fn gaudi(&self) -> Option<&GaudiFacts> {
        match self.vendor_facts.as_ref()? {
            VendorFacts::Gaudi(facts) => Some(facts),
            _ => None,
        }
    }

    /// Facts that only Intel's GPUs have.
    pub fn intel(&self) -> Option<&IntelFacts> {
        match self.vendor_facts.as_ref()? {
            VendorFacts::Intel(facts) => Some(facts),
            _ => None,
        }
    }

    /// Facts that only NVIDIA's devices have.
    pub fn nvidia(&self) -> Option<&NvidiaFacts> {
        match self.vendor_facts.as_ref()? {
            VendorFacts::Nvidia(facts) => Some(facts),
            _ => None,
        }
    }

    /// Whether other hosts have devices of the same slice; none while that is not decided.
    pub fn is_part_of_slice(&self) -> Option<bool> {
        match self.tpu_slice().map(|slice| slice.hosts) {
            None if self.undecided.contains_any(&[Fact::VendorFacts]) => None,
            Some(Known::Value(hosts)) => Some(hosts > 1),
            Some(Known::Missing { missing }) if missing.is_undecided() => None,
            _ => Some(false),
        }
    }

    /// The slice to which a TPU chip belongs.
    pub fn tpu_slice(&self) -> Option<&TpuSlice> {
        match self.vendor_facts.as_ref()? {
            VendorFacts::Tpu(slice) => Some(slice),
            _ => None,
        }
    }
}
