//! What the Node says of its TPUs: labels and conditions of GKE, which are read and never written. Pure.

use std::collections::BTreeMap;

use afd_model::{Health, Known, NodeFacts, TpuSlice};

use crate::metadata::{chips_of_machine, is_shape, is_type, natural};

/// Every Node of GKE has labels that begin so.
const GKE: &str = "cloud.google.com/gke-";
const NODE_POOL: &str = "cloud.google.com/gke-nodepool";
/// Labels by which the hosts of a slice, or of a part of TPU 7x that is made a slice, have something in common.
const SLICE_IDS: [&str; 2] = ["cloud.google.com/gke-tpu-slice-", PARTITION];
const PARTITION: &str = "cloud.google.com/gke-tpu-partition-";

/// The label of Nodes that are managed by their owner, with a type of machine: `tpu-v7-standard-4t`. A hint: what sets it is not
/// certain.
const SELF_MANAGED: &str = "cloud.google.com/gk8s-tpu-accelerator";

/// Labels of one meaning: the DRA driver's key, and GKE's.
struct SliceKeys {
    accelerator: &'static str,
    chips: &'static str,
    topology: &'static str,
    ici_resiliency: &'static str,
}

const OF_GKE: SliceKeys = SliceKeys {
    accelerator: "cloud.google.com/gke-tpu-accelerator",
    chips: "cloud.google.com/gke-accelerator-count",
    topology: "cloud.google.com/gke-tpu-topology",
    ici_resiliency: "cloud.google.com/gke-tpu-ici-resiliency",
};
const OF_DRIVER: SliceKeys = SliceKeys {
    accelerator: "tpu.google.com/accelerator",
    chips: "tpu.google.com/chip-count",
    topology: "tpu.google.com/topology",
    ici_resiliency: "tpu.google.com/ici-resiliency",
};

/// GKE's conditions that report an error of the slice: type, reason, and what has happened.
const CONDITIONS: [(&str, &str, &str); 2] = [
    ("SliceErrorDetected", "SliceError", "the runtime has reported an error of the slice"),
    ("MegascaleHangDetected", "SliceHang", "a workload over several slices hangs"),
];

/// What the Node says of its TPUs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct TpuNode {
    /// The slice, as labels describe it.
    pub(crate) slice: TpuSlice,
    /// What a label hints at. It is compared with the chips, and decides nothing.
    pub(crate) hint: Option<TpuSlice>,
    /// Whether parts of the slice can be slices of their own, each made for a workload.
    pub(crate) has_parts: bool,
    /// The conditions that are `True`, as verdicts on every chip.
    pub(crate) verdicts: Vec<Health>,
}

impl TpuNode {
    pub(crate) fn new(node: &NodeFacts) -> TpuNode {
        let is_gke = node.labels.keys().any(|key| key.starts_with(GKE));
        let mut slice = slice_of(&node.labels, &[OF_GKE]);
        slice.identity = identity(&node.labels, &slice);
        slice.labelled_by_platform = Known::Value(is_gke);
        let is_true = |kind: &str| node.conditions.get(kind).copied().unwrap_or_default();
        let verdict = |(kind, reason, what): &(&str, &str, &str)| {
            is_true(kind).then(|| {
                let message = format!(
                    "{what} (the Node's condition {kind}); see the log of the workload and the events of the slice's hosts"
                );
                Health::degraded(reason, message)
            })
        };
        let has_parts = node.labels.keys().any(|key| key.starts_with(PARTITION));
        let hint = node.labels.get(SELF_MANAGED).filter(|kind| is_type(kind)).map(|kind| TpuSlice {
            accelerator: Known::Value(kind.clone()),
            chips_per_host: chips_of_machine(kind).map_or_else(Known::default, Known::Value),
            ..TpuSlice::default()
        });
        TpuNode { slice, hint, has_parts, verdicts: CONDITIONS.iter().filter_map(verdict).collect() }
    }
}

