//! Measured figures, and the table of them.

use std::{fmt::Write, time::Duration};

/// One row: what was measured, what came out, and what the budget is.
#[derive(Debug)]
pub(super) struct Figure {
    what: &'static str,
    measured: String,
    budget: String,
}

impl Figure {
    /// A figure that may be as large as its budget.
    pub(super) fn new(what: &'static str, measured: String, budget: String) -> Figure {
        Figure { what, measured, budget: format!("<= {budget}") }
    }

    /// A figure that has to be as large as its budget.
    pub(super) fn at_least(what: &'static str, measured: String, budget: String) -> Figure {
        Figure { what, measured, budget: format!(">= {budget}") }
    }

    /// A figure beside the others.
    pub(super) fn unbudgeted(what: &'static str, measured: String) -> Figure {
        Figure { what, measured, budget: String::new() }
    }
}

/// The figures as a table with a header, in Markdown.
pub(super) fn table(figures: &[Figure]) -> String {
    let header = Figure { what: "what", measured: "measured".to_owned(), budget: "budget".to_owned() };
    let rule = Figure { what: "---", measured: "---".to_owned(), budget: "---".to_owned() };
    let rows = || [&header, &rule].into_iter().chain(figures);
    let widest = |cell: fn(&Figure) -> &str| rows().map(|row| cell(row).len()).max().unwrap_or_default();
    let (what, measured) = (widest(|row| row.what), widest(|row| &row.measured));
    let budget = widest(|row| &row.budget);
    rows().fold(String::new(), |mut text, row| {
        let Figure { what: w, measured: m, budget: b } = row;
        let _ = writeln!(text, "| {w:what$} | {m:measured$} | {b:budget$} |");
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
    pub(super) fn of(mut times: Vec<Duration>) -> Spread {
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

/// The share of `part` in `whole`.
pub(super) fn percent(part: Duration, whole: Duration) -> String {
    format!("{:.3} %", part.as_secs_f64() / whole.as_secs_f64() * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        let spread = Spread::of(times);
        let milliseconds = [spread.min, spread.p50, spread.p99, spread.max].map(|time| time.as_millis());
        assert_eq!(milliseconds, [1, 100, 198, 200]);
    }

    #[test]
    fn the_table_is_aligned() {
        let figures = [Figure::new("binary", "3 MiB".to_owned(), "12 MiB".to_owned())];
        assert_eq!(
            table(&figures),
            "| what   | measured | budget    |\n| ---    | ---      | ---       |\n| binary | 3 MiB    | <= 12 MiB |\n"
        );
    }
}
