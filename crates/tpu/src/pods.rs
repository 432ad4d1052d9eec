//! The runtimes within pods that have a network of their own: where they listen, and of which container they are. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use afd_model::{Allocation, PodNetworks};

use crate::{
    holding::{self, OrderedChip},
    metadata,
    report::RuntimeContainer,
};

/// No node has more chips and cores, each with a runtime. A container has no more than it holds of these.
const MAX_RUNTIMES: usize = 16;

/// A runtime within a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodRuntime {
    pub(crate) container: RuntimeContainer,
    /// That of its pod: of another one the values are others.
    pub(crate) uid: String,
}

/// The runtimes within pods by their addresses, and why there are not more.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct PodRuntimes {
    pub(crate) runtimes: BTreeMap<SocketAddr, PodRuntime>,
    /// The first reason, if there is one.
    pub(crate) problem: Option<String>,
}

/// The runtimes of the containers that hold chips, of pods whose address is known. `port` is that of a container which names none.
/// Where several containers of a pod hold chips, it is not known of which of them the runtime at that port is.
pub(crate) fn find(
    pods: &PodNetworks,
    chips: &[OrderedChip],
    allocations: &[Allocation],
    port: u16,
) -> PodRuntimes {
    let mut found = PodRuntimes::default();
    let containers: BTreeSet<RuntimeContainer> = holding::holders(chips, allocations).collect();
    for container in &containers {
        let Some(pod) = pods.get(&(container.namespace.clone(), container.pod.clone())) else { continue };
        let Some(address) = pod.address else { continue };
        let mut ports =
            pod.ports.get(&container.container).map(|list| metadata::ports(list)).unwrap_or_default();
        let is_of_pod = |other: &&RuntimeContainer| {
            (&other.namespace, &other.pod) == (&container.namespace, &container.pod)
        };
        if ports.is_empty() && containers.iter().filter(is_of_pod).count() == 1 {
            ports.push(port);
        }
        let of_others = ports.iter().any(|port| {
            let other = found.runtimes.get(&SocketAddr::new(address, *port));
            other.is_some_and(|other| other.container != *container)
        });
        if ports.is_empty() || of_others {
            found.problem.get_or_insert_with(|| {
                format!("several containers of pod {}/{} hold TPUs, and of which of them a runtime is, is not known", container.namespace, container.pod)
            });
            continue;
        }
        let held = holding::held_by(container, chips, allocations);
        let cores: usize = held.iter().map(|chip| chip.cores.max(1)).sum();
        let room = cores.min(MAX_RUNTIMES - found.runtimes.len());
        let ports: BTreeSet<u16> = ports.into_iter().collect();
        if ports.len() > room {
            found.problem.get_or_insert_with(|| {
                format!("pod {}/{} names {} ports of runtimes, and {room} of them are queried: it has {cores} TensorCores, and a node at most {MAX_RUNTIMES}", container.namespace, container.pod, ports.len())
            });
        }
        let runtime = PodRuntime { container: container.clone(), uid: pod.uid.clone() };
        let addresses = ports.into_iter().take(room).map(|port| SocketAddr::new(address, port));
        found.runtimes.extend(addresses.map(|address| (address, runtime.clone())));
    }
    found
}

#[cfg(test)]
mod tests {
    use afd_model::{AllocationMechanism, PciAddress, PodNetwork};

    use super::*;

    fn chip(device: u8) -> OrderedChip {
        let id = PciAddress { domain: 0, bus: 0, device, function: 0 }.into();
        OrderedChip { numa_node: Some(0), id, cores: 2, is_shareable: true }
    }

    fn held(pod: &str, container: &str, device: u8) -> Allocation {
        Allocation {
            unit: chip(device).id.into(),
            namespace: "ml".to_owned(),
            pod: pod.to_owned(),
            container: container.to_owned(),
            resource: "google.com/tpu".to_owned(),
            mechanism: AllocationMechanism::DevicePlugin,
        }
    }

    fn pods(address: Option<&str>, ports: &[(&str, &str)]) -> PodNetworks {
        let address = address.map(|address| address.parse().expect("it is an address"));
        let ports = ports.iter().map(|(container, ports)| ((*container).to_owned(), (*ports).to_owned()));
        [(
            ("ml".to_owned(), "train".to_owned()),
            PodNetwork { uid: "1".to_owned(), address, ports: ports.collect(), ..PodNetwork::default() },
        )]
        .into()
    }

