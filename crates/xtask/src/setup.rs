//! The programs that tests and benchmarks run beside the agent, from Debian packages.

use std::process::Command;

use anyhow::bail;

use crate::steps::{on_path, run};

/// A Debian package, and a program of it by which it is known to be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    name: &'static str,
    program: &'static str,
}

/// For the tests: a real Prometheus and `promtool` read the metrics, a browser draws the pictures, clusters run in
/// namespaces with addresses of their own, and Python validates manifests.
pub(crate) const TESTS: [Package; 5] = [
    Package { name: "prometheus", program: "prometheus" },
    Package { name: "prometheus", program: "promtool" },
    Package { name: "chromium", program: "chromium" },
    Package { name: "iproute2", program: "ip" },
    Package { name: "python3-venv", program: "python3" },
];

/// For the fuzz targets: libFuzzer is written in C++.
pub(crate) const CI: [Package; 1] = [Package { name: "g++", program: "c++" }];

/// For the benchmark: the peer that is measured in the same run.
pub(crate) const BENCH: [Package; 1] =
    [Package { name: "prometheus-node-exporter", program: "prometheus-node-exporter" }];

/// For the image: the program that builds it.
pub(crate) const IMAGE: [Package; 1] = [Package { name: "buildah", program: "buildah" }];

/// Installs the packages whose programs are not on `PATH`.
pub(crate) fn install_missing(packages: &[Package]) -> anyhow::Result<()> {
    let missing = missing(packages, |program| on_path(program).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if on_path("apt-get").is_none() {
        bail!(
            "please install these programs (their Debian packages are called {names}); apt-get is not here"
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!("please install Debian packages as root: apt-get install --no-install-recommends {names}");
    }
    run(Command::new("apt-get").args(["update", "--quiet"]))?;
    run(Command::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "--quiet", "--yes", "--no-install-recommends"])
        .args(missing))
}

fn missing(packages: &[Package], installed: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut missing: Vec<_> =
        packages.iter().filter(|package| !installed(package.program)).map(|package| package.name).collect();
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
