//! Chat templates: real ones against Jinja2, our own, and hostile ones.

use serde_json::{Map, Value, json};
use shoal_base::Digest;
use shoal_model::template::{
    BuiltinTemplate, ChatTemplate, TEMPLATE_BYTES_MAX, TemplateDate, TemplateError, TemplateInput,
};

use crate::support;

const CONVERSATIONS: &str = include_str!("../fixtures/conversations.json");
/// Made by `fixtures-maker/render_templates.py`.
const RENDERED: &str = include_str!("../fixtures/rendered_templates.json");

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Renders a conversation as the script does.
fn render(template: &ChatTemplate, case: &Value) -> Result<String, TemplateError> {
    let date = TemplateDate::new(2026, 3, 5).and_then(|date| date.at_second(50_829));
    template.render(&TemplateInput {
        messages: list(&case["messages"]),
        tools: list(&case["tools"]),
        variables: case["variables"].as_object(),
        add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
        bos_token: Some("<s>"),
        eos_token: Some("</s>"),
        date: date.unwrap(),
    })
}

#[test]
fn published_templates_render_as_jinja2_renders_them() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let folder = data.join("tokenizers/ggerganov+llama.cpp/models/templates");
    let conversations: Vec<Value> = serde_json::from_str(CONVERSATIONS).unwrap();
    let record: Value = serde_json::from_str(RENDERED).unwrap();
    let record = record["rendered"].as_object().unwrap();
    assert_eq!(record.len(), 17);
    let mut wrong = Vec::new();
    for (file, expected) in record {
        let template = ChatTemplate::parse(&support::read_text(folder.join(file))).unwrap();
        for case in &conversations {
            let name = case["name"].as_str().unwrap();
            let expected = &expected[name];
            let got = render(&template, case);
            let field = |name: &str| expected.get(name).and_then(Value::as_str);
            let same = match &got {
                // Lists that filters make are lists here.
                Ok(_) if field("fails").is_some_and(|words| words.contains("generator")) => true,
                Ok(text) => field("blake3") == Some(&Digest::of(text.as_bytes()).to_string()),
                Err(TemplateError::Raised { message }) => field("raises") == Some(message),
                Err(TemplateError::Failed { .. }) => field("fails").is_some(),
                Err(_) => false,
            };
            if !same {
                wrong.push(format!("{file}: {name}: {expected}, not {got:?}"));
                if let (Some(folder), Ok(text)) = (std::env::var_os("SHOAL_TEST_OUT"), &got) {
                    let out = std::path::Path::new(&folder).join(format!("{file}.{name}.txt"));
                    std::fs::write(out, text).unwrap();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
}
