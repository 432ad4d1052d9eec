//! The steps of the pipeline on a fixture host: discover, sample, derive and render, and the page of one scrape.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::{hint::black_box, path::PathBuf, time::Duration};

use afd_agent::{
    probes::{ProbeOptions, Probes},
    render::{self, DoorPage, PageInputs},
};
use afd_derive::{
    labels::{LabelOptions, labels},
    paths::PathRules,
    series::{InCluster, SeriesDetail},
};
use afd_host::{
    Host,
    child::{ChildRegistry, Launcher},
};
use afd_model::Decision;
use afd_publish::page::Page;
use afd_tests::fixture::Fixture;
use criterion::{Criterion, criterion_group, criterion_main};

fn pipeline(criterion: &mut Criterion) {
    let host = Fixture::named("amd-mi300x8-spx").lay_out();
    let host = Host::open(host.root()).expect("the fixture is a directory");
    let options = ProbeOptions { no_libraries: true, ..ProbeOptions::default() };
    let launcher = Launcher::new(PathBuf::new(), Duration::ZERO, ChildRegistry::adopting_orphans());
    let mut probes = Probes::new(host, &options, &launcher);
    criterion.bench_function("discover 8 devices", |bencher| bencher.iter(|| black_box(probes.discover())));
    let inventory = probes.discover();
    criterion.bench_function("sample 8 devices", |bencher| bencher.iter(|| black_box(probes.sample(None))));
    let sampling = probes.sample(None);
    let rules = PathRules::built_in();
    criterion.bench_function("evaluate the path rules", |bencher| {
        bencher.iter(|| black_box(rules.verdicts(&inventory, false).len()));
    });
    let paths = rules.verdicts(&inventory, false);
    let cluster = InCluster::default();
    let inputs = PageInputs {
        inventory: &inventory,
        paths: &paths,
        sampling: &sampling,
        cluster,
        door: DoorPage::default(),
        detail: SeriesDetail::default(),
    };
    criterion.bench_function("derive labels", |bencher| {
        bencher.iter(|| labels(black_box(&inventory), &LabelOptions::default(), Decision::Undecided));
    });
    criterion.bench_function("render /metrics", |bencher| {
        bencher.iter(|| render::metrics(black_box(inputs), &[]).expect("families are complete"));
    });
    let page = Page::new("text/plain", render::metrics(inputs, &[]).expect("families are complete"));
    criterion
        .bench_function("copy the page of a scrape", |bencher| bencher.iter(|| black_box(&page).plain()));
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
