//! Checks that an expression uses existing fields of the view, known functions, and values of the same type on both sides of a
//! comparison. Without this a misspelt field would be taken for one that is always unknown.

use std::{collections::BTreeMap, fmt};

use cel::{
    Program,
    common::ast::{
        CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo,
    },
};

use super::{
    predicate::ExpressionError,
    view::{FieldKind, ViewRecord},
};

/// The function that compares versions.
pub(super) const VERSION_AT_LEAST: &str = "versionAtLeast";

/// The functions of rules and their meaning. The macros are those of CEL: `has`, `all`, `exists`, `exists_one`,
/// `filter`, `map`.
pub(super) const FUNCTIONS: [(&str, &str); 7] = [
    ("size", "`size(list)`: number of elements; `size(string)`: its length"),
    ("contains", "`string.contains('part')`"),
    ("startsWith", "`string.startsWith('prefix')`"),
    ("endsWith", "`string.endsWith('suffix')`"),
    ("int", "`int('8')`: a string as a number"),
    ("string", "`string(8)`: a number as a string"),
    (
        VERSION_AT_LEAST,
        "`versionAtLeast(version, '525.60.13')`: the same version or a newer one, compared number by number",
    ),
];

/// The type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// A boolean.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// A record of the view.
    Record(ViewRecord),
    /// A list.
    List(Box<Shape>),
    /// Known only when it is evaluated.
    Any,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Bool => "a boolean",
            Shape::Number => "a number",
            Shape::String => "a string",
            Shape::Record(record) => record.name(),
            Shape::List(_) => "a list",
            Shape::Any => "any value",
        })
    }
}

impl From<FieldKind> for Shape {
    fn from(kind: FieldKind) -> Shape {
        match kind {
            FieldKind::Bool => Shape::Bool,
            FieldKind::Number => Shape::Number,
            FieldKind::String => Shape::String,
            FieldKind::One(record) => Shape::Record(record),
            FieldKind::Many(record) => Shape::List(Box::new(Shape::Record(record))),
        }
    }
}

/// The result of the check.
pub(super) struct Checked {
    /// The type of the expression.
    pub(super) shape: Shape,
    /// The fields that it reads, as they are written in it: `node.host.memory_bytes`.
    pub(super) fields: Vec<String>,
    /// Its errors.
    pub(super) errors: Vec<ExpressionError>,
}

/// Checks an expression.
pub(super) fn check(program: &Program) -> Checked {
    let mut check = Check {
        source: program.source_info(),
        variables: BTreeMap::new(),
        fields: Vec::new(),
        errors: Vec::new(),
    };
    check.variables.insert("node".to_owned(), Shape::Record(ViewRecord::Node));
    let shape = check.shape(program.expression());
    Checked { shape, fields: check.fields, errors: check.errors }
}

struct Check<'p> {
    source: &'p SourceInfo,
    variables: BTreeMap<String, Shape>,
    fields: Vec<String>,
    errors: Vec<ExpressionError>,
}