    /// The runtimes as address and container, and whether there is a problem.
    fn found(pods: &PodNetworks, allocations: &[Allocation]) -> (Vec<(String, String)>, bool) {
        let found = find(pods, &[chip(1), chip(2)], allocations, 8431);
        let named =
            found.runtimes.into_iter().map(|(address, own)| (address.to_string(), own.container.container));
        (named.collect(), found.problem.is_some())
    }

    fn expected(runtimes: &[(&str, &str)]) -> Vec<(String, String)> {
        runtimes.iter().map(|(address, own)| ((*address).to_owned(), (*own).to_owned())).collect()
    }

    #[test]
    fn a_pod_that_holds_a_chip_is_asked_at_its_ports() {
        let all = [held("train", "main", 1), held("train", "main", 2), held("other", "main", 9)];
        let address = Some("10.0.0.7");
        let of = |ports: &[(&str, &str)]| found(&pods(address, ports), &all);
        assert_eq!(of(&[]), (expected(&[("10.0.0.7:8431", "main")]), false));
        let two = expected(&[("10.0.0.7:8431", "main"), ("10.0.0.7:8432", "main")]);
        assert_eq!(of(&[("main", "8431, 8432")]), (two, false));
        assert_eq!(of(&[("main", "x"), ("sidecar", "9")]), (expected(&[("10.0.0.7:8431", "main")]), false));
        assert_eq!(of(&[("main", &["1"; 99].join(","))]).0.len(), 1);
        let v6 = expected(&[("[fd00::7]:8431", "main")]);
        assert_eq!(found(&pods(Some("fd00::7"), &[]), &all), (v6, false));
    }

    #[test]
    fn a_container_has_no_more_runtimes_than_cores_and_takes_none_from_others() {
        let network = |address: &str, ports: &str| PodNetwork {
            uid: "1".to_owned(),
            address: address.parse().ok(),
            ports: [("main".to_owned(), ports.to_owned())].into(),
            ..PodNetwork::default()
        };
        let many: Vec<String> = (1..=16).map(|port| port.to_string()).collect();
        let pods = [("a", "10.0.0.6", many.join(",")), ("b", "10.0.0.7", "8431,8432".to_owned())];
        let pods: PodNetworks = pods
            .into_iter()
            .map(|(pod, address, ports)| (("ml".to_owned(), pod.to_owned()), network(address, &ports)))
            .collect();
        let both = [held("a", "main", 1), held("b", "main", 2)];
        let asked =
            ["10.0.0.6:1", "10.0.0.6:2", "10.0.0.7:8431", "10.0.0.7:8432"].map(|address| (address, "main"));
        assert_eq!(found(&pods, &both), (expected(&asked), true), "the rest is a problem");
    }

    #[test]
    fn pods_without_a_chip_or_on_the_nodes_network_or_not_read_are_not_asked() {
        let own = [held("train", "main", 1)];
        assert_eq!(found(&pods(None, &[]), &own), (Vec::new(), false));
        assert_eq!(found(&PodNetworks::new(), &own), (Vec::new(), false));
        assert_eq!(found(&pods(Some("10.0.0.7"), &[]), &[held("train", "main", 9)]), (Vec::new(), false));
    }

    #[test]
    fn a_runtime_that_may_be_of_either_container_is_not_asked_and_is_one_problem() {
        let both = [held("train", "a", 1), held("train", "b", 2)];
        let of = |ports: &[(&str, &str)]| found(&pods(Some("10.0.0.7"), ports), &both);
        assert_eq!(of(&[]), (Vec::new(), true));
        let first = expected(&[("10.0.0.7:1", "a")]);
        assert_eq!(of(&[("a", "1")]), (first.clone(), true));
        assert_eq!(of(&[("a", "1"), ("b", "1")]), (first, true));
        let each = expected(&[("10.0.0.7:1", "a"), ("10.0.0.7:2", "b")]);
        assert_eq!(of(&[("a", "1"), ("b", "2")]), (each, false));
    }
}
