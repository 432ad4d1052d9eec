//! The agent `afd`: arguments, the loop and the commands.
//!
//! Reads the straight line from left to right: [`survey::Survey`] asks the probes and assembles the inventory,
//! `afd-derive` makes labels and families of it, and a command prints or serves them.

pub mod agent_metrics;
pub mod args;
pub mod cluster;
pub mod command;
pub mod control;
pub mod device_plugin;
pub mod explain;
pub mod front;
pub mod holders;
pub mod library;
pub mod offers;
pub mod path_rules;
pub mod record;
pub mod redact;
pub mod release;
pub mod render;
pub mod run;
pub mod show;
pub mod steady;
pub mod survey;
pub mod topology;
pub mod uevents;
