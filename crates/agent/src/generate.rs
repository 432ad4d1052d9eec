//! `afd generate`: manifests for schedulers and autoscalers, by the products that the Nodes of a cluster have.
//!
//! The same Nodes always give the same text. Only labels that the Nodes carry are used, and each manifest says from how many Nodes
//! it is.

mod affinity;
mod grove;
mod karpenter;
mod kueue;
mod names;
mod products;

use std::io::Write;

use self::products::FleetProducts;
use crate::{
    args::{GenerateArgs, Manifest},
    fleet::{FleetNode, NodeSource},
};

/// The label with the name of the Node, the last level of every topology.
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const FABRIC: &str = "fabric-domain";

/// Writes the manifests.
///
/// # Errors
/// When the Nodes cannot be read, or none has what the manifests are made of.
pub fn generate(args: &GenerateArgs, output: &mut dyn Write) -> anyhow::Result<()> {
    let prefix = &args.source.label_prefix;
    let mut products = FleetProducts::new(prefix);
    NodeSource::new(&args.source, None, None).read(&mut |node| match node {
        None => products = FleetProducts::new(prefix),
        Some(node) => products.add(&FleetNode { node, prefix }),
    })?;
    let needs_product = matches!(args.manifest, Manifest::Kueue | Manifest::Karpenter);
    anyhow::ensure!(!needs_product || products.has_named(), "no Node has the label {prefix}/product");
    anyhow::ensure!(products.accelerated > 0, "no Node has the label {prefix}/present=true");
    let documents = match args.manifest {
        Manifest::Kueue => kueue::documents(&products),
        Manifest::Karpenter => karpenter::documents(&products),
        Manifest::Nodeaffinity => affinity::documents(&products),
        Manifest::Grove => grove::documents(&products),
    };
    output.write_all(documents.join("---\n").as_bytes())?;
    Ok(())
}
