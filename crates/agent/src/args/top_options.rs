//! The options of `afd top`.

use std::time::Duration;

use clap::Args;

use super::values::SecondsRange;

/// What `afd top` shows.
#[derive(Args, Clone, Debug, Default)]
pub struct TopArgs {
    /// Address of an agent that serves plain HTTP. By default that of this node is read, http://127.0.0.1:9109, and where none
    /// answers, this host is observed.
    #[arg(long, value_name = "http://HOST:PORT")]
    pub url: Option<String>,
    /// Observe this host, also where an agent runs. So it is with a --host-root.
    #[arg(long, conflicts_with = "url")]
    pub local: bool,
    /// Print one table. So it is where standard input or output is no terminal.
    #[arg(long)]
    pub once: bool,
    /// Seconds between two updates; by default 2, and with an agent the time between its samples.
    #[arg(long, value_name = "SECONDS", value_parser = SecondsRange::INTERVAL.parser())]
    pub interval: Option<Duration>,
}
