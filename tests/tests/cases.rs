//! The machine-checked cases that stand beside the checkout, in `../shared/cases`, or where `AFD_CASES` says: small host roots, each
//! with what the binary publishes of it. Their own program judges the binary. Where the folder is missing, one ignored test says so.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests read files beside the checkout and start programs"
)]

use std::{fs::File, path::Path, process::Command};

use afd_tests::{binary, data_set::CASES, fake_nvml, output};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;

/// The description of a case, as far as this test needs it.
#[derive(Debug, Deserialize)]
struct CaseDescription {
    kind: String,
}

/// What the cases' program says of one case.
#[derive(Debug)]
struct CaseVerdict {
    is_right: bool,
    /// Each expectation that does not hold, with what was seen.
    message: String,
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    if let Some(cases) = CASES.archives() {
        for case in cases {
            trials.push(Trial::test(case.name.clone(), move || check(&CASES.folder(), &case.name)));
        }
    } else {
        trials.push(Trial::test("cases_beside_the_checkout", || Ok(())).with_ignored_flag(true));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// A case is right.
fn check(folder: &Path, name: &str) -> Result<(), Failed> {
    let description: CaseDescription =
        serde_json::from_reader(File::open(folder.join(format!("{name}.json")))?)?;
    let verdict = judge(folder, name)?;
    match verdict.is_right {
        true => Ok(()),
        false => Err(format!("kind {}:\n{}", description.kind, verdict.message).into()),
    }
}

/// Asks the cases' program about one case.
///
/// # Errors
/// When it gives no verdict, as for a case that it cannot run.
fn judge(folder: &Path, name: &str) -> Result<CaseVerdict, Failed> {
    let mut command = Command::new("python3");
    command.arg(folder.join("check_cases.py")).arg("--afd").arg(binary()).arg("--nvml").arg(fake_nvml());
    command.arg(folder).args(["--only", name]);
    let output = output(&mut command);
    let text = String::from_utf8_lossy(&output.stdout);
    let (message, sum) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim_end()));
    let is_right = match sum {
        "1 of 1 cases right, 0 not run" => true,
        "0 of 1 cases right, 0 not run" => false,
        _ => {
            let error = String::from_utf8_lossy(&output.stderr);
            return Err(format!("no verdict ({}): {text}{error}", output.status).into());
        }
    };
    Ok(CaseVerdict { is_right, message: message.to_owned() })
}
