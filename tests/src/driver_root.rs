//! A root with NVIDIA's driver: the fake library, and the recording that it answers from.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_nvml;

/// A temporary driver root.
#[derive(Debug)]
pub struct DriverRoot {
    folder: TempDir,
}

impl DriverRoot {
    /// With the library answering from a recording.
    ///
    /// # Panics
    /// When it cannot be laid out.
    pub fn new(recording: &Path) -> DriverRoot {
        let folder = TempDir::new().expect("a temporary folder can be made");
        // The program that reads it may be another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .expect("our folder can be opened to all");
        let root = DriverRoot { folder };
        fs::create_dir_all(root.directory()).expect("a folder can be made");
        fs::copy(fake_nvml(), root.library()).expect("the library can be copied");
        let text = fs::read(recording).unwrap_or_else(|error| panic!("{}: {error}", recording.display()));
        fs::write(root.recording(), text).expect("the recording can be written");
        root
    }

    /// The root, for `--nvidia-driver-root`.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("usr/lib64")
    }

    /// The library in it.
    pub fn library(&self) -> PathBuf {
        self.directory().join("libnvidia-ml.so.1")
    }

    fn recording(&self) -> PathBuf {
        self.directory().join("nvml.json")
    }

    /// Changes the recording while a program may be using it; the library sees all of the change or none.
    ///
    /// # Panics
    /// When it cannot be changed.
    pub fn update(&self, change: impl FnOnce(&mut Value)) {
        let text = fs::read(self.recording()).expect("the recording can be read");
        let mut recording = serde_json::from_slice(&text).expect("the recording is JSON");
        change(&mut recording);
        let new = self.directory().join("nvml.json.new");
        fs::write(&new, serde_json::to_vec(&recording).expect("JSON can be written"))
            .expect("it can be written");
        fs::rename(new, self.recording()).expect("a file can be replaced");
    }

    /// The answer of a call on a device.
    pub fn answer(&self, device: usize, call: &str, answer: Value) {
        self.update(|recording| recording["devices"][device]["answers"][call] = answer);
    }

    /// Calls that hang, crash or abort from now on: `fault("hang", &["nvmlDeviceGetPowerUsage"])`.
    pub fn fault(&self, kind: &str, symbols: &[&str]) {
        self.update(|recording| recording["faults"][kind] = json!(symbols));
    }

    /// Has the library tell of an event.
    ///
    /// # Panics
    /// When the recording's events are no list.
    pub fn raise(&self, event: Value) {
        self.update(|recording| match recording.get_mut("events") {
            Some(events) => events.as_array_mut().expect("events are a list").push(event),
            None => recording["events"] = json!([event]),
        });
    }

    /// Takes a symbol out of the library, as if it were older: its name in the table of strings no longer is what a
    /// program asks for.
    ///
    /// # Panics
    /// When the library lacks it already.
    pub fn without_symbol(&self, symbol: &str) {
        let mut bytes = fs::read(self.library()).expect("the library can be read");
        let name = format!("\0{symbol}\0").into_bytes();
        let places: Vec<usize> =
            (0..bytes.len() - name.len()).filter(|place| bytes[*place..].starts_with(&name)).collect();
        assert!(!places.is_empty(), "the library has no symbol {symbol}");
        for place in places {
            bytes[place + 1] = b'x';
        }
        fs::write(self.library(), bytes).expect("the library can be written");
    }
}
