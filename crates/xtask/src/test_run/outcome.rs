//! How many tests have passed, by the closing lines of the test binaries.

use std::{fmt, iter::Sum, ops::AddAssign, process::ExitStatus};

/// Counts of tests, and what has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TestOutcome {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Names of failed tests, each with that of its binary.
    pub(crate) failures: Vec<String>,
}

impl TestOutcome {
    /// The outcome of a program that runs tests, by its output: a line for each test, `test a::b ... FAILED`, and a closing
    /// line, `test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s`. A program
    /// that fails without a failed test counts as a failed test.
    pub(crate) fn of(program: &str, status: ExitStatus, text: &str) -> TestOutcome {
        let mut outcome = TestOutcome::default();
        for line in text.lines().filter_map(|line| line.strip_prefix("test result: ")) {
            outcome.passed += count(line, " passed");
            outcome.failed += count(line, " failed");
            outcome.skipped += count(line, " ignored");
        }
        let names = text.lines().filter_map(|line| {
            let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
            (result == "FAILED").then(|| format!("{program}: {}", name.trim_end()))
        });
        outcome.failures = names.collect();
        if outcome.failures.is_empty() && !status.success() {
            outcome.failed = outcome.failed.max(1);
            outcome.failures.push(format!("{program}: {status}"));
        }
        outcome
    }

    /// Whether no test has failed.
    pub(crate) fn is_success(&self) -> bool {
        self.failed == 0 && self.failures.is_empty()
    }
}

/// The number before a word.
fn count(line: &str, word: &str) -> u64 {
    let number = line.split_once(word).and_then(|(before, _)| before.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

impl fmt::Display for TestOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl AddAssign for TestOutcome {
    fn add_assign(&mut self, other: TestOutcome) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }
}

impl Sum for TestOutcome {
    fn sum<I: Iterator<Item = TestOutcome>>(outcomes: I) -> TestOutcome {
        outcomes.fold(TestOutcome::default(), |mut sum, outcome| {
            sum += outcome;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn closing_lines_are_summed_up() {
        let text = "test a ... ok\ntest b ... FAILED\n\nfailures: b\n\
                    test result: FAILED. 10 passed; 1 failed; 2 ignored; 0 measured; 4 filtered out; finished in 0.1s\n\n\
                    test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let outcome = TestOutcome::of("x", ExitStatus::from_raw(101 << 8), text);
        assert_eq!(outcome.to_string(), "13 passed, 1 failed, 2 skipped");
        assert_eq!(outcome.failures, ["x: b"]);
        assert!(!outcome.is_success());
    }

    #[test]
    fn a_binary_that_dies_has_failed() {
        let outcome = TestOutcome::of("x", ExitStatus::from_raw(9), "test a ... ok\n");
        assert_eq!(outcome.to_string(), "0 passed, 1 failed, 0 skipped");
        assert_eq!(outcome.failures, ["x: signal: 9 (SIGKILL)"]);
        let outcome = TestOutcome::of("x", ExitStatus::from_raw(0), "");
        assert!(outcome.is_success());
    }
}