/// The slice of the comma-separated labels that GKE gives a machine: `key=value,key=value`.
pub(crate) fn slice_of_kube_labels(text: &str) -> TpuSlice {
    let pairs = text.trim().split(',').filter_map(|pair| pair.split_once('='));
    let labels = pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect();
    slice_of(&labels, &[OF_DRIVER, OF_GKE])
}

fn slice_of(labels: &BTreeMap<String, String>, keys: &[SliceKeys]) -> TpuSlice {
    let first = |key: fn(&SliceKeys) -> &'static str| {
        keys.iter()
            .find_map(|keys| labels.get(key(keys)))
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    };
    let known = |value: Option<&str>| value.map(str::to_owned).map_or_else(Known::default, Known::Value);
    let number = first(|keys| keys.chips).and_then(natural);
    let mut slice = TpuSlice {
        accelerator: known(first(|keys| keys.accelerator).filter(|name| is_type(name))),
        topology: known(first(|keys| keys.topology).filter(|shape| is_shape(shape))),
        chips_per_host: number.filter(|count| *count > 0).map_or_else(Known::default, Known::Value),
        ici_resiliency: first(|keys| keys.ici_resiliency)
            .and_then(|flag| flag.parse().ok())
            .map_or_else(Known::default, Known::Value),
        ..TpuSlice::default()
    };
    if let (Some(chips), Some(per_host)) = (slice.chips(), number)
        && let Some(hosts) = chips.checked_div(per_host).filter(|hosts| hosts * per_host == chips)
    {
        slice.hosts = Known::Value(hosts);
    }
    slice
}

/// What the hosts of the whole slice have in common: the id of its topology, else the node pool, of which a slice over several hosts
/// has one for itself, unless parts of it can be slices.
fn identity(labels: &BTreeMap<String, String>, slice: &TpuSlice) -> Known<String> {
    let Some(topology) = slice.topology.value() else { return Known::default() };
    let of_topology = |prefix: &&str| labels.get(&format!("{prefix}{topology}-id"));
    let pool = || {
        let is_partition = |key: &String| SLICE_IDS.iter().any(|prefix| key.starts_with(prefix));
        let is_whole =
            slice.hosts.value().is_some_and(|hosts| *hosts > 1) && !labels.keys().any(is_partition);
        labels.get(NODE_POOL).filter(|_| is_whole)
    };
    let id = SLICE_IDS.iter().find_map(of_topology).or_else(pool).filter(|id| !id.is_empty());
    id.cloned().map_or_else(Known::default, Known::Value)
}

