//! Values as short strings.

use afd_model::Known;

use super::UnitValues;

const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_073_741_824.0;

/// A value that is shown over time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LiveValue {
    Utilization,
    Memory,
    Power,
    Temperature,
}

impl LiveValue {
    /// All of them, in the order in which they are shown.
    pub(crate) const ALL: [LiveValue; 4] =
        [LiveValue::Utilization, LiveValue::Memory, LiveValue::Power, LiveValue::Temperature];

    /// Its name.
    pub(crate) fn title(self) -> &'static str {
        match self {
            LiveValue::Utilization => "Utilization",
            LiveValue::Memory => "Memory",
            LiveValue::Power => "Power",
            LiveValue::Temperature => "Temperature",
        }
    }

    /// The present value.
    pub(crate) fn of(self, values: &UnitValues) -> Known<f64> {
        match self {
            LiveValue::Utilization => values.utilization_ratio,
            LiveValue::Memory => values.memory_used_bytes,
            LiveValue::Power => values.power_watts,
            LiveValue::Temperature => values.temperature_celsius,
        }
    }

    /// The value that fills a drawing; none where that is not known.
    pub(crate) fn limit(self, values: &UnitValues) -> Option<f64> {
        let limit = match self {
            LiveValue::Utilization => Some(1.0),
            LiveValue::Memory => values.memory_total_bytes.into_value(),
            LiveValue::Power => values.power_limit_watts.into_value(),
            LiveValue::Temperature => Some(100.0),
        };
        limit.filter(|limit| *limit > 0.0)
    }

    /// The present value for a narrow column; none where it is not known.
    pub(crate) fn short(self, values: &UnitValues) -> Option<String> {
        let text = self.text(values)?;
        let units = text.replace(" GiB", "G").replace(" MiB", "M");
        Some(units.replace(' ', ""))
    }

    /// The present value as text; none where it is not known.
    pub(crate) fn text(self, values: &UnitValues) -> Option<String> {
        let value = self.of(values).into_value()?;
        Some(match self {
            LiveValue::Utilization => format!("{:.0} %", value * 100.0),
            LiveValue::Memory => match values.memory_total_bytes.value() {
                Some(total) => format!("{} / {}", bytes(value), bytes(*total)),
                None => bytes(value),
            },
            LiveValue::Power => match values.power_limit_watts.value() {
                Some(limit) => format!("{value:.0} / {limit:.0} W"),
                None => format!("{value:.0} W"),
            },
            LiveValue::Temperature => format!("{value:.0} °C"),
        })
    }
}

/// An amount of memory. Little of it is not shown as none.
fn bytes(value: f64) -> String {
    match value {
        _ if value >= 100.0 * GIB => format!("{:.0} GiB", value / GIB),
        _ if value >= GIB => format!("{:.1} GiB", value / GIB),
        _ => format!("{:.0} MiB", value / MIB),
    }
}

#[cfg(test)]
mod tests {
    use afd_model::Missing;

    use super::*;

    #[test]
    fn an_unknown_value_has_no_text_and_a_known_one_is_short() {
        let unknown = UnitValues { utilization_ratio: Missing::Unreadable.into(), ..UnitValues::default() };
        assert!(LiveValue::ALL.iter().all(|value| value.text(&unknown).is_none()));
        let values = UnitValues {
            utilization_ratio: Known::Value(0.354),
            memory_used_bytes: Known::Value(15.0 * MIB),
            memory_total_bytes: Known::Value(79.65 * GIB),
            power_watts: Known::Value(0.0),
            power_limit_watts: Missing::NotExposed.into(),
            temperature_celsius: Known::Value(44.6),
        };
        let texts = LiveValue::ALL.map(|value| value.text(&values).unwrap_or_default());
        assert_eq!(texts, ["35 %", "15 MiB / 79.7 GiB", "0 W", "45 °C"]);
        let short = LiveValue::ALL.map(|value| value.short(&values).unwrap_or_default());
        assert_eq!(short, ["35%", "15M/79.7G", "0W", "45°C"]);
        assert_eq!(bytes(191.98 * GIB), "192 GiB");
    }

    #[test]
    fn a_limit_of_nothing_scales_no_drawing() {
        let values = UnitValues { power_limit_watts: Known::Value(0.0), ..UnitValues::default() };
        assert_eq!(LiveValue::Power.limit(&values), None);
        assert_eq!(LiveValue::Utilization.limit(&values), Some(1.0));
    }
}
