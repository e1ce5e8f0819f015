//! Chat templates: a conversation as the text a model was trained on.
//!
//! Owns parsing and rendering of the Jinja templates that models bring, in the dialect of Hugging
//! Face Transformers. Does not own where templates come from, nor the ids of what they write.
//!
//! Invariants:
//! - rendering is a pure function of the template and [`TemplateInput`]; there is no clock;
//! - a template from anywhere ends: instructions, work, memory and text are bounded;
//! - what a template refuses is told in its own words.

mod budget;
mod builtin;
mod date;
mod functions;
mod guard;
mod values;

use std::error::Error as _;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::machinery::{self, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde_json::Map;
use shoal_base::{RequestLimits, ToolFormat};

use budget::{DEPTH_MAX, INSTRUCTIONS_MAX, LimitReached};
pub use builtin::BuiltinTemplate;
pub use date::{ParseDateError, TemplateDate};
use functions::Raised;

/// Bytes of a template. The longest published ones have about 30 000.
pub const TEMPLATE_BYTES_MAX: usize = 256 << 10;
/// Bytes of the engine's words in an error.
const REASON_BYTES_MAX: usize = 1 << 10;
const NAME: &str = "chat";
/// Words and signs between `{{` and `}}` or `{%` and `%}`. Published templates have 57 at most. The
/// engine goes down one level for each sign of some chains, so this bounds its stack.
const TAG_TOKENS_MAX: usize = 256;
/// `elif`s of a template, for the same reason. Published templates have 20 at most.
const ELIF_MAX: usize = 256;

/// What a template is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct TemplateInput<'a> {
    /// `messages`
    pub messages: &'a [serde_json::Value],
    /// `tools`; `none` if there are none.
    pub tools: &'a [serde_json::Value],
    /// Further variables; of equal names these count.
    pub variables: Option<&'a Map<String, serde_json::Value>>,
    /// `add_generation_prompt`: the assistant's turn is opened.
    pub add_generation_prompt: bool,
    /// `bos_token`
    pub bos_token: Option<&'a str>,
    /// `eos_token`
    pub eos_token: Option<&'a str>,
    /// What `strftime_now` says.
    pub date: TemplateDate,
}

/// A parsed chat template.
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChatTemplate({} bytes)", self.source.len())
    }
}

/// Why a template was refused or did not render.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is longer than any chat template needs to be.
    #[error("template of {got} bytes, limit {limit}")]
    Size {
        /// Its length.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The template is not Jinja.
    #[error("template, line {line}: {reason}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// The parser's words.
        reason: String,
    },
    /// The template uses a part of Jinja that chat templates do not need.
    #[error("`{name}` is not supported in chat templates")]
    Unsupported {
        /// The part.
        name: &'static str,
    },
    /// The template itself refuses the conversation.
    #[error("{message}")]
    Raised {
        /// Its words.
        message: String,
    },
    /// The template does something that has no meaning for this conversation.
    #[error("template, line {line}: {reason}")]
    Failed {
        /// Line, from 1.
        line: usize,
        /// The engine's words.
        reason: String,
    },
    /// The template does not end, or uses more than it may.
    #[error("template stopped: {what}")]
    Limit {
        /// What it used too much of.
        what: &'static str,
    },
    /// The template engine failed on this template.
    #[error("the template engine failed; the template may use a part of Jinja that it has wrong")]
    Engine,
    /// The conversation is nested too deep.
    #[error("messages, tools and variables may be nested {limit} deep")]
    Depth {
        /// The limit.
        limit: usize,
    },
}

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// A template that is too long, not Jinja, or uses what chat templates do not need.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let limit = TEMPLATE_BYTES_MAX;
        if source.len() > limit {
            let got = source.len();
            return Err(TemplateError::Size { got, limit });
        }
        let environment = guarded_against_panics(|| prepare(source))?;
        Ok(Self { source: source.to_owned(), environment })
    }

    /// The template as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The form in which models with this template call tools; `None` if the template has no place
    /// for tools, or none of a known form.
    #[must_use]
    pub fn tool_format(&self) -> Option<ToolFormat> {
        let has = |text: &str| self.source.contains(text);
        if !has("tools") {
            return None;
        }
        // Templates tell the model how to call; what they write of earlier calls is in that form.
        if has("<tool_call>") {
            Some(ToolFormat::Hermes)
        } else if has("[TOOL_CALLS]") {
            match (has("[ARGS]"), has("[CALL_ID]")) {
                (true, false) => Some(ToolFormat::MistralArgs),
                (false, false) => Some(ToolFormat::Mistral),
                // With ids between names and arguments it is yet another form.
                (_, true) => None,
            }
        } else if has("{\"name\": function name, \"parameters\": ") {
            Some(ToolFormat::Llama)
        } else {
            None
        }
    }

    /// The text of a conversation.
    ///
    /// # Errors
    /// A conversation that the template refuses or cannot render, or a template that uses too much.
    pub fn render(&self, input: &TemplateInput<'_>) -> Result<String, TemplateError> {
        let list = |items: &[serde_json::Value]| {
            let items = items.iter().map(|item| to_value(item, 1)).collect::<Result<Vec<_>, _>>();
            items.map(Value::from)
        };
        let tools = if input.tools.is_empty() { Value::from(()) } else { list(input.tools)? };
        let mut context = vec![
            ("messages", list(input.messages)?),
            ("tools", tools),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(input.add_generation_prompt)),
            ("strftime_now", functions::strftime_now(input.date)),
        ];
        context.extend(input.bos_token.map(|token| ("bos_token", Value::from(token))));
        context.extend(input.eos_token.map(|token| ("eos_token", Value::from(token))));
        for (name, value) in input.variables.into_iter().flatten() {
            context.push((name, to_value(value, 1)?));
        }
        let template = self.environment.get_template(NAME).map_err(|error| failed(&error))?;
        let mut text = Bounded(Vec::new());
        guarded_against_panics(|| {
            let rendered = template.render_captured_to(Value::from_pairs(context), &mut text);
            rendered.map(|_| ()).map_err(|error| failed(&error))
        })?;
        Ok(String::from_utf8_lossy(&text.0).into_owned())
    }
}

