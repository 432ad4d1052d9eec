//! The scrape endpoints: `/`, `/live`, `/metrics`, `/compat/dcgm`, `/inventory`, `/healthz`, `/readyz` over HTTP/1.1, with or without TLS.
//!
//! A request of a scraper copies rendered bytes; a page for people is rendered on its first request after a sample, within some
//! milliseconds. No request reads a file, queries a library, or takes a lock that the loop holds while it
//! works. Every connection has a place, every step of it a deadline, and every buffer a bound, so that no client can take
//! the endpoints from others or make the agent grow.

mod access;
mod bind;
mod connection;
mod pages;
mod places;
mod progress;
mod reject;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::MissedTickBehavior,
};

pub use access::{Access, TokenVerifier};
pub use bind::bind;
pub use pages::{HealthLimits, LatestPages, ListenerRole};

use places::{ClientNetwork, Places};
use progress::{ConnectionProgress, ConnectionStep};
use reject::RejectReason;

/// How often overdue connections are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long open connections may finish their responses when the agent stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// The wait after a connection that could not be accepted, most likely because there are no more file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// What the kernel keeps of the responses to a client that does not read them, of which it uses twice as much. By itself it
/// would let it grow to megabytes, which count against the memory limit of the container.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// What a listener serves, and to which clients.
pub struct Site {
    /// Its pages.
    pub role: ListenerRole,
    /// The latest pages.
    pub pages: LatestPages,
    /// When the agent counts as unhealthy.
    pub health: HealthLimits,
    /// Who may read.
    pub access: Access,
    /// What is counted.
    pub counters: HttpCounters,
}

/// Counters of the listeners.
#[derive(Clone, Debug)]
pub struct HttpCounters {
    /// Open connections, by listener.
    pub connections: IntGaugeVec,
    /// Connections and requests that were rejected, by listener and reason.
    pub rejected: IntCounterVec,
    /// Failed attempts to listen on a port that another program has, by listener.
    pub taken_ports: IntCounterVec,
    /// Web configurations that could not be used.
    pub config_errors: IntCounter,
}

impl HttpCounters {
    /// Makes the series of a listener exist, so that the first rejection for any reason is an increase.
    pub fn announce(&self, role: ListenerRole) {
        self.connections.with_label_values(&[role.as_str()]).set(0);
        for reason in RejectReason::ALL {
            self.rejected.with_label_values(&[role.as_str(), reason.as_str()]);
        }
    }
}

/// Serves requests until `stop` is true or its sender is gone, and then finishes open responses for a short time.
pub async fn serve(listener: TcpListener, site: Site, mut stop: watch::Receiver<bool>) {
    let site = Arc::new(site);
    let open = site.counters.connections.with_label_values(&[site.role.as_str()]);
    let mut places = Places::new(site.role.max_connections());
    let mut connections = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        open.set(places.taken() as i64);
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {
                places.remove_finished();
                continue;
            }
            _ = sweep.tick(), if !places.is_empty() => {
                places.end_overdue(Instant::now()).into_iter().for_each(|reason| site.count_rejected(reason));
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(reason) = places.make_room() {
                    site.count_rejected(reason);
                }
                prepare(&stream);
                let first = if site.access.tls().is_some() {
                    ConnectionStep::Handshake
                } else {
                    ConnectionStep::Request
                };
                let progress = Arc::new(ConnectionProgress::new(first, Instant::now()));
                let task = connections.spawn(connection::serve_connection(
                    stream,
                    peer.ip(),
                    Arc::clone(&site),
                    Arc::clone(&progress),
                    stop.clone(),
                ));
                places.take(ClientNetwork::of(peer.ip()), progress, task);
                // A new connection runs before the next one may take its place.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                tracing::debug!(%error, "connection not accepted");
                let _ = tokio::time::timeout(ACCEPT_BACKOFF, stopped(&mut stop)).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
    open.set(0);
}

impl Site {
    fn count_rejected(&self, reason: RejectReason) {
        self.counters.rejected.with_label_values(&[self.role.as_str(), reason.as_str()]).inc();
    }
}

/// Completes when the agent stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Without a sender the agent is stopping as well.
    let _ = stop.wait_for(|stops| *stops).await;
}

fn prepare(stream: &TcpStream) {
    // A response is sent at once, without waiting for more data.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES);
    // What a client does not take is not kept by the kernel either after the connection was ended.
    let _ = sockopt::set_tcp_user_timeout(stream, 10_000);
}
