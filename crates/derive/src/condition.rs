//! The conditions of the Node. What they say is decided over time, by `afd-track`.

/// The types of the conditions `Ready` and `Problem` under our prefix.
pub fn kinds(prefix: &str) -> (String, String) {
    (format!("{prefix}/Ready"), format!("{prefix}/Problem"))
}
