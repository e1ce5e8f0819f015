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

mod expressions;

use std::fmt::Write as _;

use minijinja::machinery::ast::{Expr, Macro, Stmt};

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
}
