//! Reading model files: GGUF, Hugging Face folders, llama2.c checkpoints. And writing GGUF.
//!
//! Owns: the formats, the mapping of their names and settings to an [`Architecture`], conversion of
//! stored elements to f32. Does not own: what a tokenizer or a template means, what an importer
//! makes of the weights. Spec 02.
//!
//! Every byte is taken for hostile. A length is compared with the size of the file before anything
//! is allocated for it; a setting that would change the computation and is not understood is
//! refused; nothing panics. Tensors stay in the file: rows are converted when they are asked for.

mod blocks;
mod detect;
mod element;
mod error;
pub mod fuzz;
pub mod gguf;
mod half;
pub mod hugging_face;
mod input;
mod limits;
mod llama2c;
mod model_files;
mod tensors;
mod tokenizer_files;

use std::collections::BTreeMap;
use std::fmt::Debug;

pub use blocks::CodeBlock;
pub use detect::{
    LoneTokenizer, open, open_folder, open_input, open_tokenizer, open_with_tokenizer,
};
pub use element::ElementType;
pub use error::SourceError;
pub use input::{Input, ReadAt};
pub use tensors::TensorInfo;
pub use tokenizer_files::{GgufVocabulary, TokenizerFiles, TokenizerSettings};

use crate::architecture::{Architecture, LinearPart, TensorRole};

/// A model whose weights can be read row by row.
pub trait WeightSource: Debug + Send + Sync {
    /// What the model is made of; [`Architecture::check`] holds.
    fn architecture(&self) -> &Architecture;

    /// What its files call it, or the name of the file or folder.
    fn name(&self) -> &str;

    /// Reads the raw material of its tokenizer.
    ///
    /// # Errors
    /// [`SourceError::MissingFile`] when it has none, and what reading it may fail with.
    fn tokenizer_files(&self) -> Result<TokenizerFiles, SourceError>;

    /// Its chat template, if it has one.
    fn chat_template(&self) -> Option<&str>;

    /// Tensors that are in its files and not needed, such as tables that follow from the settings.
    fn ignored_tensors(&self) -> &[String];

    /// How a tensor is stored; `None` when the architecture does not have it.
    fn tensor(&self, role: TensorRole) -> Option<&TensorInfo>;

    /// Converts rows of a tensor to f32.
    ///
    /// - `out`: `[rows, columns]`, overwritten. Its length says how many rows are read.
    ///
    /// Holds the rows asked for and about 1 MiB (at least one row) of stored bytes.
    ///
    /// # Errors
    /// [`SourceError::NotFinite`] names the first element that is no number;
    /// [`SourceError::Request`] when the rows do not exist; what the file system says.
    fn read_rows(
        &self,
        role: TensorRole,
        first_row: usize,
        out: &mut [f32],
    ) -> Result<(), SourceError>;

    /// Reads the 4-bit codes of a tensor whose [`ElementType::has_codes`] holds, so that an
    /// importer can keep them.
    ///
    /// - `out`: `[rows, columns / 32]`, overwritten. Its length says how many rows are read.
    ///
    /// # Errors
    /// As [`Self::read_rows`]; [`SourceError::Request`] also when the tensor has no codes.
    fn read_codes(
        &self,
        role: TensorRole,
        first_row: usize,
        out: &mut [CodeBlock],
    ) -> Result<(), SourceError>;

    /// Stored bits per weight of the format that most weights of the linear maps have.
    ///
    /// Mixtures such as `Q4_K_M`, which keep a few maps in more bits, count as their main format:
    /// 4.5, as pure `Q4_0` and `Q4_K` files (5 for `Q4_1`). Embedding, output head and norms do not
    /// count: they are often wider on purpose.
    fn source_bits_per_weight(&self) -> f64 {
        let architecture = self.architecture();
        let mut weights: BTreeMap<u64, usize> = BTreeMap::new();
        for layer in 0..architecture.layer_count {
            for part in LinearPart::ALL {
                if let Some(info) = self.tensor(TensorRole::Linear(layer, part)) {
                    // Positive floats order like their bits.
                    let bits = info.element.bits_per_weight().to_bits();
                    *weights.entry(bits).or_default() += info.rows * info.columns;
                }
            }
        }
        let most = weights.into_iter().max_by_key(|&(_, count)| count);
        f64::from_bits(most.map_or(0, |(bits, _)| bits))
    }
}
