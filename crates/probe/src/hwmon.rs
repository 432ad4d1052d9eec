//! Where the sensors of a device are (`Documentation/hwmon/sysfs-interface.rst`).

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
