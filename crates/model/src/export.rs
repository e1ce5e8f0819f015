//! From a package back to a GGUF file. Weights are those the engine computes with, so a file
//! exported from an 8-bit package has 8-bit precision in a wider format.

use std::io::Write;

use crate::architecture::{Architecture, LinearPart, NormPart, TensorRole};
use crate::package::{BlobKind, LayerWeights, LinearWeights, Package, PackageError};
use crate::source::gguf::{
    ExportRows, GgufWriteError, GgufWriter, export_metadata, export_row, export_tensors,
};
use crate::source::{ElementType, GgufVocabulary, SourceError, WeightSource};
use crate::tokenizer::{GgufTokenizer, TokenizerError, TokenizerSpec};

/// Why a package was not exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A tokenizer that GGUF files cannot describe.
    #[error("tokenizer: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// The output, or a value that the format cannot hold.
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    /// The caller said so.
    #[error("stopped")]
    Stopped,
}

/// Writes a package as a GGUF file with its matrices in `weights`, F16 or F32.
///
/// `progress` is told the share that is done and says whether to go on. Holds one layer's norms and
/// one row at a time.
///
/// # Errors
/// The first error of package or output; what was written is then of no use.
pub fn export_gguf<W: Write>(
    package: &Package,
    name: &str,
    weights: ElementType,
    out: W,
    progress: &dyn Fn(f64) -> bool,
) -> Result<W, ExportError> {
    let manifest = package.manifest();
    let spec = TokenizerSpec::from_bytes(&package.bytes(BlobKind::Tokenizer)?)?;
    let model = GgufModel {
        name,
        architecture: &manifest.architecture,
        tokenizer: gguf_tokenizer(spec, &manifest.architecture)?,
        chat_template: manifest.chat_template.as_deref(),
    };
    let mut rows = Rows { package, layer: None };
    let mut held: Option<(TensorRole, Tensor)> = None;
    write_gguf(model, weights, out, progress, |role, row, columns| {
        if held.as_ref().is_none_or(|(held, _)| *held != role) {
            held = Some((role, rows.tensor(role)?));
        }
        let (_, tensor) = held.as_ref().expect("just set");
        Ok(tensor.row(row, columns))
    })
}

/// Writes what an importer would read as a GGUF file, without quantizing it: `source` with
/// `tokenizer`.
///
/// # Errors
/// The first error of source or output; what was written is then of no use.
pub fn export_source<W: Write>(
    source: &dyn WeightSource,
    tokenizer: GgufTokenizer,
    weights: ElementType,
    out: W,
) -> Result<W, ExportError> {
    let architecture = source.architecture();
    let (name, chat_template) = (source.name(), source.chat_template());
    let model = GgufModel { name, architecture, tokenizer, chat_template };
    write_gguf(model, weights, out, &|_| true, |role, row, columns| {
        let mut values = vec![0.0; columns];
        source.read_rows(role, row, &mut values)?;
        Ok(values)
    })
}

/// What a GGUF file says beside the weights.
#[derive(Clone, Debug)]
pub struct GgufModel<'a> {
    /// `general.name`
    pub name: &'a str,
    /// Its shapes and settings.
    pub architecture: &'a Architecture,
    /// Its tokenizer, without rows that no token has.
    pub tokenizer: GgufTokenizer,
    /// Its chat template.
    pub chat_template: Option<&'a str>,
}

/// The tokenizer of a model as a GGUF file describes it.
///
/// # Errors
/// A tokenizer that GGUF files cannot describe.
pub fn gguf_tokenizer(
    spec: TokenizerSpec,
    architecture: &Architecture,
) -> Result<GgufTokenizer, TokenizerError> {
    spec.without_unused_rows().to_gguf(architecture.vocab_count as usize)
}

