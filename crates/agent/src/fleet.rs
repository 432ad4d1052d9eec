//! `afd nodes`: all Nodes of a cluster, from the API alone: the labels, annotations and conditions that the agents maintain.
//!
//! The Nodes are read page by page, or from a file with the output of `kubectl get nodes -o json`; only what is shown is kept of
//! them.

mod drift;
mod explain;
mod node;
mod rows;
mod selector;
mod source;
mod strings;

use std::io::Write;

pub use node::FleetNode;
pub use selector::NodeSelectorError;
pub use source::NodeSource;

use self::{drift::DriftFacts, explain::PathGroups, node::NodeFilter, rows::NodeRows};
use crate::args::{FleetOutput, NodesArgs};

/// A number of Nodes, as text.
pub(crate) fn count_of_nodes(count: usize) -> String {
    format!("{count} Node{}", if count == 1 { "" } else { "s" })
}

/// Writes the Nodes as the options select and show them.
///
/// # Errors
/// When the Nodes cannot be read, or the output cannot be written.
pub fn nodes(args: &NodesArgs, output: &mut dyn Write) -> anyhow::Result<()> {
    let prefix = &args.source.label_prefix;
    let source = NodeSource::new(&args.source, args.vendor.as_deref(), args.path.as_deref());
    let filter = NodeFilter { all: args.all, product: args.product.as_deref(), problem: args.problem };
    if let Some(path) = &args.explain {
        let mut groups = PathGroups::new(path);
        source.read(&mut |node| match node {
            None => groups = PathGroups::new(path),
            Some(node) => {
                let node = FleetNode { node, prefix };
                if filter.selects(&node) {
                    groups.add(&node);
                }
            }
        })?;
        return groups.write(args.output, output);
    }
    if args.drift {
        let mut facts = DriftFacts::default();
        source.read(&mut |node| match node {
            None => facts = DriftFacts::default(),
            Some(node) => {
                let node = FleetNode { node, prefix };
                if filter.selects(&node) {
                    facts.add(&node);
                }
            }
        })?;
        return facts.write(args.output, output);
    }
    let keeps_messages = args.output == FleetOutput::Json;
    let mut rows = NodeRows::new(keeps_messages);
    source.read(&mut |node| match node {
        None => rows = NodeRows::new(keeps_messages),
        Some(node) => {
            let node = FleetNode { node, prefix };
            if filter.selects(&node) {
                rows.add(&node);
            }
        }
    })?;
    rows.write(args.output, output)
}
