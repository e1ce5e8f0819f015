//! Small models with known weights, and writers of model files that share nothing with the crate.

use std::collections::BTreeMap;

use shoal_model::source::{Input, SourceError, WeightSource};
use shoal_model::{
    Architecture, Family, LinearPart, NormPart, Rope, RopeLayout, RopeScaling, TensorRole,
};

/// A small model: two layers, grouped heads, widths that are no multiples of 32.
pub(crate) fn tiny(family: Family, layout: RopeLayout) -> Architecture {
    Architecture {
        family,
        vocab_count: 11,
        model_width: 12,
        layer_count: 2,
        head_count: 4,
        kv_head_count: 2,
        head_width: 4,
        mlp_width: 10,
        context_tokens: 64,
        norm_epsilon: 1e-5,
        rope: Rope { theta: 10_000.0, dims: 4, layout, scaling: RopeScaling::None },
        sliding_window: None,
        tied_embeddings: false,
        qkv_bias: family == Family::Qwen2,
        output_bias: false,
        mlp_bias: false,
        qk_norm: family == Family::Qwen3,
    }
}

/// The weight at a place, different between neighbours and exact in every float format.
pub(crate) fn weight(role: TensorRole, row: usize, column: usize) -> f32 {
    let kind = match role {
        TensorRole::Embedding => 1,
        TensorRole::OutputHead => 2,
        TensorRole::FinalNorm => 3,
        TensorRole::Linear(layer, part) => 100 * (layer + 1) + part as u32,
        TensorRole::Bias(layer, part) => 100 * (layer + 1) + 20 + part as u32,
        TensorRole::Norm(layer, part) => 100 * (layer + 1) + 40 + part as u32,
    };
    let seed = kind.wrapping_mul(7919) as usize + row * 31 + column * 17;
    ((seed % 251) as f32 - 125.0) / 128.0
}

/// The rows of a tensor, one after another.
pub(crate) fn weights(role: TensorRole, (rows, columns): (usize, usize)) -> Vec<f32> {
    let row = |row| (0..columns).map(move |column| weight(role, row, column));
    (0..rows).flat_map(row).collect()
}

/// Everything a source has, read in pieces of two rows.
pub(crate) fn read_all(
    source: &dyn WeightSource,
) -> Result<BTreeMap<TensorRole, Vec<f32>>, SourceError> {
    let mut all = BTreeMap::new();
    for (role, (rows, columns)) in source.architecture().tensors() {
        let info = source.tensor(role).expect("the architecture has it");
        assert_eq!((info.rows, info.columns), (rows, columns), "{role:?}");
        let mut values = vec![f32::NAN; rows * columns];
        for (index, piece) in values.chunks_mut(2 * columns).enumerate() {
            source.read_rows(role, 2 * index, piece)?;
        }
        all.insert(role, values);
    }
    Ok(all)
}

/// Checks that a source has the weights of [`weight`].
pub(crate) fn assert_weights(source: &dyn WeightSource) {
    for (role, values) in read_all(source).unwrap() {
        let info = source.tensor(role).unwrap();
        assert_eq!(values, weights(role, (info.rows, info.columns)), "{role:?}");
    }
}

pub(crate) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Opens bytes under a name that says what they are.
pub(crate) fn open(name: &str, bytes: Vec<u8>) -> Result<Box<dyn WeightSource>, SourceError> {
    shoal_model::source::open_input(Input::from_bytes(name, bytes))
}

/// GGUF metadata values, as the format has them.
#[derive(Clone)]
pub(crate) enum Meta {
    U8(u8),
    U32(u32),
    U64(u64),
    I32(i32),
    F32(f32),
    F64(f64),
    Bool(u8),
    Text(&'static str),
    /// Element type, count, bytes of the elements.
    Array(u32, u64, Vec<u8>),
    /// Type and bytes, unchecked.
    Raw(u32, Vec<u8>),
}

impl Meta {
    pub(crate) fn texts(texts: &[&[u8]]) -> Self {
        let bytes = texts.iter().flat_map(|text| text_bytes(text)).collect();
        Self::Array(8, texts.len() as u64, bytes)
    }

