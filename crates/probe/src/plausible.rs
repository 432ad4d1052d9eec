//! Drops readings that no device can have, and counts each as a problem.

use afd_model::{Missing, Problem, Sampling};

/// Keeps the readings of a probe that are in the range of their quantity ([`Quantity::plausible_range`]). Each other one becomes
/// a malformed fact of its device.
///
/// [`Quantity::plausible_range`]: afd_model::Quantity::plausible_range
pub fn retain(sampling: &mut Sampling, probe: &str) {
    for sample in &mut sampling.samples {
        let device = sample.unit.device;
        sample.readings.retain_mut(|reading| {
            if reading.quantity.plausible_range().contains(&reading.value) {
                reading.value = reading.quantity.settled(reading.value);
                return true;
            }
            sampling.problems.push(Problem {
                probe: probe.to_owned(),
                device: Some(device),
                fact: reading.quantity.fact().to_owned(),
                reason: Missing::Malformed,
                path: None,
                // Without the value, which would change with each sample.
                message: format!("{:?}: a value that no device can have was dropped", reading.quantity),
            });
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use afd_model::{Engine, PciAddress, Quantity, Reading, Sample, Sensor};

    use super::*;

    #[test]
    fn an_implausible_reading_is_dropped_and_counted() {
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let readings = [
            (Quantity::Utilization(Engine::Compute), 8_083_349.05),
            (Quantity::Utilization(Engine::Copy), 1.004),
            (Quantity::TemperatureCelsius(Sensor::Junction), 61.0),
            (Quantity::TemperatureCelsius(Sensor::Memory), 2112.0),
            (Quantity::PowerWatts, f64::NAN),
        ];
        let readings = readings.map(|(quantity, value)| Reading { quantity, value }).to_vec();
        let samples = vec![Sample { unit: address.into(), readings }];
        let mut sampling = Sampling { samples, ..Sampling::default() };
        retain(&mut sampling, "acme");
        let kept: Vec<f64> = sampling.samples[0].readings.iter().map(|reading| reading.value).collect();
        assert_eq!(kept, [1.0, 61.0], "a full share is 1");
        let problems: Vec<_> = sampling
            .problems
            .iter()
            .map(|problem| (problem.device, problem.fact.as_str(), problem.reason))
            .collect();
        let device = Some(address.into());
        assert_eq!(
            problems,
            [
                (device, "utilization", Missing::Malformed),
                (device, "temperature", Missing::Malformed),
                (device, "power", Missing::Malformed),
            ]
        );
    }
}
