//! Bits of the throttle status that a sensor contradicts: firmware that sets them for good.

use afd_probe::Facts;

use super::readings::{celsius, number};
use crate::gpu_metrics::{
    GpuMetrics,
    throttle::{EDGE_BIT, GPU_BIT, HOTSPOT_BIT, MEMORY_BIT, POWER_BITS, SOC_BIT},
};

/// So far below its limit (degrees) no part is throttled by heat: firmware begins at the limit or a few degrees before it.
const FAR_BELOW: f64 = 25.0;
/// The limit that is assumed of a sensor of which the driver has none. A product may have a lower one: with [`FAR_BELOW`], a part of
/// it has to be throttled at less than 65 degrees to be taken for one that is not.
const LOWEST_LIMIT: f64 = 90.0;
/// With a smaller share of its power limit a device is not throttled by it.
const SMALL_SHARE: f64 = 0.5;

/// The bits that cannot be, by the hwmon directories of the device and its table: each by the sensor of its own part, and that of the
/// whole die by all sensors on it. What no sensor measures (the cores, the liquids) is not contradicted.
pub(super) fn contradicted(facts: &mut Facts<'_>, directories: &[String], table: &GpuMetrics) -> Vec<u32> {
    let mut margin = |index: u8, by_table: Option<f64>| {
        let mut at = |name: &str| {
            let mut files = directories.iter().map(|directory| format!("{directory}/temp{index}_{name}"));
            files.find_map(|path| celsius(facts, &path))
        };
        let own = at("input").or(by_table)?;
        Some(at("crit").unwrap_or(LOWEST_LIMIT) - own)
    };
    let (edge, hotspot) = (margin(1, table.edge_celsius), margin(2, table.hotspot_celsius));
    let soc = table.soc_celsius.map(|celsius| LOWEST_LIMIT - celsius);
    let memory = margin(3, table.memory_celsius);
    let die = [edge, hotspot, soc].into_iter().flatten().reduce(f64::min);
    let of_parts =
        [(GPU_BIT, die), (MEMORY_BIT, memory), (EDGE_BIT, edge), (HOTSPOT_BIT, hotspot), (SOC_BIT, soc)];
    let is_far_below = |margin: Option<f64>| margin.is_some_and(|margin| margin > FAR_BELOW);
    let cold = of_parts.into_iter().filter_map(|(bit, margin)| is_far_below(margin).then_some(bit));
    let share = directories.iter().find_map(|directory| share_of_limit(facts, directory));
    let weak = if share.is_some_and(|share| share < SMALL_SHARE) { POWER_BITS } else { &[] };
    cold.chain(weak.iter().copied()).collect()
}

/// The share of its power limit that a device draws. One that is awake draws something: a reading of 0 is none.
fn share_of_limit(facts: &mut Facts<'_>, directory: &str) -> Option<f64> {
    let mut at = |name: &str| {
        number(facts, "power_watts", &format!("{directory}/{name}")).filter(|microwatts| *microwatts > 0.0)
    };
    let power = at("power1_average").or_else(|| at("power1_input"))?;
    at("power1_cap").map(|limit| power / limit)
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;

    use super::*;

    /// The bits that the files of a hwmon directory and a table contradict.
    fn by_sensors(files: &[(&str, i64)], table: &GpuMetrics) -> Vec<u32> {
        let folder = files.iter().fold(TestHost::new(), |folder, (name, value)| {
            folder.file(&format!("/hwmon4/{name}"), value.to_string())
        });
        let host = folder.open();
        contradicted(&mut Facts::new(&host, "amd"), &["/hwmon4".to_owned()], table)
    }

    const NONE: [u32; 0] = [];

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
        let all = of(41_000, 48_000, 50_000);
        assert_eq!(all, [GPU_BIT, MEMORY_BIT, EDGE_BIT, HOTSPOT_BIT]);
        assert!([33, 37, 42, 43].iter().all(|bit| !all.contains(bit)), "no sensor measures these parts");
        assert_eq!(
            of(41_000, 108_000, 50_000),
            [MEMORY_BIT, EDGE_BIT],
            "one hot sensor is enough for the die"
        );
        assert_eq!(of(41_000, 84_000, 50_000), [MEMORY_BIT, EDGE_BIT], "it may have been at the limit");
        assert_eq!(of(41_000, 48_000, 104_000), [GPU_BIT, EDGE_BIT, HOTSPOT_BIT]);
        assert_eq!(of(0, 0, 0), NONE, "the hardware has no such sensor");
    }

    #[test]
    fn without_hwmon_the_table_has_the_temperature() {
        let hot_spot_and_die = [GPU_BIT, HOTSPOT_BIT];
        assert_eq!(by_sensors(&[], &hot_spot(39.0)), hot_spot_and_die);
        assert_eq!(by_sensors(&[], &hot_spot(88.0)), NONE);
        assert_eq!(by_sensors(&[("temp2_crit", 110_000)], &hot_spot(80.0)), hot_spot_and_die, "by its limit");
        let processor =
            GpuMetrics { soc_celsius: Some(89.0), edge_celsius: Some(50.0), ..GpuMetrics::default() };
        assert_eq!(by_sensors(&[], &processor), [EDGE_BIT], "its SoC is hot");
    }

    #[test]
    fn a_part_that_draws_little_is_not_throttled_by_its_power_limit() {
        let none = GpuMetrics::default();
        let of = |watts: i64, limit: i64| {
            by_sensors(&[("power1_input", watts * 1_000_000), ("power1_cap", limit * 1_000_000)], &none)
        };
        assert_eq!(of(3, 250), POWER_BITS);
        assert_eq!(of(240, 250), NONE);
        assert_eq!(of(3, 0), NONE, "there is no limit");
        assert_eq!(of(0, 250), NONE, "0 is no reading");
    }
}