/// The model of the chips that Google's labels name: `tpu-v5-lite-podslice`; none of a name that is not known.
pub(crate) fn model_of_accelerator(accelerator: &str) -> Option<&'static str> {
    Some(match accelerator {
        "tpu-v3-device" | "tpu-v3-slice" => "v3",
        "tpu-v4-podslice" => "v4",
        "tpu-v5-lite-device" | "tpu-v5-lite-podslice" => "v5e",
        "tpu-v5p-slice" => "v5p",
        "tpu-v6e-slice" => "v6e",
        "tpu7" | "tpu7x" => "7x",
        kind if kind.starts_with("tpu-v7-") => "7x",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: &[(&str, &str)]) -> NodeFacts {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        NodeFacts { labels: labels.collect(), ..NodeFacts::default() }
    }

    const MULTI_HOST: [(&str, &str); 4] = [
        ("cloud.google.com/gke-tpu-accelerator", "tpu-v6e-slice"),
        ("cloud.google.com/gke-tpu-topology", "4x4"),
        ("cloud.google.com/gke-accelerator-count", "4"),
        (NODE_POOL, "pool-7"),
    ];

    #[test]
    fn labels_of_gke_describe_the_slice() {
        let view = TpuNode::new(&node(&MULTI_HOST));
        let TpuSlice { accelerator, topology, chips_per_host, hosts, identity, labelled_by_platform, .. } =
            view.slice;
        assert_eq!(accelerator, Known::Value("tpu-v6e-slice".to_owned()));
        assert_eq!(topology, Known::Value("4x4".to_owned()));
        assert_eq!((chips_per_host, hosts), (Known::Value(4), Known::Value(4)));
        assert_eq!(identity, Known::Value("pool-7".to_owned()));
        assert_eq!(labelled_by_platform, Known::Value(true));
    }

    #[test]
    fn a_label_of_nodes_that_are_managed_by_their_owner_is_a_hint_alone() {
        let view = TpuNode::new(&node(&[(SELF_MANAGED, "tpu-v7-standard-4t")]));
        let elsewhere = TpuSlice { labelled_by_platform: Known::Value(false), ..TpuSlice::default() };
        assert_eq!(view.slice, elsewhere);
        let hint = view.hint.expect("there is one");
        assert_eq!(hint.chips_per_host, Known::Value(4));
        assert_eq!(hint.accelerator.value().and_then(|name| model_of_accelerator(name)), Some("7x"));
        assert_eq!(TpuNode::new(&node(&[(SELF_MANAGED, "-")])).hint, None);
    }

    #[test]
    fn a_node_elsewhere_says_nothing_of_a_slice() {
        // What the DRA driver reads may be what AFD wrote.
        let view = TpuNode::new(&node(&[("tpu.google.com/topology", "2x2"), ("kubernetes.io/os", "linux")]));
        let elsewhere = TpuSlice { labelled_by_platform: Known::Value(false), ..TpuSlice::default() };
        assert_eq!(view, TpuNode { slice: elsewhere, ..TpuNode::default() });
    }

    #[test]
    fn a_slice_is_known_by_the_id_of_its_topology_before_its_pool_and_one_host_by_neither() {
        let identity = |more: &[(&str, &str)]| {
            let labels: Vec<_> = MULTI_HOST.iter().chain(more).copied().collect();
            TpuNode::new(&node(&labels)).slice.identity.into_value()
        };
        assert_eq!(identity(&[("cloud.google.com/gke-tpu-slice-4x4-id", "s-1")]).as_deref(), Some("s-1"));
        let part = ("cloud.google.com/gke-tpu-partition-2x2x1-id", "p-1");
        assert_eq!(identity(&[part]), None, "the pool may have several slices");
        let labels: Vec<_> = MULTI_HOST.into_iter().chain([part]).collect();
        assert!(TpuNode::new(&node(&labels)).has_parts);
        assert_eq!(identity(&[("cloud.google.com/gke-tpu-topology", "2x2")]), None);
    }

    #[test]
    fn labels_of_the_machine_have_either_spelling() {
        let text = "a=b,tpu.google.com/accelerator=tpu-v5-lite-device,cloud.google.com/gke-tpu-topology=2x4,x,\
                    cloud.google.com/gke-accelerator-count=x,tpu.google.com/ici-resiliency=maybe\n";
        let slice = slice_of_kube_labels(text);
        assert_eq!(slice.accelerator, Known::Value("tpu-v5-lite-device".to_owned()));
        assert_eq!(slice.topology, Known::Value("2x4".to_owned()));
        assert!(slice.chips_per_host.value().is_none() && slice.ici_resiliency.value().is_none());
        assert_eq!(slice_of_kube_labels(""), TpuSlice::default());
    }

    #[test]
    fn a_condition_that_is_true_degrades() {
        let mut facts = node(&[]);
        facts.conditions.insert("SliceErrorDetected".to_owned(), false);
        assert!(TpuNode::new(&facts).verdicts.is_empty());
        facts.conditions.insert("MegascaleHangDetected".to_owned(), true);
        let verdicts = TpuNode::new(&facts).verdicts;
        assert_eq!((verdicts.len(), verdicts[0].reasons[0].code.as_str()), (1, "SliceHang"));
    }
}
