//! Text of the node on a terminal: characters that a terminal obeys, or that hide or reorder others, are shown as escapes.
//!
//! A device, a driver or a recording can name itself as it likes. JSON and the exposition format keep their meaning.

use std::fmt::Write;

use afd_model::Inventory;
use serde_json::Value;

use crate::live::LiveReport;

/// The text with `\u{1b}` in place of such characters.
pub fn visible(text: &str) -> String {
    replaced(text, |c, text| {
        let _ = write!(text, "\\u{{{:x}}}", c as u32);
    })
}

/// The same in one line.
pub(crate) fn visible_line(text: &str) -> String {
    visible(text).replace('\n', "\\n")
}

/// The inventory with every string made visible.
pub(crate) fn visible_inventory(inventory: &Inventory) -> Inventory {
    serde_json::to_value(inventory)
        .and_then(|value| serde_json::from_value(visible_value(value)))
        .expect("an inventory with other strings is an inventory")
}

/// The report of this JSON with every string made visible.
///
/// # Errors
/// When it is no report.
pub(crate) fn visible_live(report: Value) -> serde_json::Result<LiveReport> {
    serde_json::from_value(visible_value(report))
}

/// JSON of the same value, in which such characters are escaped as JSON escapes them.
pub(crate) fn visible_json(json: &str) -> String {
    replaced(json, |c, text| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(text, "\\u{unit:04x}");
        }
    })
}

/// Metrics with a replacement character in place of such characters: the format has no escape for them.
pub(crate) fn visible_metrics(metrics: &str) -> String {
    replaced(metrics, |_, text| text.push(char::REPLACEMENT_CHARACTER))
}

/// Replaces the characters outside of line ends; those within strings are no line ends in any of the formats but plain text,
/// whose strings are made visible one by one.
fn replaced(text: &str, replace: impl Fn(char, &mut String)) -> String {
    let mut replaced = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_hidden(c) { replace(c, &mut replaced) } else { replaced.push(c) }
    }
    replaced
}

/// Whether a terminal obeys a character, or it is invisible or changes the order of others.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn visible_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(visible_line(&text)),
        Value::Array(values) => values.into_iter().map(visible_value).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (visible_line(&name), visible_value(value))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        assert_eq!(
            visible("H100\x1b[31m\u{9b}1m\x07 \u{202e}gnp\r\tä\n"),
            "H100\\u{1b}[31m\\u{9b}1m\\u{7} \\u{202e}gnp\\u{d}\\u{9}ä\n"
        );
        assert_eq!(visible_value(json!({ "a\n": ["b\n", 1] })), json!({ "a\\n": ["b\\n", 1] }));
    }

    #[test]
    fn json_has_the_same_value() {
        let value = json!({ "name": "\x1b[31m\u{9b}\u{202e}\u{e0041}" });
        let text = visible_json(&value.to_string());
        assert!(text.is_ascii(), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("it is JSON"), value);
    }

    #[test]
    fn metrics_have_no_escape_for_it() {
        assert_eq!(visible_metrics("a{name=\"\x1b[31m\"} 1\n"), "a{name=\"\u{fffd}[31m\"} 1\n");
    }
}
