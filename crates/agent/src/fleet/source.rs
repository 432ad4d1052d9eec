//! Where the Nodes come from: the API server, or a file.

use std::{io::Read, path::Path};

use afd_apiserver::{
    CallError,
    node_pages::{ListedNode, NodeListEvent, list_nodes, read_nodes},
};
use anyhow::{Context, ensure};
use kube::core::SelectorExt;

use super::selector;
use crate::{agent_metrics::AgentMetrics, args::FleetArgs, cluster, run};

/// The Nodes that are read.
#[derive(Debug)]
pub struct NodeSource<'a> {
    args: &'a FleetArgs,
    /// A label selector in Kubernetes' syntax.
    selector: String,
}

impl<'a> NodeSource<'a> {
    /// The Nodes that the selector of the options matches, of a vendor and ready for a path, if these are given.
    pub fn new(args: &'a FleetArgs, vendor: Option<&str>, path: Option<&str>) -> NodeSource<'a> {
        let prefix = &args.label_prefix;
        let vendor = vendor.map(|vendor| format!("{prefix}/vendor={vendor}"));
        let path = path.map(|path| format!("{prefix}/path.{path}=true"));
        // One that is empty selects all, as that of an empty variable of the shell does.
        let given = args.selector.iter().filter(|term| !term.trim().is_empty()).cloned();
        let terms: Vec<String> = given.chain(vendor).chain(path).collect();
        NodeSource { args, selector: terms.join(",") }
    }

    /// Reads all of them. `None` is taken first, and again when the list begins again: all Nodes before are void.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read(&self, take: &mut dyn FnMut(Option<&ListedNode>)) -> anyhow::Result<()> {
        let Some(file) = &self.args.from else { return self.list(take) };
        let selector = selector::parse(&self.selector)?;
        take(None);
        let read = read_nodes(open(file)?, &mut |node| {
            if selector.matches(&node.metadata.labels) {
                take(Some(&node));
            }
        });
        let next =
            read.with_context(|| format!("{} is no output of `kubectl get nodes -o json`", file.display()))?;
        ensure!(next.is_empty(), "{} is a page of a list that goes on; get all Nodes", file.display());
        Ok(())
    }

    fn list(&self, take: &mut dyn FnMut(Option<&ListedNode>)) -> anyhow::Result<()> {
        let calls = AgentMetrics::new().node_counters().calls;
        run::block_on(async {
            let client =
                cluster::user_client(self.args.kubeconfig.as_deref(), self.args.context.clone()).await?;
            let mut take = |event| match event {
                NodeListEvent::Begin => take(None),
                NodeListEvent::Node(node) => take(Some(&node)),
            };
            let listed = list_nodes(&client, &calls, &self.selector, &mut take).await;
            listed.map_err(|error| match remedy(&error) {
                Some(remedy) => anyhow::Error::from(error).context(remedy),
                None => error.into(),
            })
        })
    }
}

/// What to do about a refusal.
fn remedy(error: &CallError) -> Option<&'static str> {
    match error.status()?.code {
        401 => Some("the API server does not accept the credentials; check the kubeconfig"),
        403 => Some(
            "listing Nodes is not permitted; this account needs a ClusterRole with the verb list of the resource nodes, and no \
             other right",
        ),
        _ => None,
    }
}

/// A file of the user, or standard input.
#[expect(clippy::disallowed_types, reason = "a file that the user names, not one of the host")]
fn open(file: &Path) -> anyhow::Result<Box<dyn Read>> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let opened = std::fs::File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(Box::new(opened))
}
