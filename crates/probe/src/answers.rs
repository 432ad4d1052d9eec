//! What a vendor's library answered: every call with its value or its error, as the process that queries the library sends it,
//! as `afd record` writes it to `libraries/<library>.json`, and as the fake library of the tests serves it.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

use afd_model::{Known, Missing};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use crate::bounded;

/// A call of a library, as a report names it: the C symbol and, in parentheses, the arguments that select what it returns, as
/// C numbers: `get_clock(1)`.
///
/// A vendor's crate has one constant per call, which the querying process and the interpreter share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LibraryCall {
    /// The C symbol.
    pub symbol: &'static str,
    /// The arguments that select.
    pub arguments: &'static [u32],
}

impl LibraryCall {
    /// A call without selecting arguments, or one whose arguments are known at run time only ([`LibraryCall::with`]).
    pub const fn new(symbol: &'static str) -> LibraryCall {
        LibraryCall { symbol, arguments: &[] }
    }

    /// A call with selecting arguments.
    pub const fn selecting(symbol: &'static str, arguments: &'static [u32]) -> LibraryCall {
        LibraryCall { symbol, arguments }
    }

    /// The name of the call with these arguments.
    pub fn with(self, arguments: &[u32]) -> String {
        call_with(self.symbol, arguments)
    }
}

/// `symbol` or `symbol(first,second)`: the name of a call with arguments that select.
pub fn call_with(symbol: &str, arguments: &[u32]) -> String {
    let arguments: Vec<String> = arguments.iter().map(u32::to_string).collect();
    if arguments.is_empty() { symbol.to_owned() } else { format!("{symbol}({})", arguments.join(",")) }
}

impl fmt::Display for LibraryCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Cow::from(*self))
    }
}

impl From<LibraryCall> for Cow<'_, str> {
    fn from(call: LibraryCall) -> Self {
        if call.arguments.is_empty() { call.symbol.into() } else { call.with(call.arguments).into() }
    }
}

impl From<LibraryCall> for String {
    fn from(call: LibraryCall) -> Self {
        call.with(call.arguments)
    }
}

/// Answers by the name of the call ([`LibraryCall`]). `C` is the status code of the library, which determines why a fact is missing.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(transparent, bound(deserialize = "C: Deserialize<'de>"))]
pub struct Answers<C> {
    #[serde(deserialize_with = "bounded::calls")]
    answers: BTreeMap<String, Answer<C>>,
    /// Errors in whose place an earlier value stands.
    #[serde(skip, default = "BTreeMap::new")]
    retained: BTreeMap<String, C>,
}

/// A value in the units and enums of the library's header, or an error. Structs are objects with the C names of their
/// fields.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer<C> {
    /// The call succeeded.
    Value(AnsweredValue),
    /// Anything else.
    Error(C),
}

/// The value of a call as JSON text, which is a tenth as large in memory as its tree, and is parsed where it is read.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct AnsweredValue(Box<RawValue>);

impl<'de> Deserialize<'de> for AnsweredValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        if bounded::has_short_strings(json.get()) {
            Ok(AnsweredValue(json))
        } else {
            Err(de::Error::custom("a string of an answer is too long"))
        }
    }
}

impl AnsweredValue {
    /// The value as a type; none if it is of another one.
    pub fn parse<'s, T: Deserialize<'s>>(&'s self) -> Option<T> {
        serde_json::from_str(self.0.get()).ok()
    }

    /// A field of the value as a type; none if there is none, or it is of another type.
    fn field<'s, T: Deserialize<'s>>(&'s self, field: &str) -> Option<T> {
        let mut deserializer = serde_json::Deserializer::from_str(self.0.get());
        (&mut deserializer).deserialize_map(FieldOf(field, PhantomData)).ok()
    }
}

/// [`Answer`] about a component, in the text of the answer about all.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ComponentAnswer<T, C> {
    Value(T),
    Error(C),
}

impl<T, C: Into<Missing>> ComponentAnswer<T, C> {
    fn known(self) -> Known<T> {
        match self {
            ComponentAnswer::Error(code) => Known::from(code.into()),
            ComponentAnswer::Value(value) => Known::Value(value),
        }
    }
}

/// Deserializes a field of an object and ignores the others.
struct FieldOf<'f, T>(&'f str, PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldOf<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with a field {}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        found.ok_or_else(|| de::Error::custom("there is no such field"))
    }
}

impl PartialEq for AnsweredValue {
    fn eq(&self, other: &AnsweredValue) -> bool {
        // A recording may have other spaces than the process that queries the library.
        self.0.get() == other.0.get() || self.parse::<Value>() == other.parse::<Value>()
    }
}

impl From<&Value> for AnsweredValue {
    fn from(value: &Value) -> Self {
        AnsweredValue(to_raw_value(value).expect("a value is JSON"))
    }
}

