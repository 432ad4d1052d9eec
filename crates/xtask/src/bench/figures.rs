//! Measured figures, and the table of them.

use std::{fmt::Write, time::Duration};

/// One row: what was measured, the result, the budget, and whether it is kept.
#[derive(Debug)]
pub(super) struct Figure {
    name: &'static str,
    measured: String,
    budget: String,
    verdict: &'static str,
}

impl Figure {
    /// A figure that may be as large as its budget.
    pub(super) fn at_most<T: Copy + PartialOrd>(
        name: &'static str,
        measured: T,
        budget: T,
        written: impl Fn(T) -> String,
    ) -> Figure {
        let budget_text = format!("<= {}", written(budget));
        Figure {
            name,
            measured: written(measured),
            budget: budget_text,
            verdict: verdict(measured <= budget),
        }
    }

    /// A figure that has to be as large as its budget.
    pub(super) fn at_least<T: Copy + PartialOrd>(
        name: &'static str,
        measured: T,
        budget: T,
        written: impl Fn(T) -> String,
    ) -> Figure {
        let budget_text = format!(">= {}", written(budget));
        Figure {
            name,
            measured: written(measured),
            budget: budget_text,
            verdict: verdict(measured >= budget),
        }
    }

    /// A figure without a budget.
    pub(super) fn unbudgeted(name: &'static str, measured: String) -> Figure {
        Figure { name, measured, budget: String::new(), verdict: "" }
    }

    /// With a detail of the result.
    pub(super) fn with_detail(mut self, detail: &str) -> Figure {
        self.measured = format!("{} {detail}", self.measured);
        self
    }
}

fn verdict(kept: bool) -> &'static str {
    if kept { "kept" } else { "BROKEN" }
}

/// The figures as a table with a header, in Markdown.
pub(super) fn table(figures: &[Figure]) -> String {
    let row = |cell: &'static str, measured: &str, budget: &str, verdict| Figure {
        name: cell,
        measured: measured.to_owned(),
        budget: budget.to_owned(),
        verdict,
    };
    let header = row("figure", "measured", "budget", "");
    let rule = row("---", "---", "---", "---");
    let rows = || [&header, &rule].into_iter().chain(figures);
    let widest = |cell: fn(&Figure) -> &str| rows().map(|row| cell(row).len()).max().unwrap_or_default();
    let (name, measured) = (widest(|row| row.name), widest(|row| &row.measured));
    let (budget, verdict) = (widest(|row| &row.budget), widest(|row| row.verdict));
    rows().fold(String::new(), |mut text, row| {
        let Figure { name: n, measured: m, budget: b, verdict: v } = row;
        let _ = writeln!(text, "| {n:name$} | {m:measured$} | {b:budget$} | {v:verdict$} |");
        text
    })
}

/// The order statistics of many times.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Spread {
    pub(super) min: Duration,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) max: Duration,
}

impl Spread {
    /// Of at least one time. A percentile is the nearest rank.
    pub(super) fn new(mut times: Vec<Duration>) -> Spread {
        times.sort_unstable();
        let rank = |percent: usize| times[(times.len() * percent).div_ceil(100).clamp(1, times.len()) - 1];
        Spread { min: rank(0), p50: rank(50), p99: rank(99), max: rank(100) }
    }
}

pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

pub(super) fn kibibytes(kibibytes: u64) -> String {
    format!("{:.2} MiB", kibibytes as f64 / 1024.0)
}

pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / (1024.0 * 1024.0))
}

/// The share of `part` in `whole`, in percent.
pub(super) fn share(part: Duration, whole: Duration) -> f64 {
    part.as_secs_f64() / whole.as_secs_f64() * 100.0
}

pub(super) fn percent(percent: f64) -> String {
    format!("{percent:.3} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        let spread = Spread::new(times);
        let milliseconds = [spread.min, spread.p50, spread.p99, spread.max].map(|time| time.as_millis());
        assert_eq!(milliseconds, [1, 100, 198, 200]);
    }

    #[test]
    fn the_table_is_aligned() {
        let written = |number: u32| format!("{number} MiB");
        let figures = [
            Figure::at_most("binary", 3, 12, written),
            Figure::at_least("series", 3, 12, written),
            Figure::unbudgeted("peer", "x".to_owned()).with_detail("(y)"),
        ];
        assert_eq!(
            table(&figures),
            "| figure | measured | budget    |        |\n\
             | ---    | ---      | ---       | ---    |\n\
             | binary | 3 MiB    | <= 12 MiB | kept   |\n\
             | series | 3 MiB    | >= 12 MiB | BROKEN |\n\
             | peer   | x (y)    |           |        |\n"
        );
    }
}
