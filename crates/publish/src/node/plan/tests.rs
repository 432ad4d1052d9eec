//! The rules of the plan, and that every apply contains every owned key of an undecided family unchanged.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use proptest::{prelude::*, sample::select};

use super::{super::FIELD_MANAGER, *};

const PREFIX: &str = "accelerator.llm-d.ai";
const COUNT: &str = "accelerator.llm-d.ai/count";
const MEMORY: &str = "accelerator.llm-d.ai/memory-mib";
const OLD_PRODUCT: &str = "accelerator.llm-d.ai/product.Old";
const VENDOR_COUNT: &str = "nvidia.com/gpu.count";
const REPORT: &str = "accelerator.llm-d.ai/report";
const EXPECT: &str = "accelerator.llm-d.ai/expect";
const UNRECORDED: &str = "before-first-apply";
const US: &[&str] = &[FIELD_MANAGER];

/// A key with its value and its owners.
type OwnedKey<'a> = (&'a str, &'a str, &'a [&'a str]);

fn node(labels: &[OwnedKey<'_>], annotations: &[OwnedKey<'_>]) -> ObservedMetadata {
    let values = |keys: &[OwnedKey<'_>]| {
        keys.iter()
            .map(|(key, value, _)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    let entries = |map: &'static str, keys: &[OwnedKey<'_>]| -> Vec<ManagedFieldsEntry> {
        let owned = keys.iter().flat_map(|(key, _, owners)| owners.iter().map(move |owner| (*key, *owner)));
        let entry = |(key, owner): (&str, &str)| {
            let fields = json!({ "f:metadata": { map: { ".": {}, format!("f:{key}"): {} } } });
            serde_json::from_value(json!({ "manager": owner, "fieldsV1": fields })).expect("it is an entry")
        };
        owned.map(entry).collect()
    };
    let managed = [entries("f:labels", labels), entries("f:annotations", annotations)].concat();
    ObjectMeta {
        uid: Some("u".to_owned()),
        resource_version: Some("7".to_owned()),
        labels: Some(values(labels)),
        annotations: Some(values(annotations)),
        managed_fields: Some(managed),
        ..ObjectMeta::default()
    }
    .into()
}

fn decided(pairs: &[(&str, &str)]) -> DecidedKeys {
    let values: BTreeMap<_, _> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    values.into()
}

/// Eight devices, on the same machine.
fn desired() -> DesiredNode {
    DesiredNode {
        labels: decided(&[(COUNT, "8")]),
        compat: decided(&[(VENDOR_COUNT, "8")]),
        inherits: true,
        ..DesiredNode::default()
    }
}

/// The same, with labels that no source could decide.
fn undecided(keys: &[&str]) -> DesiredNode {
    let mut desired = desired();
    for key in keys {
        desired.labels.values.remove(*key);
        desired.compat.values.remove(*key);
        desired.labels.undecided.insert_key(*key);
    }
    desired
}

fn plan(labels: &[OwnedKey<'_>], desired: &DesiredNode) -> ApplyPlan {
    ApplyPlan::new(&node(labels, &[]), desired, PREFIX, &MetadataKeys::default())
}

#[test]
fn nothing_is_written_while_the_node_is_up_to_date() {
    let vendor = (VENDOR_COUNT, "8", US);
    assert!(!plan(&[(COUNT, "8", US), vendor], &desired()).is_needed());
    assert!(plan(&[(COUNT, "7", US), vendor], &desired()).write);
    assert!(plan(&[], &desired()).write);
}

#[test]
fn a_vendors_key_that_is_not_ours_is_left_alone_whatever_its_value() {
    for value in ["8", "4"] {
        for owners in [&["nfd-master"][..], &[UNRECORDED], &[]] {
            let plan = plan(&[(COUNT, "8", US), (VENDOR_COUNT, value, owners)], &desired());
            assert!(!plan.is_needed() && !plan.labels.contains_key(VENDOR_COUNT));
        }
    }
}

#[test]
fn an_own_key_is_corrected_and_its_other_owner_reported() {
    let plan = plan(&[(COUNT, "0", &["kubectl-edit"]), (VENDOR_COUNT, "8", US)], &desired());
    assert!(plan.write);
    assert_eq!(plan.contested, [(COUNT.to_owned(), "kubectl-edit".to_owned())]);
}

#[test]
fn a_decided_key_that_is_no_longer_desired_is_removed() {
    let labels = [(COUNT, "8", US), (VENDOR_COUNT, "8", US), (OLD_PRODUCT, "1", US)];
    let plan = plan(&labels, &desired());
    assert!(plan.write && !plan.labels.contains_key(OLD_PRODUCT) && !plan.has_removals());
    assert_eq!(plan.resource_version, None, "nothing of the Node's version is carried");
}

#[test]
fn an_undecided_key_of_ours_is_carried_with_its_value_and_the_version() {
    let labels = [(COUNT, "8", US), (VENDOR_COUNT, "8", US), (MEMORY, "81559", US)];
    let unchanged = plan(&labels, &undecided(&[MEMORY, VENDOR_COUNT]));
    assert!(!unchanged.is_needed(), "nothing that is decided has changed");
    let changed = plan(
        &[(COUNT, "7", US), (VENDOR_COUNT, "8", US), (MEMORY, "81559", US)],
        &undecided(&[MEMORY, VENDOR_COUNT]),
    );
    assert!(changed.write);
    assert_eq!(changed.labels, decided(&[(COUNT, "8"), (VENDOR_COUNT, "8"), (MEMORY, "81559")]).values);
    let body = changed.body("node", "u", None);
    assert_eq!((&body["metadata"]["resourceVersion"], &body["metadata"]["uid"]), (&json!("7"), &json!("u")));
}

#[test]
fn an_undecided_family_keeps_all_of_its_keys() {
    let mut desired = desired();
    desired.labels.undecided.insert_prefix(format!("{PREFIX}/product."));
    let plan = plan(&[(COUNT, "7", US), (OLD_PRODUCT, "1", US)], &desired);
    assert_eq!(plan.labels.get(OLD_PRODUCT).map(String::as_str), Some("1"));
}

#[test]
fn an_undecided_key_that_is_not_ours_is_left_out() {
    let labels =
        [(COUNT, "7", US), (MEMORY, "1", &["kubectl-label"][..]), ("foreign", "x", &["kubectl-label"])];
    let plan = plan(&labels, &undecided(&[MEMORY, "foreign"]));
    assert!(plan.write && !plan.labels.contains_key(MEMORY) && !plan.labels.contains_key("foreign"));
    assert!(plan.contested.is_empty(), "nothing is decided that it could conflict with");
}

#[test]
fn an_undecided_key_that_another_manager_owns_too_keeps_the_value_of_the_node() {
    let labels = [(COUNT, "7", US), (MEMORY, "1", &[FIELD_MANAGER, "other"][..])];
    let plan = plan(&labels, &undecided(&[MEMORY]));
    assert_eq!(plan.labels.get(MEMORY).map(String::as_str), Some("1"));
    assert!(plan.contested.is_empty());
}

#[test]
fn nothing_is_inherited_from_another_machine() {
    let labels = [(COUNT, "8", US), (VENDOR_COUNT, "8", US), (MEMORY, "81559", US)];
    let plan = plan(&labels, &DesiredNode { inherits: false, ..undecided(&[MEMORY]) });
    assert!(plan.write && !plan.labels.contains_key(MEMORY) && plan.resource_version.is_none());
}

#[test]
fn own_keys_without_an_owner_are_adopted_or_removed() {
    for owners in [&[][..], &[UNRECORDED]] {
        let labels = [
            (COUNT, "8", owners),
            (OLD_PRODUCT, "1", owners),
            (MEMORY, "81559", owners),
            ("foreign", "x", owners),
        ];
        let plan = plan(&labels, &undecided(&[MEMORY]));
        assert!(plan.write, "the count is to be owned");
        assert_eq!(plan.labels.get(MEMORY).map(String::as_str), Some("81559"), "undecided, so it stays");
        assert_eq!(
            plan.removals.labels.iter().collect::<Vec<_>>(),
            [OLD_PRODUCT],
            "an apply would not remove it"
        );
        let patch = plan.removal_body("7");
        assert_eq!(patch["metadata"]["labels"], json!({ OLD_PRODUCT: null }));
        assert_eq!(patch["metadata"]["resourceVersion"], json!("7"));
    }
    let labels =
        [(COUNT, "8", US), (VENDOR_COUNT, "8", US), (OLD_PRODUCT, "1", &[FIELD_MANAGER, UNRECORDED][..])];
    assert!(plan(&labels, &desired()).has_removals(), "a recorded owner beside it does not help");
}

#[test]
fn a_stale_key_of_an_own_family_is_removed_from_any_owner() {
    let mut desired = undecided(&[MEMORY]);
    desired.label_families.insert_prefix(format!("{PREFIX}/product."));
    desired.label_families.insert_key(MEMORY);
    // As on a Node that a backup tool restored.
    let velero: &[&str] = &["velero"];
    let pool = format!("{PREFIX}/pool");
    let labels =
        [(COUNT, "8", velero), (OLD_PRODUCT, "1", velero), (MEMORY, "4", velero), (&pool[..], "a", velero)];
    let first = plan(&labels, &desired);
    assert_eq!(first.removals.labels.iter().collect::<Vec<_>>(), [OLD_PRODUCT], "no rule makes the key pool");
    assert_eq!(first.contested, [(OLD_PRODUCT.to_owned(), "velero".to_owned())]);
    assert!(!first.labels.contains_key(MEMORY), "undecided, so it is not forced");
    let shared: &[&str] = &[FIELD_MANAGER, "velero"];
    let labels = [(COUNT, "8", US), (VENDOR_COUNT, "8", US), (OLD_PRODUCT, "1", shared)];
    assert!(
        plan(&labels, &desired).has_removals(),
        "its other owner keeps it from being removed by an apply"
    );
}

#[test]
fn keys_under_a_former_prefix_are_removed_if_they_are_ours() {
    let shared: &[&str] = &[FIELD_MANAGER, "other"];
    let labels = [
        (COUNT, "8", US),
        (VENDOR_COUNT, "8", US),
        ("old.example.com/count", "8", US),
        ("old.example.com/x", "1", shared),
    ];
    let plan = plan(&labels, &desired());
    assert!(plan.write && !plan.has_removals(), "an apply without them gives them up");
    assert_eq!(plan.labels, decided(&[(COUNT, "8"), (VENDOR_COUNT, "8")]).values);
}

#[test]
fn a_key_that_is_held_stays_as_the_node_has_it() {
    let held = MetadataKeys {
        labels: [COUNT, MEMORY, OLD_PRODUCT].map(str::to_owned).into(),
        annotations: BTreeSet::new(),
    };
    let labels = [(COUNT, "7", US), (OLD_PRODUCT, "1", US)];
    let mut desired = desired();
    desired.labels.values.insert(MEMORY.to_owned(), "81559".to_owned());
    let observed = node(&labels, &[]);
    let plan = ApplyPlan::new(&observed, &desired, PREFIX, &held);
    assert_eq!(plan.labels, decided(&[(COUNT, "7"), (OLD_PRODUCT, "1"), (VENDOR_COUNT, "8")]).values);
    assert!(plan.resource_version.is_some(), "the values of the Node are carried");
    assert_eq!(plan.changed(&observed).iter().collect::<Vec<_>>(), [VENDOR_COUNT]);
    let all = ApplyPlan::new(&observed, &desired, PREFIX, &MetadataKeys::default()).changed(&observed);
    assert_eq!(all.iter().collect::<Vec<_>>(), [COUNT, MEMORY, OLD_PRODUCT, VENDOR_COUNT]);
    let [first, second] = all.halves();
    assert_eq!((first.len(), second.len()), (2, 2));
}

#[test]
fn annotations_have_the_same_states() {
    let expected = format!("{PREFIX}/expected");
    let annotations = [(REPORT, "old", US), (&expected[..], "{}", US)];
    let mut desired = DesiredNode { annotations: decided(&[(REPORT, "new")]), ..desired() };
    desired.annotations.undecided.insert_key(&expected);
    let plan = ApplyPlan::new(&node(&[], &annotations), &desired, PREFIX, &MetadataKeys::default());
    assert!(plan.write && plan.resource_version.is_some());
    assert_eq!(plan.annotations, decided(&[(REPORT, "new"), (&expected, "{}")]).values);
    desired.annotations = decided(&[(REPORT, "new")]);
    let plan = ApplyPlan::new(&node(&[], &annotations), &desired, PREFIX, &MetadataKeys::default());
    assert_eq!(plan.annotations, decided(&[(REPORT, "new")]).values, "decided to be absent");
    let contested = [(REPORT, "mine", &["kubectl-annotate"][..])];
    let plan = ApplyPlan::new(&node(&[], &contested), &desired, PREFIX, &MetadataKeys::default());
    assert_eq!(plan.contested, [(REPORT.to_owned(), "kubectl-annotate".to_owned())]);
}

#[test]
fn the_annotations_of_the_admin_are_never_touched() {
    let ignore = format!("{PREFIX}/ignore");
    for owners in [&[][..], US, &["kubectl-annotate"], &[UNRECORDED]] {
        let annotations = [(EXPECT, "any=8", owners), (&ignore[..], "GPU-1", owners)];
        let mut wrong = DesiredNode { annotations: decided(&[(EXPECT, "off")]), ..DesiredNode::default() };
        wrong.annotations.undecided.insert_key(&ignore);
        for desired in [DesiredNode::default(), wrong] {
            let plan = ApplyPlan::new(&node(&[], &annotations), &desired, PREFIX, &MetadataKeys::default());
            assert!(!plan.is_needed() && plan.contested.is_empty(), "{plan:?}");
            // If AFD owned them, an apply without them would remove them.
            let kept = if owners == US { &[(EXPECT, "any=8"), (&ignore[..], "GPU-1")][..] } else { &[] };
            assert_eq!(plan.annotations, decided(kept).values);
        }
    }
}

#[test]
fn a_body_has_no_empty_map() {
    let body = ApplyPlan::default().body("node", "u", None);
    assert_eq!(body["metadata"], json!({ "name": "node", "uid": "u" }));
}

/// Keys of every kind: own ones, those of a family, a vendor's, one of another domain, and the admin's.
const KEYS: [&str; 7] = [
    COUNT,
    MEMORY,
    OLD_PRODUCT,
    "accelerator.llm-d.ai/product.New",
    VENDOR_COUNT,
    "example.com/foreign",
    EXPECT,
];

/// What a source says of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum KeyState {
    Decided(&'static str),
    Absent,
    Undecided,
}

fn key_states() -> impl Strategy<Value = Vec<KeyState>> {
    let state =
        select(vec![KeyState::Decided("1"), KeyState::Decided("2"), KeyState::Absent, KeyState::Undecided]);
    prop::collection::vec(state, KEYS.len())
}

fn owned_keys() -> impl Strategy<Value = Vec<Option<(&'static str, Vec<&'static str>)>>> {
    let owners = prop::sample::subsequence(vec![FIELD_MANAGER, "other", UNRECORDED], 0..=3);
    prop::collection::vec(prop::option::of((select(vec!["1", "2", "3"]), owners)), KEYS.len())
}

proptest! {
    #[test]
    fn an_apply_carries_what_is_owned_and_undecided_and_takes_nothing_else(
        on_node in owned_keys(),
        states in key_states(),
        inherits: bool,
        annotations: bool,
    ) {
        let keys: Vec<OwnedKey<'_>> = KEYS
            .iter()
            .zip(&on_node)
            .filter_map(|(key, owned)| owned.as_ref().map(|(value, owners)| (*key, *value, &owners[..])))
            .collect();
        let mut own = DecidedKeys::default();
        let mut compat = DecidedKeys::default();
        for (key, state) in KEYS.iter().zip(&states) {
            let set = if *key == VENDOR_COUNT { &mut compat } else { &mut own };
            match state {
                KeyState::Decided(value) => drop(set.values.insert((*key).to_owned(), (*value).to_owned())),
                KeyState::Absent => {}
                KeyState::Undecided => set.undecided.insert_key(*key),
            }
        }
        if annotations {
            own.extend(std::mem::take(&mut compat));
        }
        let (labels, desired) = if annotations {
            (&[][..], DesiredNode { annotations: own, inherits, ..DesiredNode::default() })
        } else {
            (&keys[..], DesiredNode { labels: own, compat, inherits, ..DesiredNode::default() })
        };
        let observed = node(labels, if annotations { &keys } else { &[] });
        let plan = ApplyPlan::new(&observed, &desired, PREFIX, &MetadataKeys::default());
        let (planned, removals) = if annotations {
            (&plan.annotations, &plan.removals.annotations)
        } else {
            (&plan.labels, &plan.removals.labels)
        };
        for ((key, on_node), state) in KEYS.iter().zip(&on_node).zip(&states) {
            let key = *key;
            let is_admins = annotations && key == EXPECT;
            let (value, owners) = on_node.as_ref().map_or((None, &[][..]), |(value, owners)| (Some(*value), &owners[..]));
            let is_ours = owners.contains(&FIELD_MANAGER);
            let other = owners.contains(&"other");
            let planned = planned.get(key).map(String::as_str);
            match state {
                _ if is_admins => {
                    prop_assert_eq!(planned, value.filter(|_| is_ours));
                    prop_assert!(!removals.contains(key));
                }
                KeyState::Decided(decided)
                    if !annotations && key == VENDOR_COUNT && (other || value.is_some() && !is_ours) =>
                {
                    prop_assert_eq!(planned, None, "taken from another manager: {}", decided);
                }
                KeyState::Decided(decided) => prop_assert_eq!(planned, Some(*decided)),
                KeyState::Undecided if inherits && is_ours => {
                    prop_assert_eq!(planned, value);
                    prop_assert!(plan.resource_version.is_some() && !removals.contains(key));
                }
                KeyState::Undecided | KeyState::Absent => {
                    let adopted = inherits && *state == KeyState::Undecided && is_under(key, PREFIX) && !other;
                    prop_assert_eq!(planned, value.filter(|_| adopted));
                    let is_removed = removals.contains(key) || is_ours;
                    prop_assert!(!is_removed || is_ours || is_under(key, PREFIX) && !other);
                    prop_assert!(!adopted || !is_removed);
                }
            }
        }
        // What was applied needs no further write. What another manager owns is still there.
        let foreign = keys.iter().filter(|(key, _, owners)| {
            let is_left_alone = owners.contains(&"other") || *key == VENDOR_COUNT && !owners.contains(&FIELD_MANAGER);
            is_left_alone && !plan.labels.contains_key(*key) && !plan.annotations.contains_key(*key)
        });
        let foreign = foreign.map(|(key, value, _)| (*key, *value, &["other"][..]));
        let applied = plan.labels.iter().chain(&plan.annotations);
        let after: Vec<OwnedKey<'_>> =
            applied.map(|(key, value)| (&key[..], &value[..], US)).chain(foreign).collect();
        let after = if annotations { node(&[], &after) } else { node(&after, &[]) };
        prop_assert!(!ApplyPlan::new(&after, &desired, PREFIX, &MetadataKeys::default()).is_needed());
    }
}
