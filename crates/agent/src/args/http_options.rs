//! The options of the HTTP listeners.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};

use super::values::{self, DocsUrl};

/// What is served over HTTP, and to whom.
#[derive(Args, Clone, Debug)]
pub struct HttpArgs {
    /// Address of / (the status page), /metrics, /inventory, /healthz and /readyz. The unspecified IPv6 address accepts IPv4 as
    /// well, and means 0.0.0.0 where IPv6 is off.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:9109")]
    pub listen: SocketAddr,
    /// Address of the metrics for llm-d's endpoint picker, /metrics: how busy each device is, with the pod that holds it, in the
    /// names of dcgm-exporter, whose port is 9400.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub dcgm_listen: Option<SocketAddr>,
    /// What --dcgm-listen says of a device with a confirmed fault that a pod holds: that it is busy, so that the endpoint picker,
    /// which keeps the last value forever, sends no requests there; or what was read, if anything.
    #[arg(long, value_enum, default_value_t = FaultyOnDoor::Busy)]
    pub door_failed: FaultyOnDoor,
    /// Address of /healthz and /readyz alone, for the kubelet: other clients cannot take its connections. Needs no credentials.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub health_listen: Option<SocketAddr>,
    /// TLS, client certificates and users of --listen, in the format of Prometheus' exporters (web configuration). The files are
    /// read again when they change.
    #[arg(long, value_name = "FILE", alias = "web.config.file")]
    pub web_config_file: Option<PathBuf>,
    /// The same for --dcgm-listen. llm-d's endpoint picker supports https, but neither users nor client certificates.
    #[arg(long, value_name = "FILE", requires = "dcgm_listen")]
    pub dcgm_web_config_file: Option<PathBuf>,
    /// Where this version's documentation is read, for the links of the page at /: an address in which PAGE stands for the name of a
    /// page, such as conditions. Without it the page explains reasons itself.
    #[arg(long, value_name = "URL", value_parser = values::docs_url)]
    pub docs_url: Option<DocsUrl>,
    /// Let the API server decide who may read from --listen: a client needs a token of an account that may get the path as a
    /// nonResourceURL. Requires TLS or a loopback address.
    #[arg(long, conflicts_with = "no_kubernetes")]
    pub kubernetes_auth: bool,
}

/// What endpoint pickers read of a device with a confirmed fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum FaultyOnDoor {
    /// 100, with the label afd_synthetic, which has the reason.
    Busy,
    /// What was read; without a value the endpoint picker keeps the last one.
    Keep,
}
