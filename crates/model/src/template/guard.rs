//! Rewrites a template so that everything that can use much memory or time goes through a function
//! that counts it, and everything that prints goes through the formatter.
//!
//! The engine counts instructions; one instruction may double a text or compare two of megabytes.
//! So the parsed template is written out again, with
//!
//! - literal text as `{{ "…" }}`;
//! - `a + b`, `a ~ b`, `a * b`, `a % b`, `a[b:c]` as calls of [`ADD`], [`CONCAT`], [`MULTIPLY`],
//!   [`REMAINDER`], [`SLICE`];
//! - results of filters and methods in [`MADE`], what they read in [`LOOK`];
//! - operands of comparisons, and elements of new lists and maps, in [`WALK`];
//! - what is stored in a namespace in [`STORE`];
//!
//! and where the engine differs from Jinja2, what is iterated over in [`ITERATE`], and attributes
//! with the names of a dictionary's methods as calls of [`ATTRIBUTE`].
//!
//! Statements keep their lines, so that errors name the right ones. The syntax tree is an unstable
//! part of the engine; its version is pinned.

use std::fmt::Write as _;

use minijinja::machinery::ast::{
    BinOpKind, Call, CallArg, CompareOpKind, Const, Expr, Macro, Stmt, UnaryOpKind,
};
use minijinja::value::ValueKind;

pub(super) const ADD: &str = "__shoal_add";
pub(super) const CONCAT: &str = "__shoal_concat";
pub(super) const MULTIPLY: &str = "__shoal_multiply";
pub(super) const REMAINDER: &str = "__shoal_remainder";
pub(super) const MADE: &str = "__shoal_made";
pub(super) const LOOK: &str = "__shoal_look";
pub(super) const WALK: &str = "__shoal_walk";
pub(super) const STORE: &str = "__shoal_store";
pub(super) const ITERATE: &str = "__shoal_iterate";
pub(super) const SLICE: &str = "__shoal_slice";
pub(super) const ATTRIBUTE: &str = "__shoal_attribute";

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

