//! Which counters a device has, by the sysfs of its driver's PMU (`/sys/bus/event_source/devices/{xe,i915}_<address>`).

use afd_host::Host;
use afd_model::{Device, DeviceId};
use afd_probe::{Facts, pci};

use super::{CountedEngine, DeviceCounters};
use crate::sysfs::sampling::numbered;

const PMUS: &str = "/sys/bus/event_source/devices";
const FACT: &str = "utilization";
/// Classes of engines of xe that are counted: the name, the number, and how many a GT has at most. Instances are numbered without gaps.
const XE_CLASSES: [(&str, u64, u64); 4] = [("rcs", 0, 1), ("bcs", 1, 9), ("vcs", 2, 8), ("ccs", 4, 4)];
/// What the kernel demands of those who count, and the capabilities that make up for it: `CAP_SYS_ADMIN` and `CAP_PERFMON`.
const PARANOIA: &str = "/proc/sys/kernel/perf_event_paranoid";
const CAPABILITIES: u64 = 1 << 21 | 1 << 38;

/// Whether this process may open counters of devices, so far as that can be known without trying.
pub(crate) fn may_count(host: &Host) -> bool {
    let text = |host: &Host, path: &str| Some(String::from_utf8_lossy(&host.read(path).ok()?).into_owned());
    let container = Host::open("/").ok();
    let paranoia = text(host, PARANOIA).or_else(|| text(container.as_ref()?, PARANOIA));
    let is_open = paranoia.and_then(|text| text.trim().parse::<i64>().ok()).is_some_and(|level| level <= 0);
    let has_capability = || {
        let status = text(container.as_ref()?, "/proc/self/status")?;
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        Some(u64::from_str_radix(effective.trim(), 16).ok()? & CAPABILITIES != 0)
    };
    is_open || has_capability().unwrap_or_default()
}

/// The counters of devices that have memory of their own and no virtual functions, which have engine time of their own.
pub(crate) fn find(facts: &mut Facts<'_>, devices: &[Device]) -> Vec<(DeviceId, String)> {
    let whole = devices.iter().filter(|device| !device.integrated && device.partitions.is_empty());
    let counters = |device: &Device| {
        facts.about(Some(device.id));
        Some((device.id, counters(facts, device)?.to_string()))
    };
    whole.filter_map(counters).collect()
}

fn counters(facts: &mut Facts<'_>, device: &Device) -> Option<DeviceCounters> {
    let driver = device.driver.value()?;
    let pmu = format!("{PMUS}/{driver}_{}", device.id.to_string().replace(':', "_"));
    let kind = facts.number(FACT, &format!("{pmu}/type")).into_value()?;
    let cpus = facts.text(FACT, &format!("{pmu}/cpumask"));
    let first = cpus.value().and_then(|cpus| cpus.split([',', '-']).next()?.parse().ok());
    let engines = match driver.as_str() {
        "xe" => xe_engines(facts, &pmu, device)?,
        "i915" => i915_engines(facts, &pmu),
        _ => return None,
    };
    (!engines.is_empty()).then(|| DeviceCounters { kind, cpu: first.unwrap_or_default(), engines })
}

