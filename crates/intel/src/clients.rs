//! Utilization from the engine time that xe and i915 count for each of their clients (`/proc/PID/fdinfo`, drm-usage-stats), where
//! neither Level Zero reports one nor the counters of the driver can be opened ([`counters`](crate::counters)).
//!
//! To read the files of all processes takes `CAP_SYS_PTRACE`, and a `/proc` with all processes of the node, as an agent has that runs
//! on the node itself. Where one process cannot be read there is no value: its clients may be the busy ones. Nor is there one while
//! a device has no client, or for a time in which a client has ended: what it did last is not known. One that has begun and ended
//! between two scans is noticed by its id, which the driver gives in sequence, once a later client is there; until then its time is
//! not part of the value.
//!
//! A scan of all processes takes a while on a large node, so that it is repeated after five thousand times what it took. Between two
//! scans samples have the last value.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use afd_host::{Host, ReadError, ReadErrorKind};
use afd_model::{DeviceId, Engine, PciAddress, Quantity, Reading};

/// The share of the time that scans may take is one in this many: a fifth of the agent's budget of a core.
const PACE: u32 = 5000;
/// What a scan may read. More is on no node of moderate size, and would delay a sample.
const LIMITS: ScanLimits = ScanLimits { names: 1 << 15, clients: 1 << 12 };
/// Which processes `/proc` has, and what that is where it has all: `PROC_PID_INIT_INO`, the number of the first PID namespace.
const NAMESPACE: &str = "/proc/1/ns/pid";
const NAMESPACE_OF_NODE: &str = "pid:[4026531836]";
/// The names of the classes of engines by i915 and by xe.
pub(crate) const CLASSES: [[&str; 2]; 4] =
    [["compute", "ccs"], ["render", "rcs"], ["copy", "bcs"], ["video", "vcs"]];
/// The classes by which an engine is known, preferred first.
pub(crate) const ENGINES: [(Engine, &[usize]); 3] =
    [(Engine::Compute, &[0, 1]), (Engine::Copy, &[2]), (Engine::Media, &[3])];

/// The clients of devices, and how busy they kept these between the last two scans.
#[derive(Debug, Default)]
pub(crate) struct EngineClients {
    last: Option<(Instant, ClientScan)>,
    /// When the next scan may begin.
    next: Option<Instant>,
    utilization: BTreeMap<DeviceId, Vec<Reading>>,
    /// Whether the last scan could not read all processes.
    is_incomplete: bool,
}

/// The clients of each device that was scanned.
type ClientScan = BTreeMap<DeviceId, BTreeMap<u64, ClientTime>>;

/// The time of a client on each class of engines.
type ClientTime = [Option<EngineTime>; CLASSES.len()];

/// The time of a client on a class of engines.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct EngineTime {
    /// Nanoseconds of i915, cycles of xe.
    busy: u64,
    /// The clock in which cycles are counted; none where they are nanoseconds.
    clock: Option<u64>,
    /// How many engines there are.
    engines: u64,
}

/// Sets a field of a time.
type SetField = fn(&mut EngineTime, u64);

/// A scan that has not read all.
#[derive(Debug)]
struct Incomplete;

/// The most that a scan reads.
#[derive(Clone, Copy)]
struct ScanLimits {
    /// Processes, and open files of all of them.
    names: usize,
    /// Open files of the devices, which the driver describes.
    clients: usize,
}

impl EngineClients {
    /// The utilization of devices by the last two scans, the second of which is made now if it is time. `nodes`: the names of the DRM
    /// nodes of the devices, which must be awake: to read the time of a client would wake its device.
    pub(crate) fn utilization(
        &mut self,
        host: &Host,
        now: Instant,
        nodes: &BTreeMap<&str, DeviceId>,
    ) -> &BTreeMap<DeviceId, Vec<Reading>> {
        if self.next.is_none_or(|next| now >= next) {
            let begun = Instant::now();
            let scanned = scan(host, nodes, LIMITS);
            self.is_incomplete = scanned.is_err();
            self.utilization = match (&self.last, &scanned) {
                (Some((before, earlier)), Ok(scan)) => busy(earlier, scan, now.duration_since(*before)),
                _ => BTreeMap::new(),
            };
            self.last = scanned.ok().map(|scan| (now, scan));
            self.next = Some(now + pause(begun.elapsed()));
        }
        &self.utilization
    }

