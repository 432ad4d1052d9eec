//! The HTTP listeners of the agent, and what each of them demands of its clients.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use afd_publish::{
    http::{self, Access, HealthLimits, HttpCounters, LatestPages, ListenerRole, Site, TokenVerifier},
    web_config::{self, WebConfig},
};
use anyhow::{Context, ensure};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{args::HttpArgs, node_claim::NodeClaim};

/// How long the ports of an agent that has ended may be in use.
const PORT_TIMEOUT: Duration = Duration::from_secs(10);
const PORT_RETRY: Duration = Duration::from_millis(50);

/// How often the port of the listener for endpoint pickers is tried while another program has it.
const TAKEN_PORT_RETRY: Duration = Duration::from_secs(5);

/// The sockets.
pub(crate) struct Listeners(Vec<(ListenerRole, Port)>);

/// The sockets, and what they serve.
pub(crate) struct Sites(Vec<(Port, Site)>);

/// A port of the agent.
enum Port {
    /// It is listened on.
    Open(TcpListener),
    /// Another program has it, such as dcgm-exporter.
    Taken(SocketAddr),
}

impl Listeners {
    /// Listens on the configured addresses. Without the port for endpoint pickers the agent does everything else.
    ///
    /// # Errors
    /// When another one cannot be listened on.
    fn bind(args: &HttpArgs) -> anyhow::Result<Listeners> {
        let addresses = [
            (ListenerRole::Health, args.health_listen, "--health-listen"),
            (ListenerRole::Dcgm, args.dcgm_listen, "--dcgm-listen"),
            (ListenerRole::Agent, Some(args.listen), "--listen"),
        ];
        let bind = |(role, address, option): (ListenerRole, Option<SocketAddr>, &str)| {
            let address = address?;
            let port = match http::bind(address) {
                Ok(listener) => Ok(Port::Open(listener)),
                Err(error) if role == ListenerRole::Dcgm && error.kind() == ErrorKind::AddrInUse => {
                    Ok(Port::Taken(address))
                }
                Err(error) => Err(error).with_context(|| format!("cannot listen on {address} ({option})")),
            };
            Some(port.map(|port| (role, port)))
        };
        Ok(Listeners(addresses.into_iter().filter_map(bind).collect::<anyhow::Result<_>>()?))
    }

    /// Listens at once, unless a port is in use while another agent keeps the Node: that is its own, most likely.
    ///
    /// # Errors
    /// When one of them cannot be listened on.
    pub(crate) async fn bind_with_claim(args: &HttpArgs, claim: NodeClaim) -> anyhow::Result<Listeners> {
        match Listeners::bind(args) {
            Err(error) if !claim.is_held() && is_in_use(&error) => {
                tracing::warn!(error = format!("{error:#}"), "not serving while waiting for the other agent");
                claim.held().await;
                // Its sockets may be closed a moment after its claim.
                let end = Instant::now() + PORT_TIMEOUT;
                loop {
                    match Listeners::bind(args) {
                        Err(error) if is_in_use(&error) && Instant::now() < end => {}
                        result => return result,
                    }
                    tokio::time::sleep(PORT_RETRY).await;
                }
            }
            result => result,
        }
    }

    /// Adds what they serve.
    ///
    /// # Errors
    /// When a web configuration cannot be used, or tokens would travel unencrypted.
    pub(crate) fn sites(
        self,
        args: &HttpArgs,
        pages: LatestPages,
        health: &HealthLimits,
        mut tokens: Option<TokenVerifier>,
        counters: &HttpCounters,
    ) -> anyhow::Result<Sites> {
        let mut sites = Vec::new();
        for (role, port) in self.0 {
            counters.announce(role);
            let (file, tokens) = match role {
                ListenerRole::Agent => (args.web_config_file.as_deref(), tokens.take()),
                ListenerRole::Dcgm => (args.dcgm_web_config_file.as_deref(), None),
                ListenerRole::Health => (None, None),
            };
            let web = file.map(|file| follow(file, counters)).transpose()?;
            let has_tls = web.as_ref().is_some_and(|web| web.borrow().tls.is_some());
            let address = match &port {
                Port::Open(listener) => listener.local_addr()?,
                Port::Taken(address) => *address,
            };
            ensure!(
                tokens.is_none() || has_tls || address.ip().is_loopback(),
                "--kubernetes-auth would send tokens unencrypted: it needs --web-config-file with tls_server_config, or \
                 --listen with a loopback address"
            );
            match role {
                _ if matches!(port, Port::Taken(_)) => {
                    tracing::warn!(
                        dcgm = %address,
                        "another program has the port (--dcgm-listen); not serving endpoint pickers until it is free"
                    );
                }
                ListenerRole::Agent => tracing::info!(%address, "serving"),
                ListenerRole::Dcgm => tracing::info!(dcgm = %address, "serving the metrics of dcgm-exporter"),
                ListenerRole::Health => tracing::info!(health = %address, "serving the health of the agent"),
            }
            let site = Site {
                role,
                pages: pages.clone(),
                health: health.clone(),
                access: Access::new(web, tokens),
                counters: counters.clone(),
            };
            sites.push((port, site));
        }
        Ok(Sites(sites))
    }
}

impl Sites {
    /// Serves until `stop` completes, and finishes open responses.
    pub(crate) async fn serve(self, stop: impl Future<Output = ()>) {
        let (sender, receiver) = watch::channel(false);
        let mut listeners = JoinSet::new();
        for (port, site) in self.0 {
            let receiver = receiver.clone();
            match port {
                Port::Open(listener) => listeners.spawn(http::serve(listener, site, receiver)),
                Port::Taken(address) => listeners.spawn(serve_when_free(address, site, receiver)),
            };
        }
        stop.await;
        sender.send_replace(true);
        while listeners.join_next().await.is_some() {}
        tracing::info!("stopped");
    }
}

/// Serves as soon as the port is free.
async fn serve_when_free(address: SocketAddr, site: Site, mut stop: watch::Receiver<bool>) {
    let listener = loop {
        site.counters.taken_ports.with_label_values(&[site.role.as_str()]).inc();
        if tokio::time::timeout(TAKEN_PORT_RETRY, stop.changed()).await.is_ok() {
            return;
        }
        match http::bind(address) {
            Ok(listener) => break listener,
            Err(error) => tracing::debug!(%address, %error, "the port is still taken"),
        }
    };
    tracing::info!(dcgm = %address, "the port is free: serving the metrics of dcgm-exporter");
    http::serve(listener, site, stop).await;
}

fn is_in_use(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::AddrInUse)
}

/// A web configuration that follows its file.
fn follow(file: &Path, counters: &HttpCounters) -> anyhow::Result<watch::Receiver<Arc<WebConfig>>> {
    let config = WebConfig::load(file)
        .with_context(|| format!("the web configuration {} cannot be used", file.display()))?;
    let (sender, receiver) = watch::channel(Arc::new(config));
    tokio::spawn(web_config::follow(file.to_owned(), sender, counters.config_errors.clone()));
    Ok(receiver)
}
