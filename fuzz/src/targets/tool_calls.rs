//! The text of an answer in which a model may call tools. The first byte says in which form and how
//! the text is cut.

use shoal_base::ToolFormat;
use shoal_gateway::fuzz::calls;

use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "tool_calls",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

const FORMATS: [ToolFormat; 4] =
    [ToolFormat::Hermes, ToolFormat::Llama, ToolFormat::Mistral, ToolFormat::MistralArgs];

fn seeds() -> Vec<Vec<u8>> {
    [
        "\u{4}I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"\"}}\n\
         </tool_call>\n\
         <tool_call>{\"name\":\"get_weather\",\"arguments\":{\"x\":[1,{}]}}</tool_call> done",
        "\u{5}<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}; \
         {\"type\": \"function\", \"name\": \"a\\u00e9\", \"parameters\": {}}",
        "\u{6}text [TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}, \"id\": \"123456789\"}, \
         {\"name\": \"get_weather\", \"arguments\": {\"a\": \"]\"}}] end",
        "\u{7}text [TOOL_CALLS]f[ARGS]{\"a\": \"[TOOL_CALLS]\"}[TOOL_CALLS]get_weather[ARGS]{} end",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn run(bytes: &[u8]) {
    let Some((first, text)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let format = FORMATS[usize::from(*first) % FORMATS.len()];
    let whole = calls(format, &text, text.len());
    let width = 1 + usize::from(*first) / FORMATS.len();
    assert_eq!(calls(format, &text, width), whole, "it does not depend on the cuts");
    if whole.1.is_empty() {
        assert_eq!(whole.0, text, "without calls everything is text");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds_hold_calls() {
        for seed in super::seeds() {
            let text = std::str::from_utf8(&seed[1..]).expect("seeds are text");
            let format = super::FORMATS[usize::from(seed[0]) % super::FORMATS.len()];
            assert_eq!(super::calls(format, text, 1).1.len(), 2, "{text}");
        }
    }
}
