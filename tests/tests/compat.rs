//! What the vendors' own tools publish is published as well, or listed with the reason why not.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests lay out hosts and start programs"
)]

use std::{collections::BTreeSet, fs};

use afd_derive::{
    compat::{CompatSet, metrics::MetricSet},
    vendors::{VENDORS, VendorRecord},
};
use afd_tests::{fixture, fixture::Fixture, workspace};
use regex::Regex;

/// The names that a vendor's tool publishes, from the file that lists them with their source.
fn names_of(file: &str) -> BTreeSet<String> {
    let path = workspace().join("fixtures/vendor").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let names: BTreeSet<String> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    assert!(!names.is_empty(), "{} has no names", path.display());
    names
}

/// The expected labels of a fixture in the vendors' spelling. A host without labels has no such files.
fn labels_of(fixture: &Fixture) -> String {
    let files = ["labels-compat.txt", "gfd.txt"];
    let text = files.map(|file| fs::read_to_string(fixture.expected(file)).unwrap_or_default()).concat();
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

fn shown_keys() -> BTreeSet<String> {
    let labels: String = fixture::all().iter().map(labels_of).collect();
    labels.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect()
}

#[test]
fn every_key_of_a_vendors_labeller_is_published_or_listed_with_a_reason() {
    for (set, labels) in CompatSet::with_labels() {
        let file = format!("{}-labeller-keys.txt", set.as_str());
        let left_out = labels.left_out.iter().map(|left_out| left_out.key);
        let known: BTreeSet<&str> = labels.rows().map(|row| row.key).chain(left_out).collect();
        let forgotten: Vec<String> =
            names_of(&file).into_iter().filter(|key| !known.contains(key.as_str())).collect();
        assert!(forgotten.is_empty(), "{}: neither published nor listed: {forgotten:?}", set.as_str());
    }
}

/// Every documented key must occur on some host.
#[test]
fn every_row_of_a_set_is_shown_by_a_fixture() {
    let shown = shown_keys();
    for (_, labels) in CompatSet::with_labels() {
        let missing: Vec<&str> = labels
            .rows()
            .map(|row| row.key)
            .filter(|key| match (key.split_once('<'), key.rsplit_once('>')) {
                (Some((head, _)), Some((_, tail))) => !shown.iter().any(|shown| {
                    shown.len() > head.len() + tail.len() && shown.starts_with(head) && shown.ends_with(tail)
                }),
                _ => !shown.contains(*key),
            })
            .collect();
        assert!(missing.is_empty(), "no fixture shows {missing:?}");
    }
}

/// The admission policy is generated from the patterns.
#[test]
fn the_key_patterns_of_the_records_match_every_key_of_a_set_and_no_other_key_of_the_vendor() {
    let patterns: Vec<Regex> = VENDORS
        .into_iter()
        .flat_map(VendorRecord::label_key_patterns)
        .map(|pattern| Regex::new(&pattern).expect("a pattern is a regular expression"))
        .collect();
    let keys: Vec<&str> = VENDORS.into_iter().flat_map(VendorRecord::label_keys).collect();
    let is_allowed = |key: &str| keys.contains(&key) || patterns.iter().any(|pattern| pattern.is_match(key));
    let published = shown_keys();
    let own = |key: &&String| !key.starts_with("accelerator.llm-d.ai/") && !key.starts_with("llm-d.ai/");
    let refused: Vec<&String> = published.iter().filter(own).filter(|key| !is_allowed(key)).collect();
    assert!(refused.is_empty(), "{refused:?}");
    for key in ["nvidia.com/gpu.deploy.driver", "nvidia.com/gpu-driver-upgrade-state", "amd.com/gpu.product"]
    {
        assert!(!is_allowed(key), "{key}");
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
                // Kubernetes accepts an empty value.
                assert!(
                    (what == "value" && text.is_empty())
                        || text.len() <= 63
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

/// The name of the exporter in file names: that of the set, unless the set has several.
fn exporter_of(set: CompatSet, metrics: &MetricSet) -> &'static str {
    if set.pages().count() > 1 { metrics.page } else { set.as_str() }
}

#[test]
fn every_family_of_a_vendors_exporter_is_published_or_listed_with_a_reason() {
    for (set, metrics) in CompatSet::with_metrics() {
        let published: Vec<&str> = metrics.families().map(|family| family.name).collect();
        let left_out: Vec<&str> =
            metrics.left_out.iter().flat_map(|left_out| left_out.names).copied().collect();
        let known: BTreeSet<&str> = published.iter().chain(&left_out).copied().collect();
        assert_eq!(
            known.len(),
            published.len() + left_out.len(),
            "{}: a family is listed twice",
            set.as_str()
        );
        let names = names_of(&format!("{}-exporter-families.txt", exporter_of(set, metrics)));
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
    let needs_two_samples =
        |name: &str| name.ends_with("_residency_percentage") || name.starts_with("DCGM_FI_PROF_");
    // What servers report is in no fixture; `--test tpu_sources` has fakes of them.
    let is_of_files = |(set, _): &(CompatSet, _)| set.record().is_none_or(|record| record.network.is_none());
    for (set, metrics) in CompatSet::with_metrics().filter(is_of_files) {
        let file = match metrics.always_served {
            true => format!("{}.txt", metrics.page),
            false => format!("metrics-compat-{}.txt", set.as_str()),
        };
        let shown: BTreeSet<String> = fixture::all()
            .iter()
            .flat_map(|fixture| {
                let text = fs::read_to_string(fixture.expected(&file)).unwrap_or_default();
                let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
                names.map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        let missing: Vec<&str> = metrics
            .families()
            .map(|family| family.name)
            .filter(|name| !shown.contains(*name) && !needs_two_samples(name))
            .collect();
        assert!(missing.is_empty(), "no fixture shows {missing:?}");
    }
}
