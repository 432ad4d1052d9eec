//! How NICs, other devices and other nodes reach a device, as far as the kernel shows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Known, Missing};

/// What the driver of a device and the modules beside it offer for transfers between devices and NICs.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PeerFacts {
    /// Whether the module is loaded by which NICs reach the memory of the device.
    pub peer_memory_module: Known<bool>,
    /// Whether driver and kernel can share the memory of the device with NICs as a dma-buf.
    pub dma_buf: Known<bool>,
    /// Whether the module for copies by the CPU (GDRCopy) is loaded.
    pub gdr_copy: Known<bool>,
    /// Whether programs without privileges may map the doorbells of NICs into the device.
    pub peer_mapping: Known<bool>,
    /// Channels by which memory of other nodes in the same fabric is imported.
    pub import_channels: Known<u32>,
    /// Version of the vendor's library on the host, by the name of its file.
    pub library_version: Known<String>,
}

impl PeerFacts {
    /// Why facts are not known, of those that are not.
    pub fn missing(&self) -> impl Iterator<Item = Missing> + use<> {
        let reasons = [
            self.peer_memory_module.missing(),
            self.dma_buf.missing(),
            self.gdr_copy.missing(),
            self.peer_mapping.missing(),
            self.import_channels.missing(),
            self.library_version.missing(),
        ];
        reasons.into_iter().flatten()
    }

    /// Whether NICs can reach the memory of the device; missing unless one way is known to work, or all are known not to.
    pub fn direct_access(&self) -> Known<bool> {
        match (&self.peer_memory_module, &self.dma_buf) {
            (Known::Value(true), _) | (_, Known::Value(true)) => Known::Value(true),
            (Known::Value(false), other) | (other, Known::Value(false)) => *other,
            (missing, _) => *missing,
        }
    }
}
