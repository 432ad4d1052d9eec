//! Records an Event on each transition of the Node's conditions, and for notices; `kubectl describe node` shows it.

use afd_apiserver::{ApiCalls, CallError};
use afd_model::{Condition, ConditionStatus};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::sync::mpsc;

use super::{FIELD_MANAGER, NodeCounters, NodeSettings, api::NodeApi, observed::OwnNodeCondition};

/// The namespace of Events about cluster-scoped objects.
const NAMESPACE: &str = "default";
/// The API server accepts no longer notes.
const MAX_NOTE_CHARACTERS: usize = 1024;

/// The name of the condition that is `False` where nothing is wrong.
const PROBLEM: &str = "/Problem";

/// A condition that has another status or reason than before.
#[derive(Clone, Debug)]
pub(super) struct ConditionTransition {
    /// The type of the condition.
    pub(super) kind: String,
    /// What it is now.
    pub(super) condition: Condition,
}

/// Records Events.
pub(super) struct EventRecorder {
    api: Api<Event>,
    calls: ApiCalls,
}

impl EventRecorder {
    pub(super) fn new(client: Client, calls: ApiCalls) -> EventRecorder {
        EventRecorder { api: Api::namespaced(client, NAMESPACE), calls }
    }

    /// Records a transition of a condition. A failure is only logged, as Events are informational.
    pub(super) async fn record(&self, name: &str, uid: &str, transition: &ConditionTransition) {
        self.record_text(name, uid, &transition.into()).await;
    }

    async fn record_text(&self, name: &str, uid: &str, text: &EventText<'_>) {
        if let Err(error) = self.create(name, uid, text).await {
            tracing::warn!(%error, reason = text.reason, "an Event could not be created");
        }
    }

    async fn create(&self, name: &str, uid: &str, text: &EventText<'_>) -> Result<(), CallError> {
        let event = event(name, uid, text, Timestamp::now());
        self.calls.call("create", "an Event", self.api.create(&PostParams::default(), &event)).await.map(drop)
    }
}

/// Something that happened to the devices of a Node and is no transition of a condition: an operator's request, a refitted
/// machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeNotice {
    /// The reason in CamelCase.
    pub reason: &'static str,
    /// What happened, for people.
    pub note: String,
}

/// Records an Event for each notice until the sender is dropped. A failure is only logged, as Events are informational.
pub async fn record_notices(
    client: Client,
    settings: NodeSettings,
    counters: NodeCounters,
    mut notices: mpsc::Receiver<NodeNotice>,
) {
    let NodeSettings { name, prefix, .. } = settings;
    let recorder = EventRecorder::new(client.clone(), counters.calls.clone());
    let api = NodeApi::new(client, counters);
    while let Some(notice) = notices.recv().await {
        let uid = match api.get(&name).await {
            Ok(node) => node.metadata.uid,
            Err(error) => {
                tracing::warn!(%error, reason = notice.reason, "an Event could not be created");
                continue;
            }
        };
        let text = EventText {
            domain: &prefix,
            action: "DevicesChanged",
            reason: notice.reason,
            note: notice.note,
            is_warning: false,
        };
        recorder.record_text(&name, &uid, &text).await;
    }
}

/// Whether a condition has another status or reason than the Node's. Another message alone is no difference.
pub(super) fn differs(before: Option<&OwnNodeCondition>, now: &Condition) -> bool {
    before.is_none_or(|before| before.status != now.status.as_str() || before.reason != now.reason)
}

/// Whether a condition that differs is a transition. The first one is, unless nothing is wrong.
pub(super) fn is_transition(kind: &str, before: Option<&OwnNodeCondition>, now: &Condition) -> bool {
    before.is_some() || now.status != status_without_fault(kind)
}

fn status_without_fault(kind: &str) -> ConditionStatus {
    if kind.ends_with(PROBLEM) { ConditionStatus::False } else { ConditionStatus::True }
}

/// Whether a condition reports a fault. `Unknown` is none.
fn is_fault(kind: &str, status: ConditionStatus) -> bool {
    ![status_without_fault(kind), ConditionStatus::Unknown].contains(&status)
}

