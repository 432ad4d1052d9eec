//! Hands out what was derived, and decides nothing.

pub mod http;
pub mod node;
pub mod page;
