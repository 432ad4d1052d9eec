//! Strings as valid label values of Kubernetes
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).

/// Maximum length of a label value, and of the name part of a label key.
pub const MAX_LENGTH: usize = 63;

/// A string as a label value of at most `length` characters: a sequence of invalid characters becomes one `-`, separators at the
/// ends are removed, and a string that is too long is truncated between two words. `None` if nothing is left.
pub fn label_value(text: &str, length: usize) -> Option<String> {
    let mut value = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' => value.push(character),
            _ if value.ends_with('-') => {}
            _ => value.push('-'),
        }
    }
    let mut value = value.trim_matches(is_separator);
    if value.len() > length {
        let head = &value[..length];
        // Truncate inside a word only if there is just one word.
        let between_words = value[length..].starts_with(is_separator);
        let end = if between_words { Some(length) } else { head.rfind(is_separator) };
        value = head[..end.unwrap_or(length)].trim_end_matches(is_separator);
    }
    (!value.is_empty()).then(|| value.to_owned())
}

/// A string with an end that says what distinguishes it, as a label value of at most `length` characters: only the beginning is
/// truncated. `None` if nothing is left of the beginning.
pub fn label_value_with_end(beginning: &str, end: &str, length: usize) -> Option<String> {
    let end = label_value(&format!("x{end}"), length)?;
    let end = &end[1..];
    label_value(beginning, length.checked_sub(end.len())?).map(|beginning| beginning + end)
}

fn is_separator(character: char) -> bool {
    matches!(character, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_become_values() {
        let value = |text| label_value(text, MAX_LENGTH);
        assert_eq!(value("Example H100 80GB HBM3").as_deref(), Some("Example-H100-80GB-HBM3"));
        assert_eq!(value("Example MI250X / MI250").as_deref(), Some("Example-MI250X-MI250"));
        assert_eq!(value(" (unknown) ").as_deref(), Some("unknown"));
        assert_eq!(value("---"), None);
        assert_eq!(value(""), None);
    }

    #[test]
    fn a_long_string_is_truncated_between_words() {
        assert_eq!(label_value("one two three", 9).as_deref(), Some("one-two"));
        assert_eq!(label_value("one two three", 7).as_deref(), Some("one-two"));
        assert_eq!(label_value("one two three", 8).as_deref(), Some("one-two"));
        assert_eq!(label_value("threefold", 5).as_deref(), Some("three"));
    }

    #[test]
    fn the_end_survives_the_length() {
        let value = |beginning, end| label_value_with_end(beginning, end, 20);
        assert_eq!(value("one two three four", "-MIG-1g+me").as_deref(), Some("one-two-MIG-1g-me"));
        assert_eq!(value("one", "-MIG-1g").as_deref(), Some("one-MIG-1g"));
        assert_eq!(value("one two", "").as_deref(), Some("one-two"));
        assert_eq!(value("", "-MIG-1g"), None);
    }

    proptest! {
        #[test]
        fn no_two_ends_give_one_value(beginning in "[A-Z][A-Za-z0-9 ]{0,90}", ends in proptest::collection::btree_set("-MIG-[1-7]g\\.[0-9]{1,3}gb(-me)?(-SHARED)?", 2..6)) {
            let values: std::collections::BTreeSet<_> =
                ends.iter().filter_map(|end| label_value_with_end(&beginning, end, MAX_LENGTH)).collect();
            prop_assert_eq!(values.len(), ends.len());
            for (value, end) in values.iter().flat_map(|value| ends.iter().map(move |end| (value, end))) {
                prop_assert!(value.len() <= MAX_LENGTH && label_value(value, MAX_LENGTH).as_ref() == Some(value), "{} {}", value, end);
            }
        }

        #[test]
        fn every_value_is_valid_in_kubernetes(text in ".{0,100}", length in 1_usize..70) {
            if let Some(value) = label_value(&text, length) {
                prop_assert!(value.len() <= length);
                prop_assert!(value.starts_with(|c: char| c.is_ascii_alphanumeric()));
                prop_assert!(value.ends_with(|c: char| c.is_ascii_alphanumeric()));
                prop_assert!(value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)));
            }
        }
    }
}