/// What an Event says.
struct EventText<'e> {
    /// The domain of the controller that reports it.
    domain: &'e str,
    action: &'static str,
    reason: &'e str,
    note: String,
    is_warning: bool,
}

impl<'e> From<&'e ConditionTransition> for EventText<'e> {
    fn from(ConditionTransition { kind, condition }: &'e ConditionTransition) -> EventText<'e> {
        EventText {
            domain: domain(kind),
            action: "ConditionChanged",
            reason: &condition.reason,
            note: format!("{kind} is {}: {}", condition.status.as_str(), condition.message),
            is_warning: is_fault(kind, condition.status),
        }
    }
}

fn event(name: &str, uid: &str, text: &EventText<'_>, time: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            // Like the kubelet's: the name of the object and a unique time.
            name: Some(format!("{name}.{:x}", time.as_nanosecond())),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        action: Some(text.action.to_owned()),
        event_time: Some(MicroTime(time)),
        note: Some(text.note.chars().take(MAX_NOTE_CHARACTERS).collect()),
        reason: Some(text.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(format!("{}/{FIELD_MANAGER}", text.domain)),
        reporting_instance: Some(name.to_owned()),
        type_: Some(if text.is_warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

fn domain(kind: &str) -> &str {
    kind.split_once('/').map_or(kind, |(domain, _)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "accelerator.llm-d.ai/Ready";
    const PROBLEM_KIND: &str = "accelerator.llm-d.ai/Problem";

    fn condition(status: ConditionStatus, reason: &str) -> Condition {
        Condition { status, reason: reason.to_owned(), message: "x".repeat(2000) }
    }

    fn on_node(condition: &Condition) -> OwnNodeCondition {
        OwnNodeCondition {
            kind: READY.to_owned(),
            status: condition.status.as_str().to_owned(),
            reason: condition.reason.clone(),
            message: "another".to_owned(),
            last_transition_time: None,
            last_heartbeat_time: None,
        }
    }

    #[test]
    fn another_status_or_reason_is_a_difference_but_not_another_message() {
        let healthy = condition(ConditionStatus::True, "AllHealthy");
        let lost = condition(ConditionStatus::False, "GpuLost");
        let unlisted = condition(ConditionStatus::False, "NotListed");
        assert!(differs(Some(&on_node(&healthy)), &lost) && differs(Some(&on_node(&lost)), &unlisted));
        assert!(!differs(Some(&on_node(&lost)), &lost), "only the message differs");
        assert!(differs(None, &lost));
    }

    #[test]
    fn the_first_condition_is_a_transition_only_where_something_is_wrong() {
        for (kind, status, expected) in [
            (READY, ConditionStatus::True, false),
            (READY, ConditionStatus::False, true),
            (READY, ConditionStatus::Unknown, true),
            (PROBLEM_KIND, ConditionStatus::False, false),
            (PROBLEM_KIND, ConditionStatus::True, true),
        ] {
            let first = condition(status, "Reason");
            assert_eq!(is_transition(kind, None, &first), expected, "{kind} {status:?}");
            assert!(is_transition(kind, Some(&on_node(&first)), &first));
        }
    }

    #[test]
    fn an_event_respects_the_limits_of_the_api() {
        let transition = ConditionTransition {
            kind: READY.to_owned(),
            condition: condition(ConditionStatus::False, "GpuLost"),
        };
        let event = event("node-1", "uid", &(&transition).into(), Timestamp::UNIX_EPOCH);
        assert_eq!(event.note.map(|note| note.chars().count()), Some(MAX_NOTE_CHARACTERS));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert_eq!(
            event.reporting_controller.as_deref(),
            Some("accelerator.llm-d.ai/accelerator-feature-discovery")
        );
    }

    #[test]
    fn a_fault_is_a_warning_in_either_polarity() {
        for (kind, status, expected) in [
            (READY, ConditionStatus::False, true),
            (READY, ConditionStatus::Unknown, false),
            (READY, ConditionStatus::True, false),
            (PROBLEM_KIND, ConditionStatus::True, true),
            (PROBLEM_KIND, ConditionStatus::False, false),
        ] {
            assert_eq!(is_fault(kind, status), expected, "{kind} {status:?}");
        }
    }
}
