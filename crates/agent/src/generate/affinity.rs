//! Node affinities: a part of a pod's `spec` for each product, memory and path.

use afd_derive::{labels::PRODUCT_KEY, paths::PATH_KEY};

use super::products::FleetProducts;

pub(super) fn documents(products: &FleetProducts<'_>) -> Vec<String> {
    let by_product = products.named().flat_map(|(product, _, nodes)| {
        let all = format!("Nodes whose devices are {product}: {}.{}", nodes.nodes, nodes.about_mixed());
        let counted = products.key(&format!("{PRODUCT_KEY}{product}"));
        let count: Option<u64> = nodes.labels.get(&counted).and_then(|count| count.parse().ok());
        let at_least = count.filter(|count| *count > 0).map(|count| {
            let about = format!(
                "Nodes with {count} or more {product}, also beside other products: at least {}.",
                nodes.nodes
            );
            affinity(&about, &counted, "Gt", &(count - 1).to_string())
        });
        [Some(affinity(&all, &products.key("product"), "In", product)), at_least].into_iter().flatten()
    });
    let memories: Vec<(u64, usize)> =
        products.memories.iter().map(|(memory, nodes)| (*memory, *nodes)).collect();
    let by_memory = (0..memories.len()).filter_map(|index| {
        let nodes: usize = memories[index..].iter().map(|(_, nodes)| nodes).sum();
        let about = format!("Nodes whose devices have {} MiB of memory or more: {nodes}.", memories[index].0);
        Some(affinity(
            &about,
            &products.key("memory-mib"),
            "Gt",
            &memories[index].0.checked_sub(1)?.to_string(),
        ))
    });
    let by_path = products.paths.iter().map(|(path, nodes)| {
        let about = format!("Nodes that can serve {path}: {nodes}.");
        affinity(&about, &products.key(&format!("{PATH_KEY}{path}")), "In", "true")
    });
    by_product.chain(by_memory).chain(by_path).collect()
}

fn affinity(about: &str, key: &str, operator: &str, value: &str) -> String {
    format!(
        "# {about}\naffinity:\n  nodeAffinity:\n    requiredDuringSchedulingIgnoredDuringExecution:\n      nodeSelectorTerms:\n      \
         - matchExpressions:\n        - key: {key}\n          operator: {operator}\n          values: [\"{value}\"]\n"
    )
}
