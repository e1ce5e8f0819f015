//! Small tokenizers of each family, made here, and the files of each format that describe them.

use shoal_model::tokenizer::{GgufTokenizer, Tokenizer, TokenizerSpec};

/// The characters that stand for bytes in files of byte-level tokenizers.
pub(crate) fn stand_in(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !printable(byte)).count();
    char::from_u32(0x100 + before as u32).unwrap()
}

fn stand_ins(text: &str) -> String {
    text.bytes().map(stand_in).collect()
}

/// Merges that make "hello", " world", "12", "é" and runs of spaces.
pub(crate) const MERGES: [(&str, &str); 14] = [
    ("h", "e"),
    ("l", "l"),
    ("he", "ll"),
    ("hell", "o"),
    (" ", "w"),
    ("o", "r"),
    (" w", "or"),
    ("l", "d"),
    (" wor", "ld"),
    ("1", "2"),
    (" ", " "),
    ("  ", "  "),
    ("\n", "\n"),
    ("'", "s"),
];

pub(crate) const CONTROL: [&str; 4] = ["<|bos|>", "<|eos|>", "<|im_end|>", "<|tool|>"];

/// A byte-level tokenizer: the bytes are ids 0 to 255, what merges make follows, then one merge of
/// a character's bytes, then [`CONTROL`].
pub(crate) fn bytes_gguf(pre: &str) -> GgufTokenizer {
    let mut tokens: Vec<String> = (0..=255).map(|byte| stand_in(byte).to_string()).collect();
    let mut merges = Vec::new();
    for (left, right) in MERGES {
        let (left, right) = (stand_ins(left), stand_ins(right));
        tokens.push(format!("{left}{right}"));
        merges.push(format!("{left} {right}"));
    }
    tokens.push(stand_ins("é"));
    merges.push(format!("{} {}", stand_in(0xc3), stand_in(0xa9)));
    let text_count = tokens.len();
    tokens.extend(CONTROL.map(str::to_owned));
    let types = (0..tokens.len()).map(|id| if id < text_count { 1 } else { 3 });
    GgufTokenizer {
        architecture: "llama".to_owned(),
        model: "gpt2".to_owned(),
        pre: Some(pre.to_owned()),
        token_types: Some(types.collect()),
        tokens: tokens.into_iter().map(String::into_bytes).collect(),
        merges: Some(merges.into_iter().map(String::into_bytes).collect()),
        bos_id: Some(text_count as u32),
        eos_id: Some(text_count as u32 + 1),
        ..GgufTokenizer::default()
    }
}

/// Id of the token with this text in [`bytes_gguf`].
pub(crate) fn bytes_id(text: &str) -> u32 {
    let fields = bytes_gguf("gpt-2");
    let name = if CONTROL.contains(&text) { text.to_owned() } else { stand_ins(text) };
    fields.tokens.iter().position(|token| *token == name.as_bytes()).unwrap() as u32
}

/// Pieces and scores of a character tokenizer; ids 0 to 2 and the bytes come before them.
pub(crate) const PIECES: [&str; 22] = [
    "▁", "h", "e", "l", "o", "w", "r", "d", "é", "1", "\n", "ll", "he", "▁w", "or", "hell", "▁wor",
    "ld", "hello", "▁world", "▁▁", "▁hello",
];

/// Score of a piece: letters last, longer pieces as late in the list as they are urgent.
pub(crate) fn piece_score(index: usize) -> f32 {
    if index < 11 { -100.0 - index as f32 } else { -(index as f32) }
}

/// A character tokenizer with byte fallback, merged by score.
pub(crate) fn characters_gguf() -> GgufTokenizer {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(PIECES.map(str::to_owned));
    let types = |id: usize| match id {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        _ => 1,
    };
    let score = |id: usize| if id < 259 { 0.0 } else { piece_score(id - 259) };
    GgufTokenizer {
        architecture: "llama".to_owned(),
        model: "llama".to_owned(),
        token_types: Some((0..tokens.len()).map(types).collect()),
        scores: Some((0..tokens.len()).map(score).collect()),
        tokens: tokens.into_iter().map(String::into_bytes).collect(),
        bos_id: Some(1),
        eos_id: Some(2),
        unk_id: Some(0),
        ..GgufTokenizer::default()
    }
}

/// Id of a piece in [`characters_gguf`].
pub(crate) fn piece_id(piece: &str) -> u32 {
    259 + PIECES.iter().position(|&other| other == piece).unwrap() as u32
}

pub(crate) fn spec(fields: &GgufTokenizer) -> TokenizerSpec {
    TokenizerSpec::from_gguf(fields).unwrap()
}

pub(crate) fn tokenizer(fields: &GgufTokenizer) -> Tokenizer {
    Tokenizer::new(spec(fields)).unwrap()
}

/// A protocol-buffers field of bytes.
pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

/// [`characters_gguf`] as a SentencePiece model; `normalizer` is its third field.
pub(crate) fn sentencepiece(model_type: u8, normalizer: &[u8]) -> Vec<u8> {
    let fields = characters_gguf();
    let (types, scores) = (fields.token_types.unwrap(), fields.scores.unwrap());
    let mut out = Vec::new();
    for (id, name) in fields.tokens.iter().enumerate() {
        let mut piece = field(1, name);
        piece.push(2 << 3 | 5);
        piece.extend_from_slice(&scores[id].to_le_bytes());
        piece.extend_from_slice(&[3 << 3, types[id] as u8]);
        out.extend(field(1, &piece));
    }
    // A field that readers do not know is passed over.
    out.extend(field(2, &[3 << 3, model_type, 9 << 3, 7]));
    out.extend(field(3, normalizer));
    out
}

/// The normalizer of Llama 2: no table, spaces are kept.
pub(crate) const KEEP_SPACES: [u8; 4] = [3 << 3, 1, 4 << 3, 0];

/// [`characters_gguf`] as a file of llama2.c.
pub(crate) fn llama2c() -> Vec<u8> {
    let fields = characters_gguf();
    let mut out = 32u32.to_le_bytes().to_vec();
    for (name, score) in fields.tokens.iter().zip(fields.scores.unwrap()) {
        let name = String::from_utf8(name.clone()).unwrap();
        let shown = match name.as_str() {
            "<s>" | "</s>" => format!("\n{name}\n"),
            _ => name.replace('▁', " "),
        };
        out.extend_from_slice(&score.to_le_bytes());
        out.extend_from_slice(&(shown.len() as u32).to_le_bytes());
        out.extend_from_slice(shown.as_bytes());
    }
    out
}
