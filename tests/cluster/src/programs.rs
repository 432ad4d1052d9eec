//! Where the programs of a cluster are.
//!
//! `AFD_CLUSTER_PROGRAMS` is the folder that `cargo xtask setup` fills: `kubernetes-1.37/kube-apiserver`, `etcd/etcd`,
//! `helm/helm`, `pause/pause`, `debian/usr/bin/containerd`. For the control plane alone, `TEST_ASSET_ETCD`,
//! `TEST_ASSET_KUBE_APISERVER`, `TEST_ASSET_KUBECTL` (a file each) and `KUBEBUILDER_ASSETS` (a folder) come first, as
//! they do in envtest. A kube-apiserver from there never stands in for another version that a test asks for by name.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use crate::requirements::covered;

/// The variable with the folder of all programs.
const PROGRAMS: &str = "AFD_CLUSTER_PROGRAMS";

/// A minor version of Kubernetes 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The number after `1.`.
    pub minor: u32,
}

impl Version {
    /// The oldest version that the product is tested with.
    pub const V1_34: Version = Version { minor: 34 };
    /// The newest version that the product is tested with.
    pub const V1_37: Version = Version { minor: 37 };

    /// Reads what `kube-apiserver --version` says: `Kubernetes v1.37.2`.
    fn parse(text: &str) -> Option<Version> {
        let minor = text.trim().strip_prefix("Kubernetes v1.")?.split('.').next()?;
        Some(Version { minor: minor.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

/// The programs for a cluster of one version.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) version: Version,
    pub(crate) etcd: PathBuf,
    pub(crate) kube_apiserver: PathBuf,
    kubectl: Result<PathBuf, String>,
    folder: Option<PathBuf>,
}

impl Programs {
    /// Finds etcd and kube-apiserver. Without a version any given kube-apiserver will do, else the newest version is
    /// taken. `variable` reads the environment, `version_of` asks a kube-apiserver.
    pub(crate) fn find(
        version: Option<Version>,
        variable: impl Fn(&str) -> Option<OsString>,
        version_of: impl Fn(&Path) -> anyhow::Result<Version>,
    ) -> anyhow::Result<Programs> {
        let given = |name: &str| {
            let own = variable(&format!("TEST_ASSET_{}", name.to_uppercase().replace('-', "_")));
            own.map(PathBuf::from).or_else(|| Some(Path::new(&variable("KUBEBUILDER_ASSETS")?).join(name)))
        };
        let folder = variable(PROGRAMS).map(PathBuf::from);
        let (mut version, mut api_server) = (version, None);
        if let Some(program) = given("kube-apiserver") {
            let found = version_of(&program)?;
            if *version.get_or_insert(found) == found {
                api_server = Some(visible(program)?);
            }
        }
        let version = version.unwrap_or(Version::V1_37);
        let kubernetes = format!("kubernetes-{version}");
        let kube_apiserver = match api_server {
            Some(program) => program,
            None => built(folder.as_deref(), &kubernetes, "kube-apiserver")?,
        };
        let etcd = match given("etcd") {
            Some(program) => visible(program)?,
            None => built(folder.as_deref(), "etcd", "etcd")?,
        };
        let kubectl = match given("kubectl") {
            Some(program) => visible(program),
            None => built(folder.as_deref(), &kubernetes, "kubectl"),
        };
        let kubectl = kubectl.map_err(|error| format!("{error:#}"));
        Ok(Programs { version, etcd, kube_apiserver, kubectl, folder })
    }

    /// The client.
    pub(crate) fn kubectl(&self) -> anyhow::Result<&Path> {
        self.kubectl.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// Another program of this version of Kubernetes.
    pub(crate) fn kubernetes(&self, name: &str) -> anyhow::Result<PathBuf> {
        built(self.folder.as_deref(), &format!("kubernetes-{}", self.version), name)
    }

    /// A program of another module, by its path in the folder of programs.
    pub(crate) fn other(&self, folder: &str, name: &str) -> anyhow::Result<PathBuf> {
        built(self.folder.as_deref(), folder, name)
    }
}

fn built(programs: Option<&Path>, folder: &str, name: &str) -> anyhow::Result<PathBuf> {
    const HOW: &str = "`cargo xtask test` builds and passes all programs of a cluster; for tests run by hand, \
                       `cargo xtask setup` builds them and says what to export. It needs Go 1.26 (https://go.dev/dl) and \
                       Debian's apt-get; for the control plane alone, setup-envtest and KUBEBUILDER_ASSETS will do";
    let Some(programs) = programs else { bail!("{name} is missing: {PROGRAMS} is not set. {HOW}") };
    let program = programs.join(folder).join(name);
    ensure!(program.is_file(), "{name} is missing: there is no {}. {HOW}", program.display());
    visible(program)
}

/// The file where it really is, which must be visible from inside a bed.
fn visible(program: PathBuf) -> anyhow::Result<PathBuf> {
    let real = program.canonicalize().with_context(|| format!("looking for {}", program.display()))?;
    ensure!(
        !covered(&real),
        "{} is in a folder that a bed covers: please set AFD_CACHE to another one",
        real.display()
    );
    Ok(real)
}

/// The version that a kube-apiserver says it is.
pub(crate) fn version_of(api_server: &Path) -> anyhow::Result<Version> {
    let output = Command::new(api_server)
        .arg("--version")
        .output()
        .with_context(|| format!("asking {} for its version", api_server.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Version::parse(&text).with_context(|| format!("{} says it is {text:?}", api_server.display()))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use tempfile::TempDir;

    use super::*;

    /// A folder with files of a content. Programs are not run here: their version is their content.
    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = TempDir::new().expect("a temporary folder can be made");
        for (file, content) in files {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().expect("a file is in a folder")).expect("a folder can be made");
            fs::write(&file, content).expect("a file can be written");
        }
        folder
    }

    fn find(version: Option<Version>, variables: &[(&str, &Path)]) -> anyhow::Result<Programs> {
        let variables: BTreeMap<&str, &Path> = variables.iter().copied().collect();
        Programs::find(
            version,
            |name| variables.get(name).map(|path| path.as_os_str().to_owned()),
            |program| Version::parse(&fs::read_to_string(program)?).context("it is none"),
        )
    }

    #[test]
    fn without_programs_the_error_says_what_to_do() {
        let error = find(None, &[]).expect_err("nothing is there").to_string();
        assert!(error.starts_with("kube-apiserver is missing: AFD_CLUSTER_PROGRAMS is not set"), "{error}");
        assert!(error.contains("cargo xtask setup") && error.contains("https://go.dev/dl"), "{error}");
        let empty = folder(&[]);
        let error = find(None, &[(PROGRAMS, empty.path())]).expect_err("nothing is there").to_string();
        assert!(error.contains("kubernetes-1.37/kube-apiserver"), "{error}");
    }

    #[test]
    fn assets_of_envtest_are_a_control_plane_of_their_own_version() {
        let assets = folder(&[("etcd", ""), ("kubectl", ""), ("kube-apiserver", "Kubernetes v1.36.1")]);
        let programs = find(None, &[("KUBEBUILDER_ASSETS", assets.path())]).expect("all is there");
        assert_eq!(programs.version, Version { minor: 36 });
        assert_eq!(programs.kube_apiserver, assets.path().join("kube-apiserver"));
        let error = programs.kubernetes("kubelet").expect_err("envtest has none").to_string();
        assert!(error.starts_with("kubelet is missing"), "{error}");
    }

    #[test]
    fn assets_never_stand_in_for_another_version() {
        let assets = folder(&[("etcd", ""), ("kubectl", ""), ("kube-apiserver", "Kubernetes v1.36.1")]);
        let ours = folder(&[("kubernetes-1.34/kube-apiserver", "Kubernetes v1.34.4")]);
        let variables = [("KUBEBUILDER_ASSETS", assets.path()), (PROGRAMS, ours.path())];
        let programs = find(Some(Version::V1_34), &variables).expect("all is there");
        assert_eq!(programs.kube_apiserver, ours.path().join("kubernetes-1.34/kube-apiserver"));
        assert_eq!(programs.etcd, assets.path().join("etcd"));
        let error = find(Some(Version::V1_37), &variables).expect_err("no 1.37 is there").to_string();
        assert!(error.contains("kubernetes-1.37/kube-apiserver"), "{error}");
    }

    #[test]
    fn an_asset_of_its_own_comes_before_the_folder_of_assets() {
        let assets = folder(&[("etcd", ""), ("kubectl", ""), ("kube-apiserver", "Kubernetes v1.36.1")]);
        let single = folder(&[("mine", "")]);
        let etcd = single.path().join("mine");
        let variables = [("KUBEBUILDER_ASSETS", assets.path()), ("TEST_ASSET_ETCD", etcd.as_path())];
        assert_eq!(find(None, &variables).expect("all is there").etcd, etcd);
    }
}
