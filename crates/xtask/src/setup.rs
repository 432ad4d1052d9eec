//! Debian packages with the programs that tests, checks and benchmarks run.

use std::process::Command;

use anyhow::bail;

use crate::{steps::Steps, workspace::on_path};

/// A Debian package, and a program of it whose presence shows that the package is installed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DebianPackage {
    name: &'static str,
    program: &'static str,
}

/// For the tests: a real Prometheus and `promtool` read the metrics, a browser draws the pictures, clusters run in
/// namespaces with addresses of their own, and Python validates manifests.
pub(crate) const TESTS: [DebianPackage; 5] = [
    DebianPackage { name: "prometheus", program: "prometheus" },
    DebianPackage { name: "prometheus", program: "promtool" },
    DebianPackage { name: "chromium", program: "chromium" },
    DebianPackage { name: "iproute2", program: "ip" },
    DebianPackage { name: "python3-venv", program: "python3" },
];

/// For the fuzz targets: libFuzzer is written in C++.
pub(crate) const FUZZ: [DebianPackage; 1] = [DebianPackage { name: "g++", program: "c++" }];

/// For the benchmark: the peer that is measured in the same run.
pub(crate) const BENCH: [DebianPackage; 1] =
    [DebianPackage { name: "prometheus-node-exporter", program: "prometheus-node-exporter" }];

/// For the image: the program that builds it.
pub(crate) const IMAGE: [DebianPackage; 1] = [DebianPackage { name: "buildah", program: "buildah" }];

/// For packing a release: archives of Debian packages, and a second opinion of OCI layouts.
pub(crate) const PACK: [DebianPackage; 3] = [
    DebianPackage { name: "dpkg", program: "dpkg-deb" },
    DebianPackage { name: "skopeo", program: "skopeo" },
    DebianPackage { name: "python3-venv", program: "python3" },
];

/// For building a release: linker and C compiler come from PyPI.
pub(crate) const DIST: [DebianPackage; 1] = [DebianPackage { name: "python3-venv", program: "python3" }];

/// Installs the packages whose programs are not on `PATH`.
pub(crate) fn install_missing(steps: &Steps<'_>, packages: &[DebianPackage]) -> anyhow::Result<()> {
    let missing = missing(packages, |program| on_path(program).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if on_path("apt-get").is_none() {
        bail!("there is no apt-get: please install these programs, of the Debian packages {names}");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("please install Debian packages as root: apt-get install --no-install-recommends {names}");
    }
    steps.run("apt-get update", Command::new("apt-get").args(["update", "--quiet"]))?;
    steps.run(
        "apt-get install",
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--quiet", "--yes", "--no-install-recommends"])
            .args(missing),
    )
}

fn missing(packages: &[DebianPackage], is_installed: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut missing: Vec<_> = packages
        .iter()
        .filter(|package| !is_installed(package.program))
        .map(|package| package.name)
        .collect();
    missing.dedup();
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_installed_once_and_only_where_a_program_is_missing() {
        assert_eq!(missing(&TESTS, |_| true), Vec::<&str>::new());
        let three = |program: &str| ["chromium", "ip", "python3"].contains(&program);
        assert_eq!(missing(&TESTS, three), ["prometheus"]);
        assert_eq!(
            missing(&TESTS, |program| program == "prometheus"),
            ["prometheus", "chromium", "iproute2", "python3-venv"]
        );
    }
}
