//! Publishes what was derived, to the own Node and over HTTP. Decides nothing.

pub mod http;
pub mod node;
pub mod page;
#[cfg(feature = "testing")]
pub mod testing;
pub mod web_config;
