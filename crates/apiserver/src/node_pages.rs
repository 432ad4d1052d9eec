//! All Nodes, page by page, from the API server or from the output of `kubectl get nodes -o json`.
//!
//! Nodes are decoded one after the other: what is not read here, such as the list of images, is never held, and the caller keeps
//! what it needs.

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufReader, Read},
};

use kube::{Client, api::ListParams, core::Request};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use tokio::time::sleep;

use crate::{ApiCalls, Backoff, CallError};

/// Nodes in a page. One is some 10 to 40 KiB.
const PAGE_SIZE: u32 = 100;
/// How often a page is requested again in a row, and how often a list is begun again.
const MAX_ATTEMPTS: u32 = 5;
/// The same for the first page of all while there is no answer: that server may not be there at all.
const MAX_FIRST_ATTEMPTS: u32 = 2;
/// The server has removed the version of the list that is continued.
const EXPIRED: u16 = 410;

/// The fields of a Node that are read.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ListedNode {
    /// `Node` in the output of kubectl, absent in a list of the API.
    #[serde(default)]
    kind: Option<String>,
    /// Name, labels and annotations.
    #[serde(default)]
    pub metadata: ListedMetadata,
    #[serde(default)]
    spec: ListedSpec,
    #[serde(default)]
    status: ListedStatus,
}

/// The metadata of a Node, or of a list.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ListedMetadata {
    /// The name of the Node.
    #[serde(default)]
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Of a list: where it is continued.
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ListedSpec {
    #[serde(default)]
    taints: Vec<ListedTaint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ListedStatus {
    #[serde(default)]
    conditions: Vec<ListedCondition>,
}

/// A taint of a Node.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub struct ListedTaint {
    /// Its key.
    pub key: String,
    /// Its value, which may be empty.
    #[serde(default)]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// A condition of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedCondition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Its reason, which may be empty.
    #[serde(default)]
    pub reason: String,
    /// Its message, which may be empty.
    #[serde(default)]
    pub message: String,
    /// When it was confirmed, in the format of Kubernetes.
    #[serde(default)]
    pub last_heartbeat_time: Option<String>,
}

impl ListedNode {
    /// The taints.
    pub fn taints(&self) -> &[ListedTaint] {
        &self.spec.taints
    }

    /// The conditions.
    pub fn conditions(&self) -> &[ListedCondition] {
        &self.status.conditions
    }
}

/// What a list of Nodes consists of.
#[derive(Debug)]
pub enum NodeListEvent {
    /// The list begins, possibly again: all Nodes before are void.
    Begin,
    /// A Node.
    Node(Box<ListedNode>),
}

/// Lists the Nodes that a label selector matches. A list that cannot be continued, because it has taken longer than the server
/// keeps an old version, begins again; while the server is overloaded or does not
/// answer, the page is requested again after a delay.
///
/// # Errors
/// When the server refuses, or is overloaded or does not answer for too long.
pub async fn list_nodes(
    client: &Client,
    calls: &ApiCalls,
    selector: &str,
    take: &mut dyn FnMut(NodeListEvent),
) -> Result<(), CallError> {
    let first = ListParams::default().limit(PAGE_SIZE).labels(selector);
    let (mut parameters, mut backoff, mut attempts, mut lists) = (first.clone(), Backoff::default(), 0, 1);
    take(NodeListEvent::Begin);
    loop {
        let page = calls.call("list", "Nodes", async {
            let request =
                Request::new("/api/v1/nodes").list(&parameters).map_err(kube::Error::BuildRequest)?;
            let text = client.request_text(request).await?;
            // A page that cannot be read to its end is requested again: none of its Nodes counts before.
            let mut nodes = Vec::new();
            let next = read_nodes(Box::new(text.as_bytes()), &mut |node| nodes.push(node))
                .map_err(kube::Error::SerdeError)?;
            Ok((nodes, next))
        });
        let error = match page.await {
            Ok((nodes, next)) => {
                nodes.into_iter().for_each(|node| take(NodeListEvent::Node(node)));
                if next.is_empty() {
                    return Ok(());
                }
                parameters = first.clone().continue_token(&next);
                (attempts, backoff) = (0, Backoff::default());
                continue;
            }
            Err(error) => error,
        };
        let code = error.status().map(|status| status.code);
        let is_first = code.is_none() && parameters.continue_token.is_none();
        let limit = if is_first { MAX_FIRST_ATTEMPTS } else { MAX_ATTEMPTS };
        if code == Some(EXPIRED) && parameters.continue_token.is_some() && lists < MAX_ATTEMPTS {
            (parameters, lists) = (first.clone(), lists + 1);
            take(NodeListEvent::Begin);
        } else if error.is_temporary() && attempts < limit {
            attempts += 1;
            sleep(backoff.next_delay(error.retry_after)).await;
        } else {
            return Err(error);
        }
    }
}

/// Reads a list of Nodes, or a single one, from JSON. Returns where the list is continued; empty at its end.
///
/// # Errors
/// When it is neither, or cannot be read.
pub fn read_nodes(
    source: Box<dyn Read + '_>,
    take: &mut dyn FnMut(Box<ListedNode>),
) -> serde_json::Result<String> {
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(source));
    let next = NodeListReader(take).deserialize(&mut json)?;
    json.end()?;
    Ok(next)
}

/// Reads the object around the Nodes.
struct NodeListReader<'v>(&'v mut dyn FnMut(Box<ListedNode>));

impl<'de> DeserializeSeed<'de> for NodeListReader<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NodeListReader<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of Nodes, or a Node")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let (mut node, mut is_list) = (ListedNode::default(), false);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "items" => {
                    map.next_value_seed(NodesReader(&mut *self.0))?;
                    is_list = true;
                }
                "kind" => node.kind = map.next_value()?,
                "metadata" => node.metadata = map.next_value()?,
                "spec" => node.spec = map.next_value()?,
                "status" => node.status = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let next = std::mem::take(&mut node.metadata.next);
        if !is_list {
            if node.kind.as_deref() != Some(NODE) {
                return Err(A::Error::custom("it is neither a list of Nodes nor a Node"));
            }
            (self.0)(Box::new(node));
        }
        Ok(next)
    }
}

const NODE: &str = "Node";

/// Reads the Nodes of a list, one after the other. Objects of another kind are left out.
struct NodesReader<'v>(&'v mut dyn FnMut(Box<ListedNode>));

impl<'de> DeserializeSeed<'de> for NodesReader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for NodesReader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nodes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(node) = items.next_element::<Box<ListedNode>>()? {
            if node.kind.as_deref().is_none_or(|kind| kind == NODE) {
                (self.0)(node);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
