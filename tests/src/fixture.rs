//! The fixture hosts of `fixtures/hosts`, laid out as host roots for the binary.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use afd_fake_driver::{DRIVERS, FakeDriver};
use serde::Deserialize;
use tempfile::TempDir;

use crate::{
    afd, binary,
    chart::chart,
    driver_root::{FAKE_LIBRARIES, FakeDriverRoot},
    recorded_servers, workspace,
};

/// A fixture host of the repository.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Its name.
    pub name: String,
    folder: PathBuf,
    manifest: FixtureManifest,
    /// The file name and the content of a recording of a driver, in place of the fixture's own.
    driver: Option<(&'static str, serde_json::Value)>,
    has_library: bool,
}

/// `host.toml`: the files that a repository cannot hold as they are.
#[derive(Clone, Debug, Default, Deserialize)]
struct FixtureManifest {
    #[serde(default)]
    unreadable: Vec<String>,
    #[serde(default)]
    oversized: Vec<OversizedFile>,
}

#[derive(Clone, Debug, Deserialize)]
struct OversizedFile {
    path: String,
    bytes: usize,
}

/// A user that owns no file and may read only what is readable for all.
const UNPRIVILEGED_UID: u32 = 65534;

/// A fixture host, laid out as a host root for the binary.
#[derive(Debug)]
pub struct FixtureHost {
    root: PathBuf,
    unprivileged: bool,
    driver_root: Option<FakeDriverRoot>,
    driver: Option<(TempDir, FakeDriver)>,
    /// Options by which servers are queried that answer from a recording.
    servers: Vec<String>,
    _folder: Option<TempDir>,
}

/// All fixture hosts, by name.
///
/// # Panics
/// When the folder or a `host.toml` cannot be read.
pub fn all() -> Vec<Fixture> {
    let hosts = workspace().join("fixtures/hosts");
    let mut names: Vec<String> = fs::read_dir(&hosts)
        .expect("the fixtures can be listed")
        .map(|entry| {
            entry.expect("the folder can be read").file_name().into_string().expect("names are UTF-8")
        })
        .collect();
    names.sort();
    assert!(!names.is_empty(), "{} has no fixtures", hosts.display());
    names.into_iter().map(|name| Fixture::named(&name)).collect()
}

impl Fixture {
    /// The fixture of a name.
    ///
    /// # Panics
    /// When there is none.
    pub fn named(name: &str) -> Fixture {
        Fixture::in_folder(workspace().join("fixtures/hosts").join(name))
    }

    /// The fixture of a folder, as `afd record` writes one.
    ///
    /// # Panics
    /// When there is none.
    pub fn in_folder(folder: PathBuf) -> Fixture {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let manifest = fs::read_to_string(folder.join("host.toml"))
            .unwrap_or_else(|error| panic!("{name}/host.toml cannot be read: {error}"));
        let manifest = toml::from_str(&manifest).unwrap_or_else(|error| panic!("{name}/host.toml: {error}"));
        Fixture { name: name.into_owned(), folder, manifest, driver: None, has_library: true }
    }

    /// A file with expected output of the binary.
    pub fn expected(&self, file: &str) -> PathBuf {
        self.folder.join("expected").join(file)
    }

    /// The same, with further files that cannot be read.
    #[must_use]
    pub fn with_unreadable(mut self, files: Vec<String>) -> Fixture {
        self.manifest.unreadable.extend(files);
        self
    }

    /// The same with a driver that answers ioctls from this recording, whose file name names the driver.
    #[must_use]
    pub fn with_driver(mut self, recording: &'static str, answers: serde_json::Value) -> Fixture {
        self.driver = Some((recording, answers));
        self
    }

    /// The same without the vendor's library.
    #[must_use]
    pub fn without_library(mut self) -> Fixture {
        self.has_library = false;
        self
    }

    /// The host in place, or a copy where the repository cannot hold it as it is.
    pub fn lay_out(&self) -> FixtureHost {
        if self.manifest.unreadable.is_empty() && self.manifest.oversized.is_empty() {
            let root = self.folder.join("root");
            return FixtureHost {
                driver: self.driver(&root),
                root,
                unprivileged: false,
                driver_root: self.driver_root(),
                servers: self.servers(),
                _folder: None,
            };
        }
        self.copy()
    }

    /// A copy of the host that a test may change.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn copy(&self) -> FixtureHost {
        let folder = TempDir::new().expect("a temporary folder can be made");
        // The program that reads it may be another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .expect("the folder can be made readable for all");
        let root = folder.path().join("root");
        copy_tree(&self.folder.join("root"), &root);
        for file in &self.manifest.oversized {
            let path = root.join(&file.path);
            fs::remove_file(&path).ok();
            fs::write(path, vec![b'7'; file.bytes]).expect("a large file can be written");
        }
        for path in &self.manifest.unreadable {
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o000))
                .unwrap_or_else(|error| panic!("{path} of {}: {error}", self.name));
        }
        let unprivileged = !self.manifest.unreadable.is_empty();
        FixtureHost {
            driver: self.driver(&root),
            root,
            unprivileged,
            driver_root: self.driver_root(),
            servers: self.servers(),
            _folder: Some(folder),
        }
    }

    /// Whether NVML was recorded on the host.
    pub fn has_nvml(&self) -> bool {
        self.folder.join("libraries/nvml.json").exists()
    }

    /// Servers that answer, where the fixture has a recording of them.
    fn servers(&self) -> Vec<String> {
        let recording = self.folder.join("libraries").join(recorded_servers::RECORDING);
        if recording.exists() { recorded_servers::options(&recording) } else { Vec::new() }
    }

    /// A driver that answers ioctls, where the fixture has a recording of it.
    fn driver(&self, root: &Path) -> Option<(TempDir, FakeDriver)> {
        let own = |name: &'static str| Some((name, fs::read(self.folder.join("libraries").join(name)).ok()?));
        let given = self.driver.as_ref().map(|(name, answers)| (*name, answers.to_string().into_bytes()));
        let (name, recording) = given.or_else(|| DRIVERS.iter().find_map(|driver| own(driver.recording)))?;
        let folder = TempDir::new().expect("a temporary folder can be made");
        let path = folder.path().join(name);
        fs::write(&path, recording).expect("a file can be written");
        let driver = FakeDriver::new(&path, root);
        Some((folder, driver))
    }

    /// A driver root with the fake library, where the fixture has a recording of one.
    fn driver_root(&self) -> Option<FakeDriverRoot> {
        let libraries = self.folder.join("libraries");
        let mut recordings =
            FAKE_LIBRARIES.iter().filter(|_| self.has_library).map(|kind| libraries.join(kind.recording));
        recordings.find(|recording| recording.exists()).map(|recording| FakeDriverRoot::new(&recording))
    }
}

