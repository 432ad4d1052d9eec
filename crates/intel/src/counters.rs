//! Engine time by the counters of xe and i915 (their PMU), opened by the process of the library (`afd probe intel`) where Level Zero
//! reports no engines.
//!
//! In go the counters that a device has by its sysfs (`counters/sysfs.rs`), out come answers in the same reports as Level Zero's, in which the
//! system call stands for a C symbol.
//!
//! Both drivers count from the moment in which a counter is opened: what went before, or while it was closed, is lost. To read those of xe
//! the device has to be awake, so that an open one keeps it from sleeping; and both keep the driver from being unloaded.
//! So counters are open for a tenth of a second in each request and closed again, and the counters of a device that sleeps are not given to the
//! process. The value is the share of that window, exact to what the driver counts: ticks of xe's firmware, nanoseconds of i915,
//! for engines that do not count themselves samples of 5 ms. What happens between two windows is not seen.
//!
//! To open them takes `CAP_PERFMON`, or a `perf_event_paranoid` of 0 or less. Virtual functions have none.

mod ffi;
pub(crate) mod sysfs;

use std::{
    fmt,
    os::fd::{AsFd, OwnedFd},
    str::FromStr,
    thread,
    time::Duration,
};

use afd_model::{PciAddress, Quantity, Reading};
use afd_probe::{answers::LibraryCall, report::DeviceAnswers};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::{
    clients::{CLASSES, ENGINES},
    drm::{ADDRESS, ERRNOS},
    levelzero::{
        LevelZeroAnswers, LevelZeroReport, SysmanStatus, calls::ENGINE_ACTIVITY, parts::values,
        readings::share, unit_of,
    },
};

/// The time of the engines of a device in one window. Of the system: that counters were opened.
pub(crate) const COUNTERS: LibraryCall = LibraryCall::new("perf_event_open");
/// For how long counters are open: as long as Level Zero waits at least between two reads.
const WINDOW: Duration = Duration::from_millis(100);

/// The counters of the engines of a device, as the process is started with them: `31@0:ccs=400002/400003,bcs=100002/100003`, with the
/// type of the PMU, the processor to open them on, and hexadecimal configurations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DeviceCounters {
    kind: u32,
    cpu: u32,
    engines: Vec<CountedEngine>,
}

/// The counters of an engine.
#[derive(Clone, Debug, Eq, PartialEq)]
struct CountedEngine {
    /// The class of the engine: `ccs`.
    class: String,
    /// The configuration of the counter of its busy time.
    busy: u64,
    /// That of the clock in which xe counts it; i915 counts nanoseconds.
    total: Option<u64>,
}

/// The counters of an engine that are open: of its busy time, and of the clock.
#[derive(Debug)]
struct OpenCounter {
    engine: CountedEngine,
    busy: OwnedFd,
    total: Option<OwnedFd>,
}

impl fmt::Display for DeviceCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:", self.kind, self.cpu)?;
        for (index, engine) in self.engines.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{}={:x}", engine.class, engine.busy)?;
            engine.total.map_or(Ok(()), |total| write!(f, "/{total:x}"))?;
        }
        Ok(())
    }
}

impl FromStr for DeviceCounters {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceCounters, String> {
        let engine = |text: &str| {
            let (class, configs) = text.split_once('=')?;
            let mut configs = configs.split('/').map(|config| u64::from_str_radix(config, 16));
            let busy = configs.next()?.ok()?;
            Some(CountedEngine { class: class.to_owned(), busy, total: configs.next().transpose().ok()? })
        };
        let counters = || {
            let (pmu, engines) = text.split_once(':')?;
            let (kind, cpu) = pmu.split_once('@')?;
            let engines: Option<Vec<_>> = engines.split(',').map(engine).collect();
            Some(DeviceCounters { kind: kind.parse().ok()?, cpu: cpu.parse().ok()?, engines: engines? })
        };
        counters().ok_or_else(|| format!("no counters: {text:?}"))
    }
}

/// The counters of devices, in the process.
#[derive(Debug)]
pub struct EngineCounters(Vec<(PciAddress, DeviceCounters)>);

