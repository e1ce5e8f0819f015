//! From a trained model to a GGUF file, F32 or F16.

use std::io::Write;

use shoal_model::export::{ExportError, GgufModel, gguf_tokenizer, write_gguf};
use shoal_model::source::ElementType;
use shoal_model::tokenizer::TokenizerSpec;

use crate::model::TrainModel;
use crate::parameters::Tensor;

/// What a file says of a model besides its parameters.
#[derive(Clone, Copy, Debug)]
pub struct ExportedModel<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its tokenizer.
    pub tokenizer: &'a TokenizerSpec,
    /// How conversations are written for it.
    pub chat_template: Option<&'a str>,
}

/// Writes the parameters of a model, whose adapter was merged or is left out, as a GGUF file.
///
/// # Errors
/// What the output says, or a value that F16 cannot hold.
///
/// # Panics
/// Never for a model that passed the checks of an architecture.
pub fn export_model<W: Write>(
    model: &TrainModel,
    described: &ExportedModel<'_>,
    weights: ElementType,
    out: W,
) -> Result<W, ExportError> {
    let architecture = model.architecture();
    let tokenizer = gguf_tokenizer(described.tokenizer.clone(), architecture)?;
    let ExportedModel { name, chat_template, .. } = *described;
    let file = GgufModel { name, architecture, tokenizer, chat_template };
    write_gguf(file, weights, out, &|_| true, |role, row, columns| {
        let values = model.parameters().get(Tensor::Model(role));
        let values = values.expect("the architecture has this tensor");
        Ok(values[row * columns..][..columns].to_vec())
    })
}
