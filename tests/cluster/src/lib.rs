//! A real Kubernetes for tests: etcd and kube-apiserver, and on request kube-scheduler, kube-controller-manager,
//! containerd, runc and a kubelet, all in private namespaces of this machine.
//!
//! A test binary is a [`Suite`] (`harness = false`). Each of its tests runs in a *bed*: mount, network and process
//! namespaces of its own, with a folder and control groups that are named after the bed. Four processes take part, all of
//! them the test binary itself, started again in another role:
//!
//! | process | where | what it does |
//! |---|---|---|
//! | suite | outside | lists the tests, starts a keeper for each and reports |
//! | keeper | outside | makes folder and control groups, starts `init` in the namespaces, and removes everything when the bed ends or the suite dies |
//! | init | process 1 of the bed | mounts and addresses; reaps orphans |
//! | test | in the bed | the test's function; [`Bed`] starts the programs as its children |
//!
//! So the test reaches the API server at `https://127.0.0.1`, ports are fixed and never collide, and the kernel removes
//! every process, mount and interface with process 1. A test fails where something that it needs is missing.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a harness makes folders, starts programs and writes to a terminal"
)]

mod bed;
mod cgroups;
mod control_plane;
pub mod image;
mod init;
mod keeper;
pub mod mounts;
mod node;
mod pki;
pub mod plugins;
pub mod pods;
mod process;
mod programs;
pub mod proxy;
mod requirements;
mod suite;

pub use bed::{Bed, BedBuilder, Component};
pub use keeper::{NAME_PREFIX, traces};
pub use process::{BedProcess, TIMEOUT, succeed, until};
pub use programs::KubernetesVersion;
pub use suite::Suite;