impl FixtureHost {
    /// The host root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Adds what every Linux has and the chart mounts, where the fixture lacks it. This one must be a copy.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn add_mounted_paths(&self) {
        let chart = chart();
        let read = |file: &str| -> serde_json::Value {
            let text = fs::read_to_string(chart.join(file)).expect("the chart can be read");
            serde_json::from_str(&text).expect("the list is JSON")
        };
        let (shared, vendors) = (read("mounts.json"), read("vendors.json"));
        let own =
            vendors.as_array().into_iter().flatten().flat_map(|vendor| vendor["mounts"].as_array()).flatten();
        for mount in shared.as_array().into_iter().flatten().chain(own) {
            let path = mount["hostPath"].as_str().expect("a mount has a path");
            let target = self.root.join(path.trim_start_matches('/'));
            if mount["when"] != "always" || target.exists() {
                continue;
            }
            if mount["type"] == "File" {
                fs::create_dir_all(target.parent().expect("a file has a folder")).expect("it can be made");
                fs::copy(path, target).expect("this machine has it, too");
            } else {
                fs::create_dir_all(target).expect("it can be made");
            }
        }
    }

    /// Copies the files of another host into this one, so that it has the devices of both. This one must be a copy.
    pub fn add(&self, other: &FixtureHost) {
        copy_tree(&other.root, &self.root);
    }

    /// The link on the bus of a PCI function with a device id, and its target. Removing the link removes the function.
    ///
    /// # Panics
    /// When the host has no such function.
    pub fn pci_link(&self, device: &str) -> (PathBuf, PathBuf) {
        let links = fs::read_dir(self.root.join("sys/bus/pci/devices")).expect("the host has a bus");
        let link = links
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| fs::read_to_string(path.join("device")).is_ok_and(|id| id.trim() == device))
            .unwrap_or_else(|| panic!("the host has no {device}"));
        let target = fs::read_link(&link).expect("a function on the bus is a link");
        (link, target)
    }

    /// The driver root with the fake library.
    ///
    /// # Panics
    /// When the host has no recording of a library.
    pub fn driver_root(&self) -> &FakeDriverRoot {
        self.driver_root.as_ref().expect("the host has a recording of a library")
    }

    /// The file name of the recording of its library, if it has one.
    pub fn library(&self) -> Option<&'static str> {
        self.driver_root.as_ref().map(FakeDriverRoot::recording_name)
    }

    /// The driver that answers ioctls.
    ///
    /// # Panics
    /// When the host has no recording of one.
    pub fn driver(&self) -> &FakeDriver {
        &self.driver.as_ref().expect("the host has a recording of a driver").1
    }

    /// Changes the recording from which the driver answers, atomically.
    ///
    /// # Panics
    /// When the host has none.
    pub fn update_driver(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.driver().recording();
        let text = fs::read(path).expect("the recording can be read");
        let mut recording = serde_json::from_slice(&text).expect("the recording is JSON");
        change(&mut recording);
        let new = path.with_extension("new");
        fs::write(&new, recording.to_string()).expect("it can be written");
        fs::rename(new, path).expect("a file can be replaced");
    }

    /// A command of the binary on this host; as an unprivileged user where the host has unreadable files.
    pub fn afd<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = afd([]);
        if self.unprivileged && is_root() {
            // The build folder may be closed to other users, so the command runs a copy.
            let copy = self.root.with_file_name("afd");
            if !copy.exists() {
                fs::copy(binary(), &copy).expect("the binary can be copied");
            }
            command = Command::new(copy);
            command.env_remove("AFD_LOG").uid(UNPRIVILEGED_UID).gid(UNPRIVILEGED_UID);
        }
        command.args(arguments).arg("--host-root").arg(&self.root).args(&self.servers);
        if let Some((_, driver)) = &self.driver {
            // It is no recording from elsewhere.
            command.arg("--libraries");
            driver.serve(&mut command);
        }
        if let Some(driver_root) = &self.driver_root {
            command.arg(driver_root.option()).arg(driver_root.path());
        }
        command
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder of the copy can be made");
    for entry in fs::read_dir(from).expect("the fixture can be read") {
        let entry = entry.expect("the fixture can be read");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().expect("the fixture can be read");
        if kind.is_symlink() {
            let text = fs::read_link(&source).expect("a link can be read");
            // With `add`, both hosts may have the path.
            if target.is_dir() {
                continue;
            }
            fs::remove_file(&target).ok();
            std::os::unix::fs::symlink(text, target).expect("a link can be made");
        } else if kind.is_dir() {
            copy_tree(&source, &target);
        } else {
            fs::copy(&source, &target).expect("a file can be copied");
        }
    }
}
