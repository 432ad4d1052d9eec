//! The machine-checked cases that stand beside the checkout, in `../shared/cases`: small host roots, each with what the binary
//! publishes of it. Their own program judges the binary; this test compares its verdicts with the list of the cases that are not
//! right yet. Where the folder is missing, one ignored test says so.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    reason = "tests read files beside the checkout and start programs"
)]

use std::{fs::File, path::Path, process::Command};

use afd_tests::{binary, fake_nvml, output, workspace};
use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;

/// The cases that are not right yet, each with its kind. The list only shrinks: a case that has become right is removed from it,
/// and none is added.
const NOT_RIGHT_YET: [(&str, &str); 27] = [
    ("amd-mi300x8-one-without-driver", "K11"),
    ("explain-nvidia-on-nouveau", "F21"),
    ("intel-max1550x4-on-vfio", "B11"),
    ("library-bottlerocket", "F9"),
    ("library-jetpack-folder", "F9"),
    ("nvidia-3070-on-nouveau", "F1 B12"),
    ("nvidia-a100-three-compute-instances", "F6 B26"),
    ("nvidia-a100x2-mig-and-vfs", "B16"),
    ("nvidia-a16-model", "F15"),
    ("nvidia-a16-silent-sibling", "F15"),
    ("nvidia-a2x2-small-memory", "B19"),
    ("nvidia-compute-mode-prohibited", "F16"),
    ("nvidia-dgx-station-mig", "F14"),
    ("nvidia-gh200-hbm-as-numa-node", "F8"),
    ("nvidia-id-newer-than-the-table", "F22"),
    ("nvidia-jetson-orin-nano", "F10"),
    ("nvidia-jetson-thor", "F9 F10"),
    ("nvidia-l40s-one-on-vfio", "F1 B12"),
    ("nvidia-l40sx2-beside-mi210x2-numbers", "B30"),
    ("nvidia-l40sx4-pcie", "K13 B22"),
    ("nvidia-rtx-4090-laptop-model", "F15"),
    ("nvidia-rtx-6000-ada-model", "F15"),
    ("nvidia-rtx-pro-maxq-mig-me-shared", "F5"),
    ("nvidia-rtx-pro-maxq-mig-mixed", "F5"),
    ("nvidia-unknown-id-ties-with-h100", "B20"),
    ("nvidia-vgpu-manager-host", "F16"),
    ("nvidia-wsl2-dxg", "F10"),
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
    let folder = workspace().join("../shared/cases");
    let mut trials = Vec::new();
    if let Ok(entries) = std::fs::read_dir(&folder) {
        let file_names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> =
            file_names.filter_map(|name| Some(name.strip_suffix(".tar.gz")?.to_owned())).collect();
        names.sort();
        let missing: Vec<&str> = NOT_RIGHT_YET
            .into_iter()
            .filter_map(|(listed, _)| names.iter().all(|name| name != listed).then_some(listed))
            .collect();
        trials.push(Trial::test("every_case_of_the_list_exists", move || {
            if missing.is_empty() { Ok(()) } else { Err(format!("no such case: {missing:?}").into()) }
        }));
        for name in names {
            let folder = folder.clone();
            trials.push(Trial::test(name.clone(), move || check(&folder, &name)));
        }
    } else {
        eprintln!("no cases at ../shared/cases: nothing is compared with them");
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
