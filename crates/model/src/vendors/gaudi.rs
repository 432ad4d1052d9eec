//! Facts that only Gaudi accelerators have, and quantities of Habana's own exporter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Known;

/// Facts of one Gaudi.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct GaudiFacts {
    /// Form of the device as the driver names it: `GAUDI2`, `GAUDI3 HL-338`.
    pub device_type: Known<String>,
    /// The firmware with its operating system, as the driver reports it: `Zephyr 2.7.2-hl-gaudi2-1.16.0-fw-50.0.0`.
    pub firmware_text: Known<String>,
    /// Maker of the server (DMI).
    pub server_vendor: Known<String>,
    /// Version of the FIT image of the firmware.
    pub fit_version: Known<String>,
    /// Version of the SPI image of the firmware.
    pub spi_version: Known<String>,
    /// Whether ECC is enabled.
    pub ecc_enabled: Known<bool>,
}

/// A quantity of Habana's exporter that AFD's own vocabulary does not have.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum GaudiQuantity {
    /// The power limit that is in force unless another one is set, watts.
    DefaultPowerLimitWatts,
}
