//! The steps of the pipeline on a fixture host: discover, sample, derive and render, and the page of one scrape.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use afd_agent::{
    args::MetricArgs,
    render::{self, Turn},
    survey::Survey,
};
use afd_derive::{
    labels::{LabelOptions, labels},
    paths::Rules,
    series::InCluster,
};
use afd_host::Host;
use afd_publish::page::Page;
use afd_tests::fixture::Fixture;
use criterion::{Criterion, criterion_group, criterion_main};

fn pipeline(criterion: &mut Criterion) {
    let host = Fixture::named("amd-mi300x8-spx").lay_out();
    let mut survey = Survey::new(
        Host::open(host.root()).expect("the fixture is a directory"),
        None,
        &MetricArgs::default(),
    );
    criterion.bench_function("discover 8 devices", |bencher| bencher.iter(|| black_box(survey.discover())));
    let inventory = survey.discover();
    criterion.bench_function("sample 8 devices", |bencher| bencher.iter(|| black_box(survey.sample())));
    let sampling = survey.sample();
    let rules = Rules::built_in();
    criterion.bench_function("evaluate the path rules", |bencher| {
        bencher.iter(|| black_box(rules.ask(&inventory, false).len()));
    });
    let paths = rules.ask(&inventory, false);
    let turn =
        Turn { inventory: &inventory, paths: &paths, sampling: &sampling, cluster: InCluster::default() };
    criterion.bench_function("derive labels", |bencher| {
        bencher.iter(|| labels(black_box(&inventory), &LabelOptions::default(), None));
    });
    criterion.bench_function("render /metrics", |bencher| {
        bencher.iter(|| render::metrics(black_box(turn), &[]).expect("families are complete"));
    });
    let page = Page::new("text/plain", render::metrics(turn, &[]).expect("families are complete"));
    criterion
        .bench_function("copy the page of a scrape", |bencher| bencher.iter(|| black_box(&page).plain()));
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
