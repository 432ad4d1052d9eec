//! The configuration of NVIDIA's device plugin (k8s-device-plugin README, "Configuring the NVIDIA device plugin binary",
//! version `v1`): how MIG devices are offered and how devices are shared. Everything else in it is ignored.

use std::{collections::BTreeMap, path::Path};

use afd_derive::vendors::{MigStrategy, NvidiaOptions, Sharing, SharingStrategy};
use serde::Deserialize;

/// The configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum DevicePluginConfigError {
    /// It cannot be read.
    #[error("the device plugin's configuration {path} cannot be read")]
    Read {
        /// The file.
        path: String,
        /// The error of the kernel.
        source: std::io::Error,
    },
    /// It is not in the documented format.
    #[error("the device plugin's configuration {path}: {message}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong.
        message: String,
    },
}

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

/// Reads the configuration; `strategy` applies if it does not set a MIG strategy.
///
/// # Errors
/// When it cannot be read or is not in the documented format.
#[expect(clippy::disallowed_methods, reason = "a file of our own configuration, not of the host")]
pub fn read(path: &Path, strategy: MigStrategy) -> Result<NvidiaOptions, DevicePluginConfigError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| DevicePluginConfigError::Read { path: name.clone(), source })?;
    parse(&text, strategy).map_err(|message| DevicePluginConfigError::Format { path: name, message })
}

fn parse(text: &str, strategy: MigStrategy) -> Result<NvidiaOptions, String> {
    let config: DevicePluginConfig = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if config.version != "v1" {
        return Err(format!("version {:?} is not v1", config.version));
    }
    let mig_strategy = match config.flags.mig_strategy.as_deref() {
        None => strategy,
        Some("none") => MigStrategy::None,
        Some("single") => MigStrategy::Single,
        Some("mixed") => MigStrategy::Mixed,
        Some(other) => return Err(format!("migStrategy {other:?} is neither none nor single nor mixed")),
    };
    // MPS takes precedence over time-slicing, as in the device plugin.
    let mps = config.sharing.mps.map(|resources| (SharingStrategy::Mps, resources));
    let shared =
        mps.or(config.sharing.time_slicing.map(|resources| (SharingStrategy::TimeSlicing, resources)));
    let sharing = shared.map_or_else(Sharing::default, |(strategy, resources)| Sharing {
        strategy,
        renamed: resources.rename_by_default,
        replicas: resources
            .resources
            .into_iter()
            .map(|resource| (resource.name, resource.replicas))
            .collect::<BTreeMap<_, _>>(),
    });
    Ok(NvidiaOptions { mig_strategy, sharing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing_and_strategy_are_read() {
        let text = "version: v1\nflags:\n  migStrategy: mixed\n  failOnInitError: false\nsharing:\n  timeSlicing:\n    \
                    renameByDefault: true\n    resources:\n    - name: nvidia.com/gpu\n      replicas: 10\n";
        let options = parse(text, MigStrategy::None).expect("it is in the documented format");
        assert_eq!(options.mig_strategy, MigStrategy::Mixed);
        assert_eq!(options.sharing.strategy, SharingStrategy::TimeSlicing);
        assert!(options.sharing.renamed);
        assert_eq!(options.sharing.replicas["nvidia.com/gpu"], 10);
    }

    #[test]
    fn invalid_configurations_are_rejected() {
        for (text, expected) in [
            ("version: v2\n", "v2"),
            ("version: v1\nflags:\n  migStrategy: both\n", "both"),
            ("version: v1\nsharing:\n  mps:\n    resources:\n    - name: nvidia.com/gpu\n", "replicas"),
            ("{", ""),
        ] {
            let error = parse(text, MigStrategy::None).expect_err("it is invalid");
            assert!(error.contains(expected), "{error}");
        }
    }
}