impl<C> Default for Answers<C> {
    fn default() -> Self {
        Answers { answers: BTreeMap::new(), retained: BTreeMap::new() }
    }
}

impl<C> Answers<C> {
    /// Adds the result of a call.
    pub fn put(&mut self, call: impl Into<String>, result: Result<Value, C>) {
        let answer = result.map_or_else(Answer::Error, |value| Answer::Value((&value).into()));
        self.answers.insert(call.into(), answer);
    }

    /// Adds the results of a call on each component of the device (engines, sensors, memory modules), in the library's order:
    /// `{"value": [{"value": 40}, {"error": "NOT_AVAILABLE"}]}`.
    pub fn put_components(
        &mut self,
        call: impl Into<String>,
        results: impl IntoIterator<Item = Result<Value, C>>,
    ) where
        C: Serialize,
    {
        let answer = |result: Result<Value, C>| {
            result.map_or_else(Answer::Error, |value| Answer::Value((&value).into()))
        };
        let components: Vec<Answer<C>> = results.into_iter().map(answer).collect();
        let components = to_raw_value(&components).expect("answers are JSON");
        self.answers.insert(call.into(), Answer::Value(AnsweredValue(components)));
    }

    /// The answer of a call, if it was made.
    pub fn get<'a>(&self, call: impl Into<Cow<'a, str>>) -> Option<&Answer<C>> {
        self.answers.get(&*call.into())
    }

    /// How many calls have an answer.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether there is no answer at all.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Adds other answers, which replace the present ones.
    pub fn extend(&mut self, other: Answers<C>) {
        self.answers.extend(other.answers);
    }
}

impl<C: Clone + Into<Missing>> Answers<C> {
    /// The value of a call, or why there is none.
    pub fn known<'s, 'a, T: Deserialize<'s>>(&'s self, call: impl Into<Cow<'a, str>>) -> Known<T> {
        self.get(call).map_or_else(Known::default, Answer::known)
    }

    /// A field of the struct that a call filled.
    pub fn field<'s, 'a, T: Deserialize<'s>>(
        &'s self,
        call: impl Into<Cow<'a, str>>,
        field: &str,
    ) -> Known<T> {
        match self.get(call) {
            None => Known::default(),
            Some(Answer::Error(code)) => Known::from(code.clone().into()),
            Some(Answer::Value(value)) => Known::from_option(value.field(field), Missing::Malformed),
        }
    }

    /// The value of a call for each component of the device, in the library's order.
    pub fn components<'s, 'a, T: Deserialize<'s>>(
        &'s self,
        call: impl Into<Cow<'a, str>>,
    ) -> Known<Vec<Known<T>>>
    where
        C: Deserialize<'s>,
    {
        let call = call.into();
        // At once where each value is of the type, which is usual.
        if let Known::Value(answers) = self.known::<Vec<ComponentAnswer<T, C>>>(&*call) {
            return Known::Value(answers.into_iter().map(ComponentAnswer::known).collect());
        }
        let answers: Known<Vec<ComponentAnswer<&'s RawValue, C>>> = self.known(&*call);
        let parse = |text: &'s RawValue| {
            Known::from_option(serde_json::from_str(text.get()).ok(), Missing::Malformed)
        };
        answers.map(|answers| answers.into_iter().map(|answer| answer.known().and_then(parse)).collect())
    }

    /// Keeps the earlier values of calls that report nothing else now, if `retains` is true for the call.
    pub fn retain_missing(&mut self, earlier: &Answers<C>, retains: impl Fn(&str) -> bool) {
        let is_retained = |(call, answer): &(&String, &Answer<C>)| {
            matches!(answer, Answer::Value(_)) && retains(call) && self.is_undecided(call)
        };
        let retained: Vec<_> = earlier.answers.iter().filter(is_retained).collect();
        let retained: Vec<_> =
            retained.into_iter().map(|(call, answer)| (call.clone(), answer.clone())).collect();
        for (call, answer) in retained {
            if self.answers.len() >= bounded::MAX_CALLS && !self.answers.contains_key(&call) {
                continue;
            }
            if let Some(Answer::Error(code)) = self.answers.insert(call.clone(), answer) {
                self.retained.insert(call, code);
            }
        }
    }

    /// Whether the value of a call may be any: it failed for a reason that says nothing of the value, or it was not made and no
    /// call of the same symbol with other arguments succeeded.
    pub(crate) fn is_undecided(&self, call: &str) -> bool {
        let symbol = call.split('(').next().unwrap_or_default();
        match self.answers.get(call) {
            Some(answer) => answer.is_undecided(),
            None => self
                .answers
                .range(symbol.to_owned()..)
                .take_while(|(name, _)| name.starts_with(symbol))
                .filter(|(name, _)| name.split('(').next() == Some(symbol))
                .all(|(_, answer)| answer.is_undecided()),
        }
    }

    /// The error of a call, if it returned one.
    pub fn error<'a>(&self, call: impl Into<Cow<'a, str>>) -> Option<C> {
        match self.get(call) {
            Some(Answer::Error(code)) => Some(code.clone()),
            _ => None,
        }
    }

    /// All calls that returned an error, be it that an earlier value is retained.
    pub fn errors(&self) -> impl Iterator<Item = (&str, C)> {
        let errors = self.answers.iter().filter_map(|(call, answer)| match answer {
            Answer::Error(code) => Some((call.as_str(), code.clone())),
            Answer::Value(_) => None,
        });
        errors.chain(self.retained.iter().map(|(call, code)| (call.as_str(), code.clone())))
    }
}

