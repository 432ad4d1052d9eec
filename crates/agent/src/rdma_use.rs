//! Whether the traffic of pods goes over RDMA: ports that stand still while pods that hold RDMA devices keep their accelerators busy
//! mean that transfers have fallen back to TCP. An accelerator counts only if all pods that hold it hold RDMA devices as well:
//! of others it is not known who keeps it busy.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use afd_model::{
    Allocation, DeviceId, Engine, Inventory, Known, Missing, Offers, PortCounters, PortState, Quantity,
    Sampling,
};

/// How long accelerators must have been busy without traffic. Prefill and decode exchange caches all the time.
const QUIET_TIME: Duration = Duration::from_mins(10);
/// The longest time that one observation stands for.
const LONGEST_STEP: Duration = Duration::from_secs(60);
/// What counts as traffic: management alone has less within the time.
const TRAFFIC_BYTES: u64 = 1 << 20;
/// From which utilization on an accelerator is busy.
const BUSY: f64 = 0.5;

/// The ports while pods hold RDMA devices.
#[derive(Debug, Default)]
pub struct RdmaUse {
    window: Option<UseWindow>,
    verdict: Known<bool>,
}

/// A time without traffic.
#[derive(Debug)]
struct UseWindow {
    counted: CountedBytes,
    last: Instant,
    busy_for: Duration,
}

/// What ports have counted together, and which ports: bytes of others are no traffic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct CountedBytes {
    bytes: u64,
    /// A digest of the names of the ports.
    ports: u64,
}

/// What is observed at one time.
#[derive(Clone, Copy, Debug)]
struct Observed {
    /// Whether a pod holds an RDMA device and an accelerator.
    is_held: bool,
    /// Whether such a pod keeps its accelerator busy.
    is_busy: bool,
    /// What all active ports have counted; none where one does not count.
    counted: Option<CountedBytes>,
}

impl RdmaUse {
    /// What is known now: whether there is traffic.
    pub fn verdict(&self) -> Known<bool> {
        self.verdict
    }

    /// Takes in a sample; whether what is known has changed.
    pub fn update(
        &mut self,
        now: Instant,
        inventory: &Inventory,
        sampling: &Sampling,
        allocations: Option<&[Allocation]>,
        offers: &Offers,
    ) -> bool {
        let devices = with_rdma(allocations.unwrap_or_default(), offers);
        let observed = Observed {
            is_held: !devices.is_empty(),
            is_busy: is_busy(sampling, &devices),
            counted: counted(inventory, &sampling.ports),
        };
        self.observe(now, observed)
    }

    fn observe(&mut self, now: Instant, observed: Observed) -> bool {
        let before = self.verdict;
        match observed.counted.filter(|_| observed.is_held) {
            None => {
                self.window = None;
                self.verdict = Missing::NotExposed.into();
            }
            Some(counted) => self.count(now, counted, observed.is_busy),
        }
        self.verdict != before
    }

    fn count(&mut self, now: Instant, counted: CountedBytes, is_busy: bool) {
        let window = self.window.get_or_insert(UseWindow { counted, last: now, busy_for: Duration::ZERO });
        if is_busy {
            window.busy_for += now.saturating_duration_since(window.last).min(LONGEST_STEP);
        }
        window.last = now;
        // Counters that were reset begin a new window, and so do other ports.
        let traffic = counted.since(&window.counted);
        if traffic.is_none_or(|traffic| traffic >= TRAFFIC_BYTES) {
            *window = UseWindow { counted, last: now, busy_for: Duration::ZERO };
            if traffic.is_some() {
                self.verdict = Known::Value(true);
            }
        } else if window.busy_for >= QUIET_TIME {
            self.verdict = Known::Value(false);
        }
    }
}

