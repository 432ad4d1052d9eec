//! What only NVIDIA's devices have, as NVML tells it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Known, Missing};

/// Facts of one GPU.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct NvidiaFacts {
    /// Whether MIG mode is on; `not_available` where the part has no MIG.
    pub mig_enabled: Known<bool>,
    /// Whether MIG mode will be on after the next reset.
    pub mig_pending: Known<bool>,
    /// Whether ECC is on.
    pub ecc_enabled: Known<bool>,
    /// Whether the driver stays loaded while nobody uses the GPU.
    pub persistence: Known<bool>,
    /// Who may compute: `default`, `exclusive_thread`, `prohibited`, `exclusive_process`.
    pub compute_mode: Known<String>,
    /// How the GPU is virtualised: `none`, `passthrough`, `vgpu`, `host_vgpu`, `host_vsga`.
    pub virtualization: Known<String>,
    /// How it addresses the system's memory: `hmm`, `ats`, `none`.
    pub addressing_mode: Known<String>,
    /// Whether confidential computing is on in the system.
    pub confidential_compute: Known<bool>,
    /// Under which of its brands NVIDIA sells it: `nvidia`, `tesla`, `geforce_rtx` ...
    pub brand: Known<String>,
    /// Part number of the board.
    pub board_part_number: Known<String>,
    /// Version of the GSP firmware that the driver loaded.
    pub gsp_firmware_version: Known<String>,
    /// Version of the InfoROM image.
    pub inforom_version: Known<String>,
    /// The lowest power limit that can be set, milliwatts.
    pub min_power_limit_milliwatts: Known<u32>,
    /// The highest, milliwatts.
    pub max_power_limit_milliwatts: Known<u32>,
    /// The one after a reset, milliwatts.
    pub default_power_limit_milliwatts: Known<u32>,
    /// NVLinks that are up.
    pub nvlinks: Known<u32>,
    /// Version of those links, as NVML numbers it.
    pub nvlink_version: Known<u32>,
    /// State of the NVLink fabric: `not_supported`, `not_started`, `in_progress`, `completed`.
    pub fabric_state: Known<String>,
    /// What a virtual machine is told of the host of its vGPU, if the GPU is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vgpu: Option<VgpuGuest>,
}

/// The host of a vGPU, as the GPU's PCI configuration tells its guest.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VgpuGuest {
    /// Version of the driver there: `550.127.06`.
    pub host_driver_version: Known<String>,
    /// Branch of that driver: `r550_00`.
    pub host_driver_branch: Known<String>,
}

impl NvidiaFacts {
    /// Nobody has told anything yet.
    pub fn unknown() -> NvidiaFacts {
        let unknown = Missing::NotExposed;
        NvidiaFacts {
            mig_enabled: unknown.into(),
            mig_pending: unknown.into(),
            ecc_enabled: unknown.into(),
            persistence: unknown.into(),
            compute_mode: unknown.into(),
            virtualization: unknown.into(),
            addressing_mode: unknown.into(),
            confidential_compute: unknown.into(),
            brand: unknown.into(),
            board_part_number: unknown.into(),
            gsp_firmware_version: unknown.into(),
            inforom_version: unknown.into(),
            min_power_limit_milliwatts: unknown.into(),
            max_power_limit_milliwatts: unknown.into(),
            default_power_limit_milliwatts: unknown.into(),
            nvlinks: unknown.into(),
            nvlink_version: unknown.into(),
            fabric_state: unknown.into(),
            vgpu: None,
        }
    }
}

/// Where a MIG device lies in its GPU, and what it has of it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct MigInstance {
    /// Id of the GPU instance.
    pub gpu_instance: u32,
    /// Id of the compute instance within it.
    pub compute_instance: u32,
    /// Slices of the GPU's memory and engines.
    pub gpu_slices: Known<u32>,
    /// Slices of the GPU's multiprocessors.
    pub compute_slices: Known<u32>,
    /// Copy engines, shared with other compute instances of the GPU instance, as the next ones are.
    pub copy_engines: Known<u32>,
    /// Video decoders.
    pub decoders: Known<u32>,
    /// Video encoders.
    pub encoders: Known<u32>,
    /// JPEG decoders.
    pub jpeg_engines: Known<u32>,
    /// Optical flow engines.
    pub ofa_engines: Known<u32>,
}
