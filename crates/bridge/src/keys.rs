//! Which labels of a Node are copied to which keys of a pod. Pure.
//!
//! `kubernetes.io/hostname` and `topology.kubernetes.io/rack|zone|region` are the keys that llm-d-router's `topology-extractor`
//! reads of pods by default, and so what its topology filter and scorer compare. Keys of the form `llm-d.ai/accelerator-*` are
//! selected by its `label-selector-filter` and `header-label-affinity-scorer`, whose keys are configured; `-vendor` and `-variant`
//! are those that llm-d's guides put on pods by hand (llm-d-router `pkg/epp`, August 2026; llm-d `guides`).

/// How many keys there are, with the marker.
pub(crate) const KEYS: usize = 10;
/// The place of the marker among them.
pub(crate) const MARKER: usize = KEYS - 1;
/// The value of the marker on a pod that was written.
pub(crate) const MARKED: &str = "true";
/// The value of the marker by which a pod opts out.
pub(crate) const OPTED_OUT: &str = "false";

/// The label of Nodes that is copied as the rack, after the prefix and its slash.
pub const DEFAULT_RACK: &str = "fabric-domain";

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const RACK: &str = "topology.kubernetes.io/rack";
const VENDOR: &str = "llm-d.ai/accelerator-vendor";
const VARIANT: &str = "llm-d.ai/accelerator-variant";

/// A key of pods, and where its value is from.
#[derive(Clone, Debug)]
pub(crate) struct BridgeKey {
    /// The key.
    pub(crate) pod: String,
    /// The label of Nodes.
    pub(crate) node: String,
    /// Whether the agent of the Node decides it: then a Node that the agent labels, and that lacks it, says that there is no
    /// such value. Others are set once for each Node, perhaps later than its creation, and are never withdrawn.
    pub(crate) is_decided_by_agent: bool,
}

/// All keys.
#[derive(Clone, Debug)]
pub(crate) struct BridgeKeys {
    /// In their fixed order, the marker last.
    pub(crate) keys: [BridgeKey; KEYS],
    /// The label by which a Node is known to be labelled by its agent.
    pub(crate) present: String,
    /// The annotation of failed devices.
    pub(crate) failed: String,
    /// The key of the taint of a failed device.
    pub(crate) taint: String,
}

impl BridgeKeys {
    /// The keys under a prefix. `rack_label` is the label of Nodes that is copied as the rack.
    pub(crate) fn new(prefix: &str, rack_label: Option<&str>) -> BridgeKeys {
        let own = |name: &str| format!("{prefix}/{name}");
        let key = |pod: &str, node: String, is_decided_by_agent| BridgeKey {
            pod: pod.to_owned(),
            node,
            is_decided_by_agent,
        };
        let same = |name: &str, by_agent| key(name, name.to_owned(), by_agent);
        let of_agent = |name: &str, node: &str| key(&format!("llm-d.ai/accelerator-{name}"), own(node), true);
        let rack = rack_label.map_or_else(|| own(DEFAULT_RACK), str::to_owned);
        let is_own_rack = rack_label.is_none_or(|label| label.starts_with(&own("")));
        BridgeKeys {
            keys: [
                same(HOSTNAME, false),
                same(ZONE, false),
                same(REGION, false),
                key(RACK, rack, is_own_rack),
                same(VENDOR, true),
                same(VARIANT, true),
                of_agent("product", "product"),
                of_agent("model", "model"),
                of_agent("memory", "memory-mib"),
                key(&own("bridge"), String::new(), false),
            ],
            present: own("present"),
            failed: own(afd_model::FAILED_DEVICES),
            taint: own("failed"),
        }
    }

    /// The marker: on every pod and rule that was written, so that they are found again. `false` opts a pod out.
    pub(crate) fn marker(&self) -> &str {
        &self.keys[MARKER].pod
    }
}
