//! A chat template and a conversation, both from strangers: the template up to the first NUL, then
//! JSON.

use serde_json::Value;
use shoal_model::template::{ChatTemplate, TemplateError, TemplateInput};

use crate::Target;

pub(super) const TARGET: Target = Target {
    name: "chat_template",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

/// What the engine itself and its limits on a template's values allow.
const MEMORY_BYTES: usize = 64 << 20;

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] \
    | trim + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}";
const TOOLS: &str = "{%- set ns = namespace(a=0, s='') -%}{%- for m in messages[::-1] -%}\
    {%- if m.role == 'tool' and loop.first -%}{{ raise_exception('no') }}{%- elif m.content is \
    string -%}{%- set ns.a = ns.a + loop.index0 -%}{{ m.content.split('x')[0].lstrip('\\n') }}\
    {%- endif -%}{%- endfor -%}{{ tools | tojson(indent=2) }}{{ ns.a }}{{ strftime_now('%d %b') }}";
const MACROS: &str = "{%- macro f(x, d=0) -%}{{ x | replace('a', 'b') | upper }}{%- endmacro -%}\
    {% for i in range(3) %}{{ f(messages[i % messages | length].content) }}{% endfor %}\
    {{ messages | map(attribute='role') | join(', ') }}{{ bos_token ~ (1 if tools else 2) }}";
const MESSAGES: &str = r#"[{"role":"user","content":"a x \n b"},{"role":"assistant","content":null,
"tool_calls":[{"function":{"name":"f","arguments":{"a":[1,2.5,true]}}}]}]"#;

fn seeds() -> Vec<Vec<u8>> {
    [CHATML, TOOLS, MACROS].map(|template| format!("{template}\0{MESSAGES}").into_bytes()).to_vec()
}

/// The text of the conversation; `None` when the template is refused.
fn render(bytes: &[u8]) -> Option<Result<String, TemplateError>> {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let (template, messages) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let template = ChatTemplate::parse(std::str::from_utf8(template).ok()?).ok()?;
    let messages = serde_json::from_slice(messages).unwrap_or(Value::Null);
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let input = TemplateInput {
        messages,
        tools: messages,
        add_generation_prompt: true,
        bos_token: Some("<s>"),
        ..TemplateInput::default()
    };
    Some(template.render(&input))
}

fn run(bytes: &[u8]) {
    assert_eq!(render(bytes), render(bytes), "a rendering depends on its input alone");
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds_are_templates() {
        for seed in super::seeds() {
            assert!(super::render(&seed).is_some(), "{}", String::from_utf8_lossy(&seed));
        }
    }
}