impl<C: Clone + Into<Missing>> Answer<C> {
    /// Whether it is an error that says nothing of the value.
    pub(crate) fn is_undecided(&self) -> bool {
        match self {
            Answer::Error(code) => code.clone().into().is_undecided(),
            Answer::Value(_) => false,
        }
    }

    /// The value, or why there is none.
    pub fn known<'s, T: Deserialize<'s>>(&'s self) -> Known<T> {
        match self {
            Answer::Error(code) => Known::from(code.clone().into()),
            Answer::Value(value) => Known::from_option(value.parse(), Missing::Malformed),
        }
    }
}

/// A string of a library: surrounding space is removed; an empty one and `N/A` are not available.
pub fn trimmed(text: Known<String>) -> Known<String> {
    text.and_then(|text| match text.trim() {
        "" | "N/A" => Missing::NotAvailable.into(),
        text => Known::Value(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
    struct Refused;

    impl From<Refused> for Missing {
        fn from(_: Refused) -> Missing {
            Missing::NotPermitted
        }
    }

    #[test]
    fn a_call_is_named_by_its_symbol_and_the_arguments_that_select() {
        const CLOCK: LibraryCall = LibraryCall::selecting("getClock", &[1, 2]);
        const STATE: LibraryCall = LibraryCall::new("getState");
        assert_eq!(
            (CLOCK.to_string(), STATE.to_string()),
            ("getClock(1,2)".to_owned(), "getState".to_owned())
        );
        assert_eq!(STATE.with(&[7]), "getState(7)");
    }

    #[test]
    fn each_component_of_a_device_has_a_value_or_an_error() {
        const ENGINES: LibraryCall = LibraryCall::new("getActivity");
        let mut answers = Answers::default();
        answers.put_components(ENGINES, [Ok(json!(40)), Err(Refused), Ok(json!("x"))]);
        let text = serde_json::to_value(&answers).expect("it can be written");
        assert_eq!(
            text,
            json!({ "getActivity": { "value": [{ "value": 40 }, { "error": null }, { "value": "x" }] } })
        );
        let answers: Answers<Refused> = serde_json::from_value(text).expect("it was just written");
        let components: Known<Vec<Known<u32>>> = answers.components(ENGINES);
        assert_eq!(
            components,
            Known::Value(vec![Known::Value(40), Missing::NotPermitted.into(), Missing::Malformed.into()])
        );
        assert_eq!(answers.components::<u32>("getOther").missing(), Some(Missing::NotExposed));
    }

    #[test]
    fn an_earlier_value_is_retained_where_no_other_answer_says_otherwise() {
        let mut earlier: Answers<Missing> = Answers::default();
        for call in ["getName", "getMode", "getLink(0)", "getLink(1)", "getPort(0)", "getPort(1)", "getPath"]
        {
            earlier.put(call, Ok(json!(1)));
        }
        let mut now = Answers::default();
        now.put("getName", Err(Missing::Unreadable));
        now.put("getMode", Err(Missing::NotAvailable));
        now.put("getLink(0)", Err(Missing::Unreadable));
        now.put("getPort(0)", Err(Missing::NotAvailable));
        now.retain_missing(&earlier, |call| call != "getPath");
        let known = |call: &str| now.known::<u32>(call).is_known();
        assert!(known("getName") && known("getLink(0)") && known("getLink(1)"));
        assert!(!known("getMode") && !known("getPort(0)"), "not supported is an answer");
        assert!(!known("getPort(1)"), "it was not asked, since the first one does not exist");
        assert!(!known("getPath"));
        let errors: Vec<&str> = now.errors().map(|(call, _)| call).collect();
        assert!(errors.contains(&"getName"), "that it failed is known");
    }

    #[test]
    fn an_empty_string_is_not_available() {
        let trimmed = |text: &str| trimmed(Known::Value(text.to_owned()));
        assert_eq!(trimmed(" 1.2 \n"), Known::Value("1.2".to_owned()));
        assert_eq!(
            (trimmed(" "), trimmed("N/A")),
            (Missing::NotAvailable.into(), Missing::NotAvailable.into())
        );
    }
}
