//! Vendor and variant of an accelerator, in llm-d's vocabulary.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Vendor of the accelerator. Gaudi is Intel's.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Vendor {
    /// Advanced Micro Devices.
    Amd,
    /// Google.
    Google,
    /// Intel, Habana Labs included.
    Intel,
    /// NVIDIA.
    Nvidia,
}

impl Vendor {
    /// The value of the labels `vendor` and `llm-d.ai/accelerator-vendor`.
    pub fn as_str(self) -> &'static str {
        match self {
            Vendor::Amd => "amd",
            Vendor::Google => "google",
            Vendor::Intel => "intel",
            Vendor::Nvidia => "nvidia",
        }
    }
}

/// Kind of accelerator, as llm-d's guides spell it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// NVIDIA's and AMD's GPUs.
    Gpu,
    /// Intel Gaudi.
    Hpu,
    /// Google TPU.
    Tpu,
    /// Intel's GPUs.
    Xpu,
}

impl Variant {
    /// The value of the labels `variant` and `llm-d.ai/accelerator-variant`.
    pub fn as_str(self) -> &'static str {
        match self {
            Variant::Gpu => "gpu",
            Variant::Hpu => "hpu",
            Variant::Tpu => "tpu",
            Variant::Xpu => "xpu",
        }
    }
}
