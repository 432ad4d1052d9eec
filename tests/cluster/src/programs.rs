//! Finds the programs of a cluster.
//!
//! `AFD_CLUSTER_PROGRAMS` is the folder that `cargo xtask setup` fills: `kubernetes-1.37/kube-apiserver`, `etcd/etcd`,
//! `helm/helm`, `pause/pause`, `debian/usr/bin/containerd`. For the control plane alone, `TEST_ASSET_ETCD`,
//! `TEST_ASSET_KUBE_APISERVER`, `TEST_ASSET_KUBECTL` (a file each) and `KUBEBUILDER_ASSETS` (a folder) take precedence, as
//! in envtest. A kube-apiserver from there never replaces another version that a test selects.
//!
//! Of Kubernetes 1.34 there is kube-apiserver alone: a node has the newest version, and so has kubectl.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use crate::requirements::is_hidden;

/// The variable that names the folder of all programs.
const PROGRAMS: &str = "AFD_CLUSTER_PROGRAMS";

/// A minor version of Kubernetes 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubernetesVersion {
    /// The number after `1.`.
    pub minor: u32,
}

impl KubernetesVersion {
    /// The oldest version that the product is tested with.
    pub const V1_34: KubernetesVersion = KubernetesVersion { minor: 34 };
    /// The newest version that the product is tested with.
    pub const V1_37: KubernetesVersion = KubernetesVersion { minor: 37 };

