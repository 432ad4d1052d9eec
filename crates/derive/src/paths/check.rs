//! Whether an expression asks for what there is: fields of the view, known functions, and values of the same kind on
//! both sides of a comparison. A misspelt field would else be taken for one that is not known, for ever.

use std::{collections::BTreeMap, fmt};

use cel::{
    Program,
    common::ast::{
        CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo,
    },
};

use super::{
    predicate::Wrong,
    view::{Kind, Record},
};

/// The function that compares versions.
pub(super) const VERSION_AT_LEAST: &str = "versionAtLeast";

/// The functions of rules, with what they are for. The macros are CEL's: `has`, `all`, `exists`, `exists_one`,
/// `filter`, `map`.
pub(super) const FUNCTIONS: [(&str, &str); 7] = [
    ("size", "`size(list)`: how many there are; `size(text)`: its length"),
    ("contains", "`text.contains('part')`"),
    ("startsWith", "`text.startsWith('beginning')`"),
    ("endsWith", "`text.endsWith('end')`"),
    ("int", "`int('8')`: the number that a text tells"),
    ("string", "`string(8)`: the text of a number"),
    (
        VERSION_AT_LEAST,
        "`versionAtLeast(version, '525.60.13')`: the same version or a newer one, by its numbers",
    ),
];

/// What an expression can be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Yes or no.
    Bool,
    /// A number.
    Number,
    /// A text.
    Text,
    /// A part of the view.
    Record(Record),
    /// A list of such.
    List(Box<Shape>),
    /// Only running it tells.
    Any,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Bool => "yes or no",
            Shape::Number => "a number",
            Shape::Text => "a text",
            Shape::Record(record) => record.name(),
            Shape::List(_) => "a list",
            Shape::Any => "anything",
        })
    }
}

impl From<Kind> for Shape {
    fn from(kind: Kind) -> Shape {
        match kind {
            Kind::Bool => Shape::Bool,
            Kind::Number => Shape::Number,
            Kind::Text => Shape::Text,
            Kind::One(record) => Shape::Record(record),
            Kind::Many(record) => Shape::List(Box::new(Shape::Record(record))),
        }
    }
}

/// What was found out about an expression.
pub(super) struct Checked {
    /// What it is.
    pub(super) shape: Shape,
    /// The fields that it asks for, as they stand in it: `node.host.memory_bytes`.
    pub(super) fields: Vec<String>,
    /// What is wrong with it.
    pub(super) wrong: Vec<Wrong>,
}

/// Checks an expression.
pub(super) fn check(program: &Program) -> Checked {
    let mut check = Check {
        source: program.source_info(),
        variables: BTreeMap::new(),
        fields: Vec::new(),
        wrong: Vec::new(),
    };
    check.variables.insert("node".to_owned(), Shape::Record(Record::Node));
    let shape = check.shape(program.expression());
    Checked { shape, fields: check.fields, wrong: check.wrong }
}

struct Check<'p> {
    source: &'p SourceInfo,
    variables: BTreeMap<String, Shape>,
    fields: Vec<String>,
    wrong: Vec<Wrong>,
}

impl Check<'_> {
    fn wrong(&mut self, expression: &IdedExpr, message: String) {
        let byte = self.source.offset_for(expression.id).map_or(0, |(start, _)| start as usize);
        self.wrong.push((byte, message));
    }

    fn shape(&mut self, expression: &IdedExpr) -> Shape {
        match &expression.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Shape::Bool,
                LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => Shape::Number,
                LiteralValue::String(_) => Shape::Text,
                LiteralValue::Bytes(_) | LiteralValue::Null => Shape::Any,
            },
            Expr::Ident(name) => match self.variables.get(name) {
                Some(shape) => shape.clone(),
                None => {
                    self.wrong(
                        expression,
                        format!("there is no `{name}`; what can be asked begins with `node`"),
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
                // Asking a map for a key that it lacks would read as a fact that is not known.
                self.wrong(expression, "a rule has no maps; write one requirement for each case".to_owned());
                Shape::Any
            }
            Expr::Struct(_) | Expr::Unspecified => {
                self.wrong(expression, "a rule has no messages of types".to_owned());
                Shape::Any
            }
        }
    }

    fn select(&mut self, expression: &IdedExpr, select: &SelectExpr) -> Shape {
        self.fields.extend(dotted(&expression.expr));
        let told = match self.shape(&select.operand) {
            Shape::Record(record) => match record.field(&select.field) {
                Some(field) => field.kind.into(),
                None => {
                    self.wrong(expression, format!("{} has no `{}`", record.name(), select.field));
                    Shape::Any
                }
            },
            Shape::Any => Shape::Any,
            other => {
                self.wrong(expression, format!("{other} has no `{}`", select.field));
                Shape::Any
            }
        };
        if select.test { Shape::Bool } else { told }
    }

    fn comprehension(&mut self, expression: &IdedExpr, of: &ComprehensionExpr) -> Shape {
        let element = match self.shape(&of.iter_range) {
            Shape::List(element) => *element,
            Shape::Any => Shape::Any,
            other => {
                self.wrong(expression, format!("{other} is no list"));
                Shape::Any
            }
        };
        let result = self.shape(&of.accu_init);
        let hidden = [(of.iter_var.clone(), element), (of.accu_var.clone(), result)]
            .map(|(name, shape)| (name.clone(), self.variables.insert(name, shape)));
        self.shape(&of.loop_cond);
        self.shape(&of.loop_step);
        let shape = self.shape(&of.result);
        for (name, before) in hidden.into_iter().rev() {
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
            ("_&&_" | "_||_" | "!_", parts) => {
                for part in parts.iter().filter(|part| !fits(part, &Shape::Bool)) {
                    self.wrong(expression, format!("yes or no is meant, and there is {part}"));
                }
                Shape::Bool
            }
            ("_?_:_", [_, then, _]) => then.clone(),
            ("_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_", [left, right]) => {
                if !fits(left, right) {
                    self.wrong(expression, format!("{left} is compared with {right}"));
                }
                Shape::Bool
            }
            ("@in", [element, Shape::List(elements)]) => {
                if !fits(element, elements) {
                    self.wrong(expression, format!("{element} is looked for in a list of other things"));
                }
                Shape::Bool
            }
            ("@in" | "@not_strictly_false", _) => Shape::Bool,
            ("_[_]", [Shape::List(elements), _]) => (**elements).clone(),
            ("_+_" | "_-_" | "_*_" | "_/_" | "_%_" | "-_", _) => first,
            ("size" | "int", _) => Shape::Number,
            ("string", _) => Shape::Text,
            ("contains" | "startsWith" | "endsWith" | VERSION_AT_LEAST, parts) => {
                for part in parts.iter().filter(|part| !fits(part, &Shape::Text)) {
                    self.wrong(
                        expression,
                        format!("`{}` is asked of texts, and there is {part}", call.func_name),
                    );
                }
                Shape::Bool
            }
            (name, _) => {
                let names = FUNCTIONS.map(|(name, _)| name).join(", ");
                self.wrong(expression, format!("there is no function `{name}`; there are {names}"));
                Shape::Any
            }
        }
    }
}

/// A chain of fields as a text.
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
