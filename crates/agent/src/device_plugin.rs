//! The options that describe how the vendors' device plugins are configured.

use std::path::{Path, PathBuf};

use afd_derive::vendors::{PluginOption, PluginOptionValue, VendorOptions};

/// A configuration is not usable.
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

/// Applies the options in their order; the value of one is a word, or the path of the plugin's configuration.
///
/// # Errors
/// When a configuration cannot be read or is not in the documented format.
pub fn vendor_options(
    values: &[(&'static PluginOption, PathBuf)],
) -> Result<VendorOptions, DevicePluginConfigError> {
    let mut options = VendorOptions::default();
    for (option, value) in values {
        match option.value {
            PluginOptionValue::Choice { apply, .. } => apply(&mut options, &value.to_string_lossy()),
            PluginOptionValue::File { apply } => {
                let text = read(value)?;
                let path = value.display().to_string();
                apply(&mut options, &text)
                    .map_err(|message| DevicePluginConfigError::Format { path, message })?;
            }
        }
    }
    Ok(options)
}

#[expect(clippy::disallowed_methods, reason = "a file of our own configuration, not of the host")]
fn read(path: &Path) -> Result<String, DevicePluginConfigError> {
    std::fs::read_to_string(path)
        .map_err(|source| DevicePluginConfigError::Read { path: path.display().to_string(), source })
}
