//! llama2.c checkpoints: version 0 (no magic, f32), 1 (f32) and 2 (int8 in groups). Spec 02.
//!
//! The formats have no directory: every offset follows from the header, and the file must have
//! exactly the length that the header asks for.

use std::collections::BTreeMap;
use std::path::Path;

use super::input::Cursor;
use super::model_files::{ModelFiles, TokenizerPlace};
use super::tensors::{FileTensor, Naming, TensorTable};
use super::{ElementType, Input, SourceError};
use crate::architecture::{
    Architecture, Family, LinearPart, NormPart, Rope, RopeLayout, RopeScaling, TensorRole,
};

pub(super) const MAGIC: [u8; 4] = *b"24ka";

/// Fixed in the program that the format belongs to.
const THETA: f64 = 10_000.0;
const NORM_EPSILON: f32 = 1e-5;
const LEGACY_HEADER_BYTES: u64 = 28;
const HEADER_BYTES: u64 = 256;

/// Opens a checkpoint. Its tokenizer is another file.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn open(input: Input) -> Result<ModelFiles, SourceError> {
    let header = Header::parse(&input)?;
    let mut layout = Layout::new(&input, &header);
    match header.version {
        0 => layout.legacy()?,
        _ => layout.modern()?,
    }
    if layout.offset != input.size() {
        let rule = "the file ends with the last tensor that the header asks for";
        return Err(input.malformed(layout.offset, rule));
    }
    let naming = Naming { name: &name_of_role, harmless: &|_| false };
    let stem = input.file().file_stem().unwrap_or_default();
    Ok(ModelFiles {
        name: stem.to_string_lossy().into_owned(),
        chat_template: None,
        tensors: TensorTable::place(
            &header.architecture,
            &naming,
            vec![input.clone()],
            layout.tensors,
        )?,
        tokenizer: TokenizerPlace::Missing {
            folder: input.file().parent().unwrap_or(Path::new("")).to_owned(),
            names: tokenizer_names(header.architecture.vocab_count),
        },
        architecture: header.architecture,
    })
}

/// The tokenizer files in use beside checkpoints, best first.
fn tokenizer_names(vocab_count: u32) -> Vec<String> {
    vec![
        format!("tok{vocab_count}.bin"),
        "tokenizer.bin".to_owned(),
        format!("tok{vocab_count}.model"),
        "tokenizer.model".to_owned(),
    ]
}

struct Header {
    version: u32,
    architecture: Architecture,
    element: ElementType,
}

impl Header {
    fn parse(input: &Input) -> Result<Self, SourceError> {
        let mut cursor = Cursor::new(input, 0);
        let version = if cursor.array()? == MAGIC {
            match cursor.u32()? {
                version @ (1 | 2) => version,
                _ => return Err(input.malformed(4, "the version is 1 or 2")),
            }
        } else {
            cursor = Cursor::new(input, 0);
            0
        };
        let fields_offset = cursor.offset();
        let mut fields = [0_i32; 7];
        for field in &mut fields {
            *field = i32::from_le_bytes(cursor.array()?);
        }
        let tied_embeddings = match version {
            // Version 0 says it by the sign of the vocabulary.
            0 => fields[5] > 0,
            _ => match cursor.u8()? {
                0 => false,
                1 => true,
                _ => return Err(input.malformed(cursor.offset() - 1, "a bool is 0 or 1")),
            },
        };
        if version == 0 {
            fields[5] = fields[5].saturating_abs();
        }
        let element = match version {
            2 => match cursor.u32()? {
                0 => return Err(input.malformed(cursor.offset() - 4, "the group size is not 0")),
                group => ElementType::Int8Groups { group },
            },
            _ => ElementType::F32,
        };
        let architecture = architecture(fields, tied_embeddings)
            .map_err(|rule| input.malformed(fields_offset, rule))?;
        let check = architecture.check();
        check.map_err(|source| SourceError::Architecture {
            file: input.file().to_path_buf(),
            source,
        })?;
        Ok(Self { version, architecture, element })
    }
}

/// The architecture of the seven fields, or the rule they break.
fn architecture(fields: [i32; 7], tied_embeddings: bool) -> Result<Architecture, &'static str> {
    let [
        Ok(model_width),
        Ok(mlp_width),
        Ok(layer_count),
        Ok(head_count),
        Ok(kv_head_count),
        Ok(vocab_count),
        Ok(context_tokens),
    ] = fields.map(u32::try_from)
    else {
        return Err("no dimension is negative");
    };
    if head_count == 0 || !model_width.is_multiple_of(head_count) {
        return Err("the width is a multiple of the number of heads");
    }
    let head_width = model_width / head_count;
    Ok(Architecture {
        family: Family::Llama,
        vocab_count,
        model_width,
        layer_count,
        head_count,
        kv_head_count,
        head_width,
        mlp_width,
        context_tokens,
        norm_epsilon: NORM_EPSILON,
        rope: Rope {
            theta: THETA,
            dims: head_width,
            layout: RopeLayout::Interleaved,
            scaling: RopeScaling::None,
        },
        sliding_window: None,
        tied_embeddings,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
    })
}