    /// Whether the last scan could not read all processes.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }
}

/// How long there is no other scan after one that took this long.
fn pause(took: Duration) -> Duration {
    took.saturating_mul(PACE)
}

/// The clients of all devices. A process that has just ended has none.
fn scan(host: &Host, nodes: &BTreeMap<&str, DeviceId>, limits: ScanLimits) -> Result<ClientScan, Incomplete> {
    let mut scan: ClientScan = nodes.values().map(|device| (*device, BTreeMap::new())).collect();
    // The clients of other processes of the node may be the busy ones.
    if read(host.link(NAMESPACE))?.as_deref() != Some(NAMESPACE_OF_NODE) {
        return Ok(scan);
    }
    let (mut files, mut described) = (0, 0);
    for process in names(host, "/proc", limits.names)?.iter().filter(|name| name.parse::<u32>().is_ok()) {
        for file in names(host, &format!("/proc/{process}/fd"), limits.names)? {
            files += 1;
            if files > limits.names {
                return Err(Incomplete);
            }
            let target = read(host.link(&format!("/proc/{process}/fd/{file}")))?.unwrap_or_default();
            if !target.rsplit('/').next().is_some_and(|name| nodes.contains_key(name)) {
                continue;
            }
            described += 1;
            if described > limits.clients {
                return Err(Incomplete);
            }
            let text = read(host.read(&format!("/proc/{process}/fdinfo/{file}")))?.unwrap_or_default();
            let Some((address, client, time)) = parse(&String::from_utf8_lossy(&text)) else { continue };
            // A client is open in several processes, or several times in one.
            if let Some(clients) = scan.get_mut(&address.into()) {
                clients.entry(client).or_insert(time);
            }
        }
    }
    Ok(scan)
}

fn names(host: &Host, path: &str, most: usize) -> Result<Vec<String>, Incomplete> {
    Ok(read(host.list_at_most(path, most))?.unwrap_or_default())
}

/// What was read; nothing where it has gone meanwhile.
fn read<T>(result: Result<T, ReadError>) -> Result<Option<T>, Incomplete> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ReadError { kind: ReadErrorKind::Denied(_) | ReadErrorKind::TooLong, .. }) => Err(Incomplete),
        Err(_) => Ok(None),
    }
}

/// The device, the client and its time: `drm-engine-compute: 9288864723 ns` of i915, `drm-cycles-ccs: 28257900` and
/// `drm-total-cycles-ccs: 7655183225` of xe, `drm-engine-capacity-video: 2` of both.
fn parse(text: &str) -> Option<(PciAddress, u64, ClientTime)> {
    let (mut address, mut client, mut time) = (None, None, ClientTime::default());
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let number = || value.split_whitespace().next()?.parse::<u64>().ok();
        let Some(key) = key.strip_prefix("drm-") else { continue };
        match key {
            "pdev" => address = value.trim().parse().ok(),
            "client-id" => client = number(),
            _ => {}
        }
        let fields: [(&str, SetField); 4] = [
            ("engine-capacity-", |time, number| time.engines = number),
            ("engine-", |time, number| time.busy = number),
            ("total-cycles-", |time, number| time.clock = Some(number)),
            ("cycles-", |time, number| time.busy = number),
        ];
        let field = fields.into_iter().find_map(|(prefix, set)| Some((key.strip_prefix(prefix)?, set)));
        let Some((class, set)) = field else { continue };
        if let Some(index) = CLASSES.iter().position(|names| names.contains(&class))
            && let Some(number) = number()
        {
            set(time[index].get_or_insert(EngineTime { engines: 1, ..EngineTime::default() }), number);
        }
    }
    Some((address?, client?, time))
}

