//! From a trained model to a GGUF file, F32 or F16.

use std::io::Write;

use shoal_model::export::{ExportError, gguf_vocabulary};
use shoal_model::source::ElementType;
use shoal_model::source::gguf::{
    ExportRows, GgufWriter, export_metadata, export_row, export_tensors,
};
use shoal_model::tokenizer::TokenizerSpec;

use crate::model::TrainModel;
use crate::parameters::Tensor;

/// Writes the parameters of a model, whose adapter was merged or is left out, as a GGUF file.
///
/// # Errors
/// What the output says, or a value that F16 cannot hold.
///
/// # Panics
/// Never for a model that passed the checks of an architecture.
pub fn export_model<W: Write>(
    model: &TrainModel,
    name: &str,
    tokenizer: &TokenizerSpec,
    weights: ElementType,
    out: W,
) -> Result<W, ExportError> {
    let architecture = model.architecture();
    let spec = tokenizer.clone().without_unused_rows();
    let fields = spec.to_gguf(architecture.vocab_count as usize)?;
    let vocabulary = gguf_vocabulary(fields);
    let metadata = export_metadata(name, architecture, weights, &vocabulary, None)?;
    let tensors = export_tensors(architecture, weights);
    let plans = tensors.iter().map(|tensor| tensor.plan.clone()).collect();
    let mut writer = GgufWriter::try_new(out, &metadata, plans)?;
    for tensor in tensors {
        let columns = tensor.plan.columns;
        match tensor.rows {
            ExportRows::Values(values) => writer.write_rows(&values)?,
            ExportRows::Model(role) => {
                let values = model.parameters().get(Tensor::Model(role));
                let values = values.expect("the architecture has this tensor");
                // The elements of a bias move as the rows of its matrix do.
                if matches!(role, shoal_model::TensorRole::Bias(..)) {
                    let moved = (0..columns).map(|i| values[export_row(architecture, role, i)]);
                    writer.write_rows(&moved.collect::<Vec<f32>>())?;
                    continue;
                }
                for row in 0..tensor.plan.rows {
                    let from = export_row(architecture, role, row);
                    writer.write_rows(&values[from * columns..][..columns])?;
                }
            }
        }
    }
    Ok(writer.finish()?)
}
