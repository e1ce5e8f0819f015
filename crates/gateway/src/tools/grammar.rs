//! What an answer with calls may look like, as a grammar in Lark syntax.
//!
//! With tools on offer every answer follows one: a call that is begun is a call of a tool that
//! was offered, with arguments that follow its schema. What comes before a call is free.

use std::fmt::Write as _;

use serde_json::{Value, json};
use shoal_base::{Grammar, TokenId, ToolCalls, ToolFormat};

use super::{Choice, Tool, ToolUse};

/// The text that may stand where no call does.
enum Free {
    /// Any text.
    Text,
    /// JSON after a schema.
    Json(Value),
    /// None: there must be a call.
    Nothing,
}

/// The grammar of an answer. `is_loose` lets arguments be any object where that was not asked to be
/// strict.
pub(crate) fn grammar(
    calls: ToolCalls,
    tools: &ToolUse,
    format: Option<&Grammar>,
    is_loose: bool,
) -> Grammar {
    let free = match (&tools.choice, format) {
        (Choice::Required | Choice::Named(_), _) => Free::Nothing,
        (_, Some(Grammar::JsonSchema(schema))) => Free::Json(schema.clone()),
        (_, Some(_)) => Free::Json(json!({ "type": "object" })),
        _ => Free::Text,
    };
    let offered: Vec<&Tool> = tools.callable().collect();
    let mut lark = start(calls, &free, tools.parallel);
    let names: Vec<String> = (0..offered.len()).map(|index| format!("call_{index}")).collect();
    lark += &format!("call: {}\n", names.join(" | "));
    let any = json!({ "type": "object" });
    for (index, tool) in offered.iter().enumerate() {
        // Names are made of letters, digits, `_` and `-`, so nothing in them needs an escape.
        let name = &tool.name;
        let schema = if is_loose && !tool.strict { &any } else { &tool.parameters };
        let (head, tail) = around(calls, name);
        let _ = writeln!(lark, "call_{index}: {head} args_{index}{tail}");
        let _ = writeln!(lark, "args_{index}: %json {}", compact(schema));
    }
    Grammar::Lark(lark)
}

/// What stands before and behind the arguments of a call.
fn around(calls: ToolCalls, name: &str) -> (String, &'static str) {
    let object = |before: &str, key: &str| {
        format!("\"{before}{{\\\"name\\\": \\\"{name}\\\", \\\"{key}\\\": \"")
    };
    match calls.format {
        ToolFormat::Hermes => (object("\\n", "arguments"), " \"}\\n</tool_call>\""),
        ToolFormat::Llama => (object("", "parameters"), " \"}\""),
        ToolFormat::Mistral => (object("", "arguments"), " \"}\""),
        ToolFormat::MistralArgs => {
            let separator = word(calls.separator, calls.format.separator().unwrap_or_default());
            (format!("\"{name}\" {separator}"), "")
        }
    }
}

/// A control token, or a text.
fn word(id: Option<TokenId>, text: &str) -> String {
    match id {
        Some(id) => format!("<[{}]>", id.0),
        None => format!("\"{text}\""),
    }
}

/// A schema whose JSON has the white space that templates write, so that no model loses itself in
/// spaces.
fn compact(schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema["x-guidance"] =
        json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
    schema
}

/// The rules above those of single calls.
fn start(calls: ToolCalls, free: &Free, parallel: bool) -> String {
    let marker = word(calls.marker, calls.format.marker());
    // Free text ends where a marker that is text begins, so that is looked for lazily.
    let lazy = if calls.marker.is_none() { "[lazy]" } else { "" };
    let free_text = format!("open{lazy}: TEXT {marker}\nrest: TEXT\nTEXT: /(\\n|.)*/\n");
    let list = match parallel {
        true => "list: \" \"? \"[\" call (\", \" call)* \"]\"\n",
        false => "list: \" \"? \"[\" call \"]\"\n",
    };
    match (calls.format, free, parallel) {
        (ToolFormat::Hermes | ToolFormat::MistralArgs, Free::Text, true) => {
            format!("start: (open call)* rest\n{free_text}")
        }
        (ToolFormat::Hermes | ToolFormat::MistralArgs, Free::Text, false) => {
            format!("start: open call | rest\n{free_text}")
        }
        (ToolFormat::Hermes, free, true) => {
            let json = json_rule(free);
            format!("start: {marker} call (\"\\n\" {marker} call)*{json}\n")
        }
        (ToolFormat::MistralArgs, free, true) => {
            format!("start: ({marker} call)+{}\n", json_rule(free))
        }
        (ToolFormat::Hermes | ToolFormat::MistralArgs, free, false) => {
            format!("start: {marker} call{}\n", json_rule(free))
        }
        (ToolFormat::Llama, Free::Text, _) => {
            let optional = calls.marker.map_or(String::new(), |_| format!("{marker}? "));
            // Text that begins like a call is one.
            format!(
                "start: {optional}call | OTHER\n\
                 OTHER: /(\\n|.)*/ & ~/[ \\n\\t]*\\{{\"name\": (\\n|.)*/\n"
            )
        }
        // These models are trained to call one tool at a time.
        (ToolFormat::Llama, free, _) => format!("start: call{}\n", json_rule(free)),
        (ToolFormat::Mistral, Free::Text, _) => {
            format!("start: open list | rest\n{free_text}{list}")
        }
        (ToolFormat::Mistral, free, _) => {
            format!("start: {marker} list{}\n{list}", json_rule(free))
        }
    }
}

fn json_rule(free: &Free) -> String {
    match free {
        Free::Json(schema) => format!(" | json\njson: %json {schema}"),
        Free::Text | Free::Nothing => String::new(),
    }
}
