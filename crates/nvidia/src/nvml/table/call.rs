//! The calls of NVML by name, and when each is made. Calls whose arguments are known at run time only have none here.

use afd_probe::answers::LibraryCall;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $symbol:literal $(($($argument:expr),*))?;)*) => {
        $($(#[$doc])* pub(crate) const $name: LibraryCall = LibraryCall::selecting($symbol, &[$($($argument),*)?]);)*
        /// All calls.
        #[cfg(test)]
        pub(crate) const ALL: &[LibraryCall] = &[$($name),*];
    };
}

/// Scope of an NVLink field: the sum over all links.
const ALL_LINKS: u32 = u32::MAX;

calls! {
    INIT = "nvmlInit_v2";
    DRIVER_VERSION = "nvmlSystemGetDriverVersion";
    NVML_VERSION = "nvmlSystemGetNVMLVersion";
    CUDA_VERSION = "nvmlSystemGetCudaDriverVersion_v2";
    CONFIDENTIAL_COMPUTE = "nvmlSystemGetConfComputeState";
    DEVICE_COUNT = "nvmlDeviceGetCount_v2";
    HANDLE_BY_INDEX = "nvmlDeviceGetHandleByIndex_v2";

    PCI_INFO = "nvmlDeviceGetPciInfo_v3";
    NAME = "nvmlDeviceGetName";
    UUID = "nvmlDeviceGetUUID";
    SERIAL = "nvmlDeviceGetSerial";
    BRAND = "nvmlDeviceGetBrand";
    ARCHITECTURE = "nvmlDeviceGetArchitecture";
    COMPUTE_CAPABILITY = "nvmlDeviceGetCudaComputeCapability";
    MINOR_NUMBER = "nvmlDeviceGetMinorNumber";
    VBIOS_VERSION = "nvmlDeviceGetVbiosVersion";
    BOARD_PART_NUMBER = "nvmlDeviceGetBoardPartNumber";
    INFOROM_VERSION = "nvmlDeviceGetInforomImageVersion";
    GSP_FIRMWARE_VERSION = "nvmlDeviceGetGspFirmwareVersion";
    MODULE_ID = "nvmlDeviceGetModuleId";
    MIG_MODE = "nvmlDeviceGetMigMode";
    ADDRESSING_MODE = "nvmlDeviceGetAddressingMode";
    ECC_MODE = "nvmlDeviceGetEccMode";
    PERSISTENCE_MODE = "nvmlDeviceGetPersistenceMode";
    COMPUTE_MODE = "nvmlDeviceGetComputeMode";
    VIRTUALIZATION_MODE = "nvmlDeviceGetVirtualizationMode";
    POWER_LIMIT_RANGE = "nvmlDeviceGetPowerManagementLimitConstraints";
    DEFAULT_POWER_LIMIT = "nvmlDeviceGetPowerManagementDefaultLimit";
    GPM_SUPPORT = "nvmlGpmQueryDeviceSupport";
    MAX_CLOCK_SM = "nvmlDeviceGetMaxClockInfo"(1);
    MAX_CLOCK_MEMORY = "nvmlDeviceGetMaxClockInfo"(2);
    MAX_CLOCK_VIDEO = "nvmlDeviceGetMaxClockInfo"(3);
    /// Not supported from Ada and Hopper on, which count down to their limits instead; so are the next three.
    SHUTDOWN_TEMPERATURE = "nvmlDeviceGetTemperatureThreshold"(0);
    SLOWDOWN_TEMPERATURE = "nvmlDeviceGetTemperatureThreshold"(1);
    MAX_TEMPERATURE_MEMORY = "nvmlDeviceGetTemperatureThreshold"(2);
    MAX_TEMPERATURE_GPU = "nvmlDeviceGetTemperatureThreshold"(3);
    MEMORY = "nvmlDeviceGetMemoryInfo_v2";
    MEMORY_V1 = "nvmlDeviceGetMemoryInfo";
    FABRIC = "nvmlDeviceGetGpuFabricInfoV";
    FABRIC_V1 = "nvmlDeviceGetGpuFabricInfo";

    /// By link.
    NVLINK_STATE = "nvmlDeviceGetNvLinkState";
    /// By link.
    NVLINK_VERSION = "nvmlDeviceGetNvLinkVersion";
    /// By link.
    NVLINK_REMOTE_TYPE = "nvmlDeviceGetNvLinkRemoteDeviceType";
    /// By link.
    NVLINK_REMOTE_PCI = "nvmlDeviceGetNvLinkRemotePciInfo_v2";
    /// By index of the other GPU, and capability.
    P2P_STATUS = "nvmlDeviceGetP2PStatus";

    /// The bits of the events that the GPU reports, once they are watched.
    REGISTER_EVENTS = "nvmlDeviceRegisterEvents";

    /// By index.
    MIG_BY_INDEX = "nvmlDeviceGetMigDeviceHandleByIndex";
    MAX_MIG_DEVICES = "nvmlDeviceGetMaxMigDeviceCount";
    /// By number of the profile.
    GPU_INSTANCE_PROFILE = "nvmlDeviceGetGpuInstanceProfileInfoV";
    GPU_INSTANCE_ID = "nvmlDeviceGetGpuInstanceId";
    COMPUTE_INSTANCE_ID = "nvmlDeviceGetComputeInstanceId";
    GPU_INSTANCE_INFO = "nvmlGpuInstanceGetInfo";
    MIG_ATTRIBUTES = "nvmlDeviceGetAttributes_v2";

    REMAPPED_ROWS = "nvmlDeviceGetRemappedRows";
    RETIRED_PAGES_PENDING = "nvmlDeviceGetRetiredPagesPendingStatus";
    CLOCKS_EVENT_REASONS = "nvmlDeviceGetCurrentClocksEventReasons";
    CLOCKS_THROTTLE_REASONS = "nvmlDeviceGetCurrentClocksThrottleReasons";
    /// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`.
    RECOVERY_ACTION = "nvmlDeviceGetFieldValues"(230);

    UTILIZATION = "nvmlDeviceGetUtilizationRates";
    ENCODER_UTILIZATION = "nvmlDeviceGetEncoderUtilization";
    DECODER_UTILIZATION = "nvmlDeviceGetDecoderUtilization";
    JPEG_UTILIZATION = "nvmlDeviceGetJpgUtilization";
    OFA_UTILIZATION = "nvmlDeviceGetOfaUtilization";
    POWER_USAGE = "nvmlDeviceGetPowerUsage";
    POWER_LIMIT = "nvmlDeviceGetEnforcedPowerLimit";
    ENERGY = "nvmlDeviceGetTotalEnergyConsumption";
    TEMPERATURE_GPU = "nvmlDeviceGetTemperature"(0);
    /// `NVML_FI_DEV_MEMORY_TEMP`.
    TEMPERATURE_MEMORY = "nvmlDeviceGetFieldValues"(82);
    CLOCK_SM = "nvmlDeviceGetClockInfo"(1);
    CLOCK_MEMORY = "nvmlDeviceGetClockInfo"(2);
    CLOCK_VIDEO = "nvmlDeviceGetClockInfo"(3);
    PCIE_REPLAYS = "nvmlDeviceGetPcieReplayCounter";
    /// Since the driver was loaded ("volatile"), as the next.
    ECC_CORRECTED = "nvmlDeviceGetTotalEccErrors"(0, 0);
    ECC_UNCORRECTED = "nvmlDeviceGetTotalEccErrors"(1, 0);
    VIOLATION_POWER = "nvmlDeviceGetViolationStatus"(0);
    VIOLATION_THERMAL = "nvmlDeviceGetViolationStatus"(1);
    /// `NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX`.
    NVLINK_TRANSMITTED = "nvmlDeviceGetFieldValues"(138, ALL_LINKS);
    /// `NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX`.
    NVLINK_RECEIVED = "nvmlDeviceGetFieldValues"(139, ALL_LINKS);
    /// By link, as the next ones: the same of one link.
    LINK_TRANSMITTED = "nvmlDeviceGetFieldValues"(138);
    LINK_RECEIVED = "nvmlDeviceGetFieldValues"(139);
    /// `NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY`; not supported from Blackwell on, as the next two.
    LINK_REPLAYS = "nvmlDeviceGetFieldValues"(161);
    /// `NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY`.
    LINK_RECOVERIES = "nvmlDeviceGetFieldValues"(162);
    /// `NVML_FI_DEV_NVLINK_ERROR_DL_CRC`.
    LINK_CRC_ERRORS = "nvmlDeviceGetFieldValues"(163);
    /// `NVML_FI_DEV_NVLINK_COUNT_RCV_ERRORS`; supported from Blackwell on, as the next.
    LINK_RECEIVE_ERRORS = "nvmlDeviceGetFieldValues"(208);
    /// `NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_EVENTS`.
    LINK_RECOVERY_EVENTS = "nvmlDeviceGetFieldValues"(215);

    GPM_GRAPHICS = "nvmlGpmMetricsGet"(1);
    GPM_SM = "nvmlGpmMetricsGet"(2);
    GPM_TENSOR = "nvmlGpmMetricsGet"(5);
    GPM_MEMORY_BANDWIDTH = "nvmlGpmMetricsGet"(10);
    GPM_PCIE_TRANSMITTED = "nvmlGpmMetricsGet"(20);
    GPM_PCIE_RECEIVED = "nvmlGpmMetricsGet"(21);

    LICENCES = "nvmlDeviceGetGridLicensableFeatures_v4";
    COMPUTE_PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3";
    GRAPHICS_PROCESSES = "nvmlDeviceGetGraphicsRunningProcesses_v3";
    /// Of the Multi-Process Service.
    MPS_PROCESSES = "nvmlDeviceGetMPSComputeRunningProcesses_v3";
}

/// Calls, each with the one to make where the library lacks its symbol.
pub(crate) const OLDER_CALLS: &[(LibraryCall, LibraryCall)] =
    &[(MEMORY, MEMORY_V1), (FABRIC, FABRIC_V1), (CLOCKS_EVENT_REASONS, CLOCKS_THROTTLE_REASONS)];

/// Asked in each discovery of the system.
pub(crate) const SYSTEM_CALLS: &[LibraryCall] =
    &[DRIVER_VERSION, NVML_VERSION, CUDA_VERSION, CONFIDENTIAL_COMPUTE, DEVICE_COUNT];

/// Asked in each discovery of every GPU, with the calls of [`HEALTH_ROWS`](super::HEALTH_ROWS).
pub(crate) const GPU_CALLS: &[LibraryCall] = &[
    PCI_INFO,
    NAME,
    UUID,
    SERIAL,
    BRAND,
    ARCHITECTURE,
    COMPUTE_CAPABILITY,
    MINOR_NUMBER,
    VBIOS_VERSION,
    BOARD_PART_NUMBER,
    INFOROM_VERSION,
    GSP_FIRMWARE_VERSION,
    MODULE_ID,
    MIG_MODE,
    ADDRESSING_MODE,
    ECC_MODE,
    PERSISTENCE_MODE,
    COMPUTE_MODE,
    VIRTUALIZATION_MODE,
    POWER_LIMIT_RANGE,
    DEFAULT_POWER_LIMIT,
    GPM_SUPPORT,
    MAX_CLOCK_SM,
    MAX_CLOCK_MEMORY,
    MAX_CLOCK_VIDEO,
    SHUTDOWN_TEMPERATURE,
    SLOWDOWN_TEMPERATURE,
    MAX_TEMPERATURE_MEMORY,
    MAX_TEMPERATURE_GPU,
    MEMORY,
    FABRIC,
];

/// Asked in each discovery of every MIG device.
pub(crate) const MIG_CALLS: &[LibraryCall] =
    &[NAME, UUID, GPU_INSTANCE_ID, COMPUTE_INSTANCE_ID, MIG_ATTRIBUTES, MEMORY];

/// Asked in each sample of every MIG device, with the calls of [`MEMORY_ROWS`](super::MEMORY_ROWS): which MIG device it is.
pub(crate) const MIG_IDENTITY_CALLS: &[LibraryCall] = &[GPU_INSTANCE_ID, COMPUTE_INSTANCE_ID];

/// Asked in each sample of every GPU where memory per process is enabled.
pub(crate) const PROCESS_CALLS: &[LibraryCall] = &[COMPUTE_PROCESSES, GRAPHICS_PROCESSES, MPS_PROCESSES];

/// The call to make where the library lacks the symbol of this one.
pub(crate) fn older(call: LibraryCall) -> Option<LibraryCall> {
    OLDER_CALLS.iter().find(|(newer, _)| *newer == call).map(|(_, older)| *older)
}

/// Whether a call is only made where the library lacks the symbol of another.
pub(crate) fn is_older(call: LibraryCall) -> bool {
    OLDER_CALLS.iter().any(|(_, older)| *older == call)
}
