//! An expression over the view: compiled once, evaluated to true, false or unknown.

use std::sync::Arc;

use cel::{Context, ExecutionError, Program, Value};

use super::check::{self, Checked, Shape, VERSION_AT_LEAST};

/// The result of a requirement for a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Evaluation {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// A fact that it needs is not known; the message names it.
    Unknown(String),
    /// It does not apply to this node.
    NotApplicable,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    source: String,
    program: Program,
    fields: Vec<String>,
}

/// An error in an expression: its byte and the message.
pub(super) type ExpressionError = (usize, String);

impl Expression {
    /// One whose value is a boolean.
    ///
    /// # Errors
    /// All its errors.
    pub(super) fn predicate(text: &str) -> Result<Expression, Vec<ExpressionError>> {
        Expression::compile(text, |shape| match shape {
            Shape::Bool | Shape::Any => None,
            other => Some(format!("a rule must be a boolean, found {other}")),
        })
    }

    /// One whose value is inserted into a message.
    ///
    /// # Errors
    /// All its errors.
    pub(super) fn value(text: &str) -> Result<Expression, Vec<ExpressionError>> {
        Expression::compile(text, |shape| match shape {
            Shape::Record(_) | Shape::List(_) => Some(format!("{shape} cannot be inserted into a message")),
            _ => None,
        })
    }

    fn compile(
        text: &str,
        type_error: impl Fn(&Shape) -> Option<String>,
    ) -> Result<Expression, Vec<ExpressionError>> {
        let program = Program::compile(text).map_err(|errors| {
            errors.errors.into_iter().map(|error| (byte_at(text, error.pos), error.msg)).collect::<Vec<_>>()
        })?;
        let Checked { shape, fields, mut errors } = check::check(&program);
        if errors.is_empty()
            && let Some(message) = type_error(&shape)
        {
            errors.push((0, message));
        }
        if errors.is_empty() {
            Ok(Expression { source: text.to_owned(), program, fields })
        } else {
            Err(errors)
        }
    }

    /// Its source.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn evaluate(&self, view: &Context<'_, '_>) -> Evaluation {
        match self.program.execute(view) {
            Ok(Value::Bool(true)) => Evaluation::True,
            Ok(Value::Bool(false)) => Evaluation::False,
            Ok(_) => Evaluation::Unknown("the value of the rule is not a boolean".to_owned()),
            Err(ExecutionError::NoSuchKey(key)) => {
                Evaluation::Unknown(format!("{} is not known", self.field(&key)))
            }
            // Its text is for those who write rules, and every rule was checked.
            Err(_) => Evaluation::Unknown(format!("{} cannot be judged", self.read_fields().join(", "))),
        }
    }

    /// The fields that this expression reads, without those that are parents of others.
    fn read_fields(&self) -> Vec<&str> {
        let is_parent = |field: &String| {
            let is_below =
                |other: &String| other.strip_prefix(field.as_str()).is_some_and(|rest| rest.starts_with('.'));
            self.fields.iter().any(is_below)
        };
        self.fields.iter().filter(|field| !is_parent(field)).map(String::as_str).collect()
    }

    /// A field that this expression reads, with its parents.
    fn field<'a>(&'a self, name: &'a str) -> &'a str {
        let ends = |field: &&String| field.strip_suffix(name).is_some_and(|head| head.ends_with('.'));
        self.fields.iter().find(ends).map_or(name, String::as_str)
    }

    /// The value as a string; `unknown` where it is not known.
    pub(super) fn value_text(&self, view: &Context<'_, '_>) -> String {
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
                ExecutionError::function_error(VERSION_AT_LEAST, "not numbers separated by dots")
            })
        })
        .expect("no standard function has this name");
    context
}

/// Whether a version of numbers separated by dots is the same or newer; `None` where one is no such version. Missing numbers
/// count as 0.
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
    fn versions_are_compared_number_by_number() {
        assert_eq!(version_at_least("580.105.08", "580.65.06"), Some(true));
        assert_eq!(version_at_least("525.60.13", "525.60.13"), Some(true));
        assert_eq!(version_at_least("470.256.02", "525.60.13"), Some(false));
        assert_eq!(version_at_least("9.0", "8"), Some(true));
        assert_eq!(version_at_least("6.8.0-1015-gcp", "6.8"), None);
    }

    #[test]
    fn errors_have_their_place() {
        let errors = |text: &str| Expression::predicate(text).expect_err("it has an error");
        assert_eq!(errors("node.count >=")[0].0, 13);
        assert_eq!(errors("node.count"), [(0, "a rule must be a boolean, found a number".to_owned())]);
        let errors = errors("node.cuont > 1 && node.devices.all(d, d.memory > 1)");
        assert_eq!(
            errors.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>(),
            ["a node has no `cuont`", "a device has no `memory`"]
        );
    }

    #[test]
    fn an_error_within_a_rule_names_the_fields_and_no_function() {
        let rule = Expression::predicate("versionAtLeast(node.host.kernel_release, '6.8')");
        let host = [("kernel_release".into(), Value::from("6.8.0-1015-gcp"))];
        let node =
            [("host".into(), Value::from(std::collections::HashMap::<cel::objects::Key, Value>::from(host)))];
        let view = context(Value::from(std::collections::HashMap::<cel::objects::Key, Value>::from(node)));
        let Evaluation::Unknown(why) = rule.expect("it is valid").evaluate(&view) else {
            panic!("it is unknown")
        };
        assert!(why.contains("node.host.kernel_release") && !why.contains("versionAtLeast"), "{why}");
    }

    proptest! {
        #[test]
        fn no_expression_panics(text in "[a-z0-9().,?:!&|'\"\\[\\]{} <=>+*/%-]{0,40}|.{0,40}") {
            let _ = Expression::predicate(&text);
        }
    }
}
