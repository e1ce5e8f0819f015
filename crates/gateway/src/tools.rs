//! Tools: what a request offers, how it may be used, and what an answer makes of it.
//!
//! Owns the shapes of tools in the three APIs, the grammar of answers with calls, the parser of
//! such answers, and calls in a conversation's history. Does not own how a model is told about
//! tools: that is its chat template's affair.

mod grammar;
mod history;
mod parser;

use serde_json::{Map, Value, json};
use shoal_base::{Generate, Grammar, Prompt, Request, ToolCalls, ToolFormat};

use crate::birth::Birth;
use crate::error::ApiError;
use crate::limits::{TOOL_NAME_BYTES_MAX, TOOLS_MAX};
use crate::params::Fields;

pub(crate) use history::{CallIds, call_of, ids_for};
pub(crate) use parser::{CallParser, Piece};

/// A tool on offer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// The schema of its arguments, an object.
    pub(crate) parameters: Value,
    /// Arguments must follow the schema, or the request is refused.
    pub(crate) strict: bool,
}

/// Whether tools are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The model decides.
    Auto,
    /// Not at all.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// Tools of a request and how they may be used.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolUse {
    pub(crate) tools: Vec<Tool>,
    pub(crate) choice: Choice,
    /// Several calls in one answer.
    pub(crate) parallel: bool,
}

/// A call in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON text; not whole when the answer was cut.
    pub(crate) arguments: String,
    pub(crate) is_whole: bool,
}

/// Text and calls of one answer so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) calls: Vec<Call>,
}

/// The text of an answer as it comes, taken apart where there may be calls in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Voice(Option<CallParser>);

impl Voice {
    /// Without a parser everything is text.
    pub(crate) const fn new(parser: Option<CallParser>) -> Self {
        Self(parser)
    }

    /// What more text gives.
    pub(crate) fn pieces(&mut self, text: &str) -> Vec<Piece> {
        match &mut self.0 {
            Some(parser) => parser.push(text),
            None if text.is_empty() => Vec::new(),
            None => vec![Piece::Text(text.to_owned())],
        }
    }

    /// What the last text gives.
    pub(crate) fn last_pieces(&mut self, text: &str) -> Vec<Piece> {
        let mut pieces = self.pieces(text);
        pieces.extend(self.0.as_mut().map(CallParser::finish).unwrap_or_default());
        pieces
    }
}

impl Said {
    /// Adds pieces in order. The ids of calls are those of a choice of this birth.
    pub(crate) fn extend(&mut self, pieces: Vec<Piece>, birth: &Birth, choice: usize) {
        for piece in pieces {
            self.add(piece, |place| birth.call_id(choice, place));
        }
    }

    fn add(&mut self, piece: Piece, id: impl Fn(usize) -> String) {
        let place = self.calls.len();
        match (piece, self.calls.last_mut()) {
            (Piece::Text(text), _) => self.text += &text,
            (Piece::Begin { name }, _) => {
                let id = id(place);
                self.calls.push(Call { id, name, ..Call::default() });
            }
            (Piece::Arguments(part), Some(call)) => call.arguments += &part,
            (Piece::End, Some(call)) => call.is_whole = true,
            (Piece::Arguments(_) | Piece::End, None) => unreachable!("calls begin first"),
        }
    }
}

impl Tool {
    /// A tool, with what is wrong named below `place`.
    pub(crate) fn new(
        name: Option<String>,
        description: Option<String>,
        parameters: Option<Value>,
        strict: bool,
        place: [&str; 2],
    ) -> Result<Self, ApiError> {
        let [place, schema_name] = place;
        let name = name.ok_or_else(|| ApiError::Missing { name: format!("{place}.name") })?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_short = (1..=TOOL_NAME_BYTES_MAX).contains(&name.len());
        if !is_short || !name.bytes().all(is_plain) {
            let rule = format!("has 1 to {TOOL_NAME_BYTES_MAX} letters, digits, `_` and `-`");
            return Err(ApiError::parameter(format!("{place}.name"), rule));
        }
        let refuse = || {
            let name = format!("{place}.{schema_name}");
            Err(ApiError::parameter(name, "is a schema of type \"object\""))
        };
        let parameters = match parameters {
            None => {
                json!({ "type": "object", "properties": {}, "additionalProperties": false })
            }
            Some(Value::Object(mut schema)) => {
                match schema.get("type") {
                    None => {
                        schema.insert("type".to_owned(), "object".into());
                    }
                    Some(kind) if kind == "object" => {}
                    Some(_) => return refuse(),
                }
                Value::Object(schema)
            }
            Some(_) => return refuse(),
        };
        Ok(Self { name, description, parameters, strict })
    }

    /// As answers of the Responses API repeat it.
    pub(crate) fn for_responses(&self) -> Value {
        json!({
            "type": "function", "name": self.name, "description": self.description,
            "parameters": self.parameters, "strict": self.strict,
        })
    }

