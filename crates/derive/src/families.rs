//! The metric families that AFD publishes: one table. Names are an API, as label keys are.
//!
//! A family of readings names its quantity and where its labels come from in its row, so that every quantity has one family,
//! or is listed as one that has none.

use std::borrow::Cow;

use afd_model::{Device, LinkValue, Quantity, Rows};

/// Type of a metric family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricKind {
    /// It only increases, until the driver or the agent restarts.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

impl MetricKind {
    /// The word of the exposition format.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// What a family is about, which decides the labels that all its series have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricSubject {
    /// A device or partition: `vendor`, `device`, `uuid`, `partition`.
    Device,
    /// The node.
    Node,
    /// The agent.
    Agent,
}

impl MetricSubject {
    /// The labels that all series of the subject have.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            MetricSubject::Device => &["vendor", "device", "uuid", "partition"],
            MetricSubject::Node | MetricSubject::Agent => &[],
        }
    }
}

/// The row of a family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FamilySpec {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: MetricKind,
    /// What it is about.
    pub subject: MetricSubject,
    /// Labels besides those of the subject.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

/// The labels of a series besides those of its subject: their values, in the order of the row.
pub(crate) type OwnLabels = Vec<Cow<'static, str>>;

macro_rules! families {
    (
        devices { $($device_family:ident = $device_name:literal, $device_kind:ident, $device_labels:expr, $device_help:literal;)* }
        readings { $(
            $reading_family:ident = $reading_name:literal, $reading_kind:ident,
            [$($label:ident: $value:expr),*] from $quantity:pat,
            $(or [$($sum_value:expr),*] from $sum:pat,)? $reading_help:literal;
        )* }
        without_family { $($other:pat),* $(,)? }
        others { $($family:ident = $name:literal, $kind:ident, $subject:ident, $labels:expr, $help:literal;)* }
    ) => {
        /// A family that AFD publishes.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Family {
            $(#[doc = $device_help] $device_family,)*
            $(#[doc = $reading_help] $reading_family,)*
            $(#[doc = $help] $family,)*
        }

        impl Family {
            /// All families, in the order of the documentation and of the exposition.
            pub const ALL: &'static [Family] = &[
                $(Family::$device_family,)* $(Family::$reading_family,)* $(Family::$family,)*
            ];

            /// The row of the family.
            pub fn spec(self) -> FamilySpec {
                match self {
                    $(Family::$device_family => FamilySpec {
                        name: $device_name,
                        kind: MetricKind::$device_kind,
                        subject: MetricSubject::Device,
                        labels: &$device_labels,
                        help: $device_help,
                    },)*
                    $(Family::$reading_family => FamilySpec {
                        name: $reading_name,
                        kind: MetricKind::$reading_kind,
                        subject: MetricSubject::Device,
                        labels: &[$(stringify!($label)),*],
                        help: $reading_help,
                    },)*
                    $(Family::$family => FamilySpec {
                        name: $name,
                        kind: MetricKind::$kind,
                        subject: MetricSubject::$subject,
                        labels: &$labels,
                        help: $help,
                    },)*
                }
            }

            /// The family of a quantity and the values of the family's own labels, of a sum without the last ones; `None` if only
            /// vendors' exporters publish it.
            pub(crate) fn of_quantity(quantity: Quantity) -> Option<(Family, OwnLabels)> {
                match quantity {
                    $($quantity => Some((Family::$reading_family, vec![$($value.into()),*])),)*
                    $($($sum => Some((Family::$reading_family, vec![$($sum_value.into()),*])),)?)*
                    $($other)|* => None,
                }
            }
        }
    };
}

families! {
    devices {
        DeviceInfo = "accelerator_device_info", Gauge, DEVICE_INFO_LABELS,
            "Static device information; always 1.";
        Allocation = "accelerator_device_allocation", Gauge,
            ["namespace", "pod", "container", "resource", "mechanism"],
            "Containers that hold a device or partition; 1 for each, no series while none holds it.";
        Health = "accelerator_device_health", Gauge, ["state"],
            "Health of a device as a state set: 1 for the current state, 0 for the others.";
        HealthReason = "accelerator_device_health_reason", Gauge, ["reason"],
            "Reasons for the health state; 1 per reason.";
        PublishedHealth = "accelerator_device_published_health", Gauge, ["driver"],
            "What the DRA driver publishes of the health of a device: 1 healthy, 0 not; no series where it says neither. accelerator_device_health may differ.";
    }
    readings {
        UtilizationRatio = "accelerator_device_utilization_ratio", Gauge,
            [engine: engine.as_str()] from Quantity::Utilization(engine),
            "Share of the time in which an engine was busy, 0 to 1.";
        MemoryTotalBytes = "accelerator_device_memory_total_bytes", Gauge,
            [] from Quantity::MemoryTotalBytes,
            "Memory of a device or partition.";
        MemoryUsedBytes = "accelerator_device_memory_used_bytes", Gauge,
            [] from Quantity::MemoryUsedBytes,
            "Memory in use.";
        MemoryReservedBytes = "accelerator_device_memory_reserved_bytes", Gauge,
            [] from Quantity::MemoryReservedBytes,
            "Memory reserved by driver and firmware.";
        MemoryBandwidthRatio = "accelerator_device_memory_bandwidth_ratio", Gauge,
            [] from Quantity::MemoryBandwidthRatio,
            "Share of the memory bandwidth in use, 0 to 1.";
        MemoryRowsRemapped = "accelerator_device_memory_rows_remapped", Gauge,
            [kind: rows.as_str()] from Quantity::RowsRemapped(rows @ (Rows::Correctable | Rows::Uncorrectable)),
            "Faulty memory rows that were remapped, by kind of error.";
        RowRemapPending = "accelerator_device_row_remap_pending", Gauge,
            [] from Quantity::RowsRemapped(Rows::Pending),
            "1 while a row remapping is pending until the next reset.";
        RowRemapFailed = "accelerator_device_row_remap_failed", Gauge,
            [] from Quantity::RowsRemapped(Rows::Failed),
            "1 if a row remapping has failed.";
        PowerWatts = "accelerator_device_power_watts", Gauge,
            [] from Quantity::PowerWatts,
            "Power drawn; from two readings of the energy where the device reports only energy.";
        PowerLimitWatts = "accelerator_device_power_limit_watts", Gauge,
            [] from Quantity::PowerLimitWatts,
            "Power limit in force.";
        EnergyJoulesTotal = "accelerator_device_energy_joules_total", Counter,
            [] from Quantity::EnergyJoules,
            "Energy used since the device or its driver started to count.";
        TemperatureCelsius = "accelerator_device_temperature_celsius", Gauge,
            [sensor: sensor.as_str()] from Quantity::TemperatureCelsius(sensor),
            "Temperature at a sensor.";
        TemperatureLimitCelsius = "accelerator_device_temperature_limit_celsius", Gauge,
            [sensor: sensor.as_str(), limit: limit.as_str()] from Quantity::TemperatureLimitCelsius(sensor, limit),
            "Temperature at a sensor at which the device lowers its clocks (slowdown) or switches itself off (shutdown), or the highest that it is made for (critical).";
        ClockHertz = "accelerator_device_clock_hertz", Gauge,
            [clock: clock.as_str()] from Quantity::ClockHertz(clock),
            "Current clock; 0 while the unit is powered down.";
        ClockMaxHertz = "accelerator_device_clock_max_hertz", Gauge,
            [clock: clock.as_str()] from Quantity::ClockMaxHertz(clock),
            "Maximum clock.";
        Throttled = "accelerator_device_throttled", Gauge,
            [cause: cause.as_str()] from Quantity::Throttled(cause),
            "1 while clocks are throttled for this cause.";
        ThrottleSecondsTotal = "accelerator_device_throttle_seconds_total", Counter,
            [cause: cause.as_str()] from Quantity::ThrottleSeconds(cause),
            "Seconds in which clocks were throttled, since the agent started or, where the device counts seconds, since it started to count.";
        MemoryRetiredPages = "accelerator_device_memory_retired_pages", Gauge,
            [state: state.as_str()] from Quantity::RetiredPages(state),
            "Bad memory pages: retired (out of use), pending (to be retired), failed (bad and still in use).";
        ProcessMemoryUsedBytes = "accelerator_device_process_memory_used_bytes", Gauge,
            [pid: pid.to_string(), pod: "", container: ""] from Quantity::ProcessMemoryUsedBytes(pid),
            "Memory in use by each process that uses some; only with --per-process. pod and container are empty where they are not known.";
        ErrorsTotal = "accelerator_device_errors_total", Counter,
            [kind: kind.as_str(), detail: detail.label()] from Quantity::Errors(kind, detail),
            "Errors since the driver was loaded; detail is the block of the device, where there is one.";
        LastXid = "accelerator_device_last_xid", Gauge,
            [] from Quantity::LastXid { .. },
            "Number of the last XID since the driver was loaded, 0 while there was none; no series where XIDs are not watched.";
        LinkUp = "accelerator_device_link_up", Gauge,
            [type: link.kind.as_str(), link: link.label(), peer: link.peer_label()] from Quantity::Link(link, LinkValue::Up),
            "1 if a device-to-device link is up, else 0; only with --per-link. peer is the device at the other end, empty where that is not known.";
        LinkBytesTotal = "accelerator_device_link_bytes_total", Counter,
            [type: link.kind.as_str(), direction: direction.as_str(), link: link.label(), peer: link.peer_label()]
                from Quantity::Link(link, LinkValue::Bytes(direction)),
            or [link.as_str(), direction.as_str()] from Quantity::LinkBytes(link, direction),
            "Bytes over the device-to-device links of a device.";
        LinkErrorsTotal = "accelerator_device_link_errors_total", Counter,
            [type: link.kind.as_str(), kind: kind.as_str(), link: link.label(), peer: link.peer_label()]
                from Quantity::Link(link, LinkValue::Errors(kind)),
            "Errors of each device-to-device link since the driver was loaded, by kind; only with --per-link.";
        PcieLinkSpeed = "accelerator_device_pcie_link_speed_transfers_per_second", Gauge,
            [which: which.as_str()] from Quantity::PcieTransfersPerSecond(which),
            "Speed of the PCIe link per lane; it may drop while the device is idle.";
        PcieLinkWidth = "accelerator_device_pcie_link_width", Gauge,
            [which: which.as_str()] from Quantity::PcieWidth(which),
            "Lanes of the PCIe link.";
    }
    without_family { Quantity::Vendor(_), Quantity::PcieBytesPerSecond(_) }
    others {
        Devices = "accelerator_devices", Gauge, Node, ["vendor", "product", "state"],
            "Devices of a product: present, expected, missing, healthy (or degraded), allocatable (offered to pods), allocated (held by pods). The states overlap.";
        ResourceDevices = "accelerator_resource_devices", Gauge, Node, ["resource", "mechanism", "state"],
            "Devices of an extended resource or DRA driver: discovered (present on the node), allocatable (sharing multiplies it), allocated (held by pods).";
        RdmaPortUp = "rdma_port_up", Gauge, Node, ["nic", "port", "link_layer", "device"],
            "1 if an RDMA port is active, else 0; device is the accelerator under the same PCIe switch, if there is exactly one.";
        RdmaPortReceiveBytesTotal = "rdma_port_receive_bytes_total", Counter, Node, ["nic", "port", "device"],
            "Bytes that an RDMA port has received: of RoCE without what goes through the kernel's network stack, of InfiniBand with IPoIB; no series of a counter that is saturated or wraps around. device as in rdma_port_up.";
        RdmaPortTransmitBytesTotal = "rdma_port_transmit_bytes_total", Counter, Node, ["nic", "port", "device"],
            "The same of what it has sent.";
        RdmaPortErrorsTotal = "rdma_port_errors_total", Counter, Node, ["nic", "port", "device", "kind"],
            "Errors of an RDMA port, by the kernel's name of the counter; no series of a counter that is saturated.";
        RdmaPortLinkDownTotal = "rdma_port_link_down_total", Counter, Node, ["nic", "port", "device"],
            "How often the link of an RDMA port went down; no series of a counter that is saturated.";
        PathReady = "accelerator_path_ready", Gauge, Node, ["path"],
            "1 if the node can serve a path of llm-d, else 0; no series where a fact is not known.";
        PathReason = "accelerator_path_reason", Gauge, Node, ["path", "reason"],
            "Why the node cannot serve a path; 1 for each reason.";
        ProbeProblems = "afd_probe_problems", Gauge, Agent, ["probe", "reason"],
            "Facts that a probe could not read.";
        KubernetesRequestsTotal = "afd_kubernetes_requests_total", Counter, Agent, ["verb", "code"],
            "Requests to the API server, by verb and response code.";
        LabelWritesTotal = "afd_label_writes_total", Counter, Agent, [],
            "Writes of labels and annotations to the Node.";
        LabelContestedTotal = "afd_label_contested_total", Counter, Agent, ["key", "owner"],
            "Label conflicts with other field managers.";
        LabelRefusedTotal = "afd_label_refused_total", Counter, Agent, ["key", "code"],
            "Labels, annotations and conditions that the API server refused, while it accepted others; with the code `undone`, those \
             whose accepted write had no effect, as with a webhook that changes them.";
        HttpConnections = "afd_http_connections", Gauge, Agent, ["listener"],
            "Open connections of a listener.";
        HttpRejectedTotal = "afd_http_rejected_total", Counter, Agent, ["listener", "reason"],
            "Connections and requests that a listener rejected, by reason.";
        HttpTakenPortsTotal = "afd_http_taken_ports_total", Counter, Agent, ["listener"],
            "Failed attempts to listen on a port that another program has.";
        WebConfigErrorsTotal = "afd_web_config_errors_total", Counter, Agent, [],
            "Changed web configurations that cannot be used; the last usable one stays in use.";
        KubeletErrorsTotal = "afd_kubelet_errors_total", Counter, Agent, [],
            "Failed PodResources requests.";
        KubeletSkippedDevices = "afd_kubelet_skipped_devices", Gauge, Agent, [],
            "Device ids of the last PodResources responses that were not read, because there are too many or they are no names.";
        ResourceSliceSkippedDevices = "afd_resource_slice_skipped_devices", Gauge, Agent, [],
            "Devices of the node's ResourceSlices that were not read, because there are too many; their drivers count as incomplete.";
        ProbeRestartsTotal = "afd_probe_restarts_total", Counter, Agent, ["probe"],
            "Restarts of the process that queries a vendor's library, after it ended, hung or crashed.";
        LibraryMessagesDroppedTotal = "afd_library_messages_dropped_total", Counter, Agent, ["probe", "kind"],
            "Messages dropped of the process that queries a vendor's library: output that is no message, a response that was not requested, an event for which there was no room, a log line beyond the limit.";
        BuildInfo = "afd_build_info", Gauge, Agent, ["version", "node"],
            "Version of the agent, and its Node, empty where that is not known; always 1.";
        ProbeDurationSeconds = "afd_probe_duration_seconds", Histogram, Agent, ["probe", "step"],
            "Duration of the steps of a probe, discover and sample.";
        LastSampleTimestampSeconds = "afd_last_sample_timestamp_seconds", Gauge, Agent, ["probe", "source"],
            "Time of a probe's last sample from a source, the kernel or the vendor's library, in Unix time.";
    }
}

/// A label of `accelerator_device_info` and its value; an unknown one is empty.
type DeviceInfoLabel = (&'static str, fn(&Device) -> Option<String>);

const DEVICE_INFO: [DeviceInfoLabel; 9] = [
    ("product", |device| Some(device.product.value()?.name.clone())),
    ("model", |device| device.product.value()?.model.value().cloned()),
    ("architecture", |device| device.product.value()?.architecture.value().cloned()),
    ("compute", |device| device.compute.value().cloned()),
    ("driver_version", |device| device.driver_version.value().cloned()),
    ("firmware_version", |device| device.firmware_version.value().cloned()),
    ("pci_id", |device| device.pci.id()),
    ("numa_node", |device| device.numa_node.value().map(u32::to_string)),
    ("integrated", |device| Some(device.integrated.to_string())),
];

const DEVICE_INFO_LABELS: [&str; DEVICE_INFO.len()] = {
    let mut names = [""; DEVICE_INFO.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = DEVICE_INFO[index].0;
        index += 1;
    }
    names
};

/// The values of the own labels of `accelerator_device_info`.
pub(crate) fn device_info(device: &Device) -> OwnLabels {
    DEVICE_INFO.iter().map(|(_, value)| value(device).unwrap_or_default().into()).collect()
}
