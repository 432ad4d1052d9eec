//! Label selectors in Kubernetes' syntax, for Nodes that no API server selects.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

use std::collections::BTreeSet;

use kube::core::{Expression, Selector};

/// A label selector has a mistake.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no requirement of a label selector, such as key=value, key!=value, key in (a,b), key or !key"
)]
pub struct NodeSelectorError(String);

/// Parses a selector; one without a requirement matches everything.
pub(super) fn parse(text: &str) -> Result<Selector, NodeSelectorError> {
    requirements(text).map(expression).collect()
}

/// The parts between the commas that are not in parentheses.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    let parts = text.split(move |c| {
        match c {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

fn expression(text: &str) -> Result<Expression, NodeSelectorError> {
    let error = || NodeSelectorError(text.to_owned());
    let key = |key: &str| {
        let key = key.trim();
        let is_key = !key.is_empty()
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
        is_key.then(|| key.to_owned()).ok_or_else(error)
    };
    if let Some(listed) = text.strip_suffix(')') {
        let (head, values) = listed.split_once('(').ok_or_else(error)?;
        let values: BTreeSet<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (name, operator) = head.trim_end().rsplit_once(char::is_whitespace).ok_or_else(error)?;
        return match operator {
            "in" => Ok(Expression::In(key(name)?, values)),
            "notin" => Ok(Expression::NotIn(key(name)?, values)),
            _ => Err(error()),
        };
    }
    if let Some((name, value)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, value.trim().to_owned()));
    }
    if let Some((name, value)) = text.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value);
        return Ok(Expression::Equal(key(name)?, value.trim().to_owned()));
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(Expression::DoesNotExist(key(name)?)),
        None => Ok(Expression::Exists(key(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::core::SelectorExt;

    use super::*;

    #[test]
    fn a_selector_matches_as_that_of_kubectl() {
        let labels =
            [("zone", "a"), ("x.y/gpu", "true")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let labels = BTreeMap::from(labels);
        let matches = |text: &str| parse(text).expect("it is a selector").matches(&labels);
        for text in [
            "",
            "zone=a",
            "zone == a",
            "zone!=b",
            "none!=b",
            "zone in (b, a)",
            "zone notin (b,c),x.y/gpu",
            "!none",
        ] {
            assert!(matches(text), "{text}");
        }
        for text in
            ["zone=b", "zone in (b)", "zone notin (a)", "none", "!zone", "zone=a,none=x", "none in (a)"]
        {
            assert!(!matches(text), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        for text in ["a b", "zone in a,b", "zone under (a)", "=a", "(a)", "!", "a in (b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
