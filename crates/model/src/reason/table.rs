//! The rows.

use super::{
    ReasonClass::{DeviceFault, Driver, Fabric, Library, Maintenance, Offer, Unknown},
    ReasonRow, XID,
    effects::{
        BY_SEVERITY, MAINTENANCE, MISSING, NEVER_PROBLEM, NO_CONDITION, NO_DRIVER, NO_FABRIC, NO_HEALTH,
        NOT_OFFERED, SILENT_LIBRARY, UNKNOWN_OFFER, UNREADABLE, WORKLOAD, degraded, fault, fine, row,
        unknown,
    },
};
use crate::{EVIDENCE_UNREADABLE, OTHER_DRIVER};

/// All reasons, in the order of the documentation.
pub const REASONS: &[ReasonRow] = &[
    // The node as a whole.
    fine("AllHealthy", "every device is healthy and offered to pods", "nothing"),
    fine(
        "NoDeviceFault",
        "no fault of a device is known; the reason of `Problem` while it is `False`",
        "nothing",
    ),
    fine("Passthrough", "all devices are given to virtual machines", "nothing"),
    fine(
        "OfferedTwice",
        "a device plugin and a DRA driver offer the same device, so that two pods may be given it",
        "configure only one of the two to offer it",
    ),
    degraded(
        "Degraded",
        "every device can take work, and some are degraded; the message has their reasons",
        "see the reasons in the message",
    ),
    row(
        "DeviceMissing",
        DeviceFault,
        MISSING,
        "a device that is expected is not on the bus",
        "see the kernel log; reset the slot, restart the node or replace the device. `afd forget` or the annotation `expect` where it was removed on purpose",
    ),
    fault(
        "DeviceUnhealthy",
        "a device has failed, and its source gave no reason",
        "see the kernel log and the report of the vendor's tools",
    ),
    row(
        "NotAllocatable",
        Offer,
        NOT_OFFERED,
        "devices that have not failed are not offered to pods",
        "check the log of the device plugin or DRA driver on this node",
    ),
    row(
        "OfferUnknown",
        Offer,
        UNKNOWN_OFFER,
        "the API server has not reported which devices are offered",
        "check whether the agent may read its Node and ResourceSlices",
    ),
    row(
        "HealthUnknown",
        Unknown,
        NO_HEALTH,
        "no source reports the health of a device",
        "make the vendor's library visible to the agent, where there is one",
    ),
    row(
        "InstanceTypeDiffers",
        Unknown,
        NO_CONDITION,
        "the machine has another number of devices than its cloud instance type",
        "nothing where that is intended; set the annotation `expect` otherwise",
    ),
    // The driver and its library.
    row(
        "DriverMissing",
        Driver,
        NO_DRIVER,
        "no kernel driver is bound to the device",
        "load the vendor's driver, or use the machine's image for these devices where it binds vfio-pci; see the kernel log",
    ),
    row(
        OTHER_DRIVER,
        Unknown,
        NO_HEALTH,
        "a driver is bound with which the device does not compute, such as that of virtual machines or of the console",
        "nothing where that is intended; bind the vendor's driver otherwise",
    ),
    row(
        "DriverLibraryMismatch",
        Driver,
        NEVER_PROBLEM,
        "the library and the loaded kernel driver are of different versions, so that no new program can use the device",
        "reload the driver, or restart the node",
    ),
    row(
        "GpuExcluded",
        Driver,
        NEVER_PROBLEM,
        "the driver is configured to exclude the device",
        "remove the option of the driver's module, if it is not intended",
    ),
    row(
        "LibraryNotResponding",
        Library,
        SILENT_LIBRARY,
        "the vendor's library does not answer",
        "see the kernel log; reset the devices, or restart the node if processes hang in the driver",
    ),
    row(
        "DriverUpgrade",
        Maintenance,
        MAINTENANCE,
        "the driver is being replaced",
        "wait; see the operator that replaces it if it takes long",
    ),
    row(
        "DriverInstalling",
        Maintenance,
        MAINTENANCE,
        "no driver is bound yet, as while a driver container installs it",
        "wait; see the log of the driver container if it takes long",
    ),
    row(
        "Reconfiguring",
        Maintenance,
        MAINTENANCE,
        "the devices are being reconfigured, their partitions for example",
        "wait; see the log of the tool that does it if it takes long",
    ),
    // The device, by its own evidence.
    fault(
        "GpuLost",
        "the device has fallen off the bus or cannot be reached",
        "see the kernel log; reset or replace it",
    ),
    fault(
        "DeviceNodeMissing",
        "the driver is bound, and the device has no device node that a pod could be given",
        "check the driver, the IOMMU and the image of the machine",
    ),
    fault(
        "GpuNotListed",
        "the driver is bound to the device, and the library does not list it",
        "see the kernel log; reset or replace the device",
    ),
    fault("GpuInaccessible", "the library cannot open the device", "see the kernel log; reset the device"),
    fault(
        "GpuUnavailable",
        "the driver has marked the device unavailable",
        "reset the device; replace it if that recurs",
    ),
    fault("GpuFailed", "the device of a partition has failed", "see the reasons of the device"),
    fault("GpuResetRequired", "the driver requests a reset of the device", "drain and reset it"),
    fault(
        "BusResetRequired",
        "the driver requests a reset of the device's PCIe bus",
        "drain the node and restart it",
    ),
    fault("NodeRebootRequired", "the driver requests a restart of the node", "drain the node and restart it"),
    fault(
        "NeedsReset",
        "the driver reports that the device malfunctions or needs a reset",
        "reset it; see the kernel log",
    ),
    fault(
        "CriticalEvent",
        "the driver has reported a critical error, and the device was not reset since",
        "drain the node and reset the device; see the kernel log",
    ),
    fault(
        "DeviceLost",
        "the library has lost the device, and the driver does not reset it",
        "see the kernel log; reset or replace the device",
    ),
    fault("InReset", "the driver resets the device", "wait; see the kernel log if it persists"),
    fault(
        "Disabled",
        "the driver has disabled the device",
        "see the kernel log; reset or replace the device",
    ),
    fault(
        "Wedged",
        "the driver has marked the device as wedged, since resets did not help",
        "see the kernel log; rebind the driver or restart the node",
    ),
    fault(
        "GpuHealthCritical",
        "the driver reports that the device is in a critical state or has failed",
        "drain the node; see the kernel log; reset or replace the device",
    ),
    fault(
        "MemoryFailed",
        "the memory of the device is to be replaced",
        "drain the node and replace the device",
    ),
    fault("SurvivabilityMode", "the firmware of the device has failed", "flash the firmware"),
    row(
        XID,
        DeviceFault,
        BY_SEVERITY,
        "an error that the driver reported by its number (XID); its severity decides whether the device has failed or is degraded",
        "see the driver's catalogue of XIDs for the number; reset or replace the device if it has failed",
    ),
    fault(
        "EccDoubleBit",
        "an uncorrectable ECC error",
        "drain and reset the device; replace it if that recurs",
    ),
    fault("DramRetirementFailed", "memory could not be retired", "replace the device"),
    fault("PoisonFatal", "poisoned data was used", "drain and reset the device"),
    fault(
        "RowRemapFailure",
        "a faulty memory row could not be replaced, since no spare one is left",
        "replace the device",
    ),
    fault(
        "UncorrectableErrors",
        "a block of the device has counted uncorrectable errors",
        "drain the node; reset the device or reload the driver",
    ),
    fault(
        "UncorrectableErrorsGrow",
        "a block of the device counts more and more uncorrectable errors",
        "take the device out of service; replace it if they continue after a reset",
    ),
    fault(
        "FatalErrorRecord",
        "the driver has recorded a fatal error",
        "drain the node and reset the device; replace it if that recurs",
    ),
    fault(
        "BadPagesInUse",
        "a bad page of memory could not be retired",
        "reset the device; replace it if the page stays in use",
    ),
    fault(
        "BadPageThreshold",
        "the device has as many bad pages of memory as its vendor allows",
        "replace the device: the driver may refuse it at its next start",
    ),
    // A device that works, with a fault.
    degraded(
        "ChipIncomplete",
        "a PCI function of the chip is missing",
        "see the kernel log; restart or repair the machine",
    ),
    degraded(
        "SliceError",
        "the platform reports an error of the slice to which the chip belongs",
        "see the log of the workload and the events of the slice's hosts",
    ),
    degraded(
        "SliceHang",
        "the platform reports that a workload over several slices hangs",
        "see the log of the workload; restart it if it does not go on",
    ),
    degraded(
        "RowRemapPending",
        "a faulty memory row is replaced at the next reset",
        "reset the device when it is idle",
    ),
    degraded(
        "PageRetirementPending",
        "faulty memory pages are retired at the next load of the driver",
        "reload the driver when the device is idle",
    ),
    degraded(
        "BadPagesPending",
        "a bad page of memory is pending retirement",
        "reset the device when it is idle",
    ),
    degraded("DramRetirement", "memory was retired", "nothing; replace the device if that recurs"),
    degraded("EccStorm", "a storm of correctable ECC errors", "replace the device if it continues"),
    degraded("DeferredErrors", "errors in data that has not been used", "reset the device when it is idle"),
    degraded(
        "Poison",
        "poisoned data was contained",
        "restart the programs that used it; reset the device when it is idle",
    ),
    degraded(
        "DrainP2p",
        "the driver requests to end programs that use peer-to-peer access",
        "end them, then reset the device",
    ),
    degraded(
        "DrainAndReset",
        "the driver requests to drain the device and to reset it",
        "drain and reset it",
    ),
    degraded(
        "ImexRecoveryRequired",
        "the driver requests to recover the IMEX domain",
        "restart the IMEX daemons of the domain",
    ),
    degraded(
        "RecoveryRequired",
        "the driver requests a recovery action that this version does not know",
        "see the report of the vendor's tools",
    ),
    degraded("FabricFailed", "registration with the fabric has failed", "see the log of the fabric manager"),
    degraded(
        "FabricUnhealthy",
        "the fabric reports that it is unhealthy",
        "see the log of the fabric manager",
    ),
    degraded("FabricLimited", "the fabric runs with limited capacity", "see the log of the fabric manager"),
    degraded(
        "LinkErrorsGrow",
        "the device-to-device links count more and more corrected errors",
        "check the link partners and the board",
    ),
    degraded(
        "LinkDown",
        "device-to-device links are down while others of the device are up, or fewer are up than there are other devices",
        "reset all devices; check the board if the link stays down",
    ),
    degraded(
        "MemoryDegraded",
        "the memory of the device has errors that may become too many to correct",
        "reset the device when it is idle; replace it if the state stays",
    ),
    degraded(
        "GpuHealthWarning",
        "the driver warns of the health of the device",
        "see the kernel log; reset the device when it is idle",
    ),
    degraded(
        "RepairPending",
        "the device needs a reset to complete repairs",
        "reset the device when it is idle",
    ),
    degraded(
        "UncorrectableRasErrors",
        "the hardware has counted uncorrectable errors since the driver was loaded",
        "reset the device when it is idle; replace it if the errors continue",
    ),
    degraded(
        "RowReplacementPending",
        "a faulty row of the memory waits for its replacement",
        "reset the device when it is idle",
    ),
    degraded(
        "UncorrectedEccGrows",
        "more uncorrected memory errors were counted since the last reset",
        "reset the device when it is idle; replace it if the errors continue",
    ),
    degraded(
        "ThermalSlowdown",
        "the hardware reduces clocks because it is too hot",
        "check cooling and air flow",
    ),
    degraded("ThermalThrottling", "the device is throttled by its temperature", "check cooling and air flow"),
    degraded("PowerBrake", "the power supply requests reduced clocks", "check the power supply of the node"),
    degraded(
        "PartitionMissing",
        "fewer partitions are listed than the mode has",
        "set the partition mode again; see the kernel log",
    ),
    degraded(
        "MigInstanceUnhealthy",
        "a partition of the device is unhealthy",
        "see the reasons of the partition",
    ),
    // No fault, and no verdict.
    row(
        "FabricNotReady",
        Fabric,
        NO_FABRIC,
        "the device is not registered with the fabric",
        "check whether the fabric manager runs",
    ),
    unknown(
        "ResetInProgress",
        "the driver does not report errors, as while it resets the device",
        "wait; see the kernel log if it persists",
    ),
    row(
        EVIDENCE_UNREADABLE,
        Unknown,
        UNREADABLE,
        "a source from which a failure would follow could not be read",
        "check the problems that the agent reports, and the kernel log",
    ),
    row(
        "WorkloadReset",
        Unknown,
        WORKLOAD,
        "the device is reset between two jobs",
        "wait; see the kernel log if it persists",
    ),
    unknown(
        "Suspended",
        "the device is suspended and has not been seen awake",
        "nothing: it wakes when it is used",
    ),
];