/// The devices all of whose holders hold RDMA devices as well.
fn with_rdma(allocations: &[Allocation], offers: &Offers) -> BTreeSet<DeviceId> {
    let mut devices: BTreeMap<DeviceId, bool> = BTreeMap::new();
    for holder in allocations {
        let mut pods = offers.rdma_pods.iter().flatten();
        let has_rdma = pods.any(|(namespace, pod)| (namespace, pod) == (&holder.namespace, &holder.pod));
        *devices.entry(holder.unit.device).or_insert(true) &= has_rdma;
    }
    devices.into_iter().filter_map(|(device, has_rdma)| has_rdma.then_some(device)).collect()
}

/// Whether one of these devices or a partition of it is busy.
fn is_busy(sampling: &Sampling, devices: &BTreeSet<DeviceId>) -> bool {
    let held = |sample: &&afd_model::Sample| devices.contains(&sample.unit.device);
    sampling
        .samples
        .iter()
        .filter(held)
        .flat_map(|sample| &sample.readings)
        .any(|reading| reading.quantity == Quantity::Utilization(Engine::Compute) && reading.value >= BUSY)
}

impl CountedBytes {
    /// What the same ports have counted since then.
    fn since(&self, earlier: &CountedBytes) -> Option<u64> {
        self.bytes.checked_sub(earlier.bytes).filter(|_| self.ports == earlier.ports)
    }
}

/// What all active ports of NICs have counted together; none if there is none, or one does not count.
fn counted(inventory: &Inventory, counters: &[PortCounters]) -> Option<CountedBytes> {
    let nics = inventory.nics.iter().filter(|nic| !nic.of_accelerator);
    let active = nics.flat_map(|nic| {
        let ports = nic.ports.iter().filter(|port| port.state.value() == Some(&PortState::Active));
        ports.map(move |port| (&nic.name, port.number))
    });
    let (mut sum, mut ports) = (None, DefaultHasher::new());
    for (nic, number) in active {
        let port = counters.iter().find(|port| port.nic == *nic && port.port == number)?;
        sum = Some(port.bytes()?.checked_add(sum.unwrap_or_default())?);
        (nic, number).hash(&mut ports);
    }
    Some(CountedBytes { bytes: sum?, ports: ports.finish() })
}

#[cfg(test)]
mod tests {
    use afd_model::{AllocationMechanism, Nic, NicPort, PciAddress, PortCount, Reading, Sample};

    use super::*;

    /// The verdicts after observations: minutes since the start, bytes, whether pods hold RDMA devices and keep accelerators busy.
    fn verdicts(observed: &[(u64, Option<u64>, bool, bool)]) -> Vec<Option<bool>> {
        let (mut rdma_use, start) = (RdmaUse::default(), Instant::now());
        let verdicts = observed.iter().map(|(minutes, bytes, is_held, is_busy)| {
            let counted = bytes.map(|bytes| CountedBytes { bytes, ports: 1 });
            let observed = Observed { is_held: *is_held, is_busy: *is_busy, counted };
            let before = rdma_use.verdict();
            let has_changed = rdma_use.observe(start + Duration::from_mins(*minutes), observed);
            assert_eq!(has_changed, rdma_use.verdict() != before);
            rdma_use.verdict().into_value()
        });
        verdicts.collect()
    }

    #[test]
    fn ports_that_stand_still_while_pods_are_busy_carry_no_traffic() {
        let minutes: Vec<_> = (0..=12).map(|minute| (minute, Some(7), true, true)).collect();
        let verdicts = verdicts(&minutes);
        assert_eq!(verdicts[..10], [None; 10]);
        assert_eq!(verdicts[10..], [Some(false); 3]);
    }

    #[test]
    fn idle_pods_without_rdma_devices_and_unknown_counters_are_no_evidence() {
        for (bytes, is_held, is_busy) in [(Some(7), true, false), (Some(7), false, true), (None, true, true)]
        {
            let minutes: Vec<_> = (0..30).map(|minute| (minute, bytes, is_held, is_busy)).collect();
            assert!(verdicts(&minutes).iter().all(Option::is_none));
        }
    }

