#![allow(clippy::disallowed_methods, reason = "this test reads the sources of its own crate")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::*;

/// Calls that are not in a list, since they need another handle, or arguments that are known at run time only.
const ASKED_ONE_BY_ONE: &[LibraryCall] = &[
    INIT,
    HANDLE_BY_INDEX,
    NVLINK_STATE,
    NVLINK_VERSION,
    NVLINK_REMOTE_TYPE,
    NVLINK_REMOTE_PCI,
    P2P_STATUS,
    REGISTER_EVENTS,
    MIG_BY_INDEX,
    MAX_MIG_DEVICES,
    GPU_INSTANCE_PROFILE,
    GPU_INSTANCE_INFO,
    LICENCES,
];

#[test]
fn every_call_is_asked() {
    let rows = [GPU_ROWS, MEMORY_ROWS, GPM_ROWS].into_iter().flatten().map(|row| row.call);
    let rows = rows.chain(LINK_ROWS.iter().map(|row| row.call));
    let lists = [SYSTEM_CALLS, GPU_CALLS, MIG_CALLS, PROCESS_CALLS, ASKED_ONE_BY_ONE];
    let asked: Vec<LibraryCall> = rows
        .chain(HEALTH_ROWS.iter().map(|row| row.call))
        .chain(lists.into_iter().flatten().copied())
        .chain(OLDER_CALLS.iter().map(|(_, older)| *older))
        .collect();
    for call in ALL {
        assert!(asked.contains(call), "{call}");
    }
}

#[test]
fn every_name_is_that_of_one_call() {
    for (index, call) in ALL.iter().enumerate() {
        assert!(!ALL[..index].contains(call), "{call}");
    }
}

#[test]
fn facts_are_static_and_health_inputs_are_not() {
    for call in
        ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetNvLinkState(3)", "nvmlSystemGetCudaDriverVersion_v2"]
    {
        assert!(is_static(call), "{call}");
    }
    for call in
        ["nvmlDeviceGetGpuFabricInfoV", "nvmlDeviceGetFieldValues(230)", "nvmlDeviceGetP2PStatus(1,2)"]
    {
        assert!(!is_static(call), "{call}");
    }
}

#[test]
fn a_health_input_has_one_row_and_its_place_in_the_order() {
    assert!(HEALTH_ROWS.is_sorted_by_key(|row| row.input));
    assert!(HEALTH_ROWS.windows(2).all(|rows| rows[0].input != rows[1].input));
}

/// A field or metric id is an argument of a named call, so it cannot be used without the name either.
#[test]
fn no_other_file_names_a_call_of_nvml() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = files_under(&sources);
    files.retain(|file| !file.ends_with("nvml/table/call.rs") && !file.ends_with("ffi.rs"));
    assert!(files.len() > 10, "{files:?}");
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let text = fs::read_to_string(file).expect("a source file is UTF-8");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for literal in code.split("\"nvml").skip(1) {
            let name = literal.split('"').next().unwrap_or_default();
            let is_call = name.starts_with(|c: char| c.is_ascii_uppercase()) && !name.ends_with("_t");
            assert!(!is_call, "{}: nvml{name}", file.display());
        }
    }
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a source folder can be listed");
    let paths = entries.map(|entry| entry.expect("an entry of it can be read").path());
    paths.flat_map(|path| if path.is_dir() { files_under(&path) } else { vec![path] }).collect()
}
