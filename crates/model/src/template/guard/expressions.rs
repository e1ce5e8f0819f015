//! Expressions, written out with their guards.

use std::fmt::Write as _;

use minijinja::machinery::ast::{
    BinOpKind, Call, CallArg, CompareOpKind, Const, Expr, UnaryOpKind,
};
use minijinja::value::ValueKind;

use super::{
    ADD, ATTRIBUTE, CONCAT, Guard, LOOK, MADE, MULTIPLY, REMAINDER, SLICE, Unsupported, WALK,
    Written,
};

/// Filters that compare elements with one another or with an argument.
const COMPARING_FILTERS: [&str; 11] = [
    "sort",
    "unique",
    "min",
    "max",
    "dictsort",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "sum",
    "join",
];
/// Tests that look at nothing but the kind of a value.
const CHEAP_TESTS: [&str; 13] = [
    "defined",
    "undefined",
    "none",
    "boolean",
    "true",
    "false",
    "string",
    "number",
    "integer",
    "float",
    "mapping",
    "sequence",
    "iterable",
];

/// Methods of Python's dictionaries. As an attribute they are found before an entry of that name.
const DICTIONARY_METHODS: [&str; 11] = [
    "clear",
    "copy",
    "fromkeys",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
];

impl Guard {
    pub(super) fn arguments(&mut self, arguments: &[CallArg<'_>]) -> Written {
        self.push("(");
        for (index, argument) in arguments.iter().enumerate() {
            self.push(if index > 0 { ", " } else { "" });
            match argument {
                CallArg::Pos(value) => self.expression(value)?,
                CallArg::Kwarg(name, value) => {
                    let _ = write!(self.out, "{name} = ");
                    self.expression(value)?;
                }
                CallArg::PosSplat(value) => {
                    self.push("*");
                    self.operand(value)?;
                }
                CallArg::KwargSplat(value) => {
                    self.push("**");
                    self.operand(value)?;
                }
            }
        }
        self.push(")");
        Ok(())
    }

    /// A call of a guard.
    pub(super) fn call<'a>(
        &mut self,
        function: &str,
        arguments: impl IntoIterator<Item = &'a Expr<'a>>,
    ) -> Written {
        self.push(function);
        self.push("(");
        for (index, argument) in arguments.into_iter().enumerate() {
            self.push(if index > 0 { ", " } else { "" });
            self.expression(argument)?;
        }
        self.push(")");
        Ok(())
    }

    /// An expression in a place that takes only simple ones.
    pub(super) fn operand(&mut self, expression: &Expr<'_>) -> Written {
        let simple = matches!(
            expression,
            Expr::Var(_) | Expr::Call(_) | Expr::GetAttr(_) | Expr::GetItem(_)
        );
        if simple {
            return self.expression(expression);
        }
        self.push("(");
        self.expression(expression)?;
        self.push(")");
        Ok(())
    }

    /// An expression whose value the engine is about to read as a whole.
    fn read(&mut self, guard: &str, expression: &Expr<'_>) -> Written {
        match expression {
            Expr::Const(_) => self.operand(expression),
            _ => self.call(guard, [expression]),
        }
    }

    pub(super) fn expression(&mut self, expression: &Expr<'_>) -> Written {
        match expression {
            Expr::Var(name) => self.push(name.id),
            Expr::Const(constant) => self.constant(constant)?,
            Expr::Slice(slice) => {
                let _ = write!(self.out, "{SLICE}(");
                self.expression(&slice.expr)?;
                for bound in [&slice.start, &slice.stop, &slice.step] {
                    self.push(", ");
                    match bound {
                        Some(bound) => self.expression(bound)?,
                        None => self.push("none"),
                    }
                }
                self.push(")");
            }
            Expr::UnaryOp(operation) => {
                self.push(match operation.op {
                    UnaryOpKind::Not => "not ",
                    UnaryOpKind::Neg => "-",
                });
                self.operand(&operation.expr)?;
            }
            Expr::BinOp(operation) => {
                self.operation(expression, operation.op, &operation.left, &operation.right)?;
            }
            Expr::Compare(comparison) => {
                self.read(WALK, &comparison.expr)?;
                for operation in &comparison.ops {
                    self.push(comparison_sign(operation.op));
                    self.read(WALK, &operation.expr)?;
                }
            }
            Expr::IfExpr(choice) => {
                self.operand(&choice.true_expr)?;
                self.push(" if ");
                self.operand(&choice.test_expr)?;
                if let Some(otherwise) = &choice.false_expr {
                    self.push(" else ");
                    self.operand(otherwise)?;
                }
            }
            other => self.postfix(other)?,
        }
        Ok(())
    }

