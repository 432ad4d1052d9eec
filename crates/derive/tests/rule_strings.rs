//! Every model and architecture that a built-in rule names is one of a product table: a misspelt one would never hold.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests read the sources")]

use std::{collections::BTreeSet, fs, path::Path};

use afd_derive::paths::PathRules;

/// The strings that a rule compares with the model or the architecture.
fn compared(source: &str) -> Vec<String> {
    let mut strings = Vec::new();
    for field in ["node.model", "node.architecture"] {
        for (at, _) in source.match_indices(field) {
            let rest = &source[at + field.len()..];
            let end = ["&&", "||"].iter().filter_map(|operator| rest.find(operator)).min();
            let comparison = &rest[..end.unwrap_or(rest.len())];
            strings.extend(comparison.split('\'').skip(1).step_by(2).map(str::to_owned));
        }
    }
    strings
}

/// All quoted strings of the vendors' product tables.
fn strings_of_product_tables() -> BTreeSet<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut strings, mut tables) = (BTreeSet::new(), 0);
    let mut read = |path: &Path| {
        let Ok(text) = fs::read_to_string(path) else { return };
        tables += 1;
        strings.extend(text.split('"').skip(1).step_by(2).map(str::to_owned));
    };
    for vendor in fs::read_dir(crates).expect("the crates can be listed").flatten() {
        let source = vendor.path().join("src");
        read(&source.join("products.rs"));
        for table in fs::read_dir(source.join("products")).into_iter().flatten().flatten() {
            read(&table.path());
        }
    }
    assert!(tables > 8, "only {tables} files of product tables were found");
    strings
}

#[test]
fn every_model_and_architecture_of_a_rule_is_in_a_product_table() {
    let tables = strings_of_product_tables();
    let rules = PathRules::built_in();
    let mut number = 0;
    for requirement in rules.paths().iter().flat_map(|path| rules.requirements_of(path)) {
        for expression in requirement.when.iter().chain([&requirement.require]) {
            for string in compared(expression.source()) {
                number += 1;
                assert!(tables.contains(&string), "no product has {string:?}: {}", expression.source());
            }
        }
    }
    assert!(number > 10, "only {number} strings were found");
}

#[test]
fn strings_are_found_in_every_form_of_a_comparison() {
    assert_eq!(compared("node.model == 'a' && node.architecture != 'b'"), ["a", "b"]);
    assert_eq!(compared("node.count > 0 || node.architecture in ['c', 'd']"), ["c", "d"]);
    assert_eq!(compared("node.vendor == 'x'"), [""; 0]);
}