    fn bytes(&self) -> (u32, Vec<u8>) {
        match self {
            Self::U8(v) => (0, vec![*v]),
            Self::U32(v) => (4, v.to_le_bytes().into()),
            Self::I32(v) => (5, v.to_le_bytes().into()),
            Self::F32(v) => (6, v.to_le_bytes().into()),
            Self::Bool(v) => (7, vec![*v]),
            Self::Text(v) => (8, text_bytes(v.as_bytes())),
            Self::Array(kind, count, bytes) => {
                let head = [kind.to_le_bytes().as_slice(), &count.to_le_bytes()].concat();
                (9, [head.as_slice(), bytes].concat())
            }
            Self::U64(v) => (10, v.to_le_bytes().into()),
            Self::F64(v) => (12, v.to_le_bytes().into()),
            Self::Raw(kind, bytes) => (*kind, bytes.clone()),
        }
    }
}

fn text_bytes(text: &[u8]) -> Vec<u8> {
    [(text.len() as u64).to_le_bytes().as_slice(), text].concat()
}

/// One tensor of a GGUF file under construction.
#[derive(Clone)]
pub(crate) struct GgufTensor {
    pub(crate) name: String,
    /// Fastest first, as in the file.
    pub(crate) dimensions: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
    /// Where the directory says it is; `None` for where it is.
    pub(crate) offset: Option<u64>,
}

/// A GGUF file under construction.
#[derive(Clone)]
pub(crate) struct GgufBytes {
    pub(crate) version: u32,
    pub(crate) alignment: usize,
    pub(crate) metadata: Vec<(String, Meta)>,
    pub(crate) tensors: Vec<GgufTensor>,
}

impl GgufBytes {
    /// The weights of [`weight`] under an architecture, in F32.
    pub(crate) fn model(architecture: &Architecture) -> Self {
        let a = architecture;
        let prefix = match a.family {
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            _ => "llama",
        };
        let mut file = Self {
            version: 3,
            alignment: 32,
            metadata: vec![("general.architecture".to_owned(), Meta::Text(prefix))],
            tensors: Vec::new(),
        };
        for (key, value) in [
            ("context_length", a.context_tokens),
            ("embedding_length", a.model_width),
            ("block_count", a.layer_count),
            ("feed_forward_length", a.mlp_width),
            ("attention.head_count", a.head_count),
            ("attention.head_count_kv", a.kv_head_count),
            ("attention.key_length", a.head_width),
            ("attention.value_length", a.head_width),
            ("rope.dimension_count", a.rope.dims),
        ] {
            file.set(&format!("{prefix}.{key}"), Meta::U32(value));
        }
        let epsilon = format!("{prefix}.attention.layer_norm_rms_epsilon");
        file.set(&epsilon, Meta::F32(a.norm_epsilon));
        for (role, (rows, columns)) in a.tensors() {
            let vector = rows == 1;
            file.tensors.push(GgufTensor {
                name: gguf_name(role),
                dimensions: if vector {
                    vec![columns as u64]
                } else {
                    vec![columns as u64, rows as u64]
                },
                kind: 0,
                data: f32_bytes(&weights(role, (rows, columns))),
                offset: None,
            });
        }
        file
    }

    /// Sets or replaces a metadata value.
    pub(crate) fn set(&mut self, key: &str, value: Meta) {
        match self.metadata.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.metadata.retain(|(k, _)| k != key);
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut GgufTensor {
        let found = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("{name} is a tensor"))
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            out.extend(text_bytes(key.as_bytes()));
            let (kind, bytes) = value.bytes();
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            out.extend(text_bytes(tensor.name.as_bytes()));
            out.extend((tensor.dimensions.len() as u32).to_le_bytes());
            for dimension in &tensor.dimensions {
                out.extend(dimension.to_le_bytes());
            }
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.data);
            data.resize(data.len().next_multiple_of(self.alignment), 0);
        }
        if !self.tensors.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
        }
        out.extend(data);
        out
    }
}

/// Names in GGUF files.
pub(crate) fn gguf_name(role: TensorRole) -> String {
    let linear = |part| match part {
        LinearPart::Query => "attn_q",
        LinearPart::Key => "attn_k",
        LinearPart::Value => "attn_v",
        LinearPart::AttentionOutput => "attn_output",
        LinearPart::Gate => "ffn_gate",
        LinearPart::Up => "ffn_up",
        LinearPart::Down => "ffn_down",
    };
    match role {
        TensorRole::Embedding => "token_embd.weight".to_owned(),
        TensorRole::OutputHead => "output.weight".to_owned(),
        TensorRole::FinalNorm => "output_norm.weight".to_owned(),
        TensorRole::Linear(layer, part) => format!("blk.{layer}.{}.weight", linear(part)),
        TensorRole::Bias(layer, part) => format!("blk.{layer}.{}.bias", linear(part)),
        TensorRole::Norm(layer, part) => {
            let name = match part {
                NormPart::Attention => "attn_norm",
                NormPart::QueryHead => "attn_q_norm",
                NormPart::KeyHead => "attn_k_norm",
                NormPart::Mlp => "ffn_norm",
            };
            format!("blk.{layer}.{name}.weight")
        }
    }
}
