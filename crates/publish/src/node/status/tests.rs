//! The three states of each condition, its times, and what is left to other field managers.

use afd_model::ConditionStatus;

use super::{
    super::{FIELD_MANAGER, observed::OwnNode},
    *,
};

const PREFIX: &str = "accelerator.llm-d.ai";
const READY: &str = "accelerator.llm-d.ai/Ready";
const PROBLEM: &str = "accelerator.llm-d.ai/Problem";
const ALIAS: &str = "AcceleratedHardwareReady";
const THEN: &str = "2026-01-01T00:00:00Z";
const NOW: &str = "2026-01-01T01:00:00Z";

/// A Node with conditions: type, status, and owners.
fn node(conditions: &[(&str, &str, &[&str])]) -> ObservedNode {
    let entries = conditions.iter().map(|(kind, status, _)| on_node(kind, status, THEN, THEN));
    let owned =
        conditions.iter().flat_map(|(kind, _, owners)| owners.iter().map(move |owner| (*kind, *owner)));
    let managed = owned.map(|(kind, owner)| {
        let key = format!("k:{}", json!({ "type": kind }));
        json!({ "manager": owner, "subresource": "status", "fieldsV1": { "f:status": { "f:conditions": { key: {} } } } })
    });
    let node: OwnNode = serde_json::from_value(json!({
        "metadata": { "uid": "u", "resourceVersion": "7", "managedFields": managed.collect::<Vec<_>>() },
        "status": { "conditions": entries.collect::<Vec<_>>() },
    }))
    .expect("it is a Node");
    node.into()
}

fn on_node(kind: &str, status: &str, transition: &str, heartbeat: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": "Reason", "message": "message",
        "lastTransitionTime": transition, "lastHeartbeatTime": heartbeat,
    })
}

fn decided(status: ConditionStatus) -> Decision<Condition> {
    Decision::Decided(Condition { status, reason: "Reason".to_owned(), message: "message".to_owned() })
}

fn plan(node: &ObservedNode, conditions: &[(&str, Decision<Condition>)]) -> StatusPlan {
    StatusPlan::new(node, &desired(conditions), PREFIX, Some(NOW), &BTreeSet::new())
}

fn desired(conditions: &[(&str, Decision<Condition>)]) -> DesiredNode {
    let conditions = conditions
        .iter()
        .map(|(kind, state)| DesiredCondition { kind: (*kind).to_owned(), state: state.clone() });
    DesiredNode { conditions: conditions.collect(), inherits: true, ..DesiredNode::default() }
}

/// The conditions of the apply.
fn applied(plan: &StatusPlan) -> Value {
    plan.body("node", "u")["status"]["conditions"].clone()
}

const US: &[&str] = &[FIELD_MANAGER];

#[test]
fn an_unchanged_condition_is_written_by_the_heartbeat_only_which_changes_one_time() {
    let node = node(&[(READY, "True", US)]);
    let plan = plan(&node, &[(READY, decided(ConditionStatus::True))]);
    assert!(!plan.is_needed() && plan.has_heartbeat && plan.transitions.is_empty());
    assert_eq!(applied(&plan), json!([on_node(READY, "True", THEN, NOW)]));
}

#[test]
fn a_change_of_the_status_moves_the_transition_and_one_of_the_reason_does_not() {
    let node = node(&[(READY, "True", US)]);
    let failed = plan(&node, &[(READY, decided(ConditionStatus::False))]);
    assert!(failed.is_needed() && failed.transitions.len() == 1);
    assert_eq!(applied(&failed), json!([on_node(READY, "False", NOW, NOW)]));
    let degraded = Condition {
        status: ConditionStatus::True,
        reason: "Degraded".to_owned(),
        message: "message".to_owned(),
    };
    let degraded = plan(&node, &[(READY, Decision::Decided(degraded))]);
    assert!(degraded.is_needed() && degraded.transitions.len() == 1);
    assert_eq!(applied(&degraded)[0]["lastTransitionTime"], THEN);
}

#[test]
fn a_message_is_written_with_the_next_write_but_causes_none() {
    let reworded = Condition {
        status: ConditionStatus::True,
        reason: "Reason".to_owned(),
        message: "another message".to_owned(),
    };
    let plan = plan(&node(&[(READY, "True", US)]), &[(READY, Decision::Decided(reworded))]);
    assert!(!plan.is_needed() && plan.transitions.is_empty());
    assert_eq!(applied(&plan)[0]["message"], "another message");
}

#[test]
fn an_undecided_condition_is_carried_as_it_is_and_causes_no_write() {
    let node = node(&[(READY, "True", US), (PROBLEM, "False", US)]);
    let idle = plan(&node, &[(READY, Decision::Undecided), (PROBLEM, Decision::Undecided)]);
    assert!(!idle.is_needed() && !idle.has_heartbeat);
    let failed = plan(&node, &[(READY, decided(ConditionStatus::False)), (PROBLEM, Decision::Undecided)]);
    assert!(failed.is_needed());
    assert_eq!(applied(&failed)[1], on_node(PROBLEM, "False", THEN, THEN), "with its times");
    assert_eq!(failed.body("node", "u")["metadata"]["resourceVersion"], "7");
}

#[test]
fn on_a_node_without_the_condition_only_a_decision_is_written() {
    for state in [Decision::Undecided, Decision::Absent] {
        assert!(!plan(&node(&[]), &[(PROBLEM, state)]).is_needed());
    }
    assert!(plan(&node(&[]), &[(PROBLEM, decided(ConditionStatus::False))]).is_needed());
}

