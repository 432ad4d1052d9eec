//! A driver root with a fake vendor library and the recording that it answers from.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::built;

/// A vendor library that has a fake.
#[derive(Debug)]
pub struct FakeLibrary {
    /// The file name of its recordings.
    pub recording: &'static str,
    /// The option of the binary that sets the driver root.
    option: &'static str,
    directory: &'static str,
    library: &'static str,
    package: &'static str,
    file: &'static str,
    built: OnceLock<PathBuf>,
}

/// NVML, AMD SMI, ROCm SMI, Level Zero and HLML.
pub static FAKE_LIBRARIES: [FakeLibrary; 5] = [
    FakeLibrary {
        recording: "nvml.json",
        option: "--nvidia-driver-root",
        directory: "usr/lib64",
        library: "libnvidia-ml.so.1",
        package: "afd-fake-nvml",
        file: "libafd_fake_nvml.so",
        built: OnceLock::new(),
    },
    FakeLibrary {
        recording: "amdsmi.json",
        option: "--rocm-root",
        directory: "opt/rocm/lib",
        library: "libamd_smi.so",
        package: "afd-fake-amdsmi",
        file: "libafd_fake_amdsmi.so",
        built: OnceLock::new(),
    },
    FakeLibrary {
        recording: "rocmsmi.json",
        option: "--rocm-root",
        directory: "opt/rocm/lib",
        library: "librocm_smi64.so",
        package: "afd-fake-rocmsmi",
        file: "libafd_fake_rocmsmi.so",
        built: OnceLock::new(),
    },
    FakeLibrary {
        recording: "levelzero.json",
        option: "--intel-root",
        directory: "usr/lib/x86_64-linux-gnu",
        library: "libze_loader.so.1",
        package: "afd-fake-levelzero",
        file: "libafd_fake_levelzero.so",
        built: OnceLock::new(),
    },
    FakeLibrary {
        recording: "hlml.json",
        option: "--habana-root",
        directory: "usr/lib/habanalabs",
        library: "libhlml.so",
        package: "afd-fake-hlml",
        file: "libafd_fake_hlml.so",
        built: OnceLock::new(),
    },
];

impl FakeLibrary {
    /// Its file, built now if it is not up to date.
    pub fn file(&self) -> &Path {
        self.built.get_or_init(|| built(&["--package", self.package], self.file))
    }
}

/// A temporary driver root with a fake library.
#[derive(Debug)]
pub struct FakeDriverRoot {
    folder: TempDir,
    kind: &'static FakeLibrary,
}

impl FakeDriverRoot {
    /// With the library that the file name of the recording stands for, answering from the recording.
    ///
    /// # Panics
    /// When it cannot be laid out.
    pub fn new(recording: &Path) -> FakeDriverRoot {
        let folder = TempDir::new().expect("a temporary folder can be made");
        // The program that reads it may be another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .expect("the folder can be made readable for all");
        let kind = FAKE_LIBRARIES.iter().find(|kind| recording.ends_with(kind.recording));
        let kind = kind.unwrap_or_else(|| panic!("no fake library for {}", recording.display()));
        let root = FakeDriverRoot { folder, kind };
        fs::create_dir_all(root.directory()).expect("a folder can be made");
        fs::copy(kind.file(), root.library()).expect("the library can be copied");
        let text = fs::read(recording).unwrap_or_else(|error| panic!("{}: {error}", recording.display()));
        fs::write(root.recording(), text).expect("the recording can be written");
        root
    }

    /// The root, for [`FakeDriverRoot::option`].
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The option of the binary that sets the driver root: `--nvidia-driver-root`.
    pub fn option(&self) -> &'static str {
        self.kind.option
    }

    /// The file name of the recording.
    pub fn recording_name(&self) -> &'static str {
        self.kind.recording
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join(self.kind.directory)
    }

    /// The library in it.
    pub fn library(&self) -> PathBuf {
        self.directory().join(self.kind.library)
    }

    fn recording(&self) -> PathBuf {
        self.directory().join(self.kind.recording)
    }

    /// Adds another library with its recording.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn add(&self, other: &FakeDriverRoot) {
        for (from, name) in [(other.library(), other.kind.library), (other.recording(), other.kind.recording)]
        {
            fs::copy(from, self.directory().join(name)).expect("a file can be copied");
        }
    }

    /// Changes the recording atomically, so that a process that uses the library sees all of the change or none.
    ///
    /// # Panics
    /// When it cannot be changed.
    pub fn update(&self, change: impl FnOnce(&mut Value)) {
        let text = fs::read(self.recording()).expect("the recording can be read");
        let mut recording = serde_json::from_slice(&text).expect("the recording is JSON");
        change(&mut recording);
        let new = self.recording().with_extension("new");
        fs::write(&new, serde_json::to_vec(&recording).expect("JSON can be written"))
            .expect("it can be written");
        fs::rename(new, self.recording()).expect("a file can be replaced");
    }

    /// Sets the answer of a call on a device.
    pub fn answer(&self, device: usize, call: &str, answer: Value) {
        self.update(|recording| recording["devices"][device]["answers"][call] = answer);
    }

    /// Makes calls hang, crash or abort from now on: `fault("hang", &["nvmlDeviceGetPowerUsage"])`.
    pub fn fault(&self, kind: &str, symbols: &[&str]) {
        self.update(|recording| recording["faults"][kind] = json!(symbols));
    }

    /// Makes the library deliver an event.
    ///
    /// # Panics
    /// When the recording's events are not a list.
    pub fn raise(&self, event: Value) {
        self.update(|recording| match recording.get_mut("events") {
            Some(events) => events.as_array_mut().expect("events are a list").push(event),
            None => recording["events"] = json!([event]),
        });
    }

    /// Removes a symbol from the library, as if the library were older: its name in the string table is changed.
    ///
    /// # Panics
    /// When the library has no such symbol.
    pub fn remove_symbol(&self, symbol: &str) {
        let mut bytes = fs::read(self.library()).expect("the library can be read");
        let name = format!("\0{symbol}\0").into_bytes();
        let offsets: Vec<usize> =
            (0..bytes.len() - name.len()).filter(|offset| bytes[*offset..].starts_with(&name)).collect();
        assert!(!offsets.is_empty(), "the library has no symbol {symbol}");
        for offset in offsets {
            bytes[offset + 1] = b'x';
        }
        fs::write(self.library(), bytes).expect("the library can be written");
    }
}
