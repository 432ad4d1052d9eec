//! The kubelet's PodResources API: which pod holds which device, and which devices are allocatable.
//!
//! Input: the directory of the kubelet's socket, and the names of the inventory's devices. Output: [`afd_model::Allocation`]s.
//! The directory and not the socket, because a kubelet that restarts creates a new one. A response may have tens of megabytes: it
//! is joined with the devices while it arrives, and never held as a whole. A kubelet that has just started responds without its
//! running pods for about a second, so its first responses are not final (see [`Kubelet::list`]).

mod client;
mod grpc;
mod messages;
mod names;
mod report;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use client::{Kubelet, KubeletError, MAX_AGE};
pub use names::{DraAttributes, IDENTIFYING_ATTRIBUTES, NamedDevice, UnitNames};
pub use report::KubeletReport;

/// Generated from `proto/podresources.proto`: what the fake kubelet serves.
#[cfg(any(test, feature = "testing"))]
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("v1");
}
