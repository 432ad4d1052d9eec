//! Readings from what HLML or the driver's ioctl sampled, in base units. A call without a value gives no reading.

use std::collections::BTreeMap;

use afd_model::{DeviceId, DeviceLink, LinkEnd, LinkKind, LinkValue, Quantity, Reading, Sample, Sampling};

use super::{
    HlmlAnswers, HlmlReport,
    calls::{RARELY_SAMPLED, SAMPLED, THROTTLE},
    is_link_up, unit_of,
};
use crate::control::{
    self,
    operations::CLK_THROTTLE,
    throttle::{CAUSES, ThrottleReport, ThrottledPeriods},
};

/// The numbers that a port can have.
const PORTS: std::ops::Range<u8> = 0..128;

/// Adds the readings of a report to those of the kernel's files. A temperature replaces that of the kernel, whose sensors the firmware
/// names as it likes; of other quantities the kernel's reading stays.
///
/// `is_external` decides whether a port of a device leaves the server; `throttled` is the time for which each was throttled.
pub(crate) fn add(
    sampling: &mut Sampling,
    devices: &[(DeviceId, usize)],
    report: &HlmlReport,
    is_external: impl Fn(DeviceId, u8) -> Option<bool>,
    throttled: &mut BTreeMap<DeviceId, ThrottledPeriods>,
) {
    for reported in &report.devices {
        let Some(unit) = unit_of(&reported.answers) else { continue };
        let Some((device, _)) = devices.iter().find(|(device, _)| unit.is_device(device.0)) else { continue };
        let added: Vec<Reading> = readings(&reported.answers)
            .chain(control::readings::readings(&reported.answers))
            .chain(ports(&reported.answers, |port| is_external(*device, port)))
            .collect();
        let report: Option<ThrottleReport> = reported.answers.known(CLK_THROTTLE.call).into_value();
        let times = report.map(|report| throttled.entry(*device).or_default().observe(report));
        let added = added.into_iter().chain(times.into_iter().flatten());
        let sample = match sampling.samples.iter_mut().find(|sample| sample.unit == (*device).into()) {
            Some(sample) => sample,
            None => {
                sampling.samples.push(Sample { unit: (*device).into(), readings: Vec::new() });
                sampling.samples.last_mut().expect("a sample was added")
            }
        };
        for reading in added {
            let known = sample.readings.iter_mut().find(|known| known.quantity == reading.quantity);
            match (known, reading.quantity) {
                (Some(known), Quantity::TemperatureCelsius(_)) => known.value = reading.value,
                (Some(_), _) => {}
                (None, _) => sample.readings.push(reading),
            }
        }
    }
}

fn readings(answers: &HlmlAnswers) -> impl Iterator<Item = Reading> {
    let rows = SAMPLED.iter().chain(RARELY_SAMPLED);
    let reasons: Option<u64> = answers.known(THROTTLE).into_value();
    let throttled = CAUSES.into_iter().enumerate().filter_map(move |(bit, cause)| {
        let value = f64::from(u8::from(reasons? >> bit & 1 == 1));
        Some(Reading { quantity: Quantity::Throttled(cause), value })
    });
    rows.filter_map(|row| row.reading(answers)).chain(throttled)
}

fn ports(answers: &HlmlAnswers, is_external: impl Fn(u8) -> Option<bool>) -> impl Iterator<Item = Reading> {
    PORTS.filter_map(move |port| {
        // No source says which device is at the other end of a port that stays within the server.
        let end = if is_external(port)? { LinkEnd::External } else { LinkEnd::Unknown };
        let link = DeviceLink { kind: LinkKind::Roce, tile: None, number: port.into(), end };
        let value = f64::from(u8::from(is_link_up(answers, port)?));
        Some(Reading { quantity: Quantity::Link(link, LinkValue::Up), value })
    })
}