/// Names for messages; the format has none.
fn name_of_role(role: TensorRole) -> String {
    match role {
        TensorRole::Embedding => "token_embedding_table".to_owned(),
        TensorRole::OutputHead => "wcls".to_owned(),
        TensorRole::FinalNorm => "rms_final_weight".to_owned(),
        TensorRole::Linear(layer, part) => {
            let name = match part {
                LinearPart::Query => "wq",
                LinearPart::Key => "wk",
                LinearPart::Value => "wv",
                LinearPart::AttentionOutput => "wo",
                LinearPart::Gate => "w1",
                LinearPart::Down => "w2",
                LinearPart::Up => "w3",
            };
            format!("{name}[{layer}]")
        }
        TensorRole::Bias(layer, part) => format!("bias of {part:?}[{layer}]"),
        TensorRole::Norm(layer, NormPart::Attention) => format!("rms_att_weight[{layer}]"),
        TensorRole::Norm(layer, NormPart::Mlp) => format!("rms_ffn_weight[{layer}]"),
        TensorRole::Norm(layer, part) => format!("norm of {part:?}[{layer}]"),
    }
}

/// Walks over the tensors in the order of the file.
struct Layout<'a> {
    input: &'a Input,
    architecture: &'a Architecture,
    element: ElementType,
    offset: u64,
    tensors: BTreeMap<String, FileTensor>,
}

impl<'a> Layout<'a> {
    fn new(input: &'a Input, header: &'a Header) -> Self {
        Self {
            input,
            architecture: &header.architecture,
            element: header.element,
            offset: 0,
            tensors: BTreeMap::new(),
        }
    }

    fn legacy(&mut self) -> Result<(), SourceError> {
        use LinearPart::{AttentionOutput, Down, Gate, Key, Query, Up, Value};
        self.offset = LEGACY_HEADER_BYTES;
        self.put(TensorRole::Embedding, ElementType::F32)?;
        self.norms(NormPart::Attention)?;
        self.linears(&[Query, Key, Value, AttentionOutput])?;
        self.norms(NormPart::Mlp)?;
        self.linears(&[Gate, Down, Up])?;
        self.put(TensorRole::FinalNorm, ElementType::F32)?;
        // Cosines and sines of all positions, which follow from the settings.
        let architecture = self.architecture;
        let tables = u64::from(architecture.context_tokens) * u64::from(architecture.head_width);
        self.skip(tables * 4)?;
        self.head()
    }

    fn modern(&mut self) -> Result<(), SourceError> {
        use LinearPart::{AttentionOutput, Down, Gate, Key, Query, Up, Value};
        self.offset = HEADER_BYTES;
        self.norms(NormPart::Attention)?;
        self.norms(NormPart::Mlp)?;
        self.put(TensorRole::FinalNorm, ElementType::F32)?;
        self.put(TensorRole::Embedding, self.element)?;
        self.linears(&[Query, Key, Value, AttentionOutput, Gate, Down, Up])?;
        self.head()
    }

    /// The same norm of all layers.
    fn norms(&mut self, part: NormPart) -> Result<(), SourceError> {
        (0..self.architecture.layer_count)
            .try_for_each(|layer| self.put(TensorRole::Norm(layer, part), ElementType::F32))
    }

    /// Each map of all layers, then the next map.
    fn linears(&mut self, parts: &[LinearPart]) -> Result<(), SourceError> {
        for &part in parts {
            for layer in 0..self.architecture.layer_count {
                self.put(TensorRole::Linear(layer, part), self.element)?;
            }
        }
        Ok(())
    }

    fn head(&mut self) -> Result<(), SourceError> {
        if self.architecture.tied_embeddings {
            return Ok(());
        }
        self.put(TensorRole::OutputHead, self.element)
    }

    fn shape(&self, role: TensorRole) -> (usize, usize) {
        let width = self.architecture.model_width as usize;
        match role {
            TensorRole::Linear(_, part) => self.architecture.linear_shape(part),
            TensorRole::Embedding | TensorRole::OutputHead => {
                (self.architecture.vocab_count as usize, width)
            }
            TensorRole::FinalNorm | TensorRole::Norm(..) | TensorRole::Bias(..) => (1, width),
        }
    }

    fn put(&mut self, role: TensorRole, element: ElementType) -> Result<(), SourceError> {
        let (rows, columns) = self.shape(role);
        let elements = rows as u64 * columns as u64;
        let offset = self.offset;
        let (_, size) = element.block();
        self.skip(elements * size as u64)?;
        let scales_offset = self.offset;
        if let ElementType::Int8Groups { group } = element {
            if !elements.is_multiple_of(u64::from(group)) {
                let rule = "the group size divides the number of elements";
                return Err(self.input.malformed(offset, rule));
            }
            self.skip(elements / u64::from(group) * 4)?;
        }
        let name = name_of_role(role);
        let tensor = FileTensor {
            name: name.clone(),
            shape: vec![rows as u64, columns as u64],
            element,
            input: 0,
            offset,
            scales_offset,
        };
        self.tensors.insert(name, tensor);
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> Result<(), SourceError> {
        self.input.check_range(self.offset, bytes)?;
        self.offset += bytes;
        Ok(())
    }
}
