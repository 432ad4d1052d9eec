//! An Event for people, whenever the Node's condition turns: `kubectl describe node` shows it.

use afd_apiserver::{Calls, Failure};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};

use super::{FIELD_MANAGER, WantedCondition};

/// Where Events of objects without a namespace are.
const NAMESPACE: &str = "default";
/// The API server takes no longer notes.
const MOST_NOTE_CHARACTERS: usize = 1024;

/// Makes Events.
pub(super) struct Events {
    api: Api<Event>,
    calls: Calls,
}

impl Events {
    pub(super) fn new(client: Client, calls: Calls) -> Events {
        Events { api: Api::namespaced(client, NAMESPACE), calls }
    }

    /// Says that the condition has turned. Events are for people: that one could not be made is logged and no failure.
    pub(super) async fn turned(&self, name: &str, uid: &str, condition: &WantedCondition) {
        if let Err(failure) = self.create(name, uid, condition).await {
            tracing::warn!(error = %failure, "no Event tells that the condition has turned");
        }
    }

    async fn create(&self, name: &str, uid: &str, condition: &WantedCondition) -> Result<(), Failure> {
        let event = event(name, uid, condition, Timestamp::now());
        self.calls.call("create", "an Event", self.api.create(&PostParams::default(), &event)).await.map(drop)
    }
}

/// Whether people should hear of a change from one condition to another. That all is well from the beginning is no news.
pub(super) fn is_turn(before: Option<&WantedCondition>, now: &WantedCondition) -> bool {
    match before {
        Some(before) => (&before.status, &before.reason) != (&now.status, &now.reason),
        None => now.status != "True",
    }
}

fn event(name: &str, uid: &str, condition: &WantedCondition, time: Timestamp) -> Event {
    let note = format!("{} is {}: {}", condition.kind, condition.status, condition.message);
    Event {
        metadata: ObjectMeta {
            // As the kubelet names its own: the object and the time, which is different for each.
            name: Some(format!("{name}.{:x}", time.as_nanosecond())),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        action: Some("ConditionTurned".to_owned()),
        event_time: Some(MicroTime(time)),
        note: Some(note.chars().take(MOST_NOTE_CHARACTERS).collect()),
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

    fn condition(status: &str, reason: &str) -> WantedCondition {
        WantedCondition {
            kind: "accelerator.llm-d.ai/Ready".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: "x".repeat(2000),
        }
    }

    #[test]
    fn a_turn_is_another_status_or_reason_and_no_other_words() {
        let (well, lost) = (condition("True", "AllHealthy"), condition("False", "GpuLost"));
        let reworded = WantedCondition { message: "other".to_owned(), ..lost.clone() };
        assert!(is_turn(Some(&well), &lost) && is_turn(Some(&lost), &well));
        assert!(!is_turn(Some(&lost), &reworded));
        assert!(is_turn(None, &lost) && !is_turn(None, &well));
    }

    #[test]
    fn an_event_keeps_to_the_limits_of_the_api() {
        let event = event("node-1", "uid", &condition("False", "GpuLost"), Timestamp::UNIX_EPOCH);
        assert_eq!(event.note.map(|note| note.chars().count()), Some(MOST_NOTE_CHARACTERS));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert_eq!(
            event.reporting_controller.as_deref(),
            Some("accelerator.llm-d.ai/accelerator-feature-discovery")
        );
    }
}
