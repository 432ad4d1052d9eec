//! Facts that only NVIDIA's GPUs have, as NVML reports them, and quantities of dcgm-exporter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Known;

/// Facts of one NVIDIA GPU.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct NvidiaFacts {
    /// Whether MIG mode is enabled; `not_available` where the GPU has no MIG.
    pub mig_enabled: Known<bool>,
    /// Whether MIG mode will be enabled after the next reset.
    pub mig_pending: Known<bool>,
    /// Whether ECC is enabled.
    pub ecc_enabled: Known<bool>,
    /// Whether the driver keeps the GPU initialised while no client uses it.
    pub persistence: Known<bool>,
    /// Compute mode: `default`, `exclusive_thread`, `prohibited`, `exclusive_process`.
    pub compute_mode: Known<String>,
    /// How the GPU is virtualised: `none`, `passthrough`, `vgpu`, `host_vgpu`, `host_vsga`.
    pub virtualization: Known<String>,
    /// How it addresses the system's memory: `hmm`, `ats`, `none`.
    pub addressing_mode: Known<String>,
    /// Whether confidential computing is enabled on the host.
    pub confidential_compute: Known<bool>,
    /// Brand under which NVIDIA sells it: `nvidia`, `tesla`, `geforce_rtx` ...
    pub brand: Known<String>,
    /// Part number of the board.
    pub board_part_number: Known<String>,
    /// Version of the GSP firmware that the driver loaded.
    pub gsp_firmware_version: Known<String>,
    /// Version of the InfoROM image.
    pub inforom_version: Known<String>,
    /// Lowest power limit that can be set, milliwatts.
    pub min_power_limit_milliwatts: Known<u32>,
    /// Highest power limit that can be set, milliwatts.
    pub max_power_limit_milliwatts: Known<u32>,
    /// Default power limit, milliwatts.
    pub default_power_limit_milliwatts: Known<u32>,
    /// Number of NVLinks that are up.
    pub nvlinks: Known<u32>,
    /// Version of those links, as NVML numbers it.
    pub nvlink_version: Known<u32>,
    /// State of the NVLink fabric: `not_supported`, `not_started`, `in_progress`, `completed`.
    pub fabric_state: Known<String>,
    /// The host of a vGPU, if the GPU is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vgpu: Option<VgpuGuest>,
}

/// The host of a vGPU, as the PCI configuration space reports it to the guest.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VgpuGuest {
    /// Driver version of the host: `550.127.06`.
    pub host_driver_version: Known<String>,
    /// Branch of that driver: `r550_00`.
    pub host_driver_branch: Known<String>,
}

/// Placement and resources of a MIG device.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct MigInstance {
    /// Id of the GPU instance.
    pub gpu_instance: u32,
    /// Id of the compute instance within it.
    pub compute_instance: u32,
    /// GPU slices (memory and engines).
    pub gpu_slices: Known<u32>,
    /// Compute slices (multiprocessors).
    pub compute_slices: Known<u32>,
    /// Copy engines. These and the following are shared by the compute instances of a GPU instance.
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

/// A quantity of dcgm-exporter.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NvidiaQuantity {
    /// 1 if the vGPU is licensed, else 0.
    VgpuLicensed,
}
