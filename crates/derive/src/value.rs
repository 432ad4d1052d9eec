//! Texts as Kubernetes takes them for label values
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).

/// The longest label value, and the longest name part of a label key.
pub const MAX_LENGTH: usize = 63;

/// A text as a label value of at most `length` characters: what Kubernetes does not take becomes one `-`, nothing but
/// letters and digits stands at the ends, and a text that is too long is cut between two words. `None` if nothing is
/// left.
pub fn label_value(text: &str, length: usize) -> Option<String> {
    let mut value = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' => value.push(character),
            _ if value.ends_with('-') => {}
            _ => value.push('-'),
        }
    }
    let mut value = value.trim_matches(separator);
    if value.len() > length {
        let head = &value[..length];
        // Cut inside a word only if there is nothing but one word.
        let between_words = value[length..].starts_with(separator);
        let end = if between_words { Some(length) } else { head.rfind(separator) };
        value = head[..end.unwrap_or(length)].trim_end_matches(separator);
    }
    (!value.is_empty()).then(|| value.to_owned())
}

fn separator(character: char) -> bool {
    matches!(character, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_become_values() {
        let value = |text| label_value(text, MAX_LENGTH);
        assert_eq!(value("NVIDIA H100 80GB HBM3").as_deref(), Some("NVIDIA-H100-80GB-HBM3"));
        assert_eq!(value("AMD Instinct MI250X / MI250").as_deref(), Some("AMD-Instinct-MI250X-MI250"));
        assert_eq!(value(" (unknown) ").as_deref(), Some("unknown"));
        assert_eq!(value("---"), None);
        assert_eq!(value(""), None);
    }

    #[test]
    fn a_long_text_is_cut_between_words() {
        assert_eq!(label_value("one two three", 9).as_deref(), Some("one-two"));
        assert_eq!(label_value("one two three", 7).as_deref(), Some("one-two"));
        assert_eq!(label_value("one two three", 8).as_deref(), Some("one-two"));
        assert_eq!(label_value("threefold", 5).as_deref(), Some("three"));
    }

    proptest! {
        #[test]
        fn every_value_is_one_that_kubernetes_takes(text in ".{0,100}", length in 1_usize..70) {
            if let Some(value) = label_value(&text, length) {
                prop_assert!(value.len() <= length);
                prop_assert!(value.starts_with(|c: char| c.is_ascii_alphanumeric()));
                prop_assert!(value.ends_with(|c: char| c.is_ascii_alphanumeric()));
                prop_assert!(value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)));
            }
        }
    }
}