    /// Parses the output of `kube-apiserver --version`: `Kubernetes v1.37.2`.
    fn parse(text: &str) -> Option<KubernetesVersion> {
        let minor = text.trim().strip_prefix("Kubernetes v1.")?.split('.').next()?;
        Some(KubernetesVersion { minor: minor.parse().ok()? })
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

/// The programs for a cluster of one version.
#[derive(Clone, Debug)]
pub(crate) struct ClusterPrograms {
    pub(crate) version: KubernetesVersion,
    pub(crate) etcd: PathBuf,
    pub(crate) kube_apiserver: PathBuf,
    kubectl: Result<PathBuf, String>,
    folder: Option<PathBuf>,
}

impl ClusterPrograms {
    /// Finds etcd and kube-apiserver. Without a version it is that of the kube-apiserver in the environment, else the
    /// newest. `variable` reads the environment, `version_of` the version of a kube-apiserver.
    pub(crate) fn find(
        version: Option<KubernetesVersion>,
        variable: impl Fn(&str) -> Option<OsString>,
        version_of: impl Fn(&Path) -> anyhow::Result<KubernetesVersion>,
    ) -> anyhow::Result<ClusterPrograms> {
        let asset = |name: &str| {
            let own = variable(&format!("TEST_ASSET_{}", name.to_uppercase().replace('-', "_")));
            own.map(PathBuf::from).or_else(|| Some(Path::new(&variable("KUBEBUILDER_ASSETS")?).join(name)))
        };
        let folder = variable(PROGRAMS).map(PathBuf::from);
        let (mut version, mut api_server) = (version, None);
        if let Some(program) = asset("kube-apiserver") {
            let found = version_of(&program)?;
            if *version.get_or_insert(found) == found {
                api_server = Some(visible(program)?);
            }
        }
        let version = version.unwrap_or(KubernetesVersion::V1_37);
        let kubernetes = format!("kubernetes-{version}");
        let kube_apiserver = match api_server {
            Some(program) => program,
            None => built(folder.as_deref(), &kubernetes, "kube-apiserver")?,
        };
        let etcd = match asset("etcd") {
            Some(program) => visible(program)?,
            None => built(folder.as_deref(), "etcd", "etcd")?,
        };
        let kubectl = match asset("kubectl") {
            Some(program) => visible(program),
            None => built(folder.as_deref(), &format!("kubernetes-{}", KubernetesVersion::V1_37), "kubectl"),
        };
        let kubectl = kubectl.map_err(|error| format!("{error:#}"));
        Ok(ClusterPrograms { version, etcd, kube_apiserver, kubectl, folder })
    }

    /// The path of kubectl.
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
    const HOW: &str = "`cargo xtask test` builds all programs of a cluster and runs the tests with them; to run tests by hand, \
                       `cargo xtask setup` builds them and prints the variable to export. It needs Go 1.26 \
                       (https://go.dev/dl) and Debian's apt-get; for the control plane alone, setup-envtest and \
                       KUBEBUILDER_ASSETS are sufficient";
    let Some(programs) = programs else { bail!("{name} is missing: {PROGRAMS} is not set. {HOW}") };
    let program = programs.join(folder).join(name);
    ensure!(program.is_file(), "{name} is missing: there is no {}. {HOW}", program.display());
    visible(program)
}

/// The resolved path of a program, which must be visible in a bed.
fn visible(program: PathBuf) -> anyhow::Result<PathBuf> {
    let real = program.canonicalize().with_context(|| format!("resolving {}", program.display()))?;
    ensure!(
        !is_hidden(&real),
        "{} is in a folder that a bed hides: please set AFD_CACHE to another one",
        real.display()
    );
    Ok(real)
}

/// The version that a kube-apiserver reports.
pub(crate) fn version_of(api_server: &Path) -> anyhow::Result<KubernetesVersion> {
    let output = Command::new(api_server)
        .arg("--version")
        .output()
        .with_context(|| format!("asking {} for its version", api_server.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    KubernetesVersion::parse(&text)
        .with_context(|| format!("{} reports the version {text:?}", api_server.display()))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use tempfile::TempDir;

    use super::*;

    /// A folder with files and their content. Programs are not run here: their content is their version.
    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = TempDir::new().expect("a temporary folder can be made");
        for (file, content) in files {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().expect("a file is in a folder")).expect("a folder can be made");
            fs::write(&file, content).expect("a file can be written");
        }
        folder
    }

    fn find(
        version: Option<KubernetesVersion>,
        variables: &[(&str, &Path)],
    ) -> anyhow::Result<ClusterPrograms> {
        let variables: BTreeMap<&str, &Path> = variables.iter().copied().collect();
        ClusterPrograms::find(
            version,
            |name| variables.get(name).map(|path| path.as_os_str().to_owned()),
            |program| {
                KubernetesVersion::parse(&fs::read_to_string(program)?)
                    .context("the content is not a version")
            },
        )
    }

    #[test]
    fn without_programs_the_error_contains_instructions() {
        let error = find(None, &[]).expect_err("there are no programs").to_string();
        assert!(error.starts_with("kube-apiserver is missing: AFD_CLUSTER_PROGRAMS is not set"), "{error}");
        assert!(error.contains("cargo xtask setup") && error.contains("https://go.dev/dl"), "{error}");
        let empty = folder(&[]);
        let error = find(None, &[(PROGRAMS, empty.path())]).expect_err("there are no programs").to_string();
        assert!(error.contains("kubernetes-1.37/kube-apiserver"), "{error}");
    }

    #[test]
    fn assets_of_envtest_are_a_control_plane_of_their_own_version() {
        let assets = folder(&[("etcd", ""), ("kubectl", ""), ("kube-apiserver", "Kubernetes v1.36.1")]);
        let programs = find(None, &[("KUBEBUILDER_ASSETS", assets.path())]).expect("all programs exist");
        assert_eq!(programs.version, KubernetesVersion { minor: 36 });
        assert_eq!(programs.kube_apiserver, assets.path().join("kube-apiserver"));
        let error = programs.kubernetes("kubelet").expect_err("envtest has none").to_string();
        assert!(error.starts_with("kubelet is missing"), "{error}");
    }

    #[test]
    fn assets_never_replace_another_version() {
        let assets = folder(&[("etcd", ""), ("kubectl", ""), ("kube-apiserver", "Kubernetes v1.36.1")]);
        let built = folder(&[("kubernetes-1.34/kube-apiserver", "Kubernetes v1.34.4")]);
        let variables = [("KUBEBUILDER_ASSETS", assets.path()), (PROGRAMS, built.path())];
        let programs = find(Some(KubernetesVersion::V1_34), &variables).expect("all programs exist");
        assert_eq!(programs.kube_apiserver, built.path().join("kubernetes-1.34/kube-apiserver"));
        assert_eq!(programs.etcd, assets.path().join("etcd"));
        let error =
            find(Some(KubernetesVersion::V1_37), &variables).expect_err("there is no 1.37").to_string();
        assert!(error.contains("kubernetes-1.37/kube-apiserver"), "{error}");
    }

    #[test]
    fn a_single_asset_takes_precedence_over_the_folder_of_assets() {
        let assets = folder(&[("etcd", ""), ("kubectl", ""), ("kube-apiserver", "Kubernetes v1.36.1")]);
        let single = folder(&[("mine", "")]);
        let etcd = single.path().join("mine");
        let variables = [("KUBEBUILDER_ASSETS", assets.path()), ("TEST_ASSET_ETCD", etcd.as_path())];
        assert_eq!(find(None, &variables).expect("all programs exist").etcd, etcd);
    }
}
