//! Well-formed files to start from. Small: a mutation should hit what matters.

use std::path::PathBuf;

use shoal_base::TokenId;
use shoal_model::export::export_source;
use shoal_model::source::ElementType;
use shoal_model::tokenizer::{
    Alphabet, GgufTokenizer, MergeModel, Normalizer, PreTokenizer, SpacePrefix, SpecialIds,
    TokenKind, TokenizerSpec, Vocabulary,
};
use shoal_model::{Family, RopeLayout};
use shoal_testkit::{TinyModel, byte_tokenizer, tiny_architecture};

/// Names the folder with real inputs.
const DATA_VARIABLE: &str = "SHOAL_TEST_DATA";
/// Longest real file that becomes a seed.
const FILE_BYTES_MAX: u64 = 1 << 16;

/// The smallest model of a family.
pub(crate) fn model(family: Family) -> TinyModel {
    let mut architecture = tiny_architecture();
    architecture.family = family;
    architecture.vocab_count = 6;
    architecture.model_width = 8;
    architecture.layer_count = 1;
    architecture.head_count = 2;
    architecture.kv_head_count = 1;
    architecture.head_width = 4;
    architecture.mlp_width = 6;
    architecture.context_tokens = 64;
    architecture.rope.dims = 4;
    architecture.qkv_bias = family == Family::Qwen2;
    architecture.qk_norm = family == Family::Qwen3;
    if matches!(family, Family::Qwen2 | Family::Qwen3) {
        architecture.rope.layout = RopeLayout::Half;
    }
    TinyModel::new(architecture, 1)
}

/// A GGUF file of a model, with a vocabulary.
pub(crate) fn gguf(family: Family, element: ElementType, vocabulary: &GgufTokenizer) -> Vec<u8> {
    let model = model(family).with_template("{{ messages[0].content }}");
    let file = export_source(&model, vocabulary.clone(), element, Vec::new());
    file.expect("the model has a GGUF form")
}

/// A llama2.c checkpoint of the first form.
pub(crate) fn checkpoint() -> Vec<u8> {
    let fields = [8_u32, 6, 1, 2, 2, 6, 16];
    let header = fields.into_iter().flat_map(u32::to_le_bytes);
    let floats = 6 * 8 + 8 * 2 + 4 * 64 + 3 * 48 + 8 + 16 * 4;
    header.chain((0..floats * 4).map(|i| (i % 5) as u8)).collect()
}

/// A checkpoint of version 2, quantized.
pub(crate) fn quantized_checkpoint() -> Vec<u8> {
    let mut out = b"24ka".to_vec();
    for field in [2_u32, 8, 8, 1, 2, 2, 16, 16] {
        out.extend(field.to_le_bytes());
    }
    out.push(1);
    out.extend(4_u32.to_le_bytes());
    out.resize(256, 0);
    out.extend(vec![0; 3 * 8 * 4]);
    out.extend(vec![1; 2 * (16 * 8 + 7 * 64)]);
    out
}

/// Bytes as the alphabet, some merges.
pub(crate) fn byte_spec() -> TokenizerSpec {
    let mut spec = byte_tokenizer();
    let ab = spec.vocabulary.push(b"ab", TokenKind::Normal);
    spec.vocabulary.push(b"abc", TokenKind::Normal);
    let id = |byte: u8| TokenId(byte.into());
    spec.model = MergeModel::Merges {
        pairs: vec![(id(b'a'), id(b'b')), (ab, id(b'c'))],
        whole_word_first: false,
    };
    spec.pretokenizer = PreTokenizer::Expressions(vec!["[a-z]+| ?[0-9]".to_owned()]);
    spec
}

/// Characters as the alphabet, merged by scores, with a byte to fall back on.
pub(crate) fn character_spec() -> TokenizerSpec {
    let mut vocabulary = Vocabulary::with_capacity(16, 64);
    let unk = vocabulary.push(b"<unk>", TokenKind::Unknown);
    let bos = vocabulary.push(b"<s>", TokenKind::Control);
    let eos = vocabulary.push(b"</s>", TokenKind::Control);
    vocabulary.push(b"\xc3", TokenKind::Byte);
    for piece in ["▁", "a", "b", "ab", "▁ab", "é"] {
        vocabulary.push(piece.as_bytes(), TokenKind::Normal);
    }
    let scores = (0..vocabulary.len()).map(|id| 0.5 - id as f32).collect();
    TokenizerSpec {
        alphabet: Alphabet::Characters,
        vocabulary,
        model: MergeModel::Scores(scores),
        normalizer: Normalizer {
            nfc: false,
            collapse_spaces: false,
            space_prefix: SpacePrefix::EachSegment,
        },
        pretokenizer: PreTokenizer::None,
        special: SpecialIds {
            bos: Some(bos),
            eos: Some(eos),
            unk: Some(unk),
            pad: None,
            end_of_turn: vec![eos],
        },
        margins: Vec::new(),
        add_bos: true,
        add_eos: false,
        fuse_unknown: true,
        clean_up_spaces: false,
    }
}

/// Real files below a folder of the shared data, when it is there: hostile ones above all.
pub(crate) fn real_files(folder: &str) -> Vec<Vec<u8>> {
    let Some(data) = std::env::var_os(DATA_VARIABLE) else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(PathBuf::from(data).join(folder)).into_iter().flatten();
    let small = |path: &PathBuf| path.metadata().is_ok_and(|m| m.len() <= FILE_BYTES_MAX);
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(small).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}
