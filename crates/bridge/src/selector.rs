//! Which pods opt in: label selectors of the simple forms, which the bridge, the API server and the admission policy evaluate alike.

use std::{collections::BTreeMap, str::FromStr};

use kube::core::{Expression, Selector, SelectorExt};

/// The pods of llm-d: model servers with a role, and those that its guides mark for inference.
pub const DEFAULT_SELECTORS: [&str; 2] =
    ["llm-d.ai/role", "llm-d.ai/inference-serving,llm-d.ai/inference-serving!=false"];
/// Each selector is a watch of its own.
pub const MAX_SELECTORS: usize = 6;

/// A selector of pods: `key`, `!key`, `key=value` and `key!=value`, separated by commas, which must all hold.
#[derive(Clone, Debug)]
pub struct PodSelector(Selector);

/// A text that is no selector.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is none of key, !key, key=value and key!=value")]
pub struct SelectorError(String);

impl FromStr for PodSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<PodSelector, SelectorError> {
        let mut selector = Selector::default();
        for part in text.split(',') {
            selector.extend(expression(part).ok_or_else(|| SelectorError(part.to_owned()))?);
        }
        Ok(PodSelector(selector))
    }
}

fn expression(text: &str) -> Option<Expression> {
    let own = |text: &str| is_key(text).then(|| text.to_owned());
    let value = |text: &str| is_value(text).then(|| text.to_owned());
    Some(if let Some(key) = text.strip_prefix('!') {
        Expression::DoesNotExist(own(key)?)
    } else if let Some((key, not)) = text.split_once("!=") {
        Expression::NotEqual(own(key)?, value(not)?)
    } else if let Some((key, is)) = text.split_once('=') {
        Expression::Equal(own(key)?, value(is)?)
    } else {
        Expression::Exists(own(text)?)
    })
}

fn is_name(text: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Whether a text is the key of a label.
fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => {
            let is_domain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
            !prefix.is_empty() && prefix.len() <= 253 && prefix.bytes().all(is_domain) && is_name(name)
        }
        None => is_name(text),
    }
}

/// Whether a text is the value of a label.
fn is_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

impl PodSelector {
    /// Whether it selects a pod with these labels.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.matches(labels)
    }

    /// As the API server reads it.
    pub(crate) fn to_query(&self) -> String {
        self.0.to_string()
    }

    /// Whether it has a key.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        let query = self.to_query();
        query.split(',').any(|part| part.trim_start_matches('!').split(['!', '=']).next() == Some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        selector.parse::<PodSelector>().expect("it is a selector").matches(&labels)
    }

    #[test]
    fn every_form_is_evaluated_as_kubernetes_does() {
        let decode = [("llm-d.ai/role", "decode")];
        assert!(matches("llm-d.ai/role", &decode) && !matches("!llm-d.ai/role", &decode));
        assert!(matches("llm-d.ai/role=decode", &decode) && !matches("llm-d.ai/role!=decode", &decode));
        assert!(matches("a!=b", &[]), "a key that is absent differs from every value");
        assert!(!matches("llm-d.ai/role,a=", &decode), "all have to hold");
        let [_, serving] = DEFAULT_SELECTORS;
        let of = |value| matches(serving, &[("llm-d.ai/inference-serving", value)]);
        assert!(of("true") && !of("false") && !matches(serving, &[]));
    }

    #[test]
    fn the_keys_of_every_form_are_known() {
        let selector: PodSelector = "a,!b,c=d,e/f!=g".parse().expect("it is a selector");
        assert!(["a", "b", "c", "e/f"].iter().all(|key| selector.has_key(key)));
        assert!(["d", "g", "e", ""].iter().all(|key| !selector.has_key(key)));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "a in (b)", "a==b", "a,", "A/", "a/b/c", "a b", "a=b'", "'a'"] {
            assert!(text.parse::<PodSelector>().is_err(), "{text:?}");
        }
    }
}
