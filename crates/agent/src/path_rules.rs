//! Files with path rules in addition to the built-in ones (`--path-rules`).

use std::path::PathBuf;

use afd_derive::paths::{PathRules, RuleError};

/// The rules are not usable.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A file cannot be read.
    #[error("the path rules {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        source: std::io::Error,
    },
    /// They have mistakes: all of them, one per line.
    #[error("the path rules have mistakes\n{}", lines(.0))]
    Mistakes(Vec<RuleError>),
}

fn lines(mistakes: &[RuleError]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads the built-in rules and those of the files.
///
/// # Errors
/// When a file cannot be read, or has mistakes.
#[expect(clippy::disallowed_methods, reason = "a file of our own configuration, not of the host")]
pub fn read(files: &[PathBuf]) -> Result<PathRules, RulesError> {
    let mut rules = PathRules::built_in();
    let mut mistakes = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path)
            .map_err(|source| RulesError::Read { path: path.clone(), source })?;
        mistakes.extend(rules.add(&path.to_string_lossy(), &text));
    }
    if mistakes.is_empty() { Ok(rules) } else { Err(RulesError::Mistakes(mistakes)) }
}