/// Writes a GGUF file with its matrices in `weights`, F16 or F32.
///
/// `row` gives row `.1` of a tensor of the model, `.2` elements; norms and biases are one row. The
/// order of rows that the format wants is made here. `progress` is told the share that is done and
/// says whether to go on.
///
/// # Errors
/// The first error of `row` or output; what was written is then of no use.
pub fn write_gguf<W: Write>(
    model: GgufModel<'_>,
    weights: ElementType,
    out: W,
    progress: &dyn Fn(f64) -> bool,
    mut row: impl FnMut(TensorRole, usize, usize) -> Result<Vec<f32>, ExportError>,
) -> Result<W, ExportError> {
    let GgufModel { name, architecture, tokenizer, chat_template } = model;
    let vocabulary = gguf_vocabulary(tokenizer);
    let metadata = export_metadata(name, architecture, weights, &vocabulary, chat_template)?;
    let tensors = export_tensors(architecture, weights);
    let plans: Vec<_> = tensors.iter().map(|tensor| tensor.plan.clone()).collect();
    let total: usize = plans.iter().map(|plan| plan.rows * plan.columns).sum();
    let mut writer = GgufWriter::try_new(out, &metadata, plans)?;
    let mut done = 0;
    for tensor in tensors {
        let (count, columns) = (tensor.plan.rows, tensor.plan.columns);
        let role = match tensor.rows {
            ExportRows::Values(values) => {
                writer.write_rows(&values)?;
                continue;
            }
            ExportRows::Model(role) => role,
        };
        for index in 0..count {
            let values = match role {
                TensorRole::Bias(..) => {
                    // The elements of a bias move as the rows of its matrix do.
                    let values = row(role, 0, columns)?;
                    (0..columns).map(|k| values[export_row(architecture, role, k)]).collect()
                }
                _ => row(role, export_row(architecture, role, index), columns)?,
            };
            writer.write_rows(&values)?;
            done += columns;
            if !progress(done as f64 / total as f64) {
                return Err(ExportError::Stopped);
            }
        }
    }
    Ok(writer.finish()?)
}

/// The fields of a tokenizer as a GGUF file holds them.
fn gguf_vocabulary(fields: GgufTokenizer) -> GgufVocabulary {
    GgufVocabulary {
        architecture: fields.architecture,
        model: fields.model,
        pre: fields.pre,
        tokens: fields.tokens,
        scores: fields.scores.unwrap_or_default(),
        types: fields.token_types.unwrap_or_default(),
        merges: fields.merges.unwrap_or_default(),
        bos_id: fields.bos_id,
        eos_id: fields.eos_id,
        eot_id: fields.eot_id,
        eom_id: fields.eom_id,
        unknown_id: fields.unk_id,
        separator_id: None,
        padding_id: fields.pad_id,
        add_bos: fields.add_bos,
        add_eos: fields.add_eos,
        add_space_prefix: fields.add_space_prefix,
        remove_extra_whitespaces: fields.remove_extra_whitespaces,
        precompiled_charsmap: None,
    }
}

/// Tensors of a package, with the layer that was asked for last.
struct Rows<'a> {
    package: &'a Package,
    layer: Option<(u32, LayerWeights)>,
}

/// One tensor.
enum Tensor {
    Matrix(LinearWeights),
    Vector(Vec<f32>),
}

impl Rows<'_> {
    fn tensor(&mut self, role: TensorRole) -> Result<Tensor, PackageError> {
        Ok(match role {
            TensorRole::Embedding => Tensor::Matrix(self.package.embedding()?),
            TensorRole::FinalNorm => Tensor::Vector(self.package.head()?.0),
            TensorRole::OutputHead => match self.package.head()?.1 {
                Some(head) => Tensor::Matrix(head),
                None => unreachable!("a package with tied embeddings has no output head to export"),
            },
            TensorRole::Linear(layer, part) => {
                Tensor::Matrix(self.layer(layer)?.linear(part).clone())
            }
            TensorRole::Bias(layer, part) => Tensor::Vector(self.bias(layer, part)?),
            TensorRole::Norm(layer, part) => Tensor::Vector(self.norm(layer, part)?),
        })
    }

    fn layer(&mut self, index: u32) -> Result<&LayerWeights, PackageError> {
        if self.layer.as_ref().is_none_or(|(held, _)| *held != index) {
            self.layer = Some((index, self.package.layer(index)?));
        }
        Ok(&self.layer.as_ref().expect("just set").1)
    }

    fn bias(&mut self, layer: u32, part: LinearPart) -> Result<Vec<f32>, PackageError> {
        let bias = self.layer(layer)?.linear(part).bias.clone();
        Ok(bias.expect("the architecture has this bias, so the plan of its blob has it"))
    }

    fn norm(&mut self, layer: u32, part: NormPart) -> Result<Vec<f32>, PackageError> {
        let layer = self.layer(layer)?;
        let heads = || layer.head_norms.clone().expect("the architecture has norms on heads");
        Ok(match part {
            NormPart::Attention => layer.attention_norm.clone(),
            NormPart::Mlp => layer.mlp_norm.clone(),
            NormPart::QueryHead => heads().0,
            NormPart::KeyHead => heads().1,
        })
    }
}

impl Tensor {
    /// One row; vectors have one.
    fn row(&self, row: usize, columns: usize) -> Vec<f32> {
        match self {
            Self::Matrix(weights) => {
                let row = weights.row(row);
                (0..columns).map(|k| row.integer(k) as f32 * row.scale).collect()
            }
            Self::Vector(values) => values.clone(),
        }
    }
}
