//! Every reason that the source uses is in the table of reasons.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests read the files of the checkout"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use afd_model::reason::row_of;

/// The folders of `crates` with code that judges devices or the node.
const FOLDERS: [&str; 8] = [
    "probe/src",
    "nvidia/src",
    "amd/src",
    "intel/src",
    "gaudi/src",
    "tpu/src",
    "track/src",
    "derive/src/series",
];

/// What is before a reason. With several capitals a word is taken for one anywhere.
const BEFORE_A_REASON: [&str; 6] = [
    "Health::failed(",
    "Health::degraded(",
    "code: ",
    "Failed, ",
    "Degraded, ",
    "ConditionStatus::Unknown, ",
];

/// Names in the format of reasons that are none: what the kernel calls a link layer, conditions of a platform, and parameters of a driver.
const OTHERS: [&str; 6] = [
    "InfiniBand",
    "SliceErrorDetected",
    "MegascaleHangDetected",
    "RegistryDwords",
    "PeerMappingOverride",
    "CreateImexChannel0",
];

/// The words in quotes that begin with a capital, each with the code before it on the same line or the lines before.
fn capitalised_words(code: &str) -> Vec<(&str, &str)> {
    let is_word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && text.contains(|c: char| c.is_ascii_lowercase())
    };
    let quoted = code.match_indices('"').filter_map(|(start, _)| {
        let (word, _) = code[start + 1..].split_once('"')?;
        is_word(word).then(|| (code[..start].trim_end(), word))
    });
    quoted.collect()
}

fn is_reason(before: &str, word: &str) -> bool {
    let capitals = word.bytes().filter(u8::is_ascii_uppercase).count();
    let has_several = capitals > 1 && !before.ends_with("debug_struct(");
    let follows = BEFORE_A_REASON.iter().any(|context| before.ends_with(context.trim_end()));
    (has_several || follows) && !OTHERS.contains(&word)
}

/// The source files of a folder, without those of tests and the tables of products; none where there is no such folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            let is_left_out = path.ends_with("tests") || path.ends_with("products");
            files.extend(if is_left_out { Vec::new() } else { sources(&path) });
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn every_reason_that_the_source_uses_is_in_the_table() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut used, mut missing) = (0, Vec::new());
    for file in FOLDERS.iter().flat_map(|folder| sources(&crates.join(folder))) {
        let text = fs::read_to_string(&file).expect("a source file can be read");
        let code = text.split("\n#[cfg(test)]").next().unwrap_or_default();
        for (_, word) in capitalised_words(code).into_iter().filter(|(before, word)| is_reason(before, word))
        {
            used += 1;
            if row_of(word).is_none() {
                missing.push(format!("{}: {word}", file.display()));
            }
        }
    }
    assert!(missing.is_empty(), "reasons without a row in reason/table.rs:\n{}", missing.join("\n"));
    assert!(used > 40, "only {used} reasons were found: the source writes them in another form");
}

#[test]
fn reasons_are_recognised_by_their_form() {
    let words = |code: &'static str| -> Vec<&str> {
        let words = capitalised_words(code).into_iter();
        words.filter(|(before, word)| is_reason(before, word)).map(|(_, word)| word).collect()
    };
    assert_eq!(words("Health::failed(\n    \"Lost\", \"It is gone\")"), ["Lost"]);
    assert_eq!(words("code: \"Hot\", (Degraded, \"Poison\", \"Word\")"), ["Hot", "Poison"]);
    assert_eq!(words("x = \"TwoHumps\"; debug_struct(\"HealthRule\"); \"NPS\""), ["TwoHumps"]);
}