/// A part of templates that chat templates have no use for.
#[derive(Debug)]
pub(super) struct Unsupported(pub(super) &'static str);

type Written = Result<(), Unsupported>;

/// The template that does the same as `root`, guarded.
pub(super) fn guarded(root: &Stmt<'_>) -> Result<String, Unsupported> {
    let mut writer = Guard { out: String::new(), line: 1 };
    writer.statement(root)?;
    Ok(writer.out)
}

struct Guard {
    out: String,
    line: u16,
}

impl Guard {
    fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Opens a tag on the line of its original.
    fn open(&mut self, tag: &str, line: u16) {
        self.push(tag);
        while self.line < line {
            self.push("\n");
            self.line += 1;
        }
        self.push(" ");
    }

    fn body(&mut self, body: &[Stmt<'_>]) -> Written {
        body.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Written {
        match statement {
            Stmt::Template(template) => self.body(&template.children)?,
            Stmt::EmitExpr(emit) => {
                self.open("{{", emit.span().start_line);
                self.expression(&emit.expr)?;
                self.push(" }}");
            }
            Stmt::EmitRaw(raw) => {
                self.open("{{", raw.span().start_line);
                self.text(raw.raw);
                self.push(" }}");
            }
            Stmt::ForLoop(each) => {
                self.open("{%", each.span().start_line);
                self.push("for ");
                self.target(&each.target)?;
                self.push(" in ");
                self.call(ITERATE, [&each.iter])?;
                if let Some(filter) = &each.filter_expr {
                    self.push(" if ");
                    self.operand(filter)?;
                }
                self.push(if each.recursive { " recursive %}" } else { " %}" });
                self.body(&each.body)?;
                if !each.else_body.is_empty() {
                    self.push("{% else %}");
                    self.body(&each.else_body)?;
                }
                self.push("{% endfor %}");
            }
            Stmt::IfCond(condition) => {
                self.open("{%", condition.span().start_line);
                self.push("if ");
                self.condition(&condition.expr, &condition.true_body, &condition.false_body)?;
                self.push("{% endif %}");
            }
            other => self.block(other)?,
        }
        Ok(())
    }

    /// Statements that assign, or that hold others.
    fn block(&mut self, statement: &Stmt<'_>) -> Written {
        match statement {
            Stmt::WithBlock(with) => {
                self.open("{%", with.span().start_line);
                self.push("with ");
                for (index, (target, value)) in with.assignments.iter().enumerate() {
                    self.push(if index > 0 { ", " } else { "" });
                    self.target(target)?;
                    self.push(" = ");
                    self.expression(value)?;
                }
                self.push(" %}");
                self.body(&with.body)?;
                self.push("{% endwith %}");
            }
            Stmt::Set(set) => {
                self.open("{%", set.span().start_line);
                self.push("set ");
                self.target(&set.target)?;
                self.push(" = ");
                if matches!(set.target, Expr::Var(_)) {
                    self.expression(&set.expr)?;
                } else {
                    self.call(STORE, [&set.expr])?;
                }
                self.push(" %}");
            }
            Stmt::SetBlock(set) => {
                self.open("{%", set.span().start_line);
                self.push("set ");
                self.target(&set.target)?;
                if let Some(filter) = &set.filter {
                    self.push(" | ");
                    self.filters(filter)?;
                }
                self.push(" %}");
                self.body(&set.body)?;
                self.push("{% endset %}");
            }
            Stmt::FilterBlock(block) => {
                self.open("{%", block.span().start_line);
                self.push("filter ");
                self.filters(&block.filter)?;
                self.push(" %}");
                self.body(&block.body)?;
                self.push("{% endfilter %}");
            }
            other => self.rarer_statement(other)?,
        }
        Ok(())
    }

    fn rarer_statement(&mut self, statement: &Stmt<'_>) -> Written {
        match statement {
            Stmt::Macro(definition) => {
                self.open("{%", definition.span().start_line);
                let _ = write!(self.out, "macro {}", definition.name);
                self.parameters(definition)?;
                self.push(" %}");
                self.body(&definition.body)?;
                self.push("{% endmacro %}");
                Ok(())
            }
            Stmt::CallBlock(block) => {
                self.open("{%", block.span().start_line);
                self.push("call");
                self.parameters(&block.macro_decl)?;
                self.push(" ");
                self.bare_call(&block.call)?;
                self.push(" %}");
                self.body(&block.macro_decl.body)?;
                self.push("{% endcall %}");
                Ok(())
            }
            Stmt::Do(call) => {
                self.open("{%", call.span().start_line);
                self.push("do ");
                self.bare_call(&call.call)?;
                self.push(" %}");
                Ok(())
            }
            Stmt::Continue(_) => {
                self.push("{% continue %}");
                Ok(())
            }
            Stmt::Break(_) => {
                self.push("{% break %}");
                Ok(())
            }
            Stmt::AutoEscape(_) => Err(Unsupported("autoescape")),
            Stmt::Block(_) => Err(Unsupported("block")),
            Stmt::Import(_) | Stmt::FromImport(_) => Err(Unsupported("import")),
            Stmt::Extends(_) => Err(Unsupported("extends")),
            _ => Err(Unsupported("include")),
        }
    }

    /// The rest of `{% if`; an `if` that is all of an `else` becomes `elif`, so that long chains do
    /// not nest.
    fn condition(&mut self, test: &Expr<'_>, body: &[Stmt<'_>], otherwise: &[Stmt<'_>]) -> Written {
        self.operand(test)?;
        self.push(" %}");
        self.body(body)?;
        match otherwise {
            [] => Ok(()),
            [Stmt::IfCond(next)] => {
                self.open("{%", next.span().start_line);
                self.push("elif ");
                self.condition(&next.expr, &next.true_body, &next.false_body)
            }
            _ => {
                self.push("{% else %}");
                self.body(otherwise)
            }
        }
    }

    fn parameters(&mut self, definition: &Macro<'_>) -> Written {
        self.push("(");
        let required = definition.args.len() - definition.defaults.len();
        for (index, argument) in definition.args.iter().enumerate() {
            self.push(if index > 0 { ", " } else { "" });
            self.target(argument)?;
            if let Some(default) = index.checked_sub(required) {
                self.push(" = ");
                self.expression(&definition.defaults[default])?;
            }
        }
        self.push(")");
        Ok(())
    }

    /// What is assigned to: a name, an attribute of a namespace, or several names.
    fn target(&mut self, target: &Expr<'_>) -> Written {
        match target {
            Expr::Var(name) => self.push(name.id),
            Expr::GetAttr(attribute) => {
                self.target(&attribute.expr)?;
                let _ = write!(self.out, ".{}", attribute.name);
            }
            Expr::List(list) => self.targets(&list.items)?,
            Expr::Tuple(tuple) => self.targets(&tuple.items)?,
            _ => return Err(Unsupported("assignment to an expression")),
        }
        Ok(())
    }

    fn targets(&mut self, targets: &[Expr<'_>]) -> Written {
        self.push("(");
        for target in targets {
            self.target(target)?;
            self.push(", ");
        }
        self.push(")");
        Ok(())
    }

    /// Filters of a block, which have no expression of their own.
    fn filters(&mut self, filter: &Expr<'_>) -> Written {
        let Expr::Filter(filter) = filter else {
            return Err(Unsupported("filter of a block"));
        };
        if let Some(inner) = &filter.expr {
            self.filters(inner)?;
            self.push(" | ");
        }
        self.push(filter.name);
        self.arguments(&filter.args)
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) -> Written {
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
    fn call<'a>(
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
    fn operand(&mut self, expression: &Expr<'_>) -> Written {
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

    fn expression(&mut self, expression: &Expr<'_>) -> Written {
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
    fn bare_call(&mut self, call: &Call<'_>) -> Written {
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
    fn text(&mut self, text: &str) {
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
