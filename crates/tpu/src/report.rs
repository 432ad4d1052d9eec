//! What the sources outside of the kernel report of TPUs, as `afd probe tpu` sends it.

use std::net::SocketAddr;

use afd_model::TpuSlice;
use serde::{Deserialize, Serialize};

/// The largest share in percent, with the tolerance of a measurement.
const MAX_PERCENT: f64 = 100.5;

/// What the sources report. None: the source is off, or nothing listens at its address.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct TpuReport {
    /// The exporter of GKE's device plugin.
    pub exporter: Option<SourceAnswer>,
    /// The runtimes on this node; they are not queried where the exporter has values.
    #[serde(default)]
    pub runtime: Option<SourceAnswer>,
    /// Ports of runtimes at which nothing listens, where other ones answered.
    #[serde(default)]
    pub silent_ports: Vec<u16>,
    /// The runtimes within pods, by their addresses; they are not queried where the exporter has values.
    #[serde(default)]
    pub pods: Vec<(SocketAddr, Option<SourceAnswer>)>,
}

/// What the servers last reported, as a recording of the machine has it. Pods have theirs only in a cluster.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct TpuRecording {
    /// The exporter of GKE's device plugin; none where nothing listens.
    pub exporter: Option<SourceAnswer>,
    /// The runtimes of the machine; none where nothing listens.
    pub runtime: Option<SourceAnswer>,
    /// The metadata server; none where it was not queried.
    pub metadata: Option<MetadataAnswer>,
}

/// What the metadata server of the machine reports.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataAnswer {
    /// The slice that it describes, as far as it does.
    Slice(Box<TpuSlice>),
    /// Why there is no answer. That nothing listens does not mean that the machine has no slice.
    Failed(String),
}

/// What one source answered.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceAnswer {
    /// Its values.
    Values(Vec<RuntimeValue>),
    /// Why there are none.
    Failed(String),
}

/// A value of one device of a runtime.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RuntimeValue {
    /// The quantity.
    pub quantity: RuntimeQuantity,
    /// The container in which the runtime runs, where the source names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<RuntimeContainer>,
    /// The number that the runtime gives the device: unique within the slice, not a number of this host.
    pub device: u64,
    /// The value in the unit of its quantity, finite; none where the runtime has the device and no value of it.
    pub value: Option<f64>,
}

/// A container.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct RuntimeContainer {
    /// Namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
}

/// What is read of a device.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeQuantity {
    /// Share of the time in which a TensorCore was busy, percent.
    DutyCycle,
    /// HBM in use, bytes.
    MemoryUsed,
    /// HBM that the runtime has, bytes.
    MemoryTotal,
    /// Share of the peak of the matrix unit, percent; of the host, not of a pod.
    TensorUtilization,
    /// Share of the bandwidth of the HBM, percent; of the host, not of a pod.
    BandwidthUtilization,
}

impl RuntimeQuantity {
    /// Whether the values of the parts of a chip add up to that of the chip; else the chip has their mean.
    pub(crate) fn adds_up(self) -> bool {
        matches!(self, RuntimeQuantity::MemoryUsed | RuntimeQuantity::MemoryTotal)
    }

    /// Whether it can be a value of this quantity. A share may be rounded up a little.
    pub(crate) fn accepts(self, value: f64) -> bool {
        match self {
            RuntimeQuantity::MemoryUsed | RuntimeQuantity::MemoryTotal => value >= 0.0,
            _ => (0.0..=MAX_PERCENT).contains(&value),
        }
    }

    /// Whether each container is reported with the values of all chips of the host.
    pub(crate) fn is_of_host(self) -> bool {
        matches!(self, RuntimeQuantity::TensorUtilization | RuntimeQuantity::BandwidthUtilization)
    }
}