impl EngineCounters {
    /// The counters of each device by their description.
    ///
    /// # Errors
    /// When a text is none.
    pub fn new(descriptions: Vec<(PciAddress, String)>) -> Result<EngineCounters, String> {
        let counters = |(address, text): (PciAddress, String)| Ok((address, text.parse()?));
        descriptions.into_iter().map(counters).collect::<Result<_, String>>().map(EngineCounters)
    }

    /// Adds to a report the time of the engines of devices of which Level Zero reported none. All are counted in the same window.
    pub fn complete(&mut self, report: &mut LevelZeroReport) {
        if self.0.is_empty() {
            return;
        }
        report.system.put(COUNTERS, Ok(Value::Null));
        let has_engines = |address: PciAddress| {
            let device = report.device(address, unit_of);
            device.is_some_and(|device| has_activity(&device.answers))
        };
        let uncounted = self.0.iter_mut().filter(|(address, _)| !has_engines(*address));
        let opened: Vec<_> = uncounted.map(|(address, counters)| (*address, counters.open())).collect();
        if opened.iter().any(|(_, opened)| opened.is_ok()) {
            thread::sleep(WINDOW);
        }
        for (address, opened) in opened {
            let status = |error: Errno| SysmanStatus::numbered(error.raw_os_error().unsigned_abs(), ERRNOS);
            let mut answers = LevelZeroAnswers::default();
            answers.put(COUNTERS, opened.and_then(|opened| read(&opened)).map_err(status));
            let is_it = |device: &&mut DeviceAnswers<_>| {
                unit_of(&device.answers).is_some_and(|unit| unit.is_device(address))
            };
            match report.devices.iter_mut().find(is_it) {
                Some(reported) => reported.answers.extend(answers),
                None => {
                    answers.put(ADDRESS, Ok(address.to_string().into()));
                    report.devices.push(DeviceAnswers { answers, ..DeviceAnswers::default() });
                }
            }
        }
    }
}

/// Whether Level Zero reported the activity of an engine.
pub(crate) fn has_activity(answers: &LevelZeroAnswers) -> bool {
    values(answers, ENGINE_ACTIVITY).iter().any(|activity| !activity.is_null())
}

impl DeviceCounters {
    /// Opens the counters of all engines. Those that the device does not have are forgotten.
    fn open(&mut self) -> Result<Vec<OpenCounter>, Errno> {
        let (kind, cpu) = (self.kind, self.cpu);
        let open = |engine: &CountedEngine| {
            let busy = ffi::open(kind, cpu, engine.busy, None)?;
            // One read returns both at the same time.
            let total =
                engine.total.map(|total| ffi::open(kind, cpu, total, Some(busy.as_fd()))).transpose()?;
            Ok(OpenCounter { engine: engine.clone(), busy, total })
        };
        let mut opened = Vec::new();
        self.engines.retain(|engine| {
            let counter = open(engine);
            let is_there = !matches!(counter, Err(Errno::NOENT));
            opened.extend(is_there.then_some(counter));
            is_there
        });
        if opened.is_empty() { Err(Errno::NOENT) } else { opened.into_iter().collect() }
    }
}

/// What was counted since the counters were opened.
fn read(opened: &[OpenCounter]) -> Result<Value, Errno> {
    let counted = |OpenCounter { engine, busy, total }: &OpenCounter| {
        // The number of counters, the nanoseconds for which they are open, and their values.
        let mut bytes = [0; 32];
        let wanted = if total.is_some() { 32 } else { 24 };
        if rustix::io::read(busy, &mut bytes[..wanted])? != wanted {
            return Err(Errno::IO);
        }
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| u64::from_ne_bytes(words[index]);
        let total = word(if total.is_some() { 3 } else { 1 });
        Ok(json!({ "engine": engine.class, "config": engine.busy, "busy": word(2), "total": total }))
    };
    opened.iter().map(counted).collect()
}

/// The utilization by the counters: of each engine the mean of the instances of its class.
pub(crate) fn utilization(answers: &LevelZeroAnswers) -> Vec<Reading> {
    let counted: Vec<Value> = answers.known(COUNTERS).into_value().unwrap_or_default();
    let of_class = |class: usize| {
        let names = CLASSES[class];
        let is_it = |counted: &&Value| counted["engine"].as_str().is_some_and(|name| names.contains(&name));
        counted.iter().filter(is_it).collect::<Vec<_>>()
    };
    let mean = |(engine, classes): (_, &[usize])| {
        let counted = classes.iter().map(|class| of_class(*class)).find(|counted| !counted.is_empty())?;
        let share = |counted: &&Value| {
            let total = counted["total"].as_f64().filter(|total| *total > 0.0)?;
            share(counted["busy"].as_f64()? / total)
        };
        let sum: Option<f64> = counted.iter().map(share).sum();
        Some(Reading { quantity: Quantity::Utilization(engine), value: sum? / counted.len() as f64 })
    };
    ENGINES.into_iter().filter_map(mean).collect()
}

