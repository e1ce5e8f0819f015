//! A schema, an expression or a grammar of a stranger, to the tokens it allows.

use std::sync::OnceLock;

use shoal_base::{Grammar, Prompt, Request};
use shoal_engine::{Intake, Next};
use shoal_model::package::{InputFormat, StoredFormat};
use shoal_testkit::{TinyModel, import, tiny_architecture};

use crate::Target;

pub(super) const TARGET: Target = Target {
    name: "grammar",
    seeds,
    // What the library's own limits let a grammar take.
    memory_bytes: 64 << 20,
    run,
};

/// Tokens drawn from what is allowed.
const TOKENS: u32 = 12;

fn seeds() -> Vec<Vec<u8>> {
    let schemas = [
        r#"{"type":"object","properties":{"a":{"type":"integer","minimum":3},"b":{"enum":["x"]}},
            "required":["a"],"additionalProperties":false}"#,
        r##"{"$defs":{"t":{"type":"array","items":{"$ref":"#/$defs/t"},"maxItems":2}},
            "$ref":"#/$defs/t"}"##,
        r#"{"anyOf":[{"type":"string","pattern":"^a{2,5}$"},{"type":"null"},{"const":[1,2]}]}"#,
    ];
    let expressions = ["[a-c]{2,4}(x|yz)*", r"\d{3}-\d{4}|(foo)+", "(a?){20}a{20}"];
    let grammars = [
        "start: \"a\" item+ \"b\"\nitem: /[0-9]+/ | \"(\" start \")\"\n",
        "start: WORD (\" \" WORD)*\nWORD: /[a-z]{1,8}/\n%ignore /[ ]+/\n",
    ];
    let of = |kind: u8, text: &&str| [&[kind], text.as_bytes()].concat();
    let schemas = schemas.iter().map(|text| of(0, text));
    let expressions = expressions.iter().map(|text| of(1, text));
    let grammars = grammars.iter().map(|text| of(2, text));
    schemas.chain(expressions).chain(grammars).collect()
}

fn run(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = str::from_utf8(text) else {
        return;
    };
    let grammar = match kind % 3 {
        0 => match serde_json::from_str(text) {
            Ok(schema) => Grammar::JsonSchema(schema),
            Err(_) => return,
        },
        1 => Grammar::Regex(text.to_owned()),
        _ => Grammar::Lark(text.to_owned()),
    };
    let intake = intake();
    let mut request = Request::new(Prompt::Text("a".to_owned()));
    request.sampling.grammar = Some(grammar);
    request.stop.tokens_max = Some(TOKENS);
    let Ok(mut accepted) = intake.accept(&request) else {
        return;
    };
    let vocab_count = intake.card().vocab_count as usize;
    for step in 0..TOKENS as usize {
        let spread = |id: usize| ((id * 31 + step * 17 + bytes.len()) % 97) as f32 / 8.0;
        let mut logits: Vec<f32> = (0..vocab_count).map(spread).collect();
        match accepted.answer.advance(&mut logits) {
            Ok(Next::Token(id, _)) => assert!(id.index() < vocab_count),
            Ok(Next::End { .. }) | Err(_) => return,
        }
    }
}

fn intake() -> &'static Intake {
    static INTAKE: OnceLock<Intake> = OnceLock::new();
    INTAKE.get_or_init(|| {
        let model = TinyModel::new(tiny_architecture(), 1);
        let package = import(&model, StoredFormat::I8, InputFormat::A8);
        Intake::new(&package, "tiny", 64).expect("its tokenizer is sound")
    })
}
