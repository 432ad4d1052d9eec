//! The metric families that AFD publishes: one table. Names are an API, as label keys are.

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It only rises, until the driver or the agent starts anew.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// What a family is about, which decides the labels that all its series have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// A device or partition: `vendor`, `device`, `uuid`, `partition`.
    Device,
    /// The node.
    Node,
    /// The agent.
    Agent,
}

/// The row of a family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// What kind of metric it is.
    pub kind: Kind,
    /// What it is about.
    pub subject: Subject,
    /// Labels beside those of the subject.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

macro_rules! families {
    ($($(#[$doc:meta])* $family:ident = $name:literal, $kind:ident, $subject:ident, [$($label:literal),*], $help:literal;)*) => {
        /// A family that AFD publishes.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Family {
            $(#[doc = $help] $family,)*
        }

        impl Family {
            /// All families, in the order of the documentation and of the exposition.
            pub const ALL: &'static [Family] = &[$(Family::$family),*];

            /// The row of the family.
            pub fn spec(self) -> Spec {
                match self {
                    $(Family::$family => Spec {
                        name: $name,
                        kind: Kind::$kind,
                        subject: Subject::$subject,
                        labels: &[$($label),*],
                        help: $help,
                    },)*
                }
            }
        }
    };
}

families! {
    DeviceInfo = "accelerator_device_info", Gauge, Device,
        ["product", "model", "architecture", "compute", "driver_version", "firmware_version", "pci_id", "numa_node", "integrated"],
        "What does not change of a device; always 1.";
    Allocation = "accelerator_device_allocation", Gauge, Device,
        ["namespace", "pod", "container", "resource", "mechanism"],
        "Who holds a device or partition; 1 for each holder, none for a device that nobody holds.";
    Health = "accelerator_device_health", Gauge, Device, ["state"],
        "Health of a device as a state set: 1 for the state that holds, 0 for the others.";
    HealthReason = "accelerator_device_health_reason", Gauge, Device, ["reason"],
        "Why a device is not healthy; 1 for each reason.";
    UtilizationRatio = "accelerator_device_utilization_ratio", Gauge, Device, ["engine"],
        "Share of the time in which an engine was busy, 0 to 1.";
    MemoryTotalBytes = "accelerator_device_memory_total_bytes", Gauge, Device, [],
        "Memory of a device or partition.";
    MemoryUsedBytes = "accelerator_device_memory_used_bytes", Gauge, Device, [],
        "Memory in use.";
    MemoryReservedBytes = "accelerator_device_memory_reserved_bytes", Gauge, Device, [],
        "Memory that driver and firmware keep for themselves.";
    MemoryBandwidthRatio = "accelerator_device_memory_bandwidth_ratio", Gauge, Device, [],
        "Share of the memory bandwidth in use, 0 to 1.";
    MemoryRowsRemapped = "accelerator_device_memory_rows_remapped", Gauge, Device, ["kind"],
        "Faulty memory rows that were replaced, by the kind of error; `pending` and `failed` are 0 or 1.";
    PowerWatts = "accelerator_device_power_watts", Gauge, Device, [],
        "Power drawn now; from two readings of the energy where the device tells only energy.";
    PowerLimitWatts = "accelerator_device_power_limit_watts", Gauge, Device, [],
        "The power limit in force.";
    EnergyJoulesTotal = "accelerator_device_energy_joules_total", Counter, Device, [],
        "Energy used since the device or its driver started to count.";
    TemperatureCelsius = "accelerator_device_temperature_celsius", Gauge, Device, ["sensor"],
        "Temperature at a sensor.";
    ClockHertz = "accelerator_device_clock_hertz", Gauge, Device, ["clock"],
        "Clock now; 0 while the unit is powered down.";
    ClockMaxHertz = "accelerator_device_clock_max_hertz", Gauge, Device, ["clock"],
        "The highest clock.";
    Throttled = "accelerator_device_throttled", Gauge, Device, ["cause"],
        "Whether the device is being slowed down, 0 or 1.";
    ThrottleSecondsTotal = "accelerator_device_throttle_seconds_total", Counter, Device, ["cause"],
        "Seconds for which the device was slowed down, since the agent began to watch it or, where the device counts seconds, since it began.";
    MemoryRetiredPages = "accelerator_device_memory_retired_pages", Gauge, Device, ["state"],
        "Bad pages of the memory: retired (out of use), pending (to be retired), failed (bad and still in use).";
    ProcessMemoryUsedBytes = "accelerator_device_process_memory_used_bytes", Gauge, Device, ["pid", "pod", "container"],
        "Memory that a process holds, for each process that holds some; only with --per-process. pod and container are empty where nothing tells them.";
    ErrorsTotal = "accelerator_device_errors_total", Counter, Device, ["kind", "detail"],
        "Errors since the driver was loaded; detail names the block of the device, where there is one.";
    LinkBytesTotal = "accelerator_device_link_bytes_total", Counter, Device, ["type", "direction"],
        "Bytes over the device-to-device links of a device.";
    PcieLinkSpeed = "accelerator_device_pcie_link_speed_transfers_per_second", Gauge, Device, ["which"],
        "Speed of the PCIe link on each lane; it may fall while the device idles.";
    PcieLinkWidth = "accelerator_device_pcie_link_width", Gauge, Device, ["which"],
        "Lanes of the PCIe link.";
    ResourceDevices = "accelerator_resource_devices", Gauge, Node, ["resource", "mechanism", "state"],
        "Devices of an extended resource or DRA driver: discovered (the node has them), allocatable (pods may have them; sharing multiplies), allocated (pods hold them).";
    RdmaPortUp = "rdma_port_up", Gauge, Node, ["nic", "port", "link_layer", "device"],
        "Whether an RDMA port is active, 0 or 1; device is the accelerator behind the same PCIe switch, if there is just one.";
    PathReady = "accelerator_path_ready", Gauge, Node, ["path", "reason"],
        "Whether the node can serve a path of llm-d: 1 with an empty reason, or 0 for each reason why not; none where a fact is not known.";
    ProbeProblems = "afd_probe_problems", Gauge, Agent, ["probe", "reason"],
        "Facts that a probe could not learn now, although they should be there.";
    KubernetesRequestsTotal = "afd_kubernetes_requests_total", Counter, Agent, ["verb", "code"],
        "Requests to the API server, by what was asked and what came back.";
    LabelWritesTotal = "afd_label_writes_total", Counter, Agent, [],
        "Writes of labels and annotations to the Node.";
    LabelContestedTotal = "afd_label_contested_total", Counter, Agent, ["key", "owner"],
        "Labels that somebody else changed, removed or holds.";
    KubeletErrorsTotal = "afd_kubelet_errors_total", Counter, Agent, [],
        "Questions to the kubelet that were not answered.";
    ProbeRestartsTotal = "afd_probe_restarts_total", Counter, Agent, ["probe"],
        "Starts of the process that asks a vendor's library, after it had ended, hung or crashed.";
    BuildInfo = "afd_build_info", Gauge, Agent, ["version"],
        "The version of the agent; always 1.";
    ProbeDurationSeconds = "afd_probe_duration_seconds", Histogram, Agent, ["probe", "step"],
        "Duration of the steps of a probe, discover and sample.";
    LastSampleTimestampSeconds = "afd_last_sample_timestamp_seconds", Gauge, Agent, ["probe"],
        "When a probe last sampled its devices, in Unix time.";
}

impl Subject {
    /// The labels that all series of the subject have.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Subject::Device => &["vendor", "device", "uuid", "partition"],
            Subject::Node | Subject::Agent => &[],
        }
    }
}
