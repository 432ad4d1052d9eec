//! Facts that only one vendor's devices have. They are read for labels and metrics in that vendor's spelling and by the
//! vendor's own probe; AFD's own names never depend on them.

mod amd;
mod nvidia;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    amd::{AmdFacts, BlockFirmware},
    nvidia::{MigInstance, NvidiaFacts, VgpuGuest},
};

/// Facts of one vendor's device beyond what all devices have.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VendorFacts {
    /// Of an AMD GPU.
    Amd(Box<AmdFacts>),
    /// Of an NVIDIA GPU.
    Nvidia(Box<NvidiaFacts>),
}