/// The engines that the GTs of xe may have. Those that they do not have are found by opening their counters.
fn xe_engines(facts: &mut Facts<'_>, pmu: &str, device: &Device) -> Option<Vec<CountedEngine>> {
    let mut event =
        |name: &str| number(&facts.text(FACT, &format!("{pmu}/events/{name}")).into_value()?, "event=");
    let events = (event("engine-active-ticks")?, event("engine-total-ticks")?);
    let mut field =
        |name: &str| ConfigField::parse(&facts.text(FACT, &format!("{pmu}/format/{name}")).into_value()?);
    let fields = [field("event")?, field("gt")?, field("engine_class")?, field("engine_instance")?];
    let config = |values: [u64; 4]| {
        let mut placed = fields.iter().zip(values).map(|(field, value)| field.place(value));
        placed.try_fold(0_u64, |sum, value| sum.checked_add(value?))
    };
    let mut engines = Vec::new();
    for tile in numbered(facts, &format!("/sys/bus/pci/devices/{}", device.id), "tile") {
        for path in numbered(facts, &tile, "gt") {
            let Some(gt) = path.rsplit('/').next().and_then(|name| pci::numbered(name, "gt")) else {
                continue;
            };
            let classes = facts.names(FACT, &format!("{path}/engines"));
            for (name, class, most) in XE_CLASSES {
                let instances = (0..most).filter(|_| classes.iter().any(|class| class == name));
                engines.extend(instances.filter_map(|instance| {
                    let of = |event| config([event, gt.into(), class, instance]);
                    Some(CountedEngine {
                        class: name.to_owned(),
                        busy: of(events.0)?,
                        total: Some(of(events.1)?),
                    })
                }));
            }
        }
    }
    Some(engines)
}

/// The engines that i915 lists: `ccs0-busy` with `config=0x4000`.
fn i915_engines(facts: &mut Facts<'_>, pmu: &str) -> Vec<CountedEngine> {
    let mut names = facts.names(FACT, &format!("{pmu}/events"));
    names.sort_unstable();
    let engine = |name: String| {
        let class = name.strip_suffix("-busy")?.trim_end_matches(|digit: char| digit.is_ascii_digit());
        XE_CLASSES.iter().find(|row| row.0 == class)?;
        let text = facts.text(FACT, &format!("{pmu}/events/{name}")).into_value()?;
        Some(CountedEngine { class: class.to_owned(), busy: number(&text, "config=")?, total: None })
    };
    names.into_iter().filter_map(engine).collect()
}

/// The number behind a prefix: `event=0x02`.
fn number(text: &str, prefix: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix(prefix)?.strip_prefix("0x")?, 16).ok()
}

/// The bits of a configuration in which a parameter is: `config:20-27`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ConfigField {
    first: u32,
    last: u32,
}

impl ConfigField {
    fn parse(text: &str) -> Option<ConfigField> {
        let bits = text.strip_prefix("config:")?;
        let (first, last) = bits.split_once('-').unwrap_or((bits, bits));
        let field = ConfigField { first: first.parse().ok()?, last: last.parse().ok()? };
        (field.first <= field.last && field.last < u64::BITS).then_some(field)
    }

    /// The parameter at its place; none where it is too wide.
    fn place(self, value: u64) -> Option<u64> {
        let is_too_wide =
            self.last - self.first + 1 < u64::BITS && value >> (self.last - self.first + 1) != 0;
        (!is_too_wide).then(|| value << self.first)
    }
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;
    use afd_model::PciAddress;
    use afd_probe::PciBus;
    use proptest::prelude::*;

    use super::*;
    use crate::NAME;

    const FUNCTION: &str = "/sys/bus/pci/devices/0000:03:00.0";

    /// What a driver of a name counts of the device 0000:03:00.0, whose PMU has these files.
    fn found(driver: &str, id: &str, pmu: &[(&str, &str)], gts: &[&str]) -> Vec<String> {
        let mut host = TestHost::new()
            .file(&format!("{FUNCTION}/vendor"), "0x8086\n")
            .file(&format!("{FUNCTION}/device"), id)
            .file(&format!("{FUNCTION}/class"), "0x030000\n")
            .link(&format!("{FUNCTION}/driver"), &format!("../../../bus/pci/drivers/{driver}"));
        for (path, text) in pmu {
            host = host.file(&format!("{PMUS}/{driver}_0000_03_00.0/{path}"), text);
        }
        for path in gts {
            host = host.file(&format!("{FUNCTION}/{path}/job_timeout_ms"), "5000\n");
        }
        let host = host.open();
        let mut facts = Facts::new(&host, NAME);
        let bus = PciBus::read(&host);
        let address: PciAddress = "0000:03:00.0".parse().expect("it is an address");
        let function = bus.function(address).expect("it is there");
        let (device, _) = crate::sysfs::describe(&mut facts, &bus, function, None);
        find(&mut facts, &[device]).into_iter().map(|(_, description)| description).collect()
    }

