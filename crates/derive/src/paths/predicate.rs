//! An expression that is asked of the view: compiled once, answered with yes, no or unknown.

use std::sync::Arc;

use cel::{Context, ExecutionError, Program, Value};

use super::check::{self, Checked, Shape, VERSION_AT_LEAST};

/// What a requirement says of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Holds {
    /// It holds.
    Yes,
    /// It does not.
    No,
    /// A fact that it needs is not known; which one.
    Unknown(String),
    /// It is not asked of a node like this one.
    NotAsked,
}

/// An expression and its text.
#[derive(Debug)]
pub struct Expression {
    text: String,
    program: Program,
    fields: Vec<String>,
}

/// Something wrong in an expression: the byte where it is, and what.
pub(super) type Wrong = (usize, String);

impl Expression {
    /// One that says yes or no.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(super) fn predicate(text: &str) -> Result<Expression, Vec<Wrong>> {
        Expression::of(text, |shape| match shape {
            Shape::Bool | Shape::Any => None,
            other => Some(format!("a rule says yes or no, and this is {other}")),
        })
    }

    /// One whose value is written into a message.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(super) fn value(text: &str) -> Result<Expression, Vec<Wrong>> {
        Expression::of(text, |shape| match shape {
            Shape::Record(_) | Shape::List(_) => Some(format!("a message has no words for {shape}")),
            _ => None,
        })
    }

    fn of(text: &str, unfit: impl Fn(&Shape) -> Option<String>) -> Result<Expression, Vec<Wrong>> {
        let program = Program::compile(text).map_err(|errors| {
            errors.errors.into_iter().map(|error| (byte_at(text, error.pos), error.msg)).collect::<Vec<_>>()
        })?;
        let Checked { shape, fields, mut wrong } = check::check(&program);
        if wrong.is_empty()
            && let Some(message) = unfit(&shape)
        {
            wrong.push((0, message));
        }
        if wrong.is_empty() { Ok(Expression { text: text.to_owned(), program, fields }) } else { Err(wrong) }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn holds(&self, view: &Context<'_, '_>) -> Holds {
        match self.program.execute(view) {
            Ok(Value::Bool(true)) => Holds::Yes,
            Ok(Value::Bool(false)) => Holds::No,
            Ok(_) => Holds::Unknown("the rule says neither yes nor no".to_owned()),
            Err(ExecutionError::NoSuchKey(key)) => {
                Holds::Unknown(format!("{} is not known", self.field(&key)))
            }
            Err(error) => Holds::Unknown(error.to_string()),
        }
    }

    /// A field that this expression asks for, with what it is a field of.
    fn field<'a>(&'a self, name: &'a str) -> &'a str {
        let ends = |field: &&String| field.strip_suffix(name).is_some_and(|head| head.ends_with('.'));
        self.fields.iter().find(ends).map_or(name, String::as_str)
    }

    /// The value as a text; `unknown` where it is not known.
    pub(super) fn word(&self, view: &Context<'_, '_>) -> String {
        match self.program.execute(view) {
            Ok(Value::String(text)) => text.to_string(),
            Ok(Value::Int(number)) => number.to_string(),
            Ok(Value::Bool(value)) => value.to_string(),
            _ => "unknown".to_owned(),
        }
    }
}

/// Lines and columns are counted from 1.
fn byte_at(text: &str, (line, column): (isize, isize)) -> usize {
    let (line, column) = (usize::try_from(line).unwrap_or(1), usize::try_from(column).unwrap_or(1));
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    text[start..].char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(byte, _)| start + byte)
}

/// A context with the view as `node`.
pub(super) fn context(node: Value) -> Context<'static, 'static> {
    let mut context = Context::default();
    context.add_variable_from_value("node", node);
    context
        .add_function(VERSION_AT_LEAST, |version: Arc<String>, least: Arc<String>| {
            version_at_least(&version, &least).ok_or_else(|| {
                ExecutionError::function_error(VERSION_AT_LEAST, "not numbers with dots between")
            })
        })
        .expect("the standard functions have another name");
    context
}

/// Whether a version of numbers with dots between is the same or newer; `None` where one is no such version. What a
/// version lacks counts as 0.
fn version_at_least(version: &str, least: &str) -> Option<bool> {
    let parts = |text: &str| text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>();
    let (mut version, mut least) = (parts(version)?, parts(least)?);
    let length = version.len().max(least.len());
    version.resize(length, 0);
    least.resize(length, 0);
    Some(version >= least)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(version_at_least("580.105.08", "580.65.06"), Some(true));
        assert_eq!(version_at_least("525.60.13", "525.60.13"), Some(true));
        assert_eq!(version_at_least("470.256.02", "525.60.13"), Some(false));
        assert_eq!(version_at_least("9.0", "8"), Some(true));
        assert_eq!(version_at_least("6.8.0-1015-gcp", "6.8"), None);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = |text: &str| Expression::predicate(text).expect_err("it is wrong");
        assert_eq!(wrong("node.count >=")[0].0, 13);
        assert_eq!(wrong("node.count"), [(0, "a rule says yes or no, and this is a number".to_owned())]);
        let told = wrong("node.cuont > 1 && node.devices.all(d, d.memory > 1)");
        assert_eq!(
            told.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>(),
            ["a node has no `cuont`", "a device has no `memory`"]
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z0-9().,?:!&|'\"\\[\\]{} <=>+*/%-]{0,40}|.{0,40}") {
            let _ = Expression::predicate(&text);
        }
    }
}
