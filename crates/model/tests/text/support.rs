//! What the tests of tokenizers and templates share: the folder of real inputs, and the tokenizer
//! fields of GGUF files, read in the plainest way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_base::TokenId;
use shoal_model::tokenizer::{
    ControlTokens, DecodeFrom, Detokenizer, EncodeOptions, GgufTokenizer, Tokenizer,
};

/// The folder of real inputs, if this machine has it. Says so if not.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
pub(crate) fn shared_data() -> Option<PathBuf> {
    let folder = std::env::var_os("SHOAL_TEST_DATA").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: no shared data");
    }
    folder
}

/// A file that has to be there.
pub(crate) fn read(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn read_text(path: impl AsRef<Path>) -> String {
    String::from_utf8(read(path)).expect("UTF-8")
}

/// Plain text without beginning and end tokens.
pub(crate) const BARE: EncodeOptions =
    EncodeOptions { parse_special: false, add_bos: Some(false), add_eos: Some(false) };

/// Decoding at once and token by token must agree; returns the text.
pub(crate) fn decode(tokenizer: &Arc<Tokenizer>, ids: &[TokenId]) -> String {
    let (from, control) = (DecodeFrom::Start, ControlTokens::Skip);
    let whole = tokenizer.decode(ids, from, control).unwrap();
    let mut stream = Detokenizer::new(Arc::clone(tokenizer), from, control);
    let mut parts = String::new();
    for &id in ids {
        parts.push_str(&stream.push(id).unwrap());
    }
    parts.push_str(&stream.finish());
    assert_eq!(parts, whole);
    whole
}

/// A megabyte of English.
pub(crate) fn shakespeare(data: &Path) -> PathBuf {
    data.join("text/karpathy+char-rnn/data/tinyshakespeare/input.txt")
}

/// The tokenizer fields of a GGUF file. Panics on anything unexpected: the files are known.
pub(crate) fn gguf_tokenizer(path: impl AsRef<Path>) -> GgufTokenizer {
    let bytes = read(path);
    let mut reader = Gguf { bytes: &bytes, at: 0 };
    assert_eq!(reader.take(4), b"GGUF");
    assert_eq!(reader.u32(), 3);
    let _tensor_count = reader.u64();
    let mut fields = GgufTokenizer::default();
    for _ in 0..reader.u64() {
        let key = String::from_utf8(reader.string()).expect("UTF-8");
        let kind = reader.u32();
        let value = reader.value(kind);
        match key.strip_prefix("tokenizer.ggml.").unwrap_or(&key) {
            "general.architecture" => fields.architecture = value.text(),
            "model" => fields.model = value.text(),
            "pre" => fields.pre = Some(value.text()),
            "tokens" => fields.tokens = value.strings(),
            "merges" => fields.merges = Some(value.strings()),
            "scores" => fields.scores = Some(value.floats()),
            "token_type" => fields.token_types = Some(value.ints()),
            "bos_token_id" => fields.bos_id = Some(value.int()),
            "eos_token_id" => fields.eos_id = Some(value.int()),
            "eot_token_id" => fields.eot_id = Some(value.int()),
            "eom_token_id" => fields.eom_id = Some(value.int()),
            "unknown_token_id" => fields.unk_id = Some(value.int()),
            "padding_token_id" => fields.pad_id = Some(value.int()),
            "add_bos_token" => fields.add_bos = Some(value.int() != 0),
            "add_eos_token" => fields.add_eos = Some(value.int() != 0),
            "add_space_prefix" => fields.add_space_prefix = Some(value.int() != 0),
            _ => {}
        }
    }
    fields
}

enum Value {
    Number(f64),
    Text(Vec<u8>),
    List(Vec<Value>),
}

impl Value {
    fn text(self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8(bytes).expect("UTF-8"),
            _ => panic!("text expected"),
        }
    }

    fn number(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            _ => panic!("number expected"),
        }
    }

    fn int(&self) -> u32 {
        self.number() as u32
    }

    fn list(self) -> Vec<Self> {
        match self {
            Self::List(list) => list,
            _ => panic!("list expected"),
        }
    }

    fn strings(self) -> Vec<Vec<u8>> {
        let text = |value| match value {
            Self::Text(bytes) => bytes,
            _ => panic!("text expected"),
        };
        self.list().into_iter().map(text).collect()
    }

    fn floats(self) -> Vec<f32> {
        self.list().iter().map(|value| value.number() as f32).collect()
    }

    fn ints(self) -> Vec<i32> {
        self.list().iter().map(|value| value.number() as i32).collect()
    }
}

struct Gguf<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Gguf<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn string(&mut self) -> Vec<u8> {
        let length = self.u64() as usize;
        self.take(length).to_vec()
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            0 | 7 => Value::Number(f64::from(self.take(1)[0])),
            4 => Value::Number(f64::from(self.u32())),
            5 => Value::Number(f64::from(self.u32() as i32)),
            6 => Value::Number(f64::from(f32::from_bits(self.u32()))),
            8 => Value::Text(self.string()),
            9 => {
                let kind = self.u32();
                let count = self.u64();
                Value::List((0..count).map(|_| self.value(kind)).collect())
            }
            10 => Value::Number(self.u64() as f64),
            other => panic!("type {other} is not in the test files"),
        }
    }
}
