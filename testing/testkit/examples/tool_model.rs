//! Writes a GGUF file of a tiny model of random numbers whose chat template has a place for tools:
//! what clients are tried against.

use shoal_testkit::{TinyModel, gguf_file, tiny_architecture};

/// Few words, in the form of Hermes: the answers are noise anyway.
const TEMPLATE: &str = "{% if tools %}{{ tools | tojson }}<tool_call>{% endif %}\
    {% for m in messages %}[{{ m.role }}]{{ m.content }}{% for call in m.tool_calls %}\
    <tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}\n{% endfor %}\
    {% if add_generation_prompt %}[assistant]{% endif %}";

fn main() -> std::io::Result<()> {
    let path = std::env::args_os().nth(1).expect("the path of the file to write");
    let mut architecture = tiny_architecture();
    // Each byte is a token, and conversations with tools are long.
    architecture.context_tokens = 32_768;
    std::fs::write(path, gguf_file(&TinyModel::new(architecture, 1).with_template(TEMPLATE)))
}
