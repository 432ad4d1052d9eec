//! The machine-checked cases that stand beside the checkout, in `../shared/cases`, or where `AFD_CASES` says: small host roots, each with what the binary
//! publishes of it. Their own program judges the binary; this test compares its verdicts with the list of the cases that are not
//! right yet. Where the folder is missing, one ignored test says so.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests read files beside the checkout and start programs"
)]

use std::{fs::File, path::Path, process::Command};

use afd_tests::{binary, data_set::CASES, fake_nvml, output};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;

/// The cases that are not right yet, each with its kind. The list only shrinks: a case that has become right is removed from it,
/// and none is added.
const NOT_RIGHT_YET: [(&str, &str); 13] = [
    ("amd-mi210-uuid", "K7"),
    ("amd-mi250-board-name", "K6"),
    ("amd-mi300a-drm-reports-no-memory", "K4"),
    ("amd-mi300x-3000-bad-pages", "K2"),
    ("amd-mi300x-under-gim", "K11"),
    ("amd-mi300x-vfs-in-one-slot", "K14 B17"),
    ("amd-r9700-average-power", "K11"),
    ("amd-r9700-idle-hotspot-bit", "K1"),
    ("amd-strix-halo-kfd-96g", "K4"),
    ("intel-b70-b65-vram-file", "K8"),
    ("intel-b70-vf-in-guest", "K8 B15"),
    ("intel-b70x2-quota-of-vfs", "K8"),
    ("intel-flex170-vf-4g", "K8 B15"),
];

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
        let missing: Vec<&str> = NOT_RIGHT_YET
            .into_iter()
            .filter_map(|(listed, _)| cases.iter().all(|case| case.name != listed).then_some(listed))
            .collect();
        trials.push(Trial::test("every_case_of_the_list_exists", move || {
            if missing.is_empty() { Ok(()) } else { Err(format!("no such case: {missing:?}").into()) }
        }));
        for case in cases {
            trials.push(Trial::test(case.name.clone(), move || check(&CASES.folder(), &case.name)));
        }
    } else {
        trials.push(Trial::test("cases_beside_the_checkout", || Ok(())).with_ignored_flag(true));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// A case is right unless it is listed, and a listed one is not right.
fn check(folder: &Path, name: &str) -> Result<(), Failed> {
    let description: CaseDescription =
        serde_json::from_reader(File::open(folder.join(format!("{name}.json")))?)?;
    let listed = NOT_RIGHT_YET.into_iter().find(|(listed, _)| *listed == name);
    let verdict = judge(folder, name)?;
    match listed {
        None if verdict.is_right => Ok(()),
        None => Err(format!("kind {}:\n{}", description.kind, verdict.message).into()),
        Some(_) if verdict.is_right => {
            Err("it is right: remove it from the list of cases that are not right yet".into())
        }
        Some((_, kind)) if kind != description.kind => {
            Err(format!("its kind is {:?}, in the list {kind:?}", description.kind).into())
        }
        Some(_) => Ok(()),
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
