//! How the vendors' device plugins are configured, by options that the vendor records define.

use std::path::{Path, PathBuf};

use afd_derive::vendors::{PluginOption, PluginOptionValue, VENDORS, VendorOptions};
use clap::{
    Arg, ArgMatches, Args, Command, FromArgMatches,
    builder::{PossibleValue, PossibleValuesParser},
    value_parser,
};

/// The values of the options, in the order of the records.
#[derive(Clone, Debug, Default)]
pub struct PluginArgs(Vec<PluginArg>);

/// The value of an option, and what it applies.
#[derive(Clone, Debug)]
enum PluginArg {
    Choice { value: String, apply: fn(&mut VendorOptions, &str) },
    File { option: &'static str, path: PathBuf, apply: fn(&mut VendorOptions, &str) -> Result<(), String> },
}

/// The configuration file of a device plugin is not usable.
#[derive(Debug, thiserror::Error)]
pub enum PluginConfigError {
    /// It cannot be read.
    #[error("--{option}: {} cannot be read", path.display())]
    Read {
        /// The name of the option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        source: std::io::Error,
    },
    /// It is not in the documented format.
    #[error("--{option}: {}: {message}", path.display())]
    Format {
        /// The name of the option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl PluginArgs {
    /// Reads the files, and applies all options in their order.
    ///
    /// # Errors
    /// When a file cannot be read or is not in the documented format.
    pub fn resolve(&self) -> Result<VendorOptions, PluginConfigError> {
        let mut options = VendorOptions::default();
        for arg in &self.0 {
            match arg {
                PluginArg::Choice { value, apply } => apply(&mut options, value),
                PluginArg::File { option, path, apply } => {
                    let text = read(option, path)?;
                    apply(&mut options, &text).map_err(|message| {
                        let path = path.clone();
                        PluginConfigError::Format { option, path, message }
                    })?;
                }
            }
        }
        Ok(options)
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of our own configuration, not of the host")]
fn read(option: &'static str, path: &Path) -> Result<String, PluginConfigError> {
    std::fs::read_to_string(path).map_err(|source| {
        let path = path.to_owned();
        PluginConfigError::Read { option, path, source }
    })
}

fn plugin_options() -> impl Iterator<Item = &'static PluginOption> {
    VENDORS.iter().flat_map(|record| record.plugin_options)
}

impl Args for PluginArgs {
    fn augment_args(command: Command) -> Command {
        command.args(plugin_options().map(|option| {
            let arg = Arg::new(option.name).long(option.name).help(option.help);
            match option.value {
                PluginOptionValue::Choice { values, .. } => {
                    let possible = values.iter().map(|(value, help)| PossibleValue::new(*value).help(*help));
                    let default = values.first().map(|(value, _)| *value);
                    arg.value_name("VALUE")
                        .value_parser(PossibleValuesParser::new(possible))
                        .default_value(default)
                }
                PluginOptionValue::File { .. } => arg.value_name("FILE").value_parser(value_parser!(PathBuf)),
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        PluginArgs::augment_args(command)
    }
}

impl FromArgMatches for PluginArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<PluginArgs, clap::Error> {
        let arg = |option: &'static PluginOption| {
            Some(match option.value {
                PluginOptionValue::Choice { apply, .. } => {
                    PluginArg::Choice { value: matches.get_one::<String>(option.name)?.clone(), apply }
                }
                PluginOptionValue::File { apply } => PluginArg::File {
                    option: option.name,
                    path: matches.get_one::<PathBuf>(option.name)?.clone(),
                    apply,
                },
            })
        };
        Ok(PluginArgs(plugin_options().filter_map(arg).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = PluginArgs::from_arg_matches(matches)?;
        Ok(())
    }
}
