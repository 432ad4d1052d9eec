//! `kubernetes-validate` from PyPI: checks manifests against the schemas of several versions of Kubernetes, which it
//! contains.

use std::path::{Path, PathBuf};

use crate::{python, steps::Steps};

const PACKAGE: &str = "kubernetes-validate==1.37.0";

/// The Python environment that contains it, made first where it is missing: `bin/python -m kubernetes_validate`.
pub(super) fn validator(steps: &Steps<'_>, store: &Path) -> anyhow::Result<PathBuf> {
    python::environment(steps, store, "kubernetes-validate", &[PACKAGE])
}
