//! The kubelet's PodResources API: which pod holds which device, and what the kubelet has to give.
//!
//! In comes the folder of the kubelet's socket, out come [`afd_model::Allocation`]s. The folder and not the socket, since a
//! kubelet that restarts makes a new one. Answers are up to 16 MiB; each call has a deadline. A kubelet that has just
//! started answers without its running pods for about a second, and it is no use to believe it (see [`Kubelet::list`]).

mod client;
mod join;
#[cfg(feature = "testing")]
pub mod testing;

pub use client::{Answer, Kubelet, KubeletError};
pub use join::{Attributes, Hold, Names, Offer, allocations};

/// Generated from `proto/podresources.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("v1");
}