/// The guarded template in an engine of its own.
fn prepare(source: &str) -> Result<Environment<'static>, TemplateError> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    let syntax = syntax.map_err(|error| syntax_error(&error))?;
    // Jinja2 reads all line ends as one.
    let readable = source.replace("\r\n", "\n").replace('\r', "\n");
    let readable = without_generation_tags(&readable);
    check_nesting(&readable, &syntax)?;
    let tree = machinery::parse(&readable, NAME, syntax).map_err(|error| syntax_error(&error))?;
    let guarded = guard::guarded(&tree)
        .map_err(|guard::Unsupported(name)| TemplateError::Unsupported { name })?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(INSTRUCTIONS_MAX));
    environment.set_debug(false);
    functions::install(&mut environment);
    environment.add_template_owned(NAME, guarded).map_err(|error| syntax_error(&error))?;
    Ok(environment)
}

/// The engine is not ours and the template may be anyone's: a panic must not take the node down.
/// All that `work` could leave half-done is its own.
fn guarded_against_panics<T>(
    work: impl FnOnce() -> Result<T, TemplateError>,
) -> Result<T, TemplateError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(TemplateError::Engine))
}

/// Text up to the length of a prompt.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > RequestLimits::PROMPT_BYTES_MAX {
            return Err(std::io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn to_value(value: &serde_json::Value, depth: usize) -> Result<Value, TemplateError> {
    let limit = DEPTH_MAX - 1;
    if depth > limit {
        return Err(TemplateError::Depth { limit });
    }
    Ok(match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => {
            let items = items.iter().map(|item| to_value(item, depth + 1));
            Value::from(items.collect::<Result<Vec<_>, _>>()?)
        }
        serde_json::Value::Object(entries) => {
            let mut pairs = Vec::with_capacity(entries.len());
            for (name, value) in entries {
                pairs.push((name.as_str(), to_value(value, depth + 1)?));
            }
            Value::from_pairs(pairs)
        }
    })
}

/// `{% generation %}` of Transformers marks what the model said and adds nothing. `with` opens a
/// scope as it does, and the engine knows it.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let inner = tag.trim_start_matches("{%").trim_end_matches("%}");
        match inner.trim_matches(['-', '+']).trim() {
            "generation" => out.push_str(&tag.replace("generation", "with")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endwith")),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Refuses what would exhaust the stack of the engine's parser.
fn check_nesting(source: &str, syntax: &SyntaxConfig) -> Result<(), TemplateError> {
    let (mut tokens, mut elifs) = (0, 0);
    for token in machinery::tokenize(source, false, syntax.clone()) {
        let (token, span) = token.map_err(|error| syntax_error(&error))?;
        match token {
            Token::VariableStart | Token::BlockStart => tokens = 0,
            Token::Ident("elif") if tokens == 0 => elifs += 1,
            _ => tokens += 1,
        }
        if tokens > TAG_TOKENS_MAX || elifs > ELIF_MAX {
            return Err(TemplateError::Syntax {
                line: usize::from(span.start_line),
                reason: "too long or too many branches for a chat template".to_owned(),
            });
        }
    }
    Ok(())
}

fn reason(error: &Error) -> String {
    let mut reason = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}

fn syntax_error(error: &Error) -> TemplateError {
    TemplateError::Syntax { line: error.line().unwrap_or(0), reason: reason(error) }
}

fn failed(error: &Error) -> TemplateError {
    if error.kind() == ErrorKind::OutOfFuel {
        let what = "instructions";
        return TemplateError::Limit { what };
    }
    if error.kind() == ErrorKind::WriteFailure {
        let what = "length of the text";
        return TemplateError::Limit { what };
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(raised) = inner.downcast_ref::<Raised>() {
            let message = raised.message.clone();
            return TemplateError::Raised { message };
        }
        if let Some(LimitReached { what }) = inner.downcast_ref() {
            return TemplateError::Limit { what };
        }
        source = inner.source();
    }
    TemplateError::Failed { line: error.line().unwrap_or(0), reason: reason(error) }
}
