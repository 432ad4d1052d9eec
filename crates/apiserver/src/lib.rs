//! The way to the API server: a client, calls that have a deadline and are counted, rests after failures, and the
//! ResourceSlices of this node.
//!
//! Nothing here knows what is written on a Node: that is `afd-publish`.

mod calls;
mod client;
mod rest;
pub mod slices;

pub use calls::{Calls, Failure, LONGEST_WATCH, WATCH_SECONDS};
pub use client::client;
pub use rest::{LONGEST_REST, Rest, random_part};
