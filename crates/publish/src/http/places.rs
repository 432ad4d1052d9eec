//! The places of a listener, and which connection gives way when all of them are taken.
//!
//! The network with the most connections gives one up: the one that has been at its step for the longest. So a client that opens
//! connections without end displaces its own, never the single one of another; among many networks the oldest idle or
//! stalled connection goes first.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Instant,
};

use tokio::task::AbortHandle;

use super::{progress::ConnectionProgress, reject::RejectReason};

/// The network of a client: an IPv4 address, or 64 bits of an IPv6 address, which one host has at its disposal.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct ClientNetwork(IpAddr);

impl ClientNetwork {
    pub(super) fn of(address: IpAddr) -> ClientNetwork {
        const MASK: u128 = !0 << 64;
        match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                ClientNetwork(Ipv6Addr::from_bits(address.to_bits() & MASK).into())
            }
            address => ClientNetwork(address),
        }
    }
}

/// A connection at its place.
struct Place {
    network: ClientNetwork,
    progress: Arc<ConnectionProgress>,
    task: AbortHandle,
}

/// The places of a listener.
pub(super) struct Places {
    limit: usize,
    places: Vec<Place>,
}

impl Places {
    pub(super) fn new(limit: usize) -> Places {
        Places { limit, places: Vec::with_capacity(limit) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.places.len()
    }

    /// Gives up the places of connections that have ended.
    pub(super) fn remove_finished(&mut self) {
        self.places.retain(|place| !place.task.is_finished());
    }

    /// Makes room for one more connection; whether another one had to go.
    pub(super) fn make_room(&mut self) -> Option<RejectReason> {
        if self.places.len() < self.limit {
            return None;
        }
        let connections: Vec<_> =
            self.places.iter().map(|place| (place.network, place.progress.since())).collect();
        self.places.swap_remove(displaced(&connections)?).task.abort();
        Some(RejectReason::Displaced)
    }

    /// Takes a place.
    pub(super) fn take(
        &mut self,
        network: ClientNetwork,
        progress: Arc<ConnectionProgress>,
        task: AbortHandle,
    ) {
        self.places.push(Place { network, progress, task });
    }

    /// Ends the connections whose step takes too long, and returns why.
    pub(super) fn end_overdue(&mut self, now: Instant) -> Vec<RejectReason> {
        let mut reasons = Vec::new();
        self.places.retain(|place| match place.progress.overdue(now) {
            Some(reason) => {
                place.task.abort();
                reasons.push(reason);
                false
            }
            None => true,
        });
        reasons
    }
}

/// The connection that gives way: of the networks with the most connections the one that is at its step for the longest.
fn displaced(connections: &[(ClientNetwork, Instant)]) -> Option<usize> {
    let mut counts: BTreeMap<ClientNetwork, usize> = BTreeMap::new();
    for (network, _) in connections {
        *counts.entry(*network).or_default() += 1;
    }
    let most = counts.values().max()?;
    let of_the_largest = connections.iter().enumerate().filter(|(_, (network, _))| counts[network] == *most);
    of_the_largest.min_by_key(|(_, (_, since))| *since).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn connections(of: &[(&str, u64)]) -> Vec<(ClientNetwork, Instant)> {
        let start = Instant::now();
        of.iter()
            .map(|(address, seconds)| {
                let address = address.parse().expect("it is an address");
                (ClientNetwork::of(address), start + Duration::from_secs(*seconds))
            })
            .collect()
    }

    #[test]
    fn a_flood_displaces_its_own_connections() {
        let flood = connections(&[("10.0.0.9", 0), ("10.0.0.1", 5), ("10.0.0.1", 3), ("10.0.0.1", 4)]);
        assert_eq!(displaced(&flood), Some(2), "the oldest of the client with most connections");
    }

    #[test]
    fn of_many_clients_the_oldest_connection_gives_way() {
        assert_eq!(displaced(&connections(&[("10.0.0.1", 2), ("10.0.0.2", 1), ("10.0.0.3", 3)])), Some(1));
        assert_eq!(displaced(&[]), None);
    }

    #[test]
    fn the_addresses_of_one_host_are_one_network() {
        let network = |address: &str| ClientNetwork::of(address.parse().expect("it is an address"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_eq!(network("fd00::1"), network("fd00::2"));
        assert_ne!(network("fd00:0:0:1::1"), network("fd00:0:0:2::1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }
}
