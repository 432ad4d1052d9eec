//! The slice to which the chips of this machine belong: from the file of its metadata, its metadata server and its Node, in this order,
//! as the DRA driver does it; and where they contradict what was found.

use std::time::Instant;

use afd_model::{Device, Known, Missing, TpuSlice, VendorFacts};
use afd_probe::Facts;

use crate::{
    metadata,
    node::{self, TpuNode},
    sources::TpuSources,
};

/// What the sources say of the slice, each with the words for it in a problem.
pub(crate) struct FoundSlice {
    sources: Vec<(&'static str, TpuSlice)>,
}

/// Reads the file and takes over what server and Node say. The server is queried where there is no file.
pub(crate) fn find(
    facts: &mut Facts<'_>,
    sources: Option<&mut TpuSources>,
    node: Option<&TpuNode>,
) -> FoundSlice {
    facts.about(None);
    let content = facts.bytes("slice", metadata::PATH).into_value().unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let of_file = metadata::parse(&text);
    let mut found = FoundSlice { sources: Vec::new() };
    if let Some(sources) = sources {
        sources.set_runtime_ports(&metadata::runtime_ports(&text));
        if of_file.is_none() {
            found.sources.push(("its metadata server says", sources.metadata(Instant::now())));
        }
    }
    found.sources.extend(of_file.map(|slice| ("its metadata say", slice)));
    found.sources.extend(node.map(|node| ("the labels of its Node say", node.slice.clone())));
    found
}

/// Adds the slice to the devices. That they are fewer or of another generation than a source says is a problem.
pub(crate) fn describe(facts: &mut Facts<'_>, found: &FoundSlice, devices: &mut [Device]) {
    facts.about(None);
    for (says, slice) in &found.sources {
        for contradiction in contradictions(slice, devices) {
            let message = format!("the machine has {contradiction} {says}");
            let _: Known<()> = facts.missing("devices", Missing::Unrecognized, None, message);
        }
    }
    let mut slice = TpuSlice::default();
    for (_, source) in &found.sources {
        slice.complete_with(source.clone());
    }
    if slice == TpuSlice::default() {
        return;
    }
    for device in devices {
        device.fabric_domain = match slice.hosts {
            Known::Value(0 | 1) => Known::default(),
            Known::Value(_) => slice.identity.clone(),
            Known::Missing { missing } => missing.into(),
        };
        device.vendor_facts = Some(VendorFacts::Tpu(Box::new(slice.clone())));
    }
}

/// What was found, and what a source says instead.
fn contradictions(slice: &TpuSlice, devices: &[Device]) -> Vec<String> {
    let found = devices.len();
    let mut contradictions = Vec::new();
    if let Some(expected) = slice.chips_per_host.value().filter(|expected| found < **expected as usize) {
        contradictions.push(format!("{found} of the {expected} chips that"));
    }
    let named = slice.accelerator.value().and_then(|name| Some((name, node::model_of_accelerator(name)?)));
    let models = devices.iter().filter_map(|device| device.product.value()?.model.value());
    if let (Some((name, expected)), Some(model)) =
        (named, models.into_iter().find(|model| named.is_some_and(|(_, expected)| *model != expected)))
    {
        contradictions.push(format!("a chip of {model} by its PCI id, and not {name} ({expected}), which"));
    }
    contradictions
}