/// How busy the clients of each device kept its engines between two scans.
fn busy(earlier: &ClientScan, now: &ClientScan, elapsed: Duration) -> BTreeMap<DeviceId, Vec<Reading>> {
    // Recent kernels number the clients of all devices in one sequence.
    let known: BTreeSet<u64> = now.values().flat_map(BTreeMap::keys).copied().collect();
    let of_device = |(device, now): (&DeviceId, &BTreeMap<u64, ClientTime>)| {
        let before = earlier.get(device)?;
        // Of one that has ended it is not known what it did last.
        if !before.keys().all(|client| now.contains_key(client)) {
            return None;
        }
        // Nor of one that has begun and ended since.
        let (highest, newest) = (*before.last_key_value()?.0, *now.last_key_value()?.0);
        if known.range(highest..newest).count() as u64 != newest - highest {
            return None;
        }
        let reading = |(engine, classes): (Engine, &[usize])| {
            let is_there = |class: &&usize| now.values().any(|time| time[**class].is_some());
            let share = share(before, now, *classes.iter().find(is_there)?, elapsed)?;
            Some(Reading { quantity: Quantity::Utilization(engine), value: share })
        };
        Some((*device, ENGINES.into_iter().filter_map(reading).collect()))
    };
    now.iter().filter_map(of_device).collect()
}

