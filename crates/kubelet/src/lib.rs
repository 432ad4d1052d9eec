//! The kubelet's PodResources API: which pod holds which device, and which devices are allocatable.
//!
//! Input: the directory of the kubelet's socket, and the inventory. Output: [`afd_model::Allocation`]s. The directory and
//! not the socket, because a kubelet that restarts creates a new one. Responses are up to 16 MiB; each call has a
//! deadline. A kubelet that has just started responds without its running pods for about a second, so its first responses
//! are not final (see [`Kubelet::list`]).

mod client;
mod join;
mod names;
mod report;
#[cfg(feature = "testing")]
pub mod testing;

pub use client::{Kubelet, KubeletError};
pub use join::allocations;
pub use names::{DraAttributes, UnitNames};
pub use report::{DeviceHold, DeviceReference, KubeletReport};

/// Generated from `proto/podresources.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("v1");
}
