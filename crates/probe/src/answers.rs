//! What a vendor's library answered: every call with its value or its error, as the process that asks sends it, as
//! `afd record` writes it to `libraries/<library>.json`, and as the fake library of the tests serves it.

use std::collections::BTreeMap;

use afd_model::{Known, Missing};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Answers by call: the C symbol, with arguments that choose in parentheses, as C numbers:
/// `nvmlDeviceGetClockInfo(1)`. `C` is the library's error code, which says why a fact is missing.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Answers<C>(BTreeMap<String, Answer<C>>);

/// A value in the units and enums of the library's header, or an error. Structs are objects with the C names of their
/// fields.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer<C> {
    /// The call succeeded.
    Value(Value),
    /// Anything else.
    Error(C),
}

/// `call(argument)`, as an [`Answers`] spells it.
pub fn of(call: &str, argument: u32) -> String {
    format!("{call}({argument})")
}

/// `call(first,second)`.
pub fn of_two(call: &str, first: u32, second: u32) -> String {
    format!("{call}({first},{second})")
}

impl<C> Default for Answers<C> {
    fn default() -> Self {
        Answers(BTreeMap::new())
    }
}

impl<C> Answers<C> {
    /// Notes what a call gave.
    pub fn put(&mut self, call: impl Into<String>, answer: Result<Value, C>) {
        let answer = answer.map_or_else(Answer::Error, Answer::Value);
        self.0.insert(call.into(), answer);
    }

    /// What a call gave, if it was made.
    pub fn get(&self, call: &str) -> Option<&Answer<C>> {
        self.0.get(call)
    }

    /// Takes over the answers of another time, which win.
    pub fn extend(&mut self, other: Answers<C>) {
        self.0.extend(other.0);
    }

    /// Keeps the values of another time that such calls gave which give none now.
    pub fn keep(&mut self, before: &Answers<C>, such: impl Fn(&str) -> bool)
    where
        C: Clone,
    {
        for (call, answer) in &before.0 {
            let lost = !matches!(self.0.get(call), Some(Answer::Value(_)));
            if lost && matches!(answer, Answer::Value(_)) && such(call) {
                self.0.insert(call.clone(), answer.clone());
            }
        }
    }

    /// Applies a change to every text that one of these calls gave.
    pub fn rewrite(&mut self, calls: &[&str], change: &mut dyn FnMut(&str) -> String) {
        for call in calls {
            if let Some(Answer::Value(Value::String(text))) = self.0.get_mut(*call) {
                *text = change(text);
            }
        }
    }
}

impl<C: Clone + Into<Missing>> Answers<C> {
    /// The value of a call; why there is none, if there is none.
    pub fn known<T: DeserializeOwned>(&self, call: &str) -> Known<T> {
        match self.get(call) {
            None => Known::default(),
            Some(Answer::Error(code)) => Known::from(code.clone().into()),
            Some(Answer::Value(value)) => Known::from_option(T::deserialize(value).ok(), Missing::Malformed),
        }
    }

    /// A field of the struct that a call filled.
    pub fn field<T: DeserializeOwned>(&self, call: &str, field: &str) -> Known<T> {
        self.known::<Value>(call).and_then(|value| {
            let field = value.get(field).and_then(|field| T::deserialize(field).ok());
            Known::from_option(field, Missing::Malformed)
        })
    }

    /// The error of a call, if it gave one.
    pub fn error(&self, call: &str) -> Option<C> {
        match self.get(call) {
            Some(Answer::Error(code)) => Some(code.clone()),
            _ => None,
        }
    }

    /// All calls that gave an error.
    pub fn errors(&self) -> impl Iterator<Item = (&str, C)> {
        self.0.iter().filter_map(|(call, answer)| match answer {
            Answer::Error(code) => Some((call.as_str(), code.clone())),
            Answer::Value(_) => None,
        })
    }
}
