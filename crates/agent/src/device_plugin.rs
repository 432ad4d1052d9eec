//! The configuration of NVIDIA's device plugin (k8s-device-plugin README, "Configuring the NVIDIA device plugin binary",
//! version `v1`): how MIG devices are offered and how devices are shared. What else stands in it is not our concern.

use std::{collections::BTreeMap, path::Path};

use afd_derive::vendors::{MigStrategy, NvidiaOptions, Sharing, SharingStrategy};
use serde::Deserialize;

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("the device plugin's configuration {path} cannot be read")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
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
struct Config {
    version: String,
    #[serde(default)]
    flags: Flags,
    #[serde(default)]
    sharing: SharingConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Flags {
    mig_strategy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SharingConfig {
    time_slicing: Option<Replicated>,
    mps: Option<Replicated>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Replicated {
    #[serde(default)]
    rename_by_default: bool,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    name: String,
    replicas: u32,
}

/// What the configuration says; `strategy` where it does not tell how MIG devices are offered.
///
/// # Errors
/// When it cannot be read or is not in the documented format.
#[expect(clippy::disallowed_methods, reason = "a file of our own configuration, not of the host")]
pub fn read(path: &Path, strategy: MigStrategy) -> Result<NvidiaOptions, ConfigError> {
    let name = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: name.clone(), source })?;
    parse(&text, strategy).map_err(|message| ConfigError::Format { path: name, message })
}

fn parse(text: &str, strategy: MigStrategy) -> Result<NvidiaOptions, String> {
    let config: Config = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
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
    // MPS wins where both are given, as in the device plugin.
    let mps = config.sharing.mps.map(|replicated| (SharingStrategy::Mps, replicated));
    let shared =
        mps.or(config.sharing.time_slicing.map(|replicated| (SharingStrategy::TimeSlicing, replicated)));
    let sharing = shared.map_or_else(Sharing::default, |(strategy, replicated)| Sharing {
        strategy,
        renamed: replicated.rename_by_default,
        replicas: replicated
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
    fn mistakes_are_told() {
        for (text, told) in [
            ("version: v2\n", "v2"),
            ("version: v1\nflags:\n  migStrategy: both\n", "both"),
            ("version: v1\nsharing:\n  mps:\n    resources:\n    - name: nvidia.com/gpu\n", "replicas"),
            ("{", ""),
        ] {
            let error = parse(text, MigStrategy::None).expect_err("it is wrong");
            assert!(error.contains(told), "{error}");
        }
    }
}
