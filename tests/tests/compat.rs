//! What the vendors' own tools publish is published as well, or listed with the reason why not.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{collections::BTreeSet, fs};

use afd_derive::compat::CompatSet;
use afd_tests::{fixture, fixture::Fixture, workspace};

/// The names that a vendor's tool publishes, from the file that lists them with their source.
fn names_of(file: &str) -> BTreeSet<String> {
    let path = workspace().join("fixtures/vendor").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let names: BTreeSet<String> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    assert!(!names.is_empty(), "{} has no names", path.display());
    names
}

/// The expected labels of a fixture. A host without labels has no such file.
fn labels_of(fixture: &Fixture) -> String {
    fs::read_to_string(fixture.expected("labels-compat.txt")).unwrap_or_default()
}

#[test]
fn every_key_of_a_vendors_labeller_is_published_or_listed_with_a_reason() {
    for set in CompatSet::TABLES {
        let file = format!("{}-labeller-keys.txt", set.as_str());
        let known: BTreeSet<&str> =
            set.rows().map(|row| row.key).chain(set.left_out().iter().map(|left| left.key)).collect();
        let forgotten: Vec<String> =
            names_of(&file).into_iter().filter(|key| !known.contains(key.as_str())).collect();
        assert!(forgotten.is_empty(), "{}: neither published nor listed: {forgotten:?}", set.as_str());
    }
}

/// Every documented key must occur on some host.
#[test]
fn every_row_of_a_set_is_shown_by_a_fixture() {
    let shown: BTreeSet<String> = fixture::all()
        .iter()
        .map(labels_of)
        .flat_map(|text| {
            text.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect::<Vec<_>>()
        })
        .collect();
    for set in CompatSet::TABLES {
        let missing: Vec<&str> = set
            .rows()
            .map(|row| row.key)
            .filter(|key| match key.split_once('<') {
                None => !shown.contains(*key),
                Some((head, _)) => !shown.iter().any(|shown| shown.starts_with(head) && shown != head),
            })
            .collect();
        assert!(missing.is_empty(), "no fixture shows {missing:?}");
    }
}

#[test]
fn every_label_of_every_fixture_is_valid_in_kubernetes() {
    for fixture in fixture::all() {
        for line in labels_of(&fixture).lines() {
            let (key, value) = line.split_once('=').expect("a label has a value");
            let (_, name) = key.split_once('/').expect("a key has a prefix");
            for (what, text) in [("key", name), ("value", value)] {
                let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
                assert!(
                    text.len() <= 63
                        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                        && ends(text.chars().next())
                        && ends(text.chars().last()),
                    "{}: {what} of {line}",
                    fixture.name
                );
            }
        }
    }
}

#[test]
fn every_family_of_a_vendors_exporter_is_published_or_listed_with_a_reason() {
    for set in CompatSet::TABLES {
        let published: Vec<&str> = set.families().map(|family| family.name).collect();
        let left_out: Vec<&str> =
            set.left_out_families().iter().flat_map(|left| left.names).copied().collect();
        let known: BTreeSet<&str> = published.iter().chain(&left_out).copied().collect();
        assert_eq!(
            known.len(),
            published.len() + left_out.len(),
            "{}: a family is listed twice",
            set.as_str()
        );
        let names = names_of(&format!("{}-exporter-families.txt", set.as_str()));
        let forgotten: Vec<&String> = names.iter().filter(|name| !known.contains(name.as_str())).collect();
        assert!(forgotten.is_empty(), "{}: neither published nor listed: {forgotten:?}", set.as_str());
        let invented: Vec<&&str> = known.iter().filter(|name| !names.contains(**name)).collect();
        assert!(invented.is_empty(), "{}: not the vendor's: {invented:?}", set.as_str());
    }
}

/// Every documented family must occur on some host.
#[test]
fn every_family_of_a_set_is_shown_by_a_fixture() {
    // These need two samples, which only a running agent takes.
    let needs_two_samples = |name: &str| name.ends_with("_residency_percentage");
    for set in CompatSet::TABLES {
        let file = format!("metrics-compat-{}.txt", set.as_str());
        let shown: BTreeSet<String> = fixture::all()
            .iter()
            .flat_map(|fixture| {
                let text = fs::read_to_string(fixture.expected(&file)).unwrap_or_default();
                let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
                names.map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        let missing: Vec<&str> = set
            .families()
            .map(|family| family.name)
            .filter(|name| !shown.contains(*name) && !needs_two_samples(name))
            .collect();
        assert!(missing.is_empty(), "no fixture shows {missing:?}");
    }
}
