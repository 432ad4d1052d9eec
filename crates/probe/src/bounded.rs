//! Bounds of what the process of a library may report. The agent holds a report for as long as the process lives, compares its
//! elements with each other, and repeats its texts in each series: what is in no vendor's report is an error before it is held.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use crate::ffi::MAX_HANDLES;

/// The calls that are answered of one device or partition, at most. One with all links has some hundred.
pub(crate) const MAX_CALLS: usize = 1024;
/// The longest string of an answer, and name of a call. A buffer of a library's header has at most 256 bytes.
const MAX_STRING_BYTES: usize = 1024;

/// Deserializes a list of at most as many elements as there may be handles.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(BoundedList(PhantomData))
}

/// Deserializes the answers of calls: at most [`MAX_CALLS`].
pub(crate) fn calls<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    deserializer.deserialize_map(BoundedCalls(PhantomData))
}

/// Whether no string of a JSON text is too long.
pub(crate) fn has_short_strings(json: &str) -> bool {
    let (mut length, mut is_string, mut is_escaped) = (0, false, false);
    for byte in json.bytes() {
        if byte == b'"' && !is_escaped {
            (is_string, length) = (!is_string, 0);
            continue;
        }
        is_escaped = is_string && byte == b'\\' && !is_escaped;
        length += usize::from(is_string);
        if length > MAX_STRING_BYTES {
            return false;
        }
    }
    true
}

struct BoundedList<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedList<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_HANDLES} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            if elements.len() == MAX_HANDLES {
                return Err(Error::invalid_length(MAX_HANDLES + 1, &self));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}

struct BoundedCalls<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedCalls<T> {
    type Value = BTreeMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answers of at most {MAX_CALLS} calls")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BTreeMap<String, T>, A::Error> {
        let mut calls = BTreeMap::new();
        while let Some((call, answer)) = map.next_entry::<String, T>()? {
            if call.len() > MAX_STRING_BYTES {
                return Err(Error::custom(format_args!(
                    "the name of a call has more than {MAX_STRING_BYTES} bytes"
                )));
            }
            calls.insert(call, answer);
            if calls.len() > MAX_CALLS {
                return Err(Error::invalid_length(calls.len(), &self));
            }
        }
        Ok(calls)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        answers::Answers,
        report::LibraryReport,
        status::{StatusRow, StatusTable},
    };

    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    struct NoStatus;

    impl StatusTable for NoStatus {
        const C_TYPE: &'static str = "none_t";
        const TABLES: &'static [&'static [StatusRow]] = &[];
    }

    type Report = LibraryReport<NoStatus>;

    fn is_read(report: &Value) -> bool {
        serde_json::from_str::<Report>(&report.to_string()).is_ok()
    }

    fn answers(count: usize) -> Value {
        (0..count).map(|number| (format!("k{number}"), json!({ "value": 1 }))).collect()
    }

    #[test]
    fn a_report_has_bounds() {
        let of_devices = |count| json!({ "system": {}, "devices": vec![json!({ "answers": {} }); count] });
        assert!(is_read(&of_devices(MAX_HANDLES)) && !is_read(&of_devices(MAX_HANDLES + 1)));
        let of_partitions =
            |count| json!({ "system": {}, "devices": [{ "answers": {}, "mig": vec![Value::Null; count] }] });
        assert!(is_read(&of_partitions(MAX_HANDLES)) && !is_read(&of_partitions(MAX_HANDLES + 1)));
        let of_calls = |count| json!({ "system": answers(count) });
        assert!(is_read(&of_calls(MAX_CALLS)) && !is_read(&of_calls(MAX_CALLS + 1)));
        let of_text = |length| json!({ "system": { "getName": { "value": ["x".repeat(length)] } } });
        assert!(is_read(&of_text(MAX_STRING_BYTES)) && !is_read(&of_text(MAX_STRING_BYTES + 1)));
        assert!(!is_read(&json!({ "system": { "k".repeat(MAX_STRING_BYTES + 1): { "value": 1 } } })));
    }

    #[test]
    fn what_is_retained_has_the_same_bounds() {
        let answers_of = |first: usize| {
            let mut answers: Answers<afd_model::Missing> = Answers::default();
            (first..first + MAX_CALLS).for_each(|number| answers.put(format!("k{number}"), Ok(json!(1))));
            answers
        };
        let (earlier, mut now) = (answers_of(MAX_CALLS), answers_of(0));
        now.retain_missing(&earlier, |_| true);
        assert_eq!(now.len(), MAX_CALLS);
    }

    #[test]
    fn escaped_quotes_end_no_string() {
        let long = r#"\""#.repeat(MAX_STRING_BYTES);
        assert!(!has_short_strings(&format!(r#"["{long}"]"#)));
        assert!(has_short_strings(&format!(r#"[{}"x"]"#, r#""a\\","#.repeat(MAX_STRING_BYTES))));
    }
}