#[test]
fn an_undecided_condition_of_another_machine_is_removed() {
    let node = node(&[(READY, "True", US), (PROBLEM, "False", US)]);
    let desired = DesiredNode {
        inherits: false,
        ..desired(&[(READY, Decision::Undecided), (PROBLEM, Decision::Undecided)])
    };
    let plan = StatusPlan::new(&node, &desired, PREFIX, Some(NOW), &BTreeSet::new());
    assert!(plan.is_needed() && plan.entries.is_empty());
    assert_eq!(plan.body("node", "u").get("status"), None);
}

#[test]
fn an_absent_condition_is_removed_by_an_apply_without_it() {
    let node = node(&[(READY, "True", US), (PROBLEM, "False", US)]);
    let plan = plan(&node, &[(READY, Decision::Absent), (PROBLEM, Decision::Absent)]);
    assert!(
        plan.is_needed()
            && plan.entries.is_empty()
            && plan.removals.is_empty()
            && plan.transitions.is_empty()
    );
}

#[test]
fn own_conditions_without_an_owner_are_adopted_or_removed() {
    for owners in [&[][..], &["before-first-apply"]] {
        let node = node(&[(READY, "True", owners), (PROBLEM, "True", owners), ("Ready", "True", owners)]);
        let plan = plan(&node, &[(READY, decided(ConditionStatus::True)), (PROBLEM, Decision::Absent)]);
        assert!(plan.is_needed() && plan.transitions.is_empty(), "it is to be owned, but it is the same");
        assert_eq!(plan.removals, [PROBLEM]);
        assert_eq!(
            plan.removal_body("7")["status"]["conditions"],
            json!([{ "$patch": "delete", "type": PROBLEM }])
        );
    }
}

#[test]
fn an_alias_is_written_like_any_condition_but_left_to_another_owner() {
    let wanted = [(ALIAS, decided(ConditionStatus::False))];
    let first = plan(&node(&[]), &wanted);
    assert!(first.is_needed() && first.transitions.is_empty() && applied(&first)[0]["status"] == "False");
    let foreign = plan(&node(&[(ALIAS, "True", &["eks-node-monitoring-agent"])]), &wanted);
    assert!(!foreign.is_needed() && foreign.entries.is_empty());
    assert_eq!(foreign.refused.get(ALIAS).map(String::as_str), Some("eks-node-monitoring-agent"));
    let shared = plan(&node(&[(ALIAS, "False", &[FIELD_MANAGER, "eks-node-monitoring-agent"])]), &wanted);
    assert!(shared.is_needed() && shared.entries.is_empty(), "it is given up to the other manager");
    let own = plan(&node(&[(READY, "True", &["kubectl-edit"])]), &[(READY, decided(ConditionStatus::False))]);
    assert!(own.is_needed() && own.refused.is_empty(), "one under the own prefix is corrected");
}

#[test]
fn a_condition_that_is_no_longer_known_is_removed() {
    let node = node(&[(READY, "True", US), (ALIAS, "True", US), ("Ready", "True", &["kubelet"])]);
    let plan = plan(&node, &[(READY, decided(ConditionStatus::True))]);
    assert!(plan.is_needed() && plan.entries.len() == 1 && plan.removals.is_empty());
}

#[test]
fn without_a_plausible_clock_no_time_is_invented() {
    let node = node(&[(READY, "True", US)]);
    let at = |status| {
        StatusPlan::new(&node, &desired(&[(READY, decided(status))]), PREFIX, None, &BTreeSet::new())
    };
    assert_eq!(applied(&at(ConditionStatus::True)), json!([on_node(READY, "True", THEN, THEN)]));
    let failed = applied(&at(ConditionStatus::False));
    assert_eq!((failed[0].get("lastTransitionTime"), &failed[0]["lastHeartbeatTime"]), (None, &json!(THEN)));
}

/// Every combination of the states of two conditions, on the Node and desired: an apply carries the owned undecided ones as
/// they are, and never one of another manager.
#[test]
fn an_apply_contains_every_owned_undecided_condition_unchanged() {
    let states = || {
        [
            Decision::Undecided,
            Decision::Absent,
            decided(ConditionStatus::True),
            decided(ConditionStatus::False),
        ]
    };
    let on_node: [Option<(&str, &[&str])>; 5] =
        [None, Some(("True", US)), Some(("False", US)), Some(("True", &["other"])), Some(("True", &[]))];
    for (ready, problem) in
        on_node.iter().flat_map(|ready| on_node.iter().map(move |problem| (ready, problem)))
    {
        let present: Vec<(&str, &str, &[&str])> = [(READY, ready), (PROBLEM, problem)]
            .into_iter()
            .filter_map(|(kind, condition)| condition.map(|(status, owners)| (kind, status, owners)))
            .collect();
        let node = node(&present);
        for (ready, problem) in
            states().into_iter().flat_map(|one| states().map(|other| (one.clone(), other)))
        {
            let plan = plan(&node, &[(READY, ready.clone()), (PROBLEM, problem.clone())]);
            for (kind, state) in [(READY, ready), (PROBLEM, problem)] {
                let before = node.condition(kind);
                let is_foreign = node.metadata.condition_owners.other(kind).is_some();
                let entry = plan.entries.iter().find(|entry| entry.kind == kind);
                match state {
                    Decision::Undecided => assert_eq!(entry, before.filter(|_| !is_foreign), "{kind}"),
                    Decision::Absent => assert_eq!(entry, None, "{kind}"),
                    Decision::Decided(condition) => {
                        assert_eq!(entry.map(|entry| &entry.status[..]), Some(condition.status.as_str()));
                    }
                }
            }
        }
    }
}
