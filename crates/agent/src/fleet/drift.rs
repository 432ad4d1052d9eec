//! `afd nodes --drift`: the Nodes that differ from most Nodes with the same product.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    rc::Rc,
};

use serde_json::{Value, json};

use super::{node::FleetNode, rows::write_json, strings::SharedStrings};
use crate::{args::FleetOutput, text_table::write_columns, visible::visible_line};

/// The facts that are compared.
const FACTS: [&str; 6] = ["driver", "firmware", "memory-mib", "count", "interconnect", "linked-devices"];

/// The compared facts of all Nodes, by product.
#[derive(Debug, Default)]
pub(super) struct DriftFacts {
    products: BTreeMap<Rc<str>, Vec<NodeValues>>,
    strings: SharedStrings,
}

#[derive(Debug)]
struct NodeValues {
    name: Box<str>,
    values: [Option<Rc<str>>; FACTS.len()],
}

/// A Node that differs, or a fact without a majority.
#[derive(Debug)]
struct Drift<'f> {
    product: &'f str,
    fact: &'static str,
    /// None where no value is that of most Nodes.
    majority: Option<&'f str>,
    /// How many Nodes have the majority's value.
    agreeing: usize,
    /// Of how many.
    all: usize,
    name: &'f str,
    value: &'f str,
}

impl DriftFacts {
    /// What is not known of a Node is not compared.
    pub(super) fn add(&mut self, node: &FleetNode<'_>) {
        let Some(product) = node.label("product") else { return };
        let report = node.report();
        // It is that of all devices of the Node.
        let is_alone = node.label("homogeneous") == Some("true");
        let firmware = report["firmware"]
            .as_array()
            .filter(|_| is_alone)
            .map(|versions| versions.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","));
        // How many others each device is linked with: `7`, or `6,7` where it is not the same for all.
        let devices = report["devices"].as_array().filter(|_| is_alone).into_iter().flatten();
        let linked: BTreeSet<u64> = devices.filter_map(|device| device["linked_devices"].as_u64()).collect();
        let linked: Vec<String> = linked.iter().map(u64::to_string).collect();
        let linked = Some(linked.join(",")).filter(|counts| !counts.is_empty());
        let label = |name: &str| node.label(name).map(str::to_owned);
        let [driver, memory, count, interconnect] =
            ["driver-version", "memory-mib", "count", "interconnect"].map(label);
        let values = [driver, firmware, memory, count, interconnect, linked];
        let values = values.map(|value| Some(self.strings.get(&value?)));
        let product = self.strings.get(product);
        self.products.entry(product).or_default().push(NodeValues { name: node.name().into(), values });
    }

    fn drifts(&self) -> Vec<Drift<'_>> {
        let mut drifts = Vec::new();
        for (product, nodes) in &self.products {
            for (index, fact) in FACTS.into_iter().enumerate() {
                let known =
                    || nodes.iter().filter_map(|node| Some((&*node.name, node.values[index].as_deref()?)));
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                known().for_each(|(_, value)| *counts.entry(value).or_default() += 1);
                let all = known().count();
                let agreeing = counts.values().copied().max().unwrap_or_default();
                let most = counts.iter().find(|(_, count)| **count * 2 > all);
                let majority = most.map(|(value, _)| *value);
                let differing = known().filter(|(_, value)| majority != Some(*value));
                drifts.extend(differing.map(|(name, value)| Drift {
                    product,
                    fact,
                    majority,
                    agreeing,
                    all,
                    name,
                    value,
                }));
            }
        }
        drifts
    }

    /// Writes the Nodes that differ.
    pub(super) fn write(&self, format: FleetOutput, output: &mut dyn Write) -> anyhow::Result<()> {
        let drifts = self.drifts();
        if format == FleetOutput::Json {
            return write_json(drifts.iter().map(Drift::json), output);
        }
        let nodes: usize = self.products.values().map(Vec::len).sum();
        if drifts.is_empty() {
            writeln!(output, "No drift: {nodes} Nodes of {} products were compared.", self.products.len())?;
            return Ok(());
        }
        let header = ["NODE", "PRODUCT", "FACT", "VALUE", "MAJORITY"];
        write_columns(output, &header, drifts.len(), &|row| drifts[row].cells())?;
        let names: BTreeSet<&str> = drifts.iter().map(|drift| drift.name).collect();
        writeln!(output, "\n{} of {nodes} Nodes differ from others with the same product.", names.len())?;
        Ok(())
    }
}

impl Drift<'_> {
    fn cells(&self) -> Vec<String> {
        let majority = match self.majority {
            Some(value) => format!("{value} ({} of {})", self.agreeing, self.all),
            None => "none".to_owned(),
        };
        let cells = [self.name, self.product, self.fact, self.value, &majority];
        cells.iter().map(|cell| visible_line(cell)).collect()
    }

    fn json(&self) -> Value {
        json!({
            "node": self.name,
            "product": self.product,
            "fact": self.fact,
            "value": self.value,
            "majority": self.majority,
            "majority_nodes": self.majority.map(|_| self.agreeing),
            "compared_nodes": self.all,
        })
    }
}