    /// As chat templates expect it.
    fn for_template(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".to_owned(), self.name.as_str().into());
        if let Some(description) = &self.description {
            function.insert("description".to_owned(), description.as_str().into());
        }
        function.insert("parameters".to_owned(), self.parameters.clone());
        json!({ "type": "function", "function": function })
    }
}

impl ToolUse {
    /// Tools and choice of a request; `None` if no tool may be called.
    pub(crate) fn new(
        tools: Vec<Tool>,
        choice: Choice,
        parallel: bool,
    ) -> Result<Option<Self>, ApiError> {
        if tools.len() > TOOLS_MAX {
            return Err(ApiError::parameter("tools", format!("has at most {TOOLS_MAX} tools")));
        }
        for (index, tool) in tools.iter().enumerate() {
            if tools[..index].iter().any(|other| other.name == tool.name) {
                let rule = format!("has two tools of the name {}", tool.name);
                return Err(ApiError::parameter("tools", rule));
            }
        }
        let is_offered = |name: &str| tools.iter().any(|tool| tool.name == name);
        match &choice {
            Choice::None => return Ok(None),
            Choice::Named(name) if !is_offered(name) => {
                return Err(ApiError::parameter("tool_choice", "names one of the tools"));
            }
            Choice::Required if tools.is_empty() => {
                return Err(ApiError::parameter("tool_choice", "needs tools"));
            }
            _ if tools.is_empty() => return Ok(None),
            Choice::Auto | Choice::Named(_) | Choice::Required => {}
        }
        // A name stands for one call of one tool.
        let parallel = parallel && !matches!(choice, Choice::Named(_));
        Ok(Some(Self { tools, choice, parallel }))
    }

    /// Those that may be called.
    fn callable(&self) -> impl Iterator<Item = &Tool> {
        self.tools.iter().filter(|tool| match &self.choice {
            Choice::Named(name) => *name == tool.name,
            Choice::Auto | Choice::None | Choice::Required => true,
        })
    }

    /// Makes a request ask for calls in the way of the model, and gives what finds them.
    pub(crate) fn apply(
        &self,
        model: &dyn Generate,
        request: &mut Request,
    ) -> Result<CallParser, ApiError> {
        let Some(calls) = model.card().tool_calls else {
            let rule = "are not supported by this model: its chat template has no place for them";
            return Err(ApiError::parameter("tools", rule));
        };
        if let Prompt::Chat { tools, .. } = &mut request.prompt {
            *tools = self.tools.iter().map(Tool::for_template).collect();
        }
        request.sampling.grammar = Some(self.grammar(model, calls, request)?);
        request.show_control = calls.marker.is_some() || calls.separator.is_some();
        let names = self.callable().map(|tool| tool.name.clone()).collect();
        Ok(CallParser::new(calls.format, names))
    }

    fn grammar(
        &self,
        model: &dyn Generate,
        calls: ToolCalls,
        request: &Request,
    ) -> Result<Grammar, ApiError> {
        let format = request.sampling.grammar.as_ref();
        if format.is_some() && calls.format == ToolFormat::Llama && self.choice == Choice::Auto {
            let rule = "is not given beside tools: this model calls them in JSON too";
            return Err(ApiError::parameter("response_format", rule));
        }
        let strict = grammar::grammar(calls, self, format, false);
        let Err(error) = model.check_grammar(&strict) else { return Ok(strict) };
        let loose = grammar::grammar(calls, self, format, true);
        match model.check_grammar(&loose) {
            Ok(()) => Ok(loose),
            Err(_) => Err(ApiError::parameter("tools", error.to_string())),
        }
    }
}

/// Puts ids into a conversation that the model's template accepts.
pub(crate) fn fit_ids(calls: Option<ToolCalls>, prompt: &mut Prompt) {
    let Prompt::Chat { messages, .. } = prompt else { return };
    // These templates refuse ids of any other length than 9.
    if calls.is_some_and(|calls| calls.format == ToolFormat::Mistral) {
        messages.iter_mut().for_each(ids_for);
    }
}

/// `tools` in the shape of chat completions.
pub(crate) fn chat_tools(value: Option<Value>) -> Result<Vec<Tool>, ApiError> {
    list(value, |value, place| {
        let mut outer = Fields::inner(value, place, &["type", "function"])?;
        let kind = outer.text("type")?;
        if kind.as_deref() != Some("function") {
            return Err(ApiError::parameter(outer.name("type"), "is \"function\""));
        }
        let place = outer.name("function");
        let known = ["name", "description", "parameters", "strict"];
        function(Fields::inner(outer.need("function")?, &place, &known)?, &place)
    })
}

/// Reads `name`, `description`, `parameters` and `strict`.
pub(crate) fn function(mut fields: Fields, place: &str) -> Result<Tool, ApiError> {
    let (name, description) = (fields.text("name")?, fields.text("description")?);
    let parameters = fields.take("parameters");
    let strict = fields.flag("strict")?.unwrap_or(false);
    Tool::new(name, description, parameters, strict, [place, "parameters"])
}