    const XE: [(&str, &str); 8] = [
        ("type", "31\n"),
        ("cpumask", "3-5,7\n"),
        ("events/engine-active-ticks", "event=0x02\n"),
        ("events/engine-total-ticks", "event=0x03\n"),
        ("format/event", "config:0-11\n"),
        ("format/gt", "config:60-63\n"),
        ("format/engine_class", "config:20-27\n"),
        ("format/engine_instance", "config:12-19\n"),
    ];

    #[test]
    fn the_engines_of_xe_are_those_that_its_gts_may_have() {
        let gts = ["tile0/gt0/engines/rcs", "tile0/gt0/engines/vecs", "tile1/gt1/engines/ccs"];
        assert_eq!(
            found("xe", "0xe211\n", &XE, &gts),
            ["31@3:rcs=2/3,ccs=1000000000400002/1000000000400003,ccs=1000000000401002/1000000000401003,\
              ccs=1000000000402002/1000000000402003,ccs=1000000000403002/1000000000403003"]
        );
        // A description that no kernel gives has no counters, and does no harm.
        let unfit = XE.map(|(path, text)| match path {
            "events/engine-active-ticks" => (path, "event=0xffffffffffffffff\n"),
            "format/event" | "format/gt" => (path, "config:0-63\n"),
            _ => (path, text),
        });
        assert_eq!(found("xe", "0xe211\n", &unfit, &["tile1/gt1/engines/ccs"]), Vec::<String>::new());
        // A kernel before 6.15 has no engine events.
        let older: Vec<_> = XE.into_iter().filter(|(path, _)| !path.starts_with("events")).collect();
        assert_eq!(found("xe", "0xe211\n", &older, &gts), Vec::<String>::new());
    }

    #[test]
    fn the_engines_of_i915_are_those_that_it_lists() {
        let pmu = [
            ("type", "30\n"),
            ("cpumask", "0\n"),
            ("events/rcs0-busy", "config=0x0\n"),
            ("events/rcs0-busy.unit", "ns\n"),
            ("events/rcs0-sema", "config=0x2\n"),
            ("events/vecs0-busy", "config=0x3000\n"),
            ("events/ccs0-busy", "config=0x4000\n"),
            ("events/ccs1-busy", "config=0x4010\n"),
        ];
        assert_eq!(found("i915", "0x0bd5\n", &pmu, &[]), ["30@0:ccs=4000,ccs=4010,rcs=0"]);
        assert_eq!(found("vfio-pci", "0x0bd5\n", &pmu, &[]), Vec::<String>::new());
        assert_eq!(found("i915", "0x9a49\n", &pmu, &[]), Vec::<String>::new(), "an integrated one");
    }

    #[test]
    fn a_parameter_is_placed_in_its_bits() {
        let place = |text: &str, value| ConfigField::parse(text).and_then(|field| field.place(value));
        assert_eq!(place("config:12-19", 3), Some(3 << 12));
        assert_eq!(place("config:60-63", 16), None);
        assert_eq!((place("config:4", 1), place("config:4", 2)), (Some(16), None));
        for invalid in ["config1:0-3", "config:3-0", "config:60-64", "config:", ""] {
            assert_eq!(ConfigField::parse(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn who_may_count_is_known_by_the_level_of_the_kernel() {
        let level = |text: &str| may_count(&TestHost::new().file(PARANOIA, text).open());
        assert!(level("0\n") && level("-1\n"));
        // With the capability any level is enough; the tests may have it.
        assert_eq!(level("2\n"), level("4\n"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,20}", value: u64) {
            let _ = number(&text, "event=");
            let _ = ConfigField::parse(&text).map(|field| field.place(value));
            let _ = ConfigField::parse(&format!("config:{text}")).map(|field| field.place(value));
            let _ = text.parse::<DeviceCounters>();
        }
    }
}
