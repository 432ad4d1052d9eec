//! The components of a device with what the library sampled of each, and how fast counters grew since the last sample. Pure.

use afd_model::{Direction, Known, Missing};
use afd_probe::answers::LibraryCall;
use serde_json_borrow::Value;

use super::LevelZeroAnswers;

/// The answers about one device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SampledDevice<'a> {
    /// Those of the last discovery, which have the properties of components.
    pub(crate) discovered: &'a LevelZeroAnswers,
    /// Those of the last sample.
    pub(crate) now: &'a LevelZeroAnswers,
    /// Those of the sample or discovery before.
    pub(crate) before: Option<&'a LevelZeroAnswers>,
}

/// A component: its position, its properties, and the value of a call on it, null where there is none.
#[derive(Clone, Debug)]
pub(crate) struct SampledComponent<'a> {
    /// Its position in the order of the library.
    pub(crate) index: u8,
    /// Its properties.
    pub(crate) properties: Value<'a>,
    /// The value of the call.
    pub(crate) now: Value<'a>,
    /// The value of the call before.
    before: Option<Value<'a>>,
}

impl<'a> SampledDevice<'a> {
    /// The components that have properties, with the values of a call; none if the library refused the call as a whole.
    pub(crate) fn components(&self, properties: LibraryCall, call: LibraryCall) -> Vec<SampledComponent<'a>> {
        let (properties, now) = (values(self.discovered, properties), values(self.now, call));
        // Components that are others than before have nothing to compare with.
        let before = self.before.map(|before| values(before, call)).unwrap_or_default();
        let before = if before.len() == now.len() { before } else { Vec::new() };
        let component = |((index, properties), now): ((u8, Value<'a>), Value<'a>)| {
            let before = before.get(usize::from(index)).filter(|value| !value.is_null()).cloned();
            (!properties.is_null()).then_some(SampledComponent { index, properties, now, before })
        };
        (0..=u8::MAX).zip(properties).zip(now).filter_map(component).collect()
    }

    /// The same, to be taken together; none where a component has no properties, since it may be a part of the whole.
    pub(crate) fn all_components(
        &self,
        properties: LibraryCall,
        call: LibraryCall,
    ) -> Vec<SampledComponent<'a>> {
        if values(self.discovered, properties).iter().any(Value::is_null) {
            return Vec::new();
        }
        self.components(properties, call)
    }
}

impl SampledComponent<'_> {
    /// Its type.
    pub(crate) fn kind(&self) -> Option<u64> {
        self.properties.get("type").as_u64()
    }

    /// The tile that it belongs to; none where it is of the whole device.
    pub(crate) fn tile(&self) -> Option<u32> {
        tile(&self.properties)
    }

    /// A field of the value.
    pub(crate) fn number(&self, field: &str) -> Option<f64> {
        self.now.get(field).as_f64()
    }

    /// How much a counter grew in a unit of the timestamp.
    pub(crate) fn rate(&self, field: &str) -> Option<f64> {
        rate(&self.now, self.before.as_ref()?, field)
    }
}

/// The values of a call on components, null where one has none; empty if the library refused the call as a whole.
pub(crate) fn values(answers: &LevelZeroAnswers, call: LibraryCall) -> Vec<Value<'_>> {
    let values: Vec<Known<Value<'_>>> = answers.components(call).into_value().unwrap_or_default();
    values.into_iter().map(|value| value.into_value().unwrap_or_default()).collect()
}

/// The counters of bytes of PCIe and of a port, which have the same names.
pub(crate) const BYTE_COUNTERS: [(Direction, &str); 2] =
    [(Direction::Receive, "rxCounter"), (Direction::Transmit, "txCounter")];

/// The tile of properties.
pub(crate) fn tile(properties: &Value<'_>) -> Option<u32> {
    let is_on_tile = properties.get("onSubdevice").as_bool()?;
    is_on_tile.then(|| properties.get("subdeviceId").as_u64()?.try_into().ok())?
}

