//! Why a model file was refused.

use std::io;
use std::path::PathBuf;

use crate::architecture::{ArchitectureError, TensorRole};

/// A model file that cannot be read as a model. Names from files are printed with escapes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The operating system refused.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Neither of the accepted kinds.
    #[error(
        "{}: not a model; accepted are a GGUF file, a folder with config.json and *.safetensors, \
         a llama2.c checkpoint (.bin)",
        path.display()
    )]
    Unrecognised {
        /// What was given.
        path: PathBuf,
    },
    /// A tokenizer file of no known kind.
    #[error(
        "{}: not a tokenizer; accepted are tokenizer.json, a SentencePiece or tiktoken model, a \
         llama2.c tokenizer, a GGUF file",
        file.display()
    )]
    UnrecognisedTokenizer {
        /// What was given.
        file: PathBuf,
    },
    /// A file the model needs is not there.
    #[error("{}: {name} is missing", folder.display())]
    MissingFile {
        /// Where it should be.
        folder: PathBuf,
        /// What it is called.
        name: String,
    },
    /// The bytes break a rule of the format.
    #[error("{}: byte {offset}: {rule}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where.
        offset: u64,
        /// What must hold there.
        rule: &'static str,
    },
    /// The file ends before something it announces.
    #[error("{}: byte {offset}: {needed} bytes needed, the file has {size}", file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// Where the announced thing starts.
        offset: u64,
        /// Its length.
        needed: u64,
        /// Length of the file.
        size: u64,
    },
    /// Larger than anything this program is meant for.
    #[error("{}: byte {offset}: {what} {got}, limit {limit}", file.display())]
    Oversize {
        /// The file.
        file: PathBuf,
        /// Where.
        offset: u64,
        /// What is counted.
        what: &'static str,
        /// Found.
        got: u64,
        /// Accepted.
        limit: u64,
    },
    /// Two entries of one name.
    #[error("{}: byte {offset}: {name:?} occurs twice", file.display())]
    Duplicate {
        /// The file.
        file: PathBuf,
        /// Where the second is.
        offset: u64,
        /// The name.
        name: String,
    },
    /// JSON that does not parse, or has a value of the wrong type. The cause names the line.
    #[error("{}: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A required setting is absent.
    #[error("{}: {key} is missing", file.display())]
    MissingKey {
        /// The file.
        file: PathBuf,
        /// The setting.
        key: String,
    },
    /// A setting has a value that breaks a rule.
    #[error("{}: {key}: {rule}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The setting.
        key: String,
        /// What must hold.
        rule: &'static str,
    },
    /// A model of another kind.
    #[error("{}: architecture {name:?} is not supported; accepted: {accepted}", file.display())]
    UnknownArchitecture {
        /// The file.
        file: PathBuf,
        /// Its architecture.
        name: String,
        /// Those that are understood.
        accepted: &'static str,
    },
    /// A model with experts.
    #[error("{}: mixture of experts is not supported yet", file.display())]
    MixtureOfExperts {
        /// The file.
        file: PathBuf,
    },
    /// A setting that changes the computation in a way the engine does not know.
    #[error("{}: {key} = {value} is not supported", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The setting.
        key: String,
        /// Its value.
        value: String,
    },
    /// The dimensions are out of range or contradict one another.
    #[error("{}: {source}", file.display())]
    Architecture {
        /// The file.
        file: PathBuf,
        /// The rule.
        source: ArchitectureError,
    },
    /// A tensor in a number format that is not understood.
    #[error("{}: tensor {tensor:?}: element type {element} is not supported", file.display())]
    UnknownElementType {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type, as the format calls it.
        element: String,
    },
    /// The architecture has a tensor that the file lacks.
    #[error("{}: tensor {tensor:?} is missing", file.display())]
    MissingTensor {
        /// The file.
        file: PathBuf,
        /// The name it should have.
        tensor: String,
    },
    /// The file has a tensor that the architecture lacks, so the result would be wrong.
    #[error("{}: tensor {tensor:?} has no place in this architecture", file.display())]
    UnknownTensor {
        /// The file.
        file: PathBuf,
        /// Its name.
        tensor: String,
    },
    /// A tensor of other dimensions than the architecture has.
    #[error(
        "{}: tensor {tensor:?} has dimensions {got:?} (slowest first), \
         expected [{rows}, {columns}]",
        file.display()
    )]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Found, slowest first.
        got: Vec<u64>,
        /// Expected.
        rows: usize,
        /// Expected.
        columns: usize,
    },
    /// A weight that is no number.
    #[error("{}: tensor {tensor:?}: row {row}, column {column} is not finite", file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its row.
        row: usize,
        /// Its column, or the first of its block of 32 when codes are read.
        column: usize,
    },
    /// The caller asked for rows that do not exist, or for codes of a type without codes.
    #[error("{role:?}: {rule}")]
    Request {
        /// The tensor asked for.
        role: TensorRole,
        /// What a request must satisfy.
        rule: &'static str,
    },
}
