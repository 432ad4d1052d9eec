//! The keys that the DRA driver for TPUs reads from a Node (kubernetes-sigs/dra-driver-google-tpu, `util.go`).

use afd_model::{Device, Fact, Known, Missing, TpuSlice};

use crate::{
    compat::labels::{CompatLabel, LabelFill, LabelScope, LabelSet, agreed},
    value::{MAX_LENGTH, label_value},
};

pub(super) const LABELS: LabelSet = LabelSet {
    tool: "the DRA driver for TPUs (kubernetes-sigs/dra-driver-google-tpu), which reads them",
    notes: "Off GKE only: on a Node with a label `cloud.google.com/gke-*` nothing of the set is published.",
    tables: &[ROWS],
    placeholders: &[],
    left_out: &[],
    differences: &[
        "They decide what the driver publishes. So a value is certain or absent, where the driver assumes 4 chips and the topology \
         2x2.",
        "`accelerator` of TPU v4, v5p, v6e and 7x is that of the PCI id; of v5e and v3 it depends on the form of the machine, which \
         its metadata say.",
        "`topology` is that of the metadata. Without one, a host that is a slice of its own has the topology of its chips.",
        "On GKE the keys of GKE have the same meanings. AFD reads them and writes none.",
    ],
};

const MODEL_AND_SLICE: &[Fact] = &[Fact::Product, Fact::Model, Fact::VendorFacts];
const SLICE: &[Fact] = &[Fact::VendorFacts];

const ROWS: &[CompatLabel] = &[
    CompatLabel {
        key: "tpu.google.com/accelerator",
        examples: "`tpu-v6e-slice`, `tpu-v5-lite-podslice`",
        meaning: "generation and form",
        needs: MODEL_AND_SLICE,
        unread: |scope| {
            let unread = |device: &Device| match accelerator_of_model(device) {
                Some(_) => None,
                None => slice_fact(device, |slice| &slice.accelerator),
            };
            scope.is_unread(unread)
        },
        fill: LabelFill::One(|scope| of_chips(scope, accelerator)),
    },
    CompatLabel {
        key: "tpu.google.com/chip-count",
        examples: "`8`",
        meaning: "chips of the node",
        needs: SLICE,
        unread: |_| false,
        fill: LabelFill::One(|scope| of_chips(scope, |_| Some(scope.devices.len().to_string()))),
    },
    CompatLabel {
        key: "tpu.google.com/topology",
        examples: "`2x4`, `4x4x8`",
        meaning: "chips of the whole slice in each dimension",
        needs: MODEL_AND_SLICE,
        unread: |scope| scope.is_unread(|device| slice_fact(device, |slice| &slice.topology)),
        fill: LabelFill::One(|scope| of_chips(scope, |device| topology(device, scope.devices.len()))),
    },
    CompatLabel {
        key: "tpu.google.com/ici-resiliency",
        examples: "`true`, `false`",
        meaning: "whether the slice works on without some of its links",
        needs: SLICE,
        unread: |scope| scope.is_unread(|device| slice_fact(device, |slice| &slice.ici_resiliency)),
        fill: LabelFill::One(|scope| {
            of_chips(scope, |device| Some(device.tpu_slice()?.ici_resiliency.value()?.to_string()))
        }),
    },
];

/// The value that all chips have, unless the platform labels the Node. One that is no label value is none: a changed one would mean
/// something else.
fn of_chips(scope: &LabelScope<'_>, value: impl Fn(&Device) -> Option<String>) -> Option<String> {
    let is_labelled = |device: &&Device| {
        device.tpu_slice().is_some_and(|slice| slice.labelled_by_platform == Known::Value(true))
    };
    if scope.devices.iter().any(is_labelled) {
        return None;
    }
    let values: Option<Vec<String>> = scope.devices.iter().map(|device| value(device)).collect();
    let value = agreed(&values?)?;
    (label_value(&value, MAX_LENGTH)? == value).then_some(value)
}

fn slice_fact<T>(device: &Device, fact: impl Fn(&TpuSlice) -> &Known<T>) -> Option<Missing> {
    fact(device.tpu_slice()?).missing()
}

/// The name of the generation and its form.
pub(super) fn accelerator(device: &Device) -> Option<String> {
    let of_metadata = || device.tpu_slice()?.accelerator.value().cloned();
    accelerator_of_model(device).map(str::to_owned).or_else(of_metadata)
}

