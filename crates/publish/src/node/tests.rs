//! The reconciler against a fake API server of one Node, with tokio's paused time.

mod conditions;
mod pace;
mod refusals;
mod server;
mod writes;

use std::{collections::BTreeMap, time::Duration};

use afd_apiserver::ApiCalls;
use afd_model::ConditionStatus;
use prometheus::{IntCounter, IntCounterVec, Opts};
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::testing::{FakeApi, FakeNode, FakeNodeField};

const PREFIX: &str = "accelerator.llm-d.ai";
const COUNT: &str = "accelerator.llm-d.ai/count";
const REPORT: &str = "accelerator.llm-d.ai/report";
const READY: &str = "accelerator.llm-d.ai/Ready";
const PROBLEM: &str = "accelerator.llm-d.ai/Problem";
const VENDOR_COUNT: &str = "nvidia.com/gpu.count";
const NODE: &str = "node";
const HOUR: Duration = Duration::from_secs(3600);

/// The server's Node, its desired state, what the observer gets, and the counters.
struct ReconcilerTest {
    api: FakeApi,
    desired: watch::Sender<Option<DesiredNode>>,
    node: watch::Sender<Option<NodeFacts>>,
    requests: IntCounterVec,
    contested: IntCounterVec,
    refused: IntCounterVec,
    limits: WriteLimits,
}

impl ReconcilerTest {
    fn new() -> ReconcilerTest {
        ReconcilerTest::with(FakeNode::new(NODE), Some(desired(8)))
    }

    fn with(node: FakeNode, desired: Option<DesiredNode>) -> ReconcilerTest {
        let vector = |labels: &[&str]| {
            IntCounterVec::new(Opts::new("counter", "Counter."), labels).expect("the names are valid")
        };
        ReconcilerTest {
            api: FakeApi::new([node]),
            desired: watch::Sender::new(desired),
            node: watch::Sender::new(None),
            requests: vector(&["verb", "code"]),
            contested: vector(&["key", "owner"]),
            refused: vector(&["key", "code"]),
            limits: WriteLimits::default(),
        }
    }

    fn counters(&self) -> NodeCounters {
        NodeCounters {
            calls: ApiCalls::new(self.requests.clone()),
            label_writes: IntCounter::new("writes", "Writes.").expect("the name is valid"),
            contested: self.contested.clone(),
            refused: self.refused.clone(),
        }
    }

    /// Runs a reconciler for a duration.
    async fn run(&self, time: Duration) {
        self.run_while(time, async || std::future::pending().await).await;
    }

    /// Runs a reconciler, and another future at the same time, for a duration.
    async fn run_while(&self, time: Duration, concurrent: impl AsyncFn()) {
        let settings = NodeSettings { name: NODE.to_owned(), prefix: PREFIX.to_owned(), limits: self.limits };
        let observer = NodeObserver { node: self.node.clone(), resources: watch::Sender::new(None) };
        let reconciler =
            reconcile(self.api.client(), settings, self.counters(), self.desired.subscribe(), observer);
        let concurrent = async {
            concurrent().await;
            std::future::pending::<()>().await;
        };
        timeout(time, async { tokio::join!(reconciler, concurrent) })
            .await
            .expect_err("the reconciler runs forever");
    }

    fn with_node<T>(&self, f: impl FnOnce(&mut FakeNode) -> T) -> T {
        self.api.with_node(NODE, f)
    }

    fn requested(&self, verb: &str) -> usize {
        self.api.requests(verb).len()
    }

    fn counted(&self, verb: &str, code: &str) -> u64 {
        self.requests.with_label_values(&[verb, code]).get()
    }

    fn contested(&self, key: &str, owner: &str) -> u64 {
        self.contested.with_label_values(&[key, owner]).get()
    }
}

fn desired(count: usize) -> DesiredNode {
    DesiredNode {
        labels: BTreeMap::from([(COUNT.to_owned(), count.to_string())]).into(),
        inherits: true,
        ..DesiredNode::default()
    }
}

fn with_conditions(conditions: &[(&str, Decision<Condition>)]) -> DesiredNode {
    let conditions = conditions
        .iter()
        .map(|(kind, state)| DesiredCondition { kind: (*kind).to_owned(), state: state.clone() });
    DesiredNode { conditions: conditions.collect(), ..desired(8) }
}

fn condition(status: ConditionStatus, reason: &str) -> Decision<Condition> {
    Decision::Decided(Condition { status, reason: reason.to_owned(), message: "message".to_owned() })
}

fn label(key: &str) -> FakeNodeField {
    FakeNodeField::Label(key.to_owned())
}

fn annotation(key: &str) -> FakeNodeField {
    FakeNodeField::Annotation(key.to_owned())
}
