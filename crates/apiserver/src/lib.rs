//! Access to the API server: a client, calls with a deadline that are counted, a back-off after failures, the ResourceSlices of
//! this node, the pods that hold its devices, and the list of all Nodes.
//!
//! Nothing here knows what is written to a Node: that is `afd-publish`.

mod backoff;
mod calls;
mod client;
pub mod node_pages;
pub mod pods;
pub mod slices;

pub use backoff::{Backoff, MAX_BACKOFF, jitter};
pub use calls::{ApiCalls, CallError, MAX_RETRY_AFTER, MAX_WATCH_DURATION, WATCH_TIMEOUT_SECONDS};
pub use client::{MAX_LIST_BYTES, MAX_RESPONSE_BYTES, client};
