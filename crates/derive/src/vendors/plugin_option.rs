//! Options of the command line that describe how a vendor's device plugin is configured.

use super::VendorOptions;

/// An option that describes how a vendor's device plugin is configured.
#[derive(Debug)]
pub struct PluginOption {
    /// Its name, without the dashes.
    pub name: &'static str,
    /// Its help.
    pub help: &'static str,
    /// What it takes.
    pub value: PluginOptionValue,
}

/// What such an option takes, and what it changes.
#[derive(Debug)]
pub enum PluginOptionValue {
    /// One of these values; the first is the default.
    Choice {
        /// The values and what they mean.
        values: &'static [(&'static str, &'static str)],
        /// Applies one of them.
        apply: fn(&mut VendorOptions, &str),
    },
    /// A file with the configuration of the device plugin; it takes precedence over options before it.
    File {
        /// Applies the text of the file, or returns what is wrong in it.
        apply: fn(&mut VendorOptions, &str) -> Result<(), String>,
    },
}
