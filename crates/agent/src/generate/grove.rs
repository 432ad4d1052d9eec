//! Grove: the topology of the cluster, by which PodCliqueSets are packed. <https://github.com/ai-dynamo/grove>

use std::fmt::Write;

use super::{FABRIC, HOSTNAME, REGION, ZONE, products::FleetProducts};

/// Maximum length of the key of a level.
const MAX_KEY: usize = 63;

pub(super) fn documents(products: &FleetProducts<'_>) -> Vec<String> {
    let mut text = "\
# The levels from the widest, with the labels that AFD and Kubernetes give to the Nodes. A Node without the label of a level is in no
# domain of it.
apiVersion: grove.io/v1alpha1
kind: ClusterTopologyBinding
metadata:
  name: cluster-topology
spec:
  levels:
"
    .to_owned();
    let levels = [
        ("region", REGION, REGION.to_owned()),
        ("zone", ZONE, ZONE.to_owned()),
        ("rack", FABRIC, products.key(FABRIC)),
    ];
    for (domain, level, key) in levels {
        let (all, with) = (products.accelerated, products.with_level(level));
        if with == 0 {
            let _ = writeln!(text, "  # No {domain}: no Node has the label {key}.");
        } else if key.len() > MAX_KEY {
            let _ = writeln!(text, "  # No {domain}: Grove takes no key as long as {key}.");
        } else {
            let _ =
                writeln!(text, "  # {with} of {all} Nodes have it.\n  - domain: {domain}\n    key: {key}");
        }
    }
    let _ = writeln!(text, "  - domain: host\n    key: {HOSTNAME}");
    vec![text]
}
