//! Causes of throttling that the sensors of the device contradict: firmware that sets the bit of a cause for good.

use afd_model::ThrottleCause;
use afd_probe::Facts;

use super::readings::{celsius, number};
use crate::gpu_metrics::GpuMetrics;

/// So far below its limit (degrees) no part is throttled by heat: firmware begins at the limit or a few degrees before it.
const FAR_BELOW: f64 = 25.0;
/// A limit that no product is below, for a sensor of which the driver has none.
const LOWEST_LIMIT: f64 = 90.0;
/// With a smaller share of its power limit a device is not throttled by it.
const SMALL_SHARE: f64 = 0.5;

/// The causes that cannot be, by the hwmon directories of the device and its table.
pub(super) fn contradicted(
    facts: &mut Facts<'_>,
    directories: &[String],
    table: &GpuMetrics,
) -> Vec<ThrottleCause> {
    let mut margin = |index: u8, by_table: Option<f64>| {
        let mut at = |name: &str| {
            let mut files = directories.iter().map(|directory| format!("{directory}/temp{index}_{name}"));
            files.find_map(|path| celsius(facts, &path))
        };
        let own = at("input").or(by_table)?;
        Some(at("crit").unwrap_or(LOWEST_LIMIT) - own)
    };
    let die = [margin(1, table.edge_celsius), margin(2, table.hotspot_celsius)];
    let soc = table.soc_celsius.map(|celsius| LOWEST_LIMIT - celsius);
    let memory = margin(3, table.memory_celsius);
    let share = directories.iter().find_map(|directory| share_of_limit(facts, directory));
    [
        (ThrottleCause::Thermal, is_far_below(die.into_iter().chain([soc]))),
        (ThrottleCause::MemoryThermal, is_far_below([memory].into_iter())),
        (ThrottleCause::Power, share.is_some_and(|share| share < SMALL_SHARE)),
    ]
    .into_iter()
    .filter_map(|(cause, is_contradicted)| is_contradicted.then_some(cause))
    .collect()
}

/// Whether there is a sensor, and all are far below their limits.
fn is_far_below(margins: impl Iterator<Item = Option<f64>>) -> bool {
    margins.flatten().reduce(f64::min).is_some_and(|least| least > FAR_BELOW)
}

fn share_of_limit(facts: &mut Facts<'_>, directory: &str) -> Option<f64> {
    let mut at = |name: &str| number(facts, "power_watts", &format!("{directory}/{name}"));
    let power = at("power1_average").or_else(|| at("power1_input"))?;
    at("power1_cap").filter(|limit| *limit > 0.0).map(|limit| power / limit)
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;

    use super::*;

    /// The causes that the files of a hwmon directory and a table contradict.
    fn by_sensors(files: &[(&str, i64)], table: &GpuMetrics) -> Vec<&'static str> {
        let folder = files.iter().fold(TestHost::new(), |folder, (name, value)| {
            folder.file(&format!("/hwmon4/{name}"), value.to_string())
        });
        let host = folder.open();
        let causes = contradicted(&mut Facts::new(&host, "amd"), &["/hwmon4".to_owned()], table);
        causes.into_iter().map(ThrottleCause::as_str).collect()
    }

    fn hot_spot(celsius: f64) -> GpuMetrics {
        GpuMetrics { hotspot_celsius: Some(celsius), ..GpuMetrics::default() }
    }

    #[test]
    fn a_part_far_below_its_limit_is_not_throttled_by_heat() {
        let none = GpuMetrics::default();
        let of = |edge: i64, junction: i64, memory: i64| {
            let files = [
                ("temp1_input", edge),
                ("temp1_crit", 97_000),
                ("temp2_input", junction),
                ("temp2_crit", 108_000),
                ("temp3_input", memory),
                ("temp3_crit", 105_000),
            ];
            by_sensors(&files, &none)
        };
        assert_eq!(of(41_000, 48_000, 50_000), ["thermal", "memory_thermal"]);
        assert_eq!(of(41_000, 108_000, 50_000), ["memory_thermal"], "one hot sensor is enough");
        assert_eq!(of(41_000, 84_000, 50_000), ["memory_thermal"], "it may have been at the limit");
        assert_eq!(of(41_000, 48_000, 104_000), ["thermal"]);
        assert_eq!(of(0, 0, 0), Vec::<&str>::new(), "the hardware has no such sensor");
    }

    #[test]
    fn without_hwmon_the_table_has_the_temperature() {
        assert_eq!(by_sensors(&[], &hot_spot(39.0)), ["thermal"]);
        assert_eq!(by_sensors(&[], &hot_spot(88.0)), Vec::<&str>::new());
        assert_eq!(by_sensors(&[("temp2_crit", 110_000)], &hot_spot(80.0)), ["thermal"], "by its limit");
        let processor =
            GpuMetrics { soc_celsius: Some(89.0), edge_celsius: Some(50.0), ..GpuMetrics::default() };
        assert_eq!(by_sensors(&[], &processor), Vec::<&str>::new());
    }

    #[test]
    fn a_part_that_draws_little_is_not_throttled_by_its_power_limit() {
        let none = GpuMetrics::default();
        let of = |watts: i64, limit: i64| {
            by_sensors(&[("power1_input", watts * 1_000_000), ("power1_cap", limit * 1_000_000)], &none)
        };
        assert_eq!(of(3, 250), ["power"]);
        assert_eq!(of(240, 250), Vec::<&str>::new());
        assert_eq!(of(3, 0), Vec::<&str>::new(), "there is no limit");
    }
}