#[cfg(test)]
mod tests {
    use afd_model::Engine;

    use super::*;

    const TEXT: &str = "31@0:rcs=2/3,ccs=400002/400003,ccs=1000000000401002/1000000000401003";

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let counters: DeviceCounters = TEXT.parse().expect("it is one");
        assert_eq!((counters.kind, counters.cpu, counters.engines.len()), (31, 0, 3));
        assert_eq!(counters.engines[2].total, Some(0x1000_0000_0040_1003));
        assert_eq!(counters.to_string(), TEXT);
        let of_i915 = "30@2:rcs=0,ccs=4000";
        assert_eq!(
            of_i915.parse::<DeviceCounters>().map(|counters| counters.to_string()).as_deref(),
            Ok(of_i915)
        );
        for invalid in
            ["", "31@0:", "31:rcs=2", "x@0:rcs=2", "31@-1:rcs=2", "31@0:rcs", "31@0:rcs=g", "31@0:rcs=2/g"]
        {
            assert!(invalid.parse::<DeviceCounters>().is_err(), "{invalid}");
        }
    }

    fn shares(counted: &Value) -> Vec<(Engine, f64)> {
        let mut answers = LevelZeroAnswers::default();
        answers.put(COUNTERS, Ok(counted.clone()));
        let share = |reading: Reading| match reading.quantity {
            Quantity::Utilization(engine) => (engine, reading.value),
            other => panic!("{other:?}"),
        };
        utilization(&answers).into_iter().map(share).collect()
    }

    #[test]
    fn the_utilization_is_the_mean_of_the_instances_of_a_class() {
        let engine =
            |class: &str, busy: u64, total: u64| json!({ "engine": class, "busy": busy, "total": total });
        let all = json!([
            engine("rcs", 90, 100),
            engine("ccs", 20, 100),
            engine("ccs", 80, 200),
            engine("bcs", 0, 100),
            engine("vecs", 100, 100),
        ]);
        let known = |shares: &[(Engine, f64)], engine| {
            shares.iter().find(|known| known.0 == engine).map(|known| known.1)
        };
        let of_all = shares(&all);
        assert!(
            known(&of_all, Engine::Compute).is_some_and(|share| (share - 0.3).abs() < 1e-9),
            "{of_all:?}"
        );
        assert_eq!((known(&of_all, Engine::Copy), known(&of_all, Engine::Media)), (Some(0.0), None));
        let without_compute = shares(&json!([engine("rcs", 90, 100)]));
        assert_eq!(without_compute, [(Engine::Compute, 0.9)]);
        // A clock that has not begun, and more than there was: no value of any engine of the class.
        assert_eq!(shares(&json!([engine("ccs", 0, 0), engine("ccs", 1, 2)])), []);
        assert_eq!(shares(&json!([engine("ccs", 200, 100)])), []);
        assert_eq!(shares(&Value::Null), []);
    }

    #[test]
    fn what_level_zero_reports_is_not_counted() {
        let address: PciAddress = "0000:03:00.0".parse().expect("it is an address");
        let mut counters = EngineCounters::new(vec![(address, TEXT.to_owned())]).expect("they are described");
        let mut reported = DeviceAnswers::default();
        reported.answers.put(ADDRESS, Ok(address.to_string().into()));
        reported.answers.put_components(ENGINE_ACTIVITY, [Ok(json!({ "activeTime": 1, "timestamp": 2 }))]);
        let mut report = LevelZeroReport { devices: vec![reported.clone()], ..LevelZeroReport::default() };
        counters.complete(&mut report);
        assert_eq!(report.devices, [reported]);
        let mut none = EngineCounters::new(Vec::new()).expect("there are none");
        let mut empty = LevelZeroReport::default();
        none.complete(&mut empty);
        assert_eq!(empty, LevelZeroReport::default());
    }
}
