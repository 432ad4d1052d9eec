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
    /// Whether parts of it can be slices of their own.
    has_parts: bool,
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
    let mut found = FoundSlice { has_parts: node.is_some_and(|node| node.has_parts), sources: Vec::new() };
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
    slice.hosts = if found.has_parts { Known::default() } else { hosts(&slice, devices.len()) };
    for device in devices {
        device.fabric_domain = match slice.hosts {
            Known::Value(0 | 1) => Known::default(),
            Known::Value(_) => slice.identity.clone(),
            Known::Missing { missing } => missing.into(),
        };
        device.vendor_facts = Some(VendorFacts::Tpu(Box::new(slice.clone())));
    }
}

/// The hosts of the slice, as a source says or its topology has them.
fn hosts(slice: &TpuSlice, found: usize) -> Known<u32> {
    let per_host = slice.chips_per_host.value().copied().or_else(|| u32::try_from(found).ok());
    let of_topology = || {
        let (chips, per_host) = (slice.chips()?, per_host?);
        chips.checked_div(per_host).filter(|hosts| hosts * per_host == chips)
    };
    match slice.hosts {
        Known::Value(hosts) => Known::Value(hosts),
        Known::Missing { missing } => Known::from_option(of_topology(), missing),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_are_those_of_a_source_or_of_the_topology() {
        let topology =
            |shape: &str| TpuSlice { topology: Known::Value(shape.to_owned()), ..TpuSlice::default() };
        assert_eq!(hosts(&topology("4x4"), 4), Known::Value(4));
        assert_eq!(hosts(&topology("2x2x1"), 4), Known::Value(1));
        assert_eq!(hosts(&topology("4x4"), 3), Known::default(), "a chip is missing");
        let all = TpuSlice { chips_per_host: Known::Value(4), ..topology("4x4") };
        assert_eq!(hosts(&all, 3), Known::Value(4));
        assert_eq!(hosts(&TpuSlice { hosts: Known::Value(2), ..all }, 3), Known::Value(2));
        let pending = TpuSlice { hosts: Missing::Pending.into(), ..TpuSlice::default() };
        assert_eq!(hosts(&pending, 4).missing(), Some(Missing::Pending));
    }
}