/// Reads each entry of `tools`.
pub(crate) fn list(
    value: Option<Value>,
    read: impl Fn(Value, &str) -> Result<Tool, ApiError>,
) -> Result<Vec<Tool>, ApiError> {
    let values = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) if values.len() <= TOOLS_MAX => values,
        Some(_) => {
            let rule = format!("is a list of at most {TOOLS_MAX} tools");
            return Err(ApiError::parameter("tools", rule));
        }
    };
    let values = values.into_iter().enumerate();
    values.map(|(index, value)| read(value, &format!("tools[{index}]"))).collect()
}

/// `tool_choice` in the shape of OpenAI. `nested` says where the name of a function is.
pub(crate) fn choice(value: Option<Value>, nested: bool) -> Result<Choice, ApiError> {
    let refuse = || {
        let rule = "is \"auto\", \"none\", \"required\" or names a function";
        ApiError::parameter("tool_choice", rule)
    };
    match value {
        None => Ok(Choice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            "required" => Ok(Choice::Required),
            _ => Err(refuse()),
        },
        Some(value @ Value::Object(_)) => {
            let known: &[&str] = if nested { &["type", "function"] } else { &["type", "name"] };
            let mut fields = Fields::inner(value, "tool_choice", known)?;
            if fields.text("type")?.as_deref() != Some("function") {
                return Err(refuse());
            }
            let name = match nested {
                true => {
                    let place = "tool_choice.function";
                    Fields::inner(fields.need("function")?, place, &["name"])?.text("name")?
                }
                false => fields.text("name")?,
            };
            name.map(Choice::Named).ok_or_else(refuse)
        }
        Some(_) => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param<T>(result: Result<T, ApiError>) -> Option<String> {
        let error = result.err()?;
        Some(error.to_json()["error"]["param"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn tools_are_read_to_the_letter() {
        let read = |value| chat_tools(Some(value));
        let named = |name: &str| json!([{ "type": "function", "function": { "name": name } }]);
        let tools = read(named("f-1_a")).unwrap();
        assert_eq!(tools[0].parameters["additionalProperties"], false);
        for (wrong, name) in [
            (json!({}), "tools"),
            (json!([1]), "tools[0]"),
            (json!([{ "type": "web_search" }]), "tools[0].type"),
            (json!([{ "type": "function" }]), "tools[0].function"),
            (json!([{ "type": "function", "function": {} }]), "tools[0].function.name"),
            (named("a b"), "tools[0].function.name"),
            (named(""), "tools[0].function.name"),
            (named(&"x".repeat(129)), "tools[0].function.name"),
            (
                json!([{ "type": "function", "function": { "name": "f", "parameters": 1 } }]),
                "tools[0].function.parameters",
            ),
            (
                json!([{ "type": "function", "function": {
                    "name": "f", "parameters": { "type": "array" },
                } }]),
                "tools[0].function.parameters",
            ),
            (
                json!([{ "type": "function", "function": { "name": "f", "more": 1 } }]),
                "tools[0].function.more",
            ),
        ] {
            assert_eq!(param(read(wrong.clone())).as_deref(), Some(name), "{wrong}");
        }
        let twice = [named("f")[0].clone(), named("f")[0].clone()];
        let twice = read(json!(twice)).unwrap();
        assert_eq!(param(ToolUse::new(twice, Choice::Auto, true)).as_deref(), Some("tools"));
    }

    #[test]
    fn choices_are_read_to_the_letter() {
        let named = json!({ "type": "function", "function": { "name": "f" } });
        assert_eq!(choice(Some(named), true), Ok(Choice::Named("f".to_owned())));
        let named = json!({ "type": "function", "name": "f" });
        assert_eq!(choice(Some(named), false), Ok(Choice::Named("f".to_owned())));
        assert_eq!(choice(Some(json!("required")), true), Ok(Choice::Required));
        for wrong in [json!("any"), json!(1), json!({ "type": "allowed_tools" }), json!([])] {
            let name = param(choice(Some(wrong.clone()), true));
            assert!(name.is_some_and(|name| name.starts_with("tool_choice")), "{wrong}");
        }
        let tools = || {
            chat_tools(Some(json!([{
                "type": "function", "function": { "name": "f" },
            }])))
        };
        let made = |choice| ToolUse::new(tools().unwrap(), choice, true);
        assert_eq!(made(Choice::None), Ok(None));
        assert!(made(Choice::Named("g".to_owned())).is_err());
        assert!(!made(Choice::Named("f".to_owned())).unwrap().unwrap().parallel);
        assert!(ToolUse::new(Vec::new(), Choice::Required, true).is_err());
        assert_eq!(ToolUse::new(Vec::new(), Choice::Auto, true), Ok(None));
    }
}