fn share(
    before: &BTreeMap<u64, ClientTime>,
    now: &BTreeMap<u64, ClientTime>,
    class: usize,
    elapsed: Duration,
) -> Option<f64> {
    let times = |clients: &BTreeMap<u64, ClientTime>| {
        clients.values().filter_map(|time| time[class]).collect::<Vec<_>>()
    };
    let clock =
        |clients: &BTreeMap<u64, ClientTime>| times(clients).iter().filter_map(|time| time.clock).max();
    let growth = |(client, time): (&u64, &ClientTime)| {
        // A client that is new has counted from 0.
        let known = before.get(client).and_then(|time| time[class]).unwrap_or_default();
        time[class].unwrap_or_default().busy.checked_sub(known.busy)
    };
    let busy = now.iter().map(growth).try_fold(0_u64, |sum, growth| sum.checked_add(growth?))?;
    let total = match clock(now) {
        // The clock is that of the device.
        Some(clock_now) => clock_now.checked_sub(clock(before)?)? as f64,
        None => elapsed.as_nanos() as f64,
    };
    let engines = times(now).iter().map(|time| time.engines).max()?.max(1);
    crate::levelzero::readings::share(busy as f64 / (total * engines as f64))
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use proptest::prelude::*;

    use super::*;

    const I915: &str = "pos:\t0\ndrm-driver:\ti915\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t7\n\
        drm-engine-render:\t5 ns\ndrm-engine-compute:\t9288864723 ns\ndrm-engine-video:\t0 ns\ndrm-engine-capacity-video:\t2\n";

    fn xe(client: u64, cycles: u64, clock: u64) -> String {
        format!(
            "drm-driver:\txe\ndrm-client-id:\t{client}\ndrm-pdev:\t0000:03:00.0\ndrm-total-vram0:\t7 KiB\n\
             drm-cycles-ccs:\t{cycles}\ndrm-total-cycles-ccs:\t{clock}\ndrm-engine-capacity-ccs:\t2\n\
             drm-cycles-rcs:\t0\ndrm-total-cycles-rcs:\t{clock}\n"
        )
    }

    /// A node with processes, each with one open node.
    fn processes(clients: &[(u32, &str, String)]) -> TestHost {
        processes_of(NAMESPACE_OF_NODE, clients)
    }

    fn processes_of(namespace: &str, clients: &[(u32, &str, String)]) -> TestHost {
        let host = TestHost::new().file("/proc/meminfo", "x\n").link(NAMESPACE, namespace);
        clients.iter().fold(host, |host, (process, node, text)| {
            host.link(&format!("/proc/{process}/fd/5"), &format!("/dev/dri/{node}"))
                .link(&format!("/proc/{process}/fd/6"), "socket:[4711]")
                .file(&format!("/proc/{process}/fdinfo/5"), text)
        })
    }

    fn device() -> DeviceId {
        "0000:03:00.0".parse::<PciAddress>().expect("it is an address").into()
    }

    /// The utilization of compute after each scan of these hosts, a day after the one before.
    fn utilization(hosts: &[TestHost]) -> Vec<Option<f64>> {
        let (mut clients, start) = (EngineClients::default(), Instant::now());
        let nodes = BTreeMap::from([("renderD128", device())]);
        let scanned = |(days, folder): (u32, &TestHost)| {
            let now = start + Duration::from_secs(86400) * days;
            let utilization = clients.utilization(&folder.open(), now, &nodes);
            let readings = utilization.get(&device())?;
            let compute = Quantity::Utilization(Engine::Compute);
            readings.iter().find(|reading| reading.quantity == compute).map(|reading| reading.value)
        };
        (0..).zip(hosts).map(scanned).collect()
    }

    #[test]
    fn the_time_of_a_client_is_read_for_each_class_of_engines() {
        let (address, client, time) = parse(I915).expect("it is a client");
        assert_eq!((address.to_string().as_str(), client), ("0000:03:00.0", 7));
        assert_eq!(time[0], Some(EngineTime { busy: 9_288_864_723, clock: None, engines: 1 }));
        assert_eq!((time[2], time[3].map(|time| time.engines)), (None, Some(2)));
        let (_, _, time) = parse(&xe(1, 30, 900)).expect("it is a client");
        assert_eq!(time[0], Some(EngineTime { busy: 30, clock: Some(900), engines: 2 }));
        assert_eq!(parse("pos:\t0\nflags:\t02\n"), None);
    }

    #[test]
    fn clients_are_added_and_each_is_counted_once() {
        let first = || (7, "renderD128", xe(1, 100, 1000));
        // The second one is new, and its node is open in a process that inherited it.
        let later = [
            (7, "renderD128", xe(1, 300, 2000)),
            (8, "renderD128", xe(2, 600, 2000)),
            (9, "renderD128", xe(2, 600, 2000)),
            (10, "renderD129", xe(3, 600, 2000)),
        ];
        assert_eq!(utilization(&[processes(&[first()]), processes(&later)]), [None, Some(0.4)]);
        let nanoseconds =
            |busy: u64| processes(&[(7, "renderD128", I915.replace("9288864723", &busy.to_string()))]);
        let quarter = 86400 / 4 * 1_000_000_000;
        assert_eq!(utilization(&[nanoseconds(5), nanoseconds(5 + quarter)]), [None, Some(0.25)]);
    }

    #[test]
    fn no_client_is_no_idle_device() {
        let one = || processes(&[(7, "renderD128", xe(1, 100, 1000))]);
        let idle = || processes(&[(7, "renderD128", xe(1, 100, 2000))]);
        let other = || processes(&[(8, "renderD128", xe(2, 10, 3000))]);
        assert_eq!(utilization(&[one(), idle()]), [None, Some(0.0)], "a client that waits is idle");
        assert_eq!(utilization(&[one(), processes(&[]), processes(&[])]), [None, None, None]);
        assert_eq!(utilization(&[one(), other()]), [None, None], "what the first one did last is not known");
        assert_eq!(utilization(&[processes(&[]), one()]), [None, None], "since when is not known");
    }

    #[test]
    fn a_client_that_began_and_ended_between_two_scans_is_noticed_by_its_id() {
        let of = |ids: &[u64], cycles: u64| {
            let client = |id: &u64| (*id as u32, "renderD128", xe(*id, cycles, cycles * 4));
            processes(&ids.iter().map(client).collect::<Vec<_>>())
        };
        let last = |ids: &[u64]| utilization(&[of(&[4], 100), of(ids, 200)])[1];
        assert_eq!(last(&[4, 5]), Some(0.375));
        assert_eq!(last(&[4, 6]), None, "what client 5 did is not known");
        assert_eq!(last(&[4]), Some(0.125));
        let (one, other) = (device(), "0000:04:00.0".parse::<PciAddress>().expect("it is an address").into());
        let client =
            |id: u64, cycles: u64| parse(&xe(id, cycles, cycles * 4)).map(|(_, id, time)| (id, time));
        let clients =
            |all: &[(u64, u64)]| all.iter().filter_map(|(id, cycles)| client(*id, *cycles)).collect();
        let earlier = BTreeMap::from([(one, clients(&[(4, 100)])), (other, clients(&[]))]);
        let now = BTreeMap::from([(one, clients(&[(4, 200), (6, 200)])), (other, clients(&[(5, 1)]))]);
        let busy = busy(&earlier, &now, Duration::from_secs(1));
        assert!(busy.contains_key(&one), "the other device has client 5");
        assert!(!busy.contains_key(&other), "since when is not known");
    }

    #[test]
    fn scans_take_a_small_share_of_the_time_and_are_bounded() {
        assert!(pause(Duration::from_millis(20)) >= Duration::from_secs(100));
        let folder = processes(&[(7, "renderD128", xe(1, 1, 9)), (8, "renderD128", xe(2, 1, 9))]);
        let host = folder.open();
        let nodes = BTreeMap::from([("renderD128", device())]);
        let is_complete = |names, clients| scan(&host, &nodes, ScanLimits { names, clients }).is_ok();
        assert!(is_complete(9, 2));
        assert!(!is_complete(9, 1), "two files of the device");
        assert!(!is_complete(3, 2), "four files");
    }

    #[test]
    fn a_container_does_not_see_all_clients() {
        let host = |namespace: &str| {
            [100, 500].map(|cycles| processes_of(namespace, &[(7, "renderD128", xe(1, cycles, cycles * 4))]))
        };
        assert_eq!(utilization(&host(NAMESPACE_OF_NODE)), [None, Some(0.125)]);
        assert_eq!(utilization(&host("pid:[4026532447]")), [None, None]);
    }

    proptest! {
        #[test]
        fn no_text_and_no_number_panics(text in ".{0,200}", busy in any::<[u64; 4]>(), clock in any::<[u64; 2]>()) {
            let _ = parse(&text);
            let scan = |busy: [u64; 2], clock: u64| {
                let client = |busy| parse(&xe(busy, busy, clock)).map(|(_, client, time)| (client, time));
                BTreeMap::from([(device(), busy.into_iter().filter_map(client).collect())])
            };
            let (earlier, now) = (scan([busy[0], busy[1]], clock[0]), scan([busy[2], busy[3]], clock[1]));
            for readings in super::busy(&earlier, &now, Duration::ZERO).into_values() {
                prop_assert!(readings.iter().all(|reading| (0.0..=1.0).contains(&reading.value)));
            }
        }
    }

    #[test]
    fn a_scan_reads_the_links_of_real_processes() {
        let host = Host::open("/").expect("it is a directory");
        let name = format!("/proc/{}/fd", std::process::id());
        let files = host.list_at_most(&name, LIMITS.names).expect("they are our own");
        assert!(files.iter().any(|file| host.link(&format!("{name}/{file}")).is_ok()));
        assert_eq!(host.list_at_most(&name, 1).map_err(|error| error.kind), Err(ReadErrorKind::TooLong));
    }
}
