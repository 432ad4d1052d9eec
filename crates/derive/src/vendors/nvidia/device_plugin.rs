//! The configuration of NVIDIA's device plugin (k8s-device-plugin README, "Configuring the NVIDIA device plugin binary",
//! version `v1`): how MIG devices are offered and how devices are shared. Everything else in it is ignored.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::options::{MigStrategy, NvidiaOptions, Sharing, SharingStrategy};
use crate::vendors::{PluginOption, PluginOptionValue};

/// The configuration takes precedence over the option before it.
pub(super) const PLUGIN_OPTIONS: &[PluginOption] = &[
    PluginOption {
        name: "nvidia-mig-strategy",
        help: "How NVIDIA's device plugin offers MIG devices; the plugin's own configuration takes precedence",
        value: PluginOptionValue::Choice {
            values: &[
                ("none", "Only whole GPUs are offered"),
                ("single", "As nvidia.com/gpu"),
                ("mixed", "As nvidia.com/mig-1g.10gb and so on"),
            ],
            apply: |options, value| {
                options.nvidia.mig_strategy = MigStrategy::parse(value).unwrap_or_default();
            },
        },
    },
    PluginOption {
        name: "nvidia-device-plugin-config",
        help: "Configuration of NVIDIA's device plugin, for how devices are shared; without it nothing is published of that",
        value: PluginOptionValue::File { apply: |options, text| apply(&mut options.nvidia, text) },
    },
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DevicePluginConfig {
    version: String,
    #[serde(default)]
    flags: DevicePluginFlags,
    #[serde(default)]
    sharing: DevicePluginSharing,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DevicePluginFlags {
    mig_strategy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DevicePluginSharing {
    time_slicing: Option<SharedResources>,
    mps: Option<SharedResources>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SharedResources {
    #[serde(default)]
    rename_by_default: bool,
    #[serde(default)]
    resources: Vec<SharedResource>,
}

#[derive(Debug, Deserialize)]
struct SharedResource {
    name: String,
    replicas: u32,
}

/// Applies the configuration; the MIG strategy stays if it sets none.
fn apply(options: &mut NvidiaOptions, text: &str) -> Result<(), String> {
    let config: DevicePluginConfig = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if config.version != "v1" {
        return Err(format!("version {:?} is not v1", config.version));
    }
    if let Some(strategy) = config.flags.mig_strategy.as_deref() {
        options.mig_strategy = MigStrategy::parse(strategy)
            .ok_or_else(|| format!("migStrategy {strategy:?} is neither none nor single nor mixed"))?;
    }
    // MPS takes precedence over time-slicing, as in the device plugin.
    let mps = config.sharing.mps.map(|resources| (SharingStrategy::Mps, resources));
    let shared =
        mps.or(config.sharing.time_slicing.map(|resources| (SharingStrategy::TimeSlicing, resources)));
    options.sharing = Some(shared.map_or_else(Sharing::default, |(strategy, resources)| {
        Sharing {
            strategy,
            renamed: resources.rename_by_default,
            replicas: resources
                .resources
                .into_iter()
                .map(|resource| (resource.name, resource.replicas))
                .collect::<BTreeMap<_, _>>(),
        }
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str) -> Result<NvidiaOptions, String> {
        let mut options = NvidiaOptions::default();
        apply(&mut options, text).map(|()| options)
    }

    #[test]
    fn sharing_and_strategy_are_read() {
        let text = "version: v1\nflags:\n  migStrategy: mixed\n  failOnInitError: false\nsharing:\n  timeSlicing:\n    \
                    renameByDefault: true\n    resources:\n    - name: nvidia.com/gpu\n      replicas: 10\n";
        let options = applied(text).expect("it is in the documented format");
        assert_eq!(options.mig_strategy, MigStrategy::Mixed);
        let sharing = options.sharing.expect("it was read");
        assert_eq!(sharing.strategy, SharingStrategy::TimeSlicing);
        assert!(sharing.renamed);
        assert_eq!(sharing.replicas["nvidia.com/gpu"], 10);
    }

    #[test]
    fn a_configuration_without_sharing_says_that_nothing_is_shared() {
        assert_eq!(NvidiaOptions::default().sharing, None);
        let options = applied("version: v1\n").expect("it is in the documented format");
        assert_eq!(options.sharing, Some(Sharing::default()));
    }

    #[test]
    fn the_strategy_stays_without_another_one() {
        let mut options = NvidiaOptions { mig_strategy: MigStrategy::Single, ..NvidiaOptions::default() };
        assert_eq!(apply(&mut options, "version: v1\n"), Ok(()));
        assert_eq!(options.mig_strategy, MigStrategy::Single);
    }

    #[test]
    fn invalid_configurations_are_rejected() {
        for (text, expected) in [
            ("version: v2\n", "v2"),
            ("version: v1\nflags:\n  migStrategy: both\n", "both"),
            ("version: v1\nsharing:\n  mps:\n    resources:\n    - name: nvidia.com/gpu\n", "replicas"),
            ("{", ""),
        ] {
            let error = applied(text).expect_err("it is invalid");
            assert!(error.contains(expected), "{error}");
        }
    }
}