    #[test]
    fn traffic_ends_the_note_and_so_does_the_end_of_the_pods() {
        let mut observed: Vec<_> = (0..=10).map(|minute| (minute, Some(7), true, true)).collect();
        observed.push((11, Some(7 + TRAFFIC_BYTES), true, true));
        observed.push((12, Some(7 + TRAFFIC_BYTES), false, true));
        assert_eq!(verdicts(&observed)[10..], [Some(false), Some(true), None]);
        // A counter that was reset is no traffic, and begins another window.
        let reset: Vec<_> =
            (0..=12).map(|minute| (minute, Some(if minute < 9 { 1 << 30 } else { 7 }), true, true)).collect();
        assert!(verdicts(&reset).iter().all(Option::is_none));
        // A suspended machine was not busy.
        assert_eq!(verdicts(&[(0, Some(7), true, true), (60, Some(7), true, true)]), [None, None]);
    }

    #[test]
    fn what_another_port_has_counted_is_no_traffic() {
        let port = |number, state| NicPort {
            number,
            state: Known::Value(state),
            link_layer: Known::default(),
            protocol: Known::default(),
            rate_bits_per_second: Known::default(),
        };
        let inventory = |second| {
            let nic = Nic {
                name: "mlx5_0".to_owned(),
                pci_address: Known::default(),
                vendor_id: Known::default(),
                device_id: Known::default(),
                product: Known::default(),
                driver: Known::default(),
                firmware_version: Known::default(),
                numa_node: Known::default(),
                upstream: Vec::new(),
                virtual_function: false,
                of_accelerator: false,
                ports: vec![port(1, PortState::Active), port(2, second)],
            };
            Inventory { nics: vec![nic], ..Inventory::default() }
        };
        let counters = |number, bytes| PortCounters {
            nic: "mlx5_0".to_owned(),
            port: number,
            counts: vec![(PortCount::ReceiveBytes, bytes), (PortCount::TransmitBytes, 0)],
        };
        let all = [counters(1, 7), counters(2, 1 << 40)];
        let one = counted(&inventory(PortState::Down), &all).expect("it counts");
        let both = counted(&inventory(PortState::Active), &all).expect("they count");
        assert_eq!((one.bytes, both.bytes), (7, 7 + (1 << 40)));
        assert_eq!((both.since(&one), both.since(&both)), (None, Some(0)));
    }

    #[test]
    fn only_a_pod_that_holds_both_keeps_an_accelerator_busy_with_rdma() {
        let unit = |bus| PciAddress { domain: 0, bus, device: 0, function: 0 };
        let held = |bus, pod: &str| Allocation {
            unit: DeviceId(unit(bus)).into(),
            namespace: "serving".to_owned(),
            pod: pod.to_owned(),
            container: "main".to_owned(),
            resource: "example.com/gpu".to_owned(),
            mechanism: AllocationMechanism::DevicePlugin,
        };
        let offers = |namespace: &str, pods: &[&str]| Offers {
            rdma_pods: Some(pods.iter().map(|pod| (namespace.to_owned(), (*pod).to_owned())).collect()),
            ..Offers::default()
        };
        let busy = Reading { quantity: Quantity::Utilization(Engine::Compute), value: 0.9 };
        let sampling = Sampling {
            samples: vec![Sample { unit: DeviceId(unit(1)).into(), readings: vec![busy] }],
            ..Sampling::default()
        };
        let observed = |allocations: &[Allocation], offers: &Offers| {
            let devices = with_rdma(allocations, offers);
            (!devices.is_empty(), is_busy(&sampling, &devices))
        };
        let decode = offers("serving", &["decode"]);
        assert_eq!(observed(&[held(1, "decode")], &decode), (true, true));
        assert_eq!(observed(&[held(1, "other")], &decode), (false, false), "its pod has no RDMA device");
        assert_eq!(observed(&[held(1, "decode")], &offers("test", &["decode"])), (false, false));
        let both = [held(1, "other"), held(2, "decode")];
        assert_eq!(observed(&both, &decode), (true, false), "another pod keeps another device busy");
        let shared = [held(1, "other"), held(1, "decode")];
        assert_eq!(observed(&shared, &decode), (false, false), "who of them keeps it busy is not known");
        assert_eq!(observed(&[held(1, "decode")], &Offers::default()), (false, false));
    }
}