    fn postfix(&mut self, expression: &Expr<'_>) -> Written {
        match expression {
            Expr::Filter(filter) => {
                let compares = COMPARING_FILTERS.contains(&filter.name);
                let _ = write!(self.out, "{MADE}(");
                if let Some(value) = &filter.expr {
                    self.read(if compares { WALK } else { LOOK }, value)?;
                }
                let _ = write!(self.out, " | {}", filter.name);
                self.arguments(&filter.args)?;
                self.push(")");
                Ok(())
            }
            Expr::Test(test) => {
                if CHEAP_TESTS.contains(&test.name) {
                    self.operand(&test.expr)?;
                } else {
                    self.read(WALK, &test.expr)?;
                }
                let _ = write!(self.out, " is {}", test.name);
                if test.args.is_empty() {
                    return Ok(());
                }
                self.arguments(&test.args)
            }
            Expr::GetAttr(attribute) if DICTIONARY_METHODS.contains(&attribute.name) => {
                let _ = write!(self.out, "{ATTRIBUTE}(");
                self.expression(&attribute.expr)?;
                let _ = write!(self.out, ", \"{}\")", attribute.name);
                Ok(())
            }
            Expr::GetAttr(attribute) => {
                self.operand(&attribute.expr)?;
                let _ = write!(self.out, ".{}", attribute.name);
                Ok(())
            }
            Expr::GetItem(item) => {
                self.read(LOOK, &item.expr)?;
                self.push("[");
                self.expression(&item.subscript_expr)?;
                self.push("]");
                Ok(())
            }
            Expr::Call(call) => {
                let _ = write!(self.out, "{MADE}(");
                self.bare_call(call)?;
                self.push(")");
                Ok(())
            }
            Expr::List(list) => self.elements("[", &list.items, "]"),
            Expr::Tuple(tuple) => self.elements("(", &tuple.items, ")"),
            Expr::Map(map) => {
                let _ = write!(self.out, "{WALK}({{");
                for (key, value) in map.keys.iter().zip(&map.values) {
                    self.expression(key)?;
                    self.push(": ");
                    self.expression(value)?;
                    self.push(", ");
                }
                self.push("})");
                Ok(())
            }
            _ => Err(Unsupported("expression")),
        }
    }

    fn elements(&mut self, open: &str, items: &[Expr<'_>], close: &str) -> Written {
        let _ = write!(self.out, "{WALK}({open}");
        for item in items {
            self.expression(item)?;
            self.push(", ");
        }
        self.push(close);
        self.push(")");
        Ok(())
    }

    /// A call as a call; what a method belongs to is read by it.
    pub(super) fn bare_call(&mut self, call: &Call<'_>) -> Written {
        match &call.expr {
            Expr::GetAttr(method) => {
                self.read(LOOK, &method.expr)?;
                let _ = write!(self.out, ".{}", method.name);
            }
            other => self.operand(other)?,
        }
        self.arguments(&call.args)
    }

    fn operation(
        &mut self,
        whole: &Expr<'_>,
        kind: BinOpKind,
        left: &Expr<'_>,
        right: &Expr<'_>,
    ) -> Written {
        let (sign, guard) = match kind {
            // A chain of sums is one call, so that long chains do not nest.
            BinOpKind::Add => return self.call(ADD, chain(whole, BinOpKind::Add)),
            BinOpKind::Concat => return self.call(CONCAT, chain(whole, BinOpKind::Concat)),
            BinOpKind::Mul => return self.call(MULTIPLY, [left, right]),
            BinOpKind::Rem => return self.call(REMAINDER, [left, right]),
            BinOpKind::Sub => (" - ", None),
            BinOpKind::Div => (" / ", None),
            BinOpKind::FloorDiv => (" // ", None),
            BinOpKind::Pow => (" ** ", None),
            BinOpKind::ScAnd => (" and ", None),
            BinOpKind::ScOr => (" or ", None),
            BinOpKind::Eq => (" == ", Some(WALK)),
            BinOpKind::Ne => (" != ", Some(WALK)),
            BinOpKind::Lt => (" < ", Some(WALK)),
            BinOpKind::Lte => (" <= ", Some(WALK)),
            BinOpKind::Gt => (" > ", Some(WALK)),
            BinOpKind::Gte => (" >= ", Some(WALK)),
            BinOpKind::In => (" in ", Some(WALK)),
        };
        for (index, side) in [left, right].into_iter().enumerate() {
            self.push(if index > 0 { sign } else { "" });
            match guard {
                Some(guard) => self.read(guard, side)?,
                None => self.operand(side)?,
            }
        }
        Ok(())
    }

    fn constant(&mut self, constant: &Const) -> Written {
        let value = &constant.value;
        match value.kind() {
            ValueKind::None => self.push("none"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => {
                let _ = write!(self.out, "{value}");
            }
            ValueKind::Number => match f64::try_from(value.clone()) {
                Ok(float) if float.is_finite() => {
                    let _ = write!(self.out, "{float:?}");
                }
                _ => return Err(Unsupported("number")),
            },
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            _ => return Err(Unsupported("constant")),
        }
        Ok(())
    }

    /// A text as a literal on one line.
    pub(super) fn text(&mut self, text: &str) {
        self.push("\"");
        for character in text.chars() {
            let _ = match character {
                '"' | '\\' => write!(self.out, "\\{character}"),
                '\n' => write!(self.out, "\\n"),
                '\0'..='\u{1f}' => write!(self.out, "\\u{:04x}", character as u32),
                _ => write!(self.out, "{character}"),
            };
        }
        self.push("\"");
    }
}

/// The operands of `a + b + c`, in order.
fn chain<'a>(whole: &'a Expr<'a>, kind: BinOpKind) -> Vec<&'a Expr<'a>> {
    let mut operands = Vec::new();
    let mut rest = whole;
    loop {
        match rest {
            Expr::BinOp(operation)
                if std::mem::discriminant(&operation.op) == std::mem::discriminant(&kind) =>
            {
                operands.push(&operation.right);
                rest = &operation.left;
            }
            _ => break,
        }
    }
    operands.push(rest);
    operands.reverse();
    operands
}

const fn comparison_sign(kind: CompareOpKind) -> &'static str {
    match kind {
        CompareOpKind::Eq => " == ",
        CompareOpKind::Ne => " != ",
        CompareOpKind::Lt => " < ",
        CompareOpKind::Lte => " <= ",
        CompareOpKind::Gt => " > ",
        CompareOpKind::Gte => " >= ",
        CompareOpKind::In => " in ",
        CompareOpKind::NotIn => " not in ",
    }
}
