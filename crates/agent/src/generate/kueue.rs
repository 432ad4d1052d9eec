//! Kueue: a ResourceFlavor for each product, and the Topology that it is in.
//! <https://kueue.sigs.k8s.io/docs/concepts/topology_aware_scheduling/>

use std::{collections::BTreeSet, fmt::Write};

use super::{
    FABRIC, HOSTNAME, ZONE,
    products::{FleetProducts, ProductNodes},
};
use crate::fleet::count_of_nodes;

/// Maximum number of tolerations of a ResourceFlavor.
const MAX_TOLERATIONS: usize = 8;

/// A Topology for each set of levels that the Nodes of a product have: Kueue leaves out Nodes without the label of a level.
pub(super) fn documents(products: &FleetProducts<'_>) -> Vec<String> {
    let topologies: BTreeSet<(bool, bool)> = products.named().map(|(.., nodes)| levels(nodes)).collect();
    let topologies = topologies.into_iter().map(|levels| topology(products, levels));
    topologies
        .chain(products.named().map(|(product, name, nodes)| flavor(products, product, &name, nodes)))
        .collect()
}

/// Whether all Nodes have a zone, and whether all are in a fabric.
fn levels(nodes: &ProductNodes) -> (bool, bool) {
    (nodes.all_have(ZONE), nodes.all_have(FABRIC))
}

fn topology_name((zone, fabric): (bool, bool)) -> &'static str {
    match (zone, fabric) {
        (false, false) => "accelerators",
        (true, false) => "accelerators-zone",
        (false, true) => "accelerators-fabric",
        (true, true) => "accelerators-zone-fabric",
    }
}

fn topology(products: &FleetProducts<'_>, levels: (bool, bool)) -> String {
    let mut text = format!(
        "# The levels whose labels all Nodes of a product have, from the widest. Kueue before 0.15 has v1beta1.\n\
         apiVersion: kueue.x-k8s.io/v1beta2\nkind: Topology\nmetadata:\n  name: {}\nspec:\n  levels:\n",
        topology_name(levels)
    );
    if levels.0 {
        let _ = writeln!(text, "  - nodeLabel: {ZONE}");
    }
    if levels.1 {
        let key = products.key(FABRIC);
        let _ =
            writeln!(text, "  # Nodes with the same value are in one scale-up fabric.\n  - nodeLabel: {key}");
    }
    let _ = writeln!(text, "  - nodeLabel: {HOSTNAME}");
    text
}

fn flavor(products: &FleetProducts<'_>, product: &str, name: &str, nodes: &ProductNodes) -> String {
    let count = count_of_nodes(nodes.nodes);
    let mut text = format!(
        "# {product}: {count}.{} With a topology, Kueue lets nothing of a flavor be changed: delete and create it.\n\
         apiVersion: kueue.x-k8s.io/v1beta2\nkind: ResourceFlavor\nmetadata:\n  name: {name}\nspec:\n  nodeLabels:\n    \
         {}: \"{product}\"\n",
        nodes.about_mixed(),
        products.key("product")
    );
    if !nodes.taints.is_empty() {
        let _ =
            writeln!(text, "  # For the taints of {count}; pods of this flavor get them.\n  tolerations:");
    }
    for taint in nodes.taints.iter().take(MAX_TOLERATIONS) {
        let _ = writeln!(text, "  - key: \"{}\"\n    effect: {}", taint.key, taint.effect);
        let _ = match taint.value.as_str() {
            "" => writeln!(text, "    operator: Exists"),
            value => writeln!(text, "    operator: Equal\n    value: \"{value}\""),
        };
    }
    let _ = writeln!(text, "  topologyName: {}", topology_name(levels(nodes)));
    text
}
