//! Records an Event on each transition of the Node's condition; `kubectl describe node` shows it.

use afd_apiserver::{ApiCalls, CallError};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};

use super::{DesiredCondition, FIELD_MANAGER};

/// The namespace of Events about cluster-scoped objects.
const NAMESPACE: &str = "default";
/// The API server accepts no longer notes.
const MAX_NOTE_CHARACTERS: usize = 1024;

/// Records Events.
pub(super) struct EventRecorder {
    api: Api<Event>,
    calls: ApiCalls,
}

impl EventRecorder {
    pub(super) fn new(client: Client, calls: ApiCalls) -> EventRecorder {
        EventRecorder { api: Api::namespaced(client, NAMESPACE), calls }
    }

    /// Records a transition of the condition. A failure is only logged, as Events are informational.
    pub(super) async fn record(&self, name: &str, uid: &str, condition: &DesiredCondition) {
        if let Err(error) = self.create(name, uid, condition).await {
            tracing::warn!(%error, "the Event of a condition transition could not be created");
        }
    }

    async fn create(&self, name: &str, uid: &str, condition: &DesiredCondition) -> Result<(), CallError> {
        let event = event(name, uid, condition, Timestamp::now());
        self.calls.call("create", "an Event", self.api.create(&PostParams::default(), &event)).await.map(drop)
    }
}

/// Whether a change of the condition is a transition. The first condition is one unless it is `True`.
pub(super) fn is_transition(before: Option<&DesiredCondition>, now: &DesiredCondition) -> bool {
    match before {
        Some(before) => (&before.status, &before.reason) != (&now.status, &now.reason),
        None => now.status != "True",
    }
}

fn event(name: &str, uid: &str, condition: &DesiredCondition, time: Timestamp) -> Event {
    let note = format!("{} is {}: {}", condition.kind, condition.status, condition.message);
    Event {
        metadata: ObjectMeta {
            // Like the kubelet's: the name of the object and a unique time.
            name: Some(format!("{name}.{:x}", time.as_nanosecond())),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        action: Some("ConditionChanged".to_owned()),
        event_time: Some(MicroTime(time)),
        note: Some(note.chars().take(MAX_NOTE_CHARACTERS).collect()),
        reason: Some(condition.reason.clone()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(format!("{}/{FIELD_MANAGER}", domain(&condition.kind))),
        reporting_instance: Some(name.to_owned()),
        type_: Some(if condition.status == "False" { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

fn domain(kind: &str) -> &str {
    kind.split_once('/').map_or(kind, |(domain, _)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(status: &str, reason: &str) -> DesiredCondition {
        DesiredCondition {
            kind: "accelerator.llm-d.ai/Ready".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: "x".repeat(2000),
        }
    }

    #[test]
    fn a_transition_is_another_status_or_reason_but_not_another_message() {
        let (healthy, lost) = (condition("True", "AllHealthy"), condition("False", "GpuLost"));
        let reworded = DesiredCondition { message: "other".to_owned(), ..lost.clone() };
        assert!(is_transition(Some(&healthy), &lost) && is_transition(Some(&lost), &healthy));
        assert!(!is_transition(Some(&lost), &reworded));
        assert!(is_transition(None, &lost) && !is_transition(None, &healthy));
    }

    #[test]
    fn an_event_respects_the_limits_of_the_api() {
        let event = event("node-1", "uid", &condition("False", "GpuLost"), Timestamp::UNIX_EPOCH);
        assert_eq!(event.note.map(|note| note.chars().count()), Some(MAX_NOTE_CHARACTERS));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert_eq!(
            event.reporting_controller.as_deref(),
            Some("accelerator.llm-d.ai/accelerator-feature-discovery")
        );
    }
}
