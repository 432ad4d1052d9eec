//! Karpenter: the template of a NodePool for each product, with the labels that its Nodes will have.
//! <https://karpenter.sh/docs/concepts/nodepools/>

use std::fmt::Write;

use super::products::{FleetProducts, ProductNodes};
use crate::fleet::count_of_nodes;

const ABOUT: &str = "\
# A pod that selects these labels makes Karpenter create a Node, although no agent has labelled one yet. The labels are those that
# all Nodes of the product have, without what describes one Node at one time: healthy, missing, path.*, versions.
";

/// What is to be filled in, and the advice about startup taints.
const NODE_CLASS: &str = "      # Replace it by the NodeClass of the cloud provider.
      nodeClassRef:
        group: karpenter.k8s.aws
        kind: EC2NodeClass
        name: default
      # AFD sets no taint. To keep pods away until an agent has found no fault, add the taint here, and a NodeReadinessRule on the
      # condition Problem with requiredStatus \"False\" and enforcementMode bootstrap-only, which removes it (not on Ready, which stays
      # Unknown where no source reports health); DaemonSets of the driver, the device plugin and AFD have to tolerate it. Cluster autoscalers of clouds accept startup-taint.cluster-autoscaler.kubernetes.io/ only.
      # startupTaints:
      # - key: readiness.k8s.io/accelerators
      #   effect: NoSchedule
";

pub(super) fn documents(products: &FleetProducts<'_>) -> Vec<String> {
    products.named().map(|(product, name, nodes)| pool(product, &name, nodes)).collect()
}

fn pool(product: &str, name: &str, nodes: &ProductNodes) -> String {
    let mut text = format!(
        "# {product}: {}.{}\n{ABOUT}apiVersion: karpenter.sh/v1\nkind: NodePool\nmetadata:\n  name: {name}\nspec:\n  \
         template:\n    metadata:\n      labels:\n",
        count_of_nodes(nodes.nodes),
        nodes.about_mixed()
    );
    for (key, value) in &nodes.labels {
        let _ = writeln!(text, "        {key}: \"{value}\"");
    }
    text += "    spec:\n";
    text += NODE_CLASS;
    if !nodes.taints.is_empty() {
        text += "      # The taints that all Nodes of the product have.\n      taints:\n";
    }
    for taint in &nodes.taints {
        let _ = writeln!(text, "      - key: \"{}\"\n        effect: {}", taint.key, taint.effect);
        if !taint.value.is_empty() {
            let _ = writeln!(text, "        value: \"{}\"", taint.value);
        }
    }
    text += "      requirements:\n      - key: kubernetes.io/os\n        operator: In\n        values: [\"linux\"]\n";
    text += match nodes.instance_types.len() {
        // Any machine would get the labels of this product.
        0 => {
            "      # No Node has an instance type: name those with this product. Empty, the API server refuses the NodePool.\n"
        }
        _ => "      # The instance types of these Nodes.\n",
    };
    let types: Vec<String> = nodes.instance_types.iter().map(|kind| format!("\"{kind}\"")).collect();
    let types = types.join(", ");
    let _ = writeln!(
        text,
        "      - key: node.kubernetes.io/instance-type\n        operator: In\n        values: [{types}]"
    );
    text
}