/// How much a counter of a struct grew; none if it started to count again.
fn growth(now: &Value<'_>, before: &Value<'_>, field: &str) -> Option<f64> {
    let counter = |value: &Value<'_>| value.get(field).as_u64();
    counter(now)?.checked_sub(counter(before)?).map(|growth| growth as f64)
}

/// How much a counter of a struct grew in a unit of its timestamp.
pub(crate) fn rate(now: &Value<'_>, before: &Value<'_>, field: &str) -> Option<f64> {
    let elapsed = growth(now, before, "timestamp").filter(|elapsed| *elapsed > 0.0)?;
    Some(growth(now, before, field)? / elapsed)
}

/// The name of a number of an enum; `type_7` for one that is newer than this program.
pub(crate) fn name_of(names: &[&str], number: u64) -> String {
    let known =
        usize::try_from(number).ok().and_then(|index| names.get(index)).filter(|name| !name.is_empty());
    known.map_or_else(|| format!("type_{number}"), |name| (*name).to_owned())
}

/// The name of a type in properties.
pub(crate) fn kind_name(properties: &Value<'_>, names: &[&str]) -> Known<String> {
    let kind = properties.get("type").as_u64();
    Known::from_option(kind.map(|kind| name_of(names, kind)), Missing::Malformed)
}

/// `zes_engine_group_t`.
pub(crate) const ENGINES: [&str; 15] = [
    "all",
    "compute_all",
    "media_all",
    "copy_all",
    "compute_single",
    "render_single",
    "media_decode_single",
    "media_encode_single",
    "copy_single",
    "media_enhancement_single",
    "3d_single",
    "3d_render_compute_all",
    "render_all",
    "3d_all",
    "media_codec_single",
];
/// `zes_temp_sensors_t`.
pub(crate) const SENSORS: [&str; 9] = [
    "global",
    "gpu",
    "memory",
    "global_min",
    "gpu_min",
    "memory_min",
    "gpu_board",
    "gpu_board_min",
    "voltage_regulator",
];
/// `zes_freq_domain_t`.
pub(crate) const FREQUENCIES: [&str; 3] = ["gpu", "memory", "media"];
/// `zes_power_domain_t`.
pub(crate) const POWER_DOMAINS: [&str; 6] = ["unknown", "card", "package", "stack", "memory", "gpu"];
/// `zes_power_level_t`.
pub(crate) const POWER_LEVELS: [&str; 5] = ["unknown", "sustained", "burst", "peak", "instantaneous"];
/// `zes_power_source_t`.
pub(crate) const POWER_SOURCES: [&str; 3] = ["any", "mains", "battery"];
/// `zes_ras_error_type_t`.
pub(crate) const RAS_TYPES: [&str; 2] = ["correctable", "uncorrectable"];
/// `zes_ras_error_category_exp_t`, of which the first seven are `zes_ras_error_cat_t`.
pub(crate) const RAS_CATEGORIES: [&str; 13] = [
    "reset",
    "programming",
    "driver",
    "compute",
    "non_compute",
    "cache",
    "display",
    "memory",
    "scale",
    "l3fabric",
    "pcie",
    "fabric",
    "soc_internal",
];
/// `zes_freq_throttle_reason_flags_t`, by bit.
pub(crate) const THROTTLE_REASONS: [&str; 10] = [
    "average_power",
    "burst_power",
    "current",
    "thermal",
    "psu_alert",
    "software_range",
    "hardware_range",
    "voltage",
    "thermal_limit",
    "power_limit",
];
/// `ZES_MEM_LOC_DEVICE`.
pub(crate) const DEVICE_MEMORY: u64 = 1;
/// `zes_mem_type_t`; those that no GPU of Intel has are empty.
pub(crate) const MEMORY_TYPES: [&str; 28] = [
    "hbm", "ddr", "ddr3", "ddr4", "ddr5", "lpddr", "lpddr3", "lpddr4", "lpddr5", "sram", "l1", "l3", "grf",
    "slm", "gddr4", "gddr5", "gddr5x", "gddr6", "gddr6x", "gddr7", "lpddr5x", "hbm2", "", "hbm2e", "hbm3",
    "hbm3e", "hbm4", "lpddr6",
];
