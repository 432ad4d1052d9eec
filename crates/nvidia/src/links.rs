//! The NVLinks of each GPU: their readings, and which GPU is at the other end of each.

use std::collections::BTreeMap;

use afd_model::{DeviceLink, LinkEnd, LinkKind, PciAddress, Quantity, Reading};

use crate::nvml::{
    report::{NvmlAnswers, NvmlReport, address},
    table::{LINK_ROWS, MAX_LINKS, call},
};

/// The GPUs at the other ends of NVLinks, by GPU and number of the link.
///
/// NVML reports the other end of a link that is up. That of a link that goes down stays known, as the wiring does not change
/// while the GPUs are there: the labels of its series must not change either.
#[derive(Debug, Default)]
pub(crate) struct NvlinkEnds(BTreeMap<(PciAddress, u32), PciAddress>);

impl NvlinkEnds {
    /// Takes in a report. The other end of many links is a switch, which is no device.
    pub(crate) fn update(&mut self, gpus: &[PciAddress], report: &NvmlReport) {
        self.0.retain(|(gpu, _), end| gpus.contains(gpu) && gpus.contains(end));
        for reported in &report.devices {
            let Some(gpu) = address(&reported.answers).filter(|gpu| gpus.contains(gpu)) else { continue };
            for link in 0..MAX_LINKS {
                let end = reported.answers.field::<String>(call::NVLINK_REMOTE_PCI.with(&[link]), "busId");
                let end = end.into_value().and_then(|end| end.parse().ok());
                match end {
                    Some(end) if gpus.contains(&end) => {
                        self.0.insert((gpu, link), end);
                    }
                    Some(_) => {
                        self.0.remove(&(gpu, link));
                    }
                    None => {}
                }
            }
        }
    }

    fn of(&self, gpu: PciAddress, link: u32) -> LinkEnd {
        self.0.get(&(gpu, link)).map_or(LinkEnd::Unknown, |end| LinkEnd::Device((*end).into()))
    }

    /// The readings of the links of a GPU; none where they were not sampled.
    pub(crate) fn readings(&self, gpu: PciAddress, answers: &NvmlAnswers) -> Vec<Reading> {
        let mut readings: Vec<Reading> = Vec::new();
        for number in 0..MAX_LINKS {
            let link = DeviceLink { kind: LinkKind::Nvlink, tile: None, number, end: self.of(gpu, number) };
            for row in LINK_ROWS {
                let quantity = Quantity::Link(link, row.value);
                let number = answers.known::<f64>(row.name(number)).into_value();
                if let Some(value) = number.and_then(|number| row.scale.value(number))
                    && !readings.iter().any(|known| known.quantity == quantity)
                {
                    readings.push(Reading { quantity, value });
                }
            }
        }
        readings
    }
}

#[cfg(test)]
mod tests {
    use afd_model::{Direction, LinkErrorKind, LinkValue};
    use serde_json::json;

    use super::*;
    use crate::nvml::report::{NOT_SUPPORTED, NvmlCode, NvmlDeviceReport};

    fn gpu(bus: u8) -> PciAddress {
        PciAddress { domain: 0, bus, device: 0, function: 0 }
    }

    fn report(gpus: &[u8], end: Option<&str>) -> NvmlReport {
        let mut report = NvmlReport::default();
        for bus in gpus {
            let mut device = NvmlDeviceReport::default();
            let bus_id = format!("00000000:{bus:02X}:00.0");
            device.answers.put(call::PCI_INFO, Ok(json!({ "busId": bus_id })));
            let remote = end.map(|end| json!({ "busId": end })).ok_or(NOT_SUPPORTED);
            device.answers.put(call::NVLINK_REMOTE_PCI.with(&[3]), remote);
            report.devices.push(device);
        }
        report
    }

    #[test]
    fn the_other_end_is_a_gpu_of_the_node_and_stays_known() {
        let mut ends = NvlinkEnds::default();
        let both = [gpu(1), gpu(2)];
        ends.update(&both, &report(&[1], Some("00000000:07:00.0")));
        assert_eq!(ends.of(gpu(1), 3), LinkEnd::Unknown, "a switch");
        ends.update(&both, &report(&[1], Some("00000000:02:00.0")));
        ends.update(&both, &report(&[1, 2], None));
        assert_eq!(ends.of(gpu(1), 3), LinkEnd::Device(gpu(2).into()), "the link went down");
        assert_eq!(ends.of(gpu(1), 4), LinkEnd::Unknown);
        ends.update(&both, &report(&[1], Some("00000000:07:00.0")));
        assert_eq!(ends.of(gpu(1), 3), LinkEnd::Unknown, "a switch in its place");
        ends.update(&both, &report(&[1], Some("00000000:02:00.0")));
        ends.update(&[gpu(1)], &report(&[1], None));
        assert_eq!(ends.of(gpu(1), 3), LinkEnd::Unknown, "the other GPU is gone");
    }

    #[test]
    fn each_link_has_the_values_that_are_reported_of_it() {
        let mut answers = NvmlAnswers::default();
        assert!(NvlinkEnds::default().readings(gpu(1), &answers).is_empty());
        let link = |value: LinkValue, link: u32| {
            LINK_ROWS.iter().find(|row| row.value == value).map(|row| row.name(link)).expect("there is a row")
        };
        let recoveries = LinkValue::Errors(LinkErrorKind::Recovery);
        answers.put(link(LinkValue::Up, 0), Ok(json!(1)));
        answers.put(link(LinkValue::Up, 1), Ok(json!(0)));
        answers.put(link(LinkValue::Up, 2), Err(NvmlCode::named("UNKNOWN")));
        answers.put(link(LinkValue::Bytes(Direction::Receive), 0), Ok(json!(2)));
        answers.put(link(LinkValue::Bytes(Direction::Receive), 1), Ok(json!(u64::MAX)));
        // From Blackwell on another field has the recoveries.
        answers.put(link(recoveries, 0), Err(NOT_SUPPORTED));
        let newer = LINK_ROWS.iter().rfind(|row| row.value == recoveries).expect("there is a row");
        answers.put(newer.name(0), Ok(json!(5)));
        let readings = NvlinkEnds::default().readings(gpu(1), &answers);
        let readings = readings.iter().map(|reading| match reading.quantity {
            Quantity::Link(link, value) => (link.number, value, reading.value),
            other => panic!("{other:?}"),
        });
        assert_eq!(
            readings.collect::<Vec<_>>(),
            [
                (0, LinkValue::Up, 1.0),
                (0, LinkValue::Bytes(Direction::Receive), 2048.0),
                (0, recoveries, 5.0),
                (1, LinkValue::Up, 0.0),
            ]
        );
    }
}
