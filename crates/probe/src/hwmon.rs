//! Where the sensors of a device are (`Documentation/hwmon/sysfs-interface.rst`).

use afd_model::{Quantity, Reading, Sensor, TemperatureLimit};

use crate::{Facts, PciFunction};

/// The hwmon directories of a function, each with its `name`.
pub fn directories(facts: &mut Facts<'_>, function: &PciFunction) -> Vec<(String, String)> {
    let parent = function.attribute("hwmon");
    facts
        .names("sensors", &parent)
        .into_iter()
        .filter(|entry| entry.starts_with("hwmon"))
        .filter_map(|entry| {
            let directory = format!("{parent}/{entry}");
            let name = facts.text("sensors", &format!("{directory}/name")).into_value()?;
            Some((directory, name))
        })
        .collect()
}

/// The temperatures at which a device protects itself, for the sensor of a number: `temp<N>_crit`, and `temp<N>_emergency`, at which
/// drivers of GPUs switch it off; in thousandths of a degree. They stay the same while the driver is bound.
pub fn temperature_limits(
    facts: &mut Facts<'_>,
    directory: &str,
    number: u32,
    sensor: Sensor,
) -> impl Iterator<Item = Reading> {
    let files = [("crit", TemperatureLimit::Critical), ("emergency", TemperatureLimit::Shutdown)];
    let limits = files.map(|(file, limit)| {
        let path = format!("{directory}/temp{number}_{file}");
        let thousandths = facts.number::<i32>("temperature_limit", &path).into_value()?;
        let quantity = Quantity::TemperatureLimitCelsius(sensor, limit);
        Some(Reading { quantity, value: f64::from(thousandths) / 1e3 })
    });
    // 0 is no limit.
    limits.into_iter().flatten().filter(|reading| reading.value != 0.0)
}
