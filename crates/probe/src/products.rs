//! The shape of a product table: facts that no interface reports, by PCI device id.

use afd_model::{Known, Missing, Product};

use crate::{Facts, PciFunction};

/// A product of a vendor's table. `F` is what else its id determines for that vendor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProductRow<F: 'static> {
    /// PCI device ids.
    pub ids: &'static [u16],
    /// Marketing name.
    pub name: &'static str,
    /// Short model name; none where the vendor has none.
    pub model: Option<&'static str>,
    /// Silicon generation.
    pub architecture: &'static str,
    /// The vendor's own facts.
    pub facts: F,
}

impl<F> ProductRow<F> {
    /// The product for the inventory.
    pub fn product(&self) -> Product {
        Product {
            name: self.name.to_owned(),
            model: Known::from_option(self.model.map(str::to_owned), Missing::NotAvailable),
            architecture: Known::Value(self.architecture.to_owned()),
        }
    }
}

/// The rows of a device id: several where one id is sold as several products.
pub fn rows_of<'t, F>(
    tables: &'t [&'static [ProductRow<F>]],
    id: u16,
) -> impl Iterator<Item = &'static ProductRow<F>> + 't {
    tables.iter().copied().flatten().filter(move |row| row.ids.contains(&id))
}

/// The product of a function that no row has: unrecognized, which is a problem.
pub fn unrecognized(facts: &mut Facts<'_>, function: &PciFunction) -> Known<Product> {
    let vendor = function.vendor_id;
    vendor.and_then(|vendor| function.device_id.map(|device| (vendor, device))).and_then(
        |(vendor, device)| {
            let message = format_args!("PCI id {vendor}:{device} is not in the product table");
            facts.missing("product", Missing::Unrecognized, Some(&function.attribute("device")), message)
        },
    )
}
