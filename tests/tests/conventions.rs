//! Conventions of the source that no compiler checks: where a vendor may be named, one name per type, plain words.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests read the files of the checkout"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use afd_tests::workspace;

/// A vendor, the words that name it, the folders that are its own, and how many other files of `crates/` name it.
struct VendorFiles {
    words: &'static [&'static str],
    own: &'static [&'static str],
    shared_files: usize,
}

/// The number of shared files that name a vendor, tests aside. It only falls: what is known of a vendor belongs in its crate
/// and in its record. What remains is `Vendor`, the typed facts of the model, the list of records and the list of probes.
const VENDORS: [VendorFiles; 5] = [
    VendorFiles {
        words: &["nvidia", "nvml"],
        own: &["crates/nvidia/", "crates/derive/src/vendors/nvidia"],
        shared_files: 5,
    },
    VendorFiles {
        words: &["amd", "amdgpu", "amdsmi", "rocm", "rocmsmi"],
        own: &["crates/amd/", "crates/derive/src/vendors/amd"],
        shared_files: 5,
    },
    VendorFiles {
        // Gaudi is Intel's.
        words: &["intel"],
        own: &[
            "crates/intel/",
            "crates/gaudi/",
            "crates/derive/src/vendors/intel",
            "crates/derive/src/vendors/gaudi",
        ],
        shared_files: 5,
    },
    VendorFiles {
        words: &["gaudi", "habana"],
        own: &["crates/gaudi/", "crates/derive/src/vendors/gaudi"],
        shared_files: 5,
    },
    VendorFiles {
        words: &["tpu", "tpus", "google"],
        own: &["crates/tpu/", "crates/derive/src/vendors/tpu"],
        shared_files: 5,
    },
];

/// The tests run another build than users do.
#[test]
fn a_release_checks_its_arithmetic_and_a_panic_ends_it() {
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).expect("it can be read");
    let manifest: toml::Table = manifest.parse().expect("it is TOML");
    let release = &manifest["profile"]["release"];
    assert_eq!(release["overflow-checks"].as_bool(), Some(true));
    assert_eq!(release["panic"].as_str(), Some("abort"));
}