/// The name of a generation that has one form.
fn accelerator_of_model(device: &Device) -> Option<&'static str> {
    Some(match device.product.value()?.model.value()?.as_str() {
        "v4" => "tpu-v4-podslice",
        "v5p" => "tpu-v5p-slice",
        "v6e" => "tpu-v6e-slice",
        "7x" => "tpu7x",
        _ => return None,
    })
}

/// The topology of the slice: what is known of it, or that of the chips of a host that is a slice of its own.
pub(super) fn topology(device: &Device, chips: usize) -> Option<String> {
    let slice = device.tpu_slice()?;
    if let Some(topology) = slice.topology.value() {
        return Some(topology.clone());
    }
    let is_whole = slice.hosts == Known::Value(1) && *slice.chips_per_host.value()? as usize == chips;
    let model = device.product.value()?.model.value()?.as_str();
    let has_three_dimensions = matches!(model, "v4" | "v5p" | "7x");
    let topology = match (chips, has_three_dimensions) {
        (4, true) => "2x2x1",
        (1, false) => "1x1",
        (2, false) => "1x2",
        (4, false) => "2x2",
        (8, false) => "2x4",
        _ => return None,
    };
    is_whole.then(|| topology.to_owned())
}

#[cfg(test)]
mod tests {
    use afd_model::{Inventory, PciAddress, Product, Variant, Vendor, VendorFacts};

    use super::*;
    use crate::vendors::VendorOptions;

    fn chip(model: &str, slice: TpuSlice) -> Device {
        let address = PciAddress { domain: 0, bus: 1, device: 0, function: 0 };
        let mut device = Device::bare(address, Vendor::Google, Variant::Tpu);
        let product = Product {
            name: String::new(),
            model: Known::Value(model.to_owned()),
            architecture: Known::default(),
        };
        device.product = Known::Value(product);
        device.vendor_facts = Some(VendorFacts::Tpu(Box::new(slice)));
        device
    }

    #[test]
    fn a_host_that_is_a_slice_of_its_own_has_the_topology_of_its_chips() {
        let of = |model: &str, chips: u32, hosts: u32, found: usize| {
            let slice = TpuSlice {
                chips_per_host: Known::Value(chips),
                hosts: Known::Value(hosts),
                ..TpuSlice::default()
            };
            topology(&chip(model, slice), found)
        };
        assert_eq!(of("v6e", 8, 1, 8).as_deref(), Some("2x4"));
        assert_eq!(of("v5e", 1, 1, 1).as_deref(), Some("1x1"));
        assert_eq!(of("v5p", 4, 1, 4).as_deref(), Some("2x2x1"));
        assert_eq!(of("v6e", 4, 4, 4), None, "a part of a slice");
        assert_eq!(of("v6e", 8, 1, 7), None, "a chip is missing");
        assert_eq!(of("v5p", 2, 1, 2), None, "not a topology that is documented");
        let known = TpuSlice { topology: Known::Value("4x4".to_owned()), ..TpuSlice::default() };
        assert_eq!(topology(&chip("v6e", known), 4).as_deref(), Some("4x4"));
        assert_eq!(topology(&chip("v6e", TpuSlice::default()), 4), None);
    }

    #[test]
    fn what_is_no_label_value_is_no_label() {
        let (inventory, options) = (Inventory::default(), VendorOptions::default());
        let of = |text: &str| {
            let named = TpuSlice { accelerator: Known::Value(text.to_owned()), ..TpuSlice::default() };
            let device = chip("v5e", named);
            let scope = LabelScope { inventory: &inventory, devices: vec![&device], options: &options };
            of_chips(&scope, accelerator)
        };
        assert_eq!(of("tpu-v5-lite-device").as_deref(), Some("tpu-v5-lite-device"));
        for text in ["-", "", "tpu v5", "+2x4 ", "tpu-v5-"] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_form_of_v5e_is_that_of_the_metadata() {
        let named =
            TpuSlice { accelerator: Known::Value("tpu-v5-lite-device".to_owned()), ..TpuSlice::default() };
        assert_eq!(accelerator(&chip("v5e", named.clone())).as_deref(), Some("tpu-v5-lite-device"));
        assert_eq!(accelerator(&chip("v6e", named)).as_deref(), Some("tpu-v6e-slice"), "the chip is certain");
        assert_eq!(accelerator(&chip("v2", TpuSlice::default())), None);
    }
}