impl Check<'_> {
    fn error(&mut self, expression: &IdedExpr, message: String) {
        let byte = self.source.offset_for(expression.id).map_or(0, |(start, _)| start as usize);
        self.errors.push((byte, message));
    }

    fn shape(&mut self, expression: &IdedExpr) -> Shape {
        match &expression.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Shape::Bool,
                LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => Shape::Number,
                LiteralValue::String(_) => Shape::String,
                LiteralValue::Bytes(_) | LiteralValue::Null => Shape::Any,
            },
            Expr::Ident(name) => match self.variables.get(name) {
                Some(shape) => shape.clone(),
                None => {
                    self.error(
                        expression,
                        format!("unknown variable `{name}`; every field begins with `node`"),
                    );
                    Shape::Any
                }
            },
            Expr::Select(select) => self.select(expression, select),
            Expr::Call(call) => self.call(expression, call),
            Expr::Comprehension(comprehension) => self.comprehension(expression, comprehension),
            Expr::List(list) => {
                let shapes: Vec<Shape> = list.elements.iter().map(|element| self.shape(element)).collect();
                Shape::List(Box::new(shapes.into_iter().next().unwrap_or(Shape::Any)))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.shape(&entry.key);
                        self.shape(&entry.value);
                    }
                }
                // A missing key of a map would be taken for an unknown fact.
                self.error(
                    expression,
                    "maps are not supported in rules; write one requirement for each case".to_owned(),
                );
                Shape::Any
            }
            Expr::Struct(_) | Expr::Unspecified => {
                self.error(expression, "message types are not supported in rules".to_owned());
                Shape::Any
            }
        }
    }

    fn select(&mut self, expression: &IdedExpr, select: &SelectExpr) -> Shape {
        self.fields.extend(dotted(&expression.expr));
        let shape = match self.shape(&select.operand) {
            Shape::Record(record) => match record.field(&select.field) {
                Some(field) => field.kind.into(),
                None => {
                    self.error(expression, format!("{} has no `{}`", record.name(), select.field));
                    Shape::Any
                }
            },
            Shape::Any => Shape::Any,
            other => {
                self.error(expression, format!("{other} has no `{}`", select.field));
                Shape::Any
            }
        };
        if select.test { Shape::Bool } else { shape }
    }

    fn comprehension(&mut self, expression: &IdedExpr, comprehension: &ComprehensionExpr) -> Shape {
        let element = match self.shape(&comprehension.iter_range) {
            Shape::List(element) => *element,
            Shape::Any => Shape::Any,
            other => {
                self.error(expression, format!("{other} is not a list"));
                Shape::Any
            }
        };
        let result = self.shape(&comprehension.accu_init);
        let shadowed = [(comprehension.iter_var.clone(), element), (comprehension.accu_var.clone(), result)]
            .map(|(name, shape)| (name.clone(), self.variables.insert(name, shape)));
        self.shape(&comprehension.loop_cond);
        self.shape(&comprehension.loop_step);
        let shape = self.shape(&comprehension.result);
        for (name, before) in shadowed.into_iter().rev() {
            match before {
                Some(before) => drop(self.variables.insert(name, before)),
                None => drop(self.variables.remove(&name)),
            }
        }
        shape
    }

    fn call(&mut self, expression: &IdedExpr, call: &CallExpr) -> Shape {
        let arguments: Vec<Shape> = call
            .target
            .iter()
            .map(|target| &**target)
            .chain(&call.args)
            .map(|each| self.shape(each))
            .collect();
        let first = arguments.first().cloned().unwrap_or(Shape::Any);
        match (call.func_name.as_str(), arguments.as_slice()) {
            ("_&&_" | "_||_" | "!_", operands) => {
                for operand in operands.iter().filter(|operand| !fits(operand, &Shape::Bool)) {
                    self.error(expression, format!("expected a boolean, found {operand}"));
                }
                Shape::Bool
            }
            ("_?_:_", [_, then, _]) => then.clone(),
            ("_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_", [left, right]) => {
                if !fits(left, right) {
                    self.error(expression, format!("{left} is compared with {right}"));
                }
                Shape::Bool
            }
            ("@in", [element, Shape::List(elements)]) => {
                if !fits(element, elements) {
                    self.error(expression, format!("{element} cannot be in this list"));
                }
                Shape::Bool
            }
            ("@in" | "@not_strictly_false", _) => Shape::Bool,
            ("_[_]", [Shape::List(elements), _]) => (**elements).clone(),
            ("_+_" | "_-_" | "_*_" | "_/_" | "_%_" | "-_", _) => first,
            ("size" | "int", _) => Shape::Number,
            ("string", _) => Shape::String,
            ("contains" | "startsWith" | "endsWith" | VERSION_AT_LEAST, arguments) => {
                for argument in arguments.iter().filter(|argument| !fits(argument, &Shape::String)) {
                    self.error(expression, format!("`{}` takes strings, found {argument}", call.func_name));
                }
                Shape::Bool
            }
            (name, _) => {
                let names = FUNCTIONS.map(|(name, _)| name).join(", ");
                self.error(expression, format!("unknown function `{name}`; the functions are {names}"));
                Shape::Any
            }
        }
    }
}

/// A chain of fields as a string.
fn dotted(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => Some(format!("{}.{}", dotted(&select.operand.expr)?, select.field)),
        _ => None,
    }
}

fn fits(left: &Shape, right: &Shape) -> bool {
    match (left, right) {
        (Shape::Any, _) | (_, Shape::Any) => true,
        (Shape::List(left), Shape::List(right)) => fits(left, right),
        (left, right) => left == right,
    }
}
