//! Servers on the node that a vendor's probe queries.

/// What a vendor's probe queries over the network, by `afd probe <name>`: a process of its own that loads no library and may
/// connect to the ports of these servers alone, at any address; where Landlock has no rules of ports (before Linux 6.7), by TCP to
/// any port.
#[derive(Debug)]
pub struct VendorNetwork {
    /// The servers.
    pub sources: &'static [NetworkSource],
    /// The servers within pods that hold devices.
    pub pods: Option<PodServer>,
    /// Resident memory above which the process is killed.
    pub max_resident_bytes: u64,
    /// Private memory that the process can have at all.
    pub max_data_bytes: u64,
}

/// A server within a pod, at the address of the pod.
#[derive(Debug)]
pub struct PodServer {
    /// Its port.
    pub port: u16,
    /// The variable of a container that names other ports, as a list.
    pub ports_variable: &'static str,
}

/// One server, or several at the following ports of one address.
#[derive(Debug)]
pub struct NetworkSource {
    /// Its name in `afd probe <name> --connect <source>=<address>`.
    pub name: &'static str,
    /// The option that sets its address, without the dashes.
    pub option: &'static str,
    /// Help of that option.
    pub help: &'static str,
    /// Its address on a node: address and port.
    pub default: &'static str,
    /// The value of the chart that sets its address.
    pub chart_value: &'static str,
}
