//! Heat as a cause of throttling that all temperature sensors contradict.

use afd_model::ThrottleCause;
use afd_probe::Facts;

/// So far below its limit (thousandths of a degree) no part is throttled by heat.
const FAR_BELOW: i64 = 25_000;
/// A limit that no product is below, for a sensor of which the driver has none.
const LOWEST_LIMIT: i64 = 90_000;

/// Takes back heat, and that there is any cause if it was the only one, where all sensors of a hwmon directory are far below
/// their limits.
pub(super) fn drop_heat(facts: &mut Facts<'_>, directory: &str, causes: &mut [(ThrottleCause, bool)]) {
    if !causes.contains(&(ThrottleCause::Thermal, true)) || !is_cool(facts, directory) {
        return;
    }
    let has_other = |(cause, is_active): &(ThrottleCause, bool)| {
        *is_active && !matches!(cause, ThrottleCause::Thermal | ThrottleCause::Any)
    };
    let has_other = causes.iter().any(has_other);
    for (cause, is_active) in causes {
        *is_active &= match cause {
            ThrottleCause::Thermal => false,
            ThrottleCause::Any => has_other,
            _ => true,
        };
    }
}

/// Whether there is a sensor, and all are far below their limits. 0 stands for a sensor that the hardware lacks.
fn is_cool(facts: &mut Facts<'_>, directory: &str) -> bool {
    let mut sensors = facts.names("temperature", directory);
    sensors.retain(|name| name.starts_with("temp") && name.ends_with("_input"));
    let mut at =
        |path: String| facts.number::<i64>("temperature", &path).into_value().filter(|value| *value > 0);
    let mut margin = |name: &String| {
        let stem = format!("{directory}/{}", name.trim_end_matches("_input"));
        let own = at(format!("{directory}/{name}"))?;
        let limits =
            ["max", "crit", "emergency"].into_iter().filter_map(|limit| at(format!("{stem}_{limit}")));
        Some(limits.min().unwrap_or(LOWEST_LIMIT).saturating_sub(own))
    };
    sensors.iter().filter_map(&mut margin).min().is_some_and(|least| least > FAR_BELOW)
}

#[cfg(test)]
mod tests {
    use afd_host::testing::TestHost;

    use super::*;

    /// The active causes that stay of some, with these sensors.
    fn kept(files: &[(&str, &str)], active: &[ThrottleCause]) -> Vec<&'static str> {
        let folder = files
            .iter()
            .fold(TestHost::new(), |folder, (name, value)| folder.file(&format!("/hwmon2/{name}"), value));
        let host = folder.open();
        let mut causes: Vec<_> = active.iter().map(|cause| (*cause, true)).collect();
        drop_heat(&mut Facts::new(&host, "intel"), "/hwmon2", &mut causes);
        causes.iter().filter(|(_, is_active)| *is_active).map(|(cause, _)| cause.as_str()).collect()
    }

    #[test]
    fn heat_is_a_cause_only_if_a_sensor_may_be_near_its_limit() {
        use ThrottleCause::{Any, Power, Thermal};
        let hot = ["any", "thermal"];
        assert_eq!(kept(&[("temp2_input", "38000\n")], &[Any, Thermal]), Vec::<&str>::new());
        assert_eq!(kept(&[("temp2_input", "38000\n")], &[Any, Thermal, Power]), ["any", "power"]);
        assert_eq!(kept(&[("temp2_input", "38000\n"), ("temp3_input", "91000\n")], &[Any, Thermal]), hot);
        let limited =
            [("temp2_input", "80000\n"), ("temp2_crit", "115000\n"), ("temp2_emergency", "120000\n")];
        assert_eq!(kept(&limited, &[Any, Thermal]), Vec::<&str>::new());
        assert_eq!(kept(&limited[..1], &[Any, Thermal]), hot, "80 degrees without a limit");
        assert_eq!(kept(&[("temp2_input", "0\n")], &[Any, Thermal]), hot, "there is no such sensor");
        assert_eq!(kept(&[], &[Any, Thermal]), hot, "nothing contradicts it");
    }
}
