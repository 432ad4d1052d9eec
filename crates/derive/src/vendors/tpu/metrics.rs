//! The families of GKE's TPU device plugin (ai-on-gke/tpu-device-plugin): names and meanings.

use afd_model::{Engine, Quantity};

use super::labels;
use crate::compat::metrics::{
    CompatFamily, ExporterUnit, HolderLabel, LeftOutFamilies, MetricSet, SeriesOrder, SharedUnits, UnitLabel,
    UnitSeries, allocatable_units, compat_families, plain,
};

const TO_PERCENT: f64 = 100.0;

const OF_SLICES: &str = "It is about a workload over several slices, which the runtime reports of itself. The plugin adds its cumulative \
                         values up again, so that no total of it is right.";

pub(super) const METRICS: MetricSet = MetricSet {
    exporter: "GKE's TPU device plugin",
    page: "tpu",
    always_served: false,
    notes: "For clusters without the plugin. Where it runs, its own exporter has the same names. Families that end in `_node` have no \
            label of a container; the others have series of the chips alone that a container holds.",
    units: allocatable_units,
    unit_labels: &[
        UnitLabel {
            name: "accelerator_id",
            value: |unit| {
                Some(
                    unit.node
                        .map_or_else(|| unit.number.to_string(), |node| format!("{node}-{}", unit.number)),
                )
            },
        },
        UnitLabel { name: "make", value: |_| Some("cloud-tpu".to_owned()) },
        UnitLabel { name: "model", value: |unit| Some(labels::accelerator(unit.device).unwrap_or_default()) },
        UnitLabel {
            name: "tpu_topology",
            value: |unit| {
                let slice = unit.device.tpu_slice();
                Some(slice.and_then(|slice| slice.topology.value().cloned()).unwrap_or_default())
            },
        },
    ],
    holder_labels: &[
        HolderLabel { name: "namespace", value: |allocation| &allocation.namespace },
        HolderLabel { name: "pod", value: |allocation| &allocation.pod },
        HolderLabel { name: "container", value: |allocation| &allocation.container },
    ],
    tables: &[HELD, NODE],
    sharing: SharedUnits::SeriesEach,
    order: SeriesOrder::ByLabelValues,
    left_out: &[
        LeftOutFamilies {
            names: &["accelerator_request"],
            reason: "It is of the specification of a pod, which AFD does not read. `accelerator_device_allocation` says which container \
                     holds which chip.",
        },
        LeftOutFamilies {
            names: &["node_token_broker_status"],
            reason: "It is the state of the plugin's own access to Google's services.",
        },
        LeftOutFamilies {
            names: &[
                "grpc_tcp_packets_sent_count",
                "grpc_tcp_packets_retransmitted_count",
                "grpc_tcp_packets_spurious_retransmitted_count",
                "grpc_tcp_recurring_retransmits_count",
                "grpc_tcp_bytes_sent_count",
                "grpc_tcp_bytes_retransmitted_count",
                "grpc_tcp_syscall_writes_count",
                "grpc_tcp_syscall_reads_count",
                "bamm2_bits_sent_count",
                "bamm2_bits_received_count",
                "bamm2_bits_read_count",
                "bamm2_bits_written_count",
                "bamm2_bits_written_with_imm_count",
            ],
            reason: OF_SLICES,
        },
        LeftOutFamilies {
            names: &[
                "dcn_transfer_latencies_microsecond",
                "dcn_inbound_transfer_latencies_microsecond",
                "compute_latencies_microsecond",
                "grpc_client_call_latencies_microsecond",
                "grpc_server_call_latencies_microsecond",
                "host_to_device_transfer_latencies_microsecond",
                "device_to_host_transfer_latencies_microsecond",
                "grpc_tcp_min_round_trip_times_microsecond",
                "grpc_tcp_delivery_rates_Mbps",
                "collective_end_to_end_latencies_microsecond",
                "grpc_tcp_write_sizes_bytes",
                "grpc_tcp_read_sizes_bytes",
                "grpc_tcp_sender_latencies_microsecond",
                "grpc_tcp_transfer_latencies_microsecond",
                "dcn_transfer_sizes_bytes",
                "dcn_inbound_transfer_sizes_bytes",
                "mxla_compute_operand_sizes_bytes",
                "device_to_host_transfer_sizes_bytes",
                "host_to_device_transfer_sizes_bytes",
                "collective_input_sizes_bytes",
            ],
            reason: "It is about a workload over several slices, which the runtime reports of itself. The plugin has the values of its last \
                     container only.",
        },
    ],
    differences: &[
        "`accelerator_id` ends in the number of the chip on this node, in the order of PCI addresses, and begins with the name of the \
         Node. The plugin's begins with the id of the machine, which is private, and ends in the number that the runtime gives the \
         chip in its slice.",
        "A chip of TPU 7x has one series with the mean of its two TensorCores, or the sum of their memory. The plugin has what the \
         runtime reports.",
        "`tensorcore_utilization` and `memory_bandwidth_utilization` are those of the chips that the container holds. The plugin \
         reports every container with the values of all chips.",
        "A `_node` family numbers chips as the others do. The plugin numbers them differently.",
        "`model` is empty where the form of the machine is not known, `tpu_topology` where the slice is not.",
    ],
};

fn percent(unit: &ExporterUnit<'_>, quantity: Quantity) -> UnitSeries {
    plain(unit.value(quantity, TO_PERCENT))
}

fn duty_cycle(unit: &ExporterUnit<'_>) -> UnitSeries {
    percent(unit, Quantity::Utilization(Engine::Compute))
}

fn tensorcore(unit: &ExporterUnit<'_>) -> UnitSeries {
    percent(unit, Quantity::Utilization(Engine::Tensor))
}

fn bandwidth(unit: &ExporterUnit<'_>) -> UnitSeries {
    percent(unit, Quantity::MemoryBandwidthRatio)
}

fn memory_total(unit: &ExporterUnit<'_>) -> UnitSeries {
    plain(unit.value(Quantity::MemoryTotalBytes, 1.0))
}

fn memory_used(unit: &ExporterUnit<'_>) -> UnitSeries {
    plain(unit.value(Quantity::MemoryUsedBytes, 1.0))
}

const DUTY_CYCLE: &str = "Share of the time in which a TensorCore was busy, percent.";
const MEMORY_TOTAL: &str = "HBM that the runtime has, bytes.";
const MEMORY_USED: &str = "HBM in use, bytes.";
const TENSORCORE: &str = "Share of the peak of the matrix unit, percent.";
const BANDWIDTH: &str = "Share of the bandwidth of the HBM, percent.";

const HELD: &[CompatFamily] = compat_families! { Held:
    Gauge "duty_cycle", [], DUTY_CYCLE, duty_cycle;
    Gauge "memory_total", [], MEMORY_TOTAL, memory_total;
    Gauge "memory_used", [], MEMORY_USED, memory_used;
    Gauge "tensorcore_utilization", [], TENSORCORE, tensorcore;
    Gauge "memory_bandwidth_utilization", [], BANDWIDTH, bandwidth;
};

const NODE: &[CompatFamily] = compat_families! { Alone:
    Gauge "duty_cycle_node", [], DUTY_CYCLE, duty_cycle;
    Gauge "memory_total_node", [], MEMORY_TOTAL, memory_total;
    Gauge "memory_used_node", [], MEMORY_USED, memory_used;
    Gauge "tensorcore_utilization_node", [], TENSORCORE, tensorcore;
    Gauge "memory_bandwidth_utilization_node", [], BANDWIDTH, bandwidth;
};
