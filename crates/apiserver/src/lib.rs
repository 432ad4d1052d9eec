//! The way to the API server: calls that have a deadline and are counted, rests after failures, and the ResourceSlices of
//! this node.
//!
//! Nothing here knows what is written on a Node: that is `afd-publish`.

mod calls;
mod rest;
pub mod slices;

pub use calls::{Calls, Failure, WATCH_SECONDS};
pub use rest::Rest;
