//! Models made of random numbers: any architecture, no files.

use std::sync::Arc;

use shoal_model::import::import_blobs;
use shoal_model::package::{InputFormat, MemoryBlobs, Package, StoredFormat};
use shoal_model::source::{
    CodeBlock, ElementType, SourceError, TensorInfo, TokenizerFiles, WeightSource,
};
use shoal_model::tokenizer::{
    Alphabet, MergeModel, Normalizer, PreTokenizer, SpecialIds, TokenKind, TokenizerSpec,
    Vocabulary,
};
use shoal_model::{Architecture, Family, Rope, RopeLayout, RopeScaling, TensorRole};

/// A model of random weights, the same for the same seed.
#[derive(Debug)]
pub struct TinyModel {
    architecture: Architecture,
    tensors: Vec<(TensorRole, TensorInfo)>,
    template: Option<String>,
    seed: u64,
}

/// Two small layers with grouped queries; 260 tokens, those of [`byte_tokenizer`].
#[must_use]
pub fn tiny_architecture() -> Architecture {
    Architecture {
        family: Family::Llama,
        vocab_count: 260,
        model_width: 72,
        layer_count: 2,
        head_count: 4,
        kv_head_count: 2,
        head_width: 18,
        mlp_width: 100,
        context_tokens: 512,
        norm_epsilon: 1e-5,
        rope: Rope {
            theta: 10_000.0,
            dims: 18,
            layout: RopeLayout::Interleaved,
            scaling: RopeScaling::None,
        },
        sliding_window: None,
        tied_embeddings: true,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
    }
}

/// Every byte is a token (0 to 255); then beginning, end, end of turn, and one that is never used.
#[must_use]
pub fn byte_tokenizer() -> TokenizerSpec {
    let mut vocabulary = Vocabulary::with_capacity(260, 300);
    for byte in 0..=255_u8 {
        vocabulary.push(&[byte], TokenKind::Normal);
    }
    let bos = vocabulary.push(b"<s>", TokenKind::Control);
    let eos = vocabulary.push(b"</s>", TokenKind::Control);
    let turn = vocabulary.push(b"<|end|>", TokenKind::Control);
    vocabulary.push(b"<unused>", TokenKind::Unused);
    TokenizerSpec {
        alphabet: Alphabet::Bytes,
        vocabulary,
        model: MergeModel::Merges { pairs: Vec::new(), whole_word_first: false },
        normalizer: Normalizer::default(),
        pretokenizer: PreTokenizer::None,
        special: SpecialIds {
            bos: Some(bos),
            eos: Some(eos),
            unk: None,
            pad: None,
            end_of_turn: vec![eos, turn],
        },
        margins: Vec::new(),
        add_bos: true,
        add_eos: false,
        fuse_unknown: false,
        clean_up_spaces: false,
    }
}

impl TinyModel {
    /// The model of `architecture` with the weights of `seed`.
    #[must_use]
    pub fn new(architecture: Architecture, seed: u64) -> Self {
        let info = |(role, (rows, columns)): (TensorRole, (usize, usize))| {
            let name = format!("{role:?}");
            (role, TensorInfo { name, rows, columns, element: ElementType::F32 })
        };
        let tensors = architecture.tensors().map(info).collect();
        Self { architecture, tensors, template: None, seed }
    }

    /// The same with a chat template.
    #[must_use]
    pub fn with_template(mut self, template: &str) -> Self {
        self.template = Some(template.to_owned());
        self
    }

    fn index(&self, role: TensorRole) -> Option<usize> {
        self.tensors.iter().position(|(found, _)| *found == role)
    }
}

impl WeightSource for TinyModel {
    fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    fn name(&self) -> &str {
        "tiny"
    }

    fn tokenizer_files(&self) -> Result<TokenizerFiles, SourceError> {
        Ok(TokenizerFiles::Llama2c(Vec::new()))
    }

    fn chat_template(&self) -> Option<&str> {
        self.template.as_deref()
    }

    fn ignored_tensors(&self) -> &[String] {
        &[]
    }

    fn tensor(&self, role: TensorRole) -> Option<&TensorInfo> {
        self.index(role).map(|index| &self.tensors[index].1)
    }

    fn read_rows(
        &self,
        role: TensorRole,
        first_row: usize,
        out: &mut [f32],
    ) -> Result<(), SourceError> {
        let index = self.index(role).expect("the architecture has this tensor");
        let columns = self.tensors[index].1.columns;
        let norm = matches!(role, TensorRole::Norm(..) | TensorRole::FinalNorm);
        let size = (1.0 / columns as f32).sqrt() * 3.0;
        for (i, w) in out.iter_mut().enumerate() {
            let place = ((index as u64) << 40) + (first_row * columns + i) as u64;
            let random = uniform(self.seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            *w = if norm { 1.0 + random * 0.3 } else { random * size };
        }
        Ok(())
    }

    fn read_codes(
        &self,
        role: TensorRole,
        _first_row: usize,
        _out: &mut [CodeBlock],
    ) -> Result<(), SourceError> {
        Err(SourceError::Request { role, rule: "has no codes" })
    }
}

/// A number in -1..1 from a state (splitmix64).
fn uniform(state: u64) -> f32 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f32 / 8_388_608.0 - 1.0
}

/// Imports a source into memory, all maps in one format, with [`byte_tokenizer`].
///
/// # Panics
/// When the source cannot be imported.
#[must_use]
pub fn import(source: &dyn WeightSource, weights: StoredFormat, inputs: InputFormat) -> Package {
    let blobs = MemoryBlobs::default();
    let tokenizer = byte_tokenizer().to_bytes().expect("the specification is valid");
    let imported = import_blobs(source, weights, &tokenizer, 1, &blobs, &|_| true);
    let manifest = imported.expect("the model imports").finish(|_, _| inputs);
    Package::open(&manifest.to_bytes(), Arc::new(blobs)).expect("the manifest is valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_base::TokenId;

    #[test]
    fn weights_depend_on_place_and_seed_only() {
        let model = TinyModel::new(tiny_architecture(), 1);
        let mut whole = vec![0.0; 10 * 72];
        model.read_rows(TensorRole::Embedding, 0, &mut whole).expect("it has rows");
        let mut part = vec![0.0; 3 * 72];
        model.read_rows(TensorRole::Embedding, 4, &mut part).expect("it has rows");
        assert_eq!(part, whole[4 * 72..7 * 72]);
        let other = TinyModel::new(tiny_architecture(), 2);
        other.read_rows(TensorRole::Embedding, 4, &mut part).expect("it has rows");
        assert_ne!(part, whole[4 * 72..7 * 72]);
        assert!(byte_tokenizer().check().is_ok());
        assert_eq!(TokenId(256), byte_tokenizer().special.bos.expect("it has one"));
    }
}
