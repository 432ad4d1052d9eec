//! Names of objects, made from products.

use std::{collections::BTreeMap, fmt::Write};

use sha2::{Digest, Sha256};

/// A DNS label: such a name is also the value of a label, which Karpenter makes of it.
const MAX_LENGTH: usize = 63;
const DIGEST_LENGTH: usize = 8;

/// A name for each product: the product in lower case, with `-` for what a name cannot have. Products with the same name get a
/// digest of the product at its end, as does one that is too long.
pub(super) fn object_names<'p>(products: impl Iterator<Item = &'p str> + Clone) -> BTreeMap<&'p str, String> {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    products.clone().for_each(|product| *uses.entry(plain(product)).or_default() += 1);
    let named = products.map(|product| {
        let name = plain(product);
        let is_alone = uses[&name] == 1 && name.len() <= MAX_LENGTH && !has_digest_form(&name);
        (product, if is_alone { name } else { with_digest(&name, product) })
    });
    named.collect()
}

fn plain(product: &str) -> String {
    let mut name = String::with_capacity(product.len());
    for c in product.chars() {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => name.push(c),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let end = name.trim_end_matches('-').len();
    name.truncate(end);
    name
}

/// Whether a name could be that of another product with its digest. An empty one is no name either.
fn has_digest_form(name: &str) -> bool {
    let end = name.rsplit('-').next().unwrap_or_default();
    name.is_empty() || end.len() == DIGEST_LENGTH && end.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn with_digest(name: &str, product: &str) -> String {
    let head = &name[..name.len().min(MAX_LENGTH - DIGEST_LENGTH - 1)];
    let mut name = head.trim_end_matches('-').to_owned();
    if !name.is_empty() {
        name.push('-');
    }
    for byte in &Sha256::digest(product)[..DIGEST_LENGTH / 2] {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn names(products: &[&str]) -> Vec<String> {
        object_names(products.iter().copied()).into_values().collect()
    }

    #[test]
    fn a_product_is_its_name_in_lower_case() {
        assert_eq!(
            names(&["Example-H100-80GB", "Example_MI300X.OAM"]),
            ["example-h100-80gb", "example-mi300x-oam"]
        );
    }

    #[test]
    fn products_with_one_name_get_a_digest() {
        let both = names(&["A_1", "A-1"]);
        assert!(both.iter().all(|name| name.starts_with("a-1-") && name.len() == 12), "{both:?}");
        assert_ne!(both[0], both[1]);
        // Independent of the others.
        assert_eq!(names(&["A-1", "A.1"])[0], both[0]);
    }

    proptest! {
        #[test]
        fn every_product_has_a_valid_name_of_its_own(products in proptest::collection::btree_set("\\PC{0,80}|[aA][-_.][0-9a-f]{0,9}", 1..8)) {
            let names = object_names(products.iter().map(String::as_str));
            let distinct: BTreeSet<&String> = names.values().collect();
            prop_assert_eq!(distinct.len(), products.len());
            for name in distinct {
                let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
                prop_assert!(name.len() <= MAX_LENGTH && !name.is_empty(), "{}", name);
                prop_assert!(name.bytes().all(|byte| inner(byte) || byte == b'-'), "{}", name);
                prop_assert!(!name.starts_with('-') && !name.ends_with('-'), "{}", name);
            }
        }
    }
}
