//! The agent `afd`: arguments, the loop and the commands.
//!
//! The pipeline: [`probes::Probes`] runs the probes and assembles the inventory, `afd-derive` derives labels and metric
//! families from it, and a command prints or serves them.

pub mod agent_loop;
pub mod agent_metrics;
pub mod allocations;
pub mod args;
pub mod bridge;
pub mod channels;
pub mod cleanup;
mod clock;
pub mod cluster;
pub mod cluster_view;
pub mod command;
pub mod control;
mod device_text;
pub mod discovery_pace;
pub mod door;
pub mod early_samples;
pub mod explain;
pub mod failed_devices;
pub mod fleet;
pub mod generate;
pub mod grpc;
pub mod incidents;
pub mod library_process;
mod listeners;
pub mod live;
pub mod log_filter;
mod memory;
pub mod node_claim;
pub mod node_options;
pub mod path_rules;
pub mod probes;
pub mod rdma_use;
pub mod record;
pub mod redact;
pub mod release;
pub mod render;
pub mod run;
pub mod show;
mod state_file;
pub mod status_page;
pub mod text_table;
pub mod top;
pub mod topology;
pub mod tracker;
pub mod uevents;
pub mod visible;
