//! The slice to which the chips of this machine belong: from the file of its metadata, its metadata server and its Node, in this order,
//! as the DRA driver does it; and where they contradict what was found.

use std::time::Instant;

use afd_model::{Device, Known, Missing, TpuSlice, VendorFacts};
use afd_probe::{Facts, node::machine};

use crate::{
    NAME, metadata,
    node::{self, TpuNode},
    sources::TpuSources,
};

/// What the sources say of the slice, each with its name in a problem.
pub(crate) struct FoundSlice {
    /// Whether parts of it can be slices of their own.
    has_parts: bool,
    /// What decides nothing, and is compared with the chips.
    hint: Option<TpuSlice>,
    sources: Vec<(&'static str, TpuSlice)>,
}

/// The labels of the Node, in a problem.
const OF_NODE: &str = "the labels of its Node";
/// Product names of the machines that have a metadata server (`internal/googlecloud` of grpc-go, `compute/metadata` of Google's
/// client for Go).
const GOOGLE_MACHINES: [&str; 2] = ["Google", "Google Compute Engine"];

/// Reads the file and takes over what server and Node say. The server is queried where there is no file, unless the firmware names
/// another machine than one of Google's.
pub(crate) fn find(
    facts: &mut Facts<'_>,
    sources: Option<&mut TpuSources>,
    node: Option<&TpuNode>,
) -> FoundSlice {
    facts.about(None);
    let content = facts.bytes("slice", metadata::PATH).into_value().unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let of_file = metadata::parse(&text);
    let mut found = FoundSlice {
        has_parts: node.is_some_and(|node| node.has_parts),
        hint: node.and_then(|node| node.hint.clone()),
        sources: Vec::new(),
    };
    if let Some(sources) = sources {
        sources.set_runtime_ports(&metadata::runtime_ports(&text));
        if of_file.is_none() && may_be_google_machine(facts) {
            found.sources.push(("its metadata server", sources.metadata(Instant::now())));
        }
    }
    found.sources.extend(of_file.map(|slice| ("its metadata", slice)));
    found.sources.extend(node.map(|node| (OF_NODE, node.slice.clone())));
    found
}

/// Whether the firmware names a machine of Google's, or none. That it cannot be read is a problem of the node.
fn may_be_google_machine(facts: &Facts<'_>) -> bool {
    let name = machine(&mut Facts::new(facts.host(), NAME)).into_value();
    name.is_none_or(|name| GOOGLE_MACHINES.contains(&name.as_str()))
}

/// Adds the slice to the devices. That they are fewer or of another generation than a source says is a problem.
pub(crate) fn describe(facts: &mut Facts<'_>, found: &FoundSlice, devices: &mut [Device]) {
    facts.about(None);
    let hint = found.hint.iter().map(|hint| (OF_NODE, hint));
    for (source, slice) in found.sources.iter().map(|(source, slice)| (*source, slice)).chain(hint) {
        for contradiction in contradictions(slice, devices) {
            let message = format!("the machine has {contradiction} according to {source}");
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
    slice.hosts = if found.has_parts { Known::default() } else { hosts(&slice) };
    for device in devices {
        device.fabric_domain = match slice.hosts {
            Known::Value(0 | 1) => Known::default(),
            Known::Value(_) => slice.identity.clone(),
            Known::Missing { missing } => missing.into(),
        };
        device.vendor_facts = Some(VendorFacts::Tpu(Box::new(slice.clone())));
    }
}

/// The hosts of the slice, as a source says or its topology has them. The chips that were found are no substitute for those that
/// each host should have: one may be missing.
fn hosts(slice: &TpuSlice) -> Known<u32> {
    let of_topology = || {
        let (chips, per_host) = (slice.chips()?, *slice.chips_per_host.value()?);
        chips.checked_div(per_host).filter(|hosts| hosts * per_host == chips)
    };
    match slice.hosts {
        Known::Value(hosts) => Known::Value(hosts),
        Known::Missing { missing } => Known::from_option(of_topology(), missing),
    }
}

/// What was found, and what a source has instead.
fn contradictions(slice: &TpuSlice, devices: &[Device]) -> Vec<String> {
    let found = devices.len();
    let mut contradictions = Vec::new();
    if let Some(expected) = slice.chips_per_host.value().filter(|expected| found < **expected as usize) {
        contradictions.push(format!("{found} of the {expected} chips that it should have"));
    }
    let named = slice.accelerator.value().and_then(|name| Some((name, node::model_of_accelerator(name)?)));
    let models = devices.iter().filter_map(|device| device.product.value()?.model.value());
    if let (Some((name, expected)), Some(model)) =
        (named, models.into_iter().find(|model| named.is_some_and(|(_, expected)| *model != expected)))
    {
        contradictions.push(format!("a {model} chip according to its PCI id, but {name} ({expected})"));
    }
    contradictions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_are_those_of_a_source_or_of_the_topology() {
        let topology =
            |shape: &str| TpuSlice { topology: Known::Value(shape.to_owned()), ..TpuSlice::default() };
        assert_eq!(hosts(&topology("4x4")), Known::default(), "how many chips each has is not known");
        let of_four = |shape: &str| TpuSlice { chips_per_host: Known::Value(4), ..topology(shape) };
        assert_eq!(hosts(&of_four("4x4")), Known::Value(4));
        assert_eq!(hosts(&of_four("2x2x1")), Known::Value(1));
        assert_eq!(hosts(&of_four("2x3")), Known::default());
        assert_eq!(hosts(&TpuSlice { hosts: Known::Value(2), ..of_four("4x4") }), Known::Value(2));
        let pending = TpuSlice { hosts: Missing::Pending.into(), ..TpuSlice::default() };
        assert_eq!(hosts(&pending).missing(), Some(Missing::Pending));
    }
}
