//! Inventory to node labels. The keys are an API: they change only with a major version.

mod products;
mod table;
mod values;

use std::collections::BTreeMap;

use afd_model::{Decision, Device, Fact, Inventory};

pub(crate) use self::products::{primary_devices, primary_product, primary_product_is_undecided};
pub(crate) use self::table::GUIDE_VARIANT_KEY;
pub use self::table::{LABELS, Label, PRODUCT_KEY};
use self::{
    products::{ProductGroup, Products},
    table::LabelOrigin,
};
use crate::{
    decided::{DecidedKeys, KeyFamilies, MadeFamily, is_undecided},
    paths::PATH_KEY,
    rdma,
    value::{MAX_LENGTH, label_value},
    vendors,
};

/// The default prefix of our own labels.
pub const DEFAULT_PREFIX: &str = "accelerator.llm-d.ai";

/// What the admin can choose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LabelOptions {
    /// Prefix of our own labels, without the slash.
    pub prefix: String,
    /// Whether integrated GPUs count.
    pub include_integrated: bool,
}

impl Default for LabelOptions {
    fn default() -> Self {
        LabelOptions { prefix: DEFAULT_PREFIX.to_owned(), include_integrated: false }
    }
}

impl LabelOptions {
    /// A key of our own with the prefix; one with a slash is complete.
    pub(crate) fn key(&self, key: &str) -> String {
        if key.contains('/') { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }
}

/// The families of all labels that the rules can make under this prefix.
pub fn all_families(prefix: &str) -> KeyFamilies {
    let mut families = KeyFamilies::default();
    for label in LABELS.iter().filter(|label| !label.key.contains('/')) {
        families.insert_key(format!("{prefix}/{}", label.key));
    }
    for family in [PRODUCT_KEY, PATH_KEY] {
        families.insert_prefix(format!("{prefix}/{family}"));
    }
    families
}

/// The labels of a node as they are known now; none if it has no accelerator. `allocation` is how Kubernetes allocates the
/// devices.
pub fn labels(
    inventory: &Inventory,
    options: &LabelOptions,
    allocation: Decision<&'static str>,
) -> BTreeMap<String, String> {
    families(inventory, options, allocation).into_iter().flat_map(|family| family.values).collect()
}

/// The labels of a node that are decided, and the families that are not.
pub fn decided_labels(
    inventory: &Inventory,
    options: &LabelOptions,
    allocation: Decision<&'static str>,
) -> DecidedKeys {
    families(inventory, options, allocation).into_iter().collect()
}

fn families(
    inventory: &Inventory,
    options: &LabelOptions,
    allocation: Decision<&'static str>,
) -> Vec<MadeFamily> {
    let family = |key: &str, undecided, values: Vec<(String, String)>| MadeFamily {
        key: options.key(key),
        undecided,
        values: values.into_iter().map(|(key, value)| (options.key(&key), value)).collect(),
    };
    let products = products::of_inventory(inventory, options.include_integrated);
    let Some(primary) = products.primary() else {
        let missing = values::missing(inventory).map(|missing| (table::MISSING_KEY.to_owned(), missing));
        return vec![family(table::MISSING_KEY, false, missing.into_iter().collect())];
    };
    let node = LabelledNode { inventory, products: &products, primary, allocation };
    let rows = LABELS.iter().map(|label| {
        let value = (label.value)(&node).map(|value| (label.key.to_owned(), value));
        family(label.key, node.is_undecided(label.made_from), value.into_iter().collect())
    });
    // Products whose names are equal as far as a key can have them share it.
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for group in &products.0 {
        let name = group.product.as_deref();
        if let Some(slug) = name.and_then(|name| label_value(name, MAX_LENGTH - PRODUCT_KEY.len())) {
            *counts.entry(format!("{PRODUCT_KEY}{slug}")).or_default() += group.devices.len();
        }
    }
    let keys = counts.into_iter().map(|(key, count)| (key, count.to_string()));
    let undecided = is_undecided(node.counted(), &[Fact::Product]);
    let keys = family(&format!("{PRODUCT_KEY}<product>"), undecided, keys.collect());
    rows.chain([keys]).collect()
}

/// What the values of labels are made from.
struct LabelledNode<'a> {
    inventory: &'a Inventory,
    products: &'a Products<'a>,
    primary: &'a ProductGroup<'a>,
    allocation: Decision<&'static str>,
}

impl<'a> LabelledNode<'a> {
    /// The devices of the primary product.
    fn devices(&self) -> impl Iterator<Item = &'a Device> + Clone {
        self.primary.devices.iter().copied()
    }

    /// All devices that count.
    fn counted(&self) -> impl Iterator<Item = &'a Device> {
        self.products.0.iter().flat_map(|group| group.devices.iter().copied())
    }

    /// What the guides call llm-d's variant of the primary product.
    fn guide_variant(&self) -> &'static str {
        let model = self.agreed(|device| device.product.value()?.model.value());
        let own = self.guide_variants().iter().find(|(own, _)| Some(*own) == model.map(String::as_str));
        own.map_or(self.primary.variant.as_str(), |(_, variant)| variant)
    }

    fn guide_variants(&self) -> &'static [(&'static str, &'static str)] {
        self.devices().find_map(vendors::of_device).map_or(&[], |record| record.guide_variants)
    }

    fn is_undecided(&self, origin: LabelOrigin) -> bool {
        match origin {
            LabelOrigin::GuideVariant => {
                self.is_undecided(LabelOrigin::Kind)
                    || !self.guide_variants().is_empty()
                        && (self.products.primary_is_undecided()
                            || is_undecided(self.devices(), &[Fact::Model]))
            }
            LabelOrigin::Kind => {
                let kind = |device: &Device| (device.vendor, device.variant);
                let several =
                    self.counted().any(|device| kind(device) != (self.primary.vendor, self.primary.variant));
                several && self.products.primary_is_undecided()
            }
            LabelOrigin::PrimaryProduct(needs) => {
                self.products.primary_is_undecided() || is_undecided(self.devices(), needs)
            }
            LabelOrigin::Devices(needs) => is_undecided(self.counted(), needs),
            LabelOrigin::Ports => rdma::is_undecided(self.inventory),
            LabelOrigin::Offers => !self.allocation.is_decided(),
        }
    }

    /// The fact in which all devices agree that have it.
    fn agreed<T: PartialEq>(&self, fact: impl Fn(&'a Device) -> Option<T>) -> Option<T> {
        let mut known = self.devices().filter_map(fact);
        let first = known.next()?;
        known.all(|value| value == first).then_some(first)
    }

    /// The same as a label value.
    fn agreed_value(&self, fact: impl Fn(&'a Device) -> Option<&'a str>) -> Option<String> {
        self.agreed(fact).and_then(|text| label_value(text, MAX_LENGTH))
    }
}

#[cfg(test)]
mod tests;