#[test]
fn a_vendor_is_named_in_its_crate_its_record_and_few_other_files() {
    let sources = sources(&["crates"]);
    let mut wrong = Vec::new();
    for vendor in &VENDORS {
        let shared = sources.iter().filter(|source| {
            !vendor.own.iter().any(|own| source.path.starts_with(own))
                // The developers' commands name packages, fixtures and fakes.
                && !source.path.starts_with("crates/xtask/")
                && source.names(vendor.words)
        });
        let shared: Vec<&str> = shared.map(|source| source.path.as_str()).collect();
        if shared.len() != vendor.shared_files {
            let (name, files) = (vendor.words[0], shared.join("\n  "));
            wrong.push(format!(
                "{} shared files name {name}, not {}:\n  {files}",
                shared.len(),
                vendor.shared_files
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_type_has_a_name_of_its_own() {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources(&["crates", "tests/src", "tests/cluster/src", "tests/fakes"]) {
        for name in source.code.lines().filter_map(defined_type) {
            files.entry(name.to_owned()).or_default().push(source.path.clone());
        }
    }
    let shared: Vec<String> = files
        .into_iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, files)| format!("{name}: {}", files.join(", ")))
        .collect();
    assert!(shared.is_empty(), "types with the same name:\n{}", shared.join("\n"));
}

/// The name of the type that a line defines at the top level of its file.
fn defined_type(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) => rest.split_once(' ')?.1,
        None => line,
    };
    let definition =
        ["struct ", "enum ", "trait ", "type ", "union "].iter().find_map(|word| line.strip_prefix(word))?;
    definition.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// Words that this project does not use, since its field has others for them.
const WORDS: [&str; 19] = [
    "tell",
    "tells",
    "told",
    "telling",
    "nobody",
    "somebody",
    "anybody",
    "anew",
    "beneath",
    "seldom",
    "mere",
    "merely",
    "kin",
    "worthwhile",
    "uncut",
    "gravity",
    "patience",
    "whoever",
    "odd",
];

/// Phrases of the same kind.
const PHRASES: [&[&str]; 4] =
    [&["for", "ever"], &["take", "back"], &["kernel", "s", "word"], &["library", "s", "word"]];

/// Names of other crates that contain such a word.
const FOREIGN: [&str; 1] = ["PathBeneath"];

#[test]
fn the_text_uses_the_words_of_its_field() {
    let mut found = Vec::new();
    for path in files() {
        let is_text = ["rs", "md", "yaml", "toml", "tpl", "txt"]
            .iter()
            .any(|extension| path.extension().is_some_and(|own| own == *extension));
        let is_expected = path.starts_with("fixtures") && !path.ends_with("host.toml");
        if !is_text || is_expected || path == Path::new("tests/tests/conventions.rs") {
            continue;
        }
        let text = fs::read_to_string(workspace().join(&path)).expect("a text file can be read");
        for (number, line) in (1..).zip(text.lines()) {
            let words = words(&FOREIGN.iter().fold(line.to_owned(), |line, name| line.replace(name, "")));
            let is_word = words.iter().any(|word| WORDS.contains(&word.as_str()));
            let is_phrase =
                PHRASES.iter().any(|phrase| words.windows(phrase.len()).any(|window| window == *phrase));
            if is_word || is_phrase {
                found.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{} lines:\n{}", found.len(), found.join("\n"));
}

/// A source file without its tests.
struct SourceFile {
    /// Relative to the checkout.
    path: String,
    code: String,
}

impl SourceFile {
    /// Whether it has one of these words, a number after it aside: `nvidia0` names `nvidia`.
    fn names(&self, names: &[&str]) -> bool {
        words(&self.code)
            .iter()
            .any(|word| names.contains(&word.trim_end_matches(|c: char| c.is_ascii_digit())))
    }
}

/// The words of a text in lower case; `NvidiaFacts`, `afd_nvidia` and `NVIDIA` have one in common.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before = ' ';
    for c in text.chars().chain([' ']) {
        let is_boundary = !c.is_ascii_alphanumeric() || before.is_ascii_lowercase() && c.is_ascii_uppercase();
        if is_boundary && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    words
}

/// The Rust files of these folders, without test modules.
fn sources(folders: &[&str]) -> Vec<SourceFile> {
    let is_source = |path: &PathBuf| {
        let in_tests_of_a_crate = path.components().skip(1).any(|part| part.as_os_str() == "tests");
        path.extension().is_some_and(|extension| extension == "rs")
            && folders.iter().any(|folder| path.starts_with(folder))
            && !path.ends_with("tests.rs")
            && !in_tests_of_a_crate
    };
    files()
        .into_iter()
        .filter(is_source)
        .map(|path| {
            let text = fs::read_to_string(workspace().join(&path)).expect("a source file can be read");
            let code = text.split("\n#[cfg(test)]").next().unwrap_or_default().to_owned();
            SourceFile { path: path.to_string_lossy().into_owned(), code }
        })
        .collect()
}

/// The files of the checkout, sorted, without those of version control, of builds and of fuzzing, and without recorded roots.
fn files() -> Vec<PathBuf> {
    const LEFT_OUT: [&str; 5] = [".git", "target", "corpus", "artifacts", "root"];
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(workspace().join(&folder)).expect("a folder of the checkout can be read");
        for entry in entries {
            let entry = entry.expect("an entry can be read");
            let (path, kind) = (folder.join(entry.file_name()), entry.file_type().expect("it has a type"));
            if kind.is_dir() && !LEFT_OUT.iter().any(|name| path.ends_with(name)) {
                folders.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn words_are_split_at_signs_and_case() {
    assert_eq!(words("NvidiaFacts afd_nvidia \"NVIDIA\""), ["nvidia", "facts", "afd", "nvidia", "nvidia"]);
    assert_eq!(words("the kernel's word"), ["the", "kernel", "s", "word"]);
    assert_eq!(defined_type("pub(crate) struct Plan<'a> {"), Some("Plan"));
    assert_eq!(defined_type("enum Plan {"), Some("Plan"));
    assert_eq!(defined_type("    type Err = String;"), None);
}
