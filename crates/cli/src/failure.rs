//! Why a command ended without doing what it was asked, and the exit code for it.

use std::io;

use serde_json::json;
use shoal_base::{Blame, GenerateError};
use shoal_engine::{LoadError, PerplexityError};
use shoal_kernels::IsaError;
use shoal_model::bundle::BundleError;
use shoal_model::export::ExportError;
use shoal_model::import::ImportError;
use shoal_model::package::PackageError;
use shoal_model::source::SourceError;
use shoal_model::source::gguf::GgufWriteError;
use shoal_model::tokenizer::TokenizerError;
use shoal_store::StoreError;
use shoal_store::fetch::FetchError;
use shoal_train::{ReadError, RunError, StepError};

/// What kind of failure, and the exit code that says so. Documented in `docs/reference/cli.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Something else, above all what the operating system refused.
    Failed = 1,
    /// Words or parameters that cannot be honoured.
    Usage = 2,
    /// No such model or file.
    NotFound = 3,
    /// A file, package or text is not what it must be.
    BadInput = 4,
    /// The disk or the memory is full.
    NoRoom = 5,
    /// A server or the network.
    Network = 6,
    /// A swarm does not allow it.
    Refused = 7,
    /// Ctrl-C.
    Interrupted = 130,
    /// Nobody reads the output any more.
    OutputClosed = 141,
}

impl Code {
    /// The code with this word.
    pub(crate) fn of_str(word: &str) -> Option<Self> {
        let all = [
            Self::Failed,
            Self::Usage,
            Self::NotFound,
            Self::BadInput,
            Self::NoRoom,
            Self::Network,
            Self::Refused,
            Self::Interrupted,
            Self::OutputClosed,
        ];
        all.into_iter().find(|code| code.as_str() == word)
    }

    /// The word for it in JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::BadInput => "bad_input",
            Self::NoRoom => "no_room",
            Self::Network => "network",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
            Self::OutputClosed => "output_closed",
        }
    }
}

/// A command that ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Code::BadInput, message)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Code::Interrupted, "interrupted")
    }

    /// As one JSON object.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        json!({ "error": {
            "code": self.code.as_str(),
            "exit_code": self.code as u8,
            "message": self.message,
        } })
    }
}

/// What the system says about a file.
pub(crate) fn at_path(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::new(of_io(error), format!("{}: {error}", path.display()))
}

fn of_io(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
            Code::NoRoom
        }
        io::ErrorKind::BrokenPipe => Code::OutputClosed,
        _ => Code::Failed,
    }
}

fn of_store(error: &StoreError) -> Code {
    match error {
        _ if error.is_out_of_space() => Code::NoRoom,
        StoreError::NotFound { .. } => Code::NotFound,
        StoreError::Ambiguous { .. } | StoreError::Name(_) => Code::Usage,
        StoreError::Manifest { .. }
        | StoreError::Package { .. }
        | StoreError::Index { .. }
        | StoreError::NodeKey { .. } => Code::BadInput,
        _ => Code::Failed,
    }
}

fn of_source(error: &SourceError) -> Code {
    match error {
        SourceError::Io { source, .. } => of_io(source),
        SourceError::Request { .. } => Code::Failed,
        _ => Code::BadInput,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let hint = match &error {
            StoreError::NoHome => "; set SHOAL_HOME",
            StoreError::Index { .. } => "; `shoal doctor --rebuild-index` makes it anew",
            StoreError::NotFound { .. } => "; `shoal model list` shows what there is",
            _ => "",
        };
        Self::new(of_store(&error), format!("{error}{hint}"))
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::new(of_source(&error), error.to_string())
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let code = match &error {
            ImportError::Source(source) => of_source(source),
            ImportError::Sink { error, .. } => of_io(error),
            ImportError::Stopped => return Self::interrupted(),
            _ => Code::BadInput,
        };
        Self::new(code, error.to_string())
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        let code = match &error {
            BundleError::Io(error) | BundleError::Sink { error, .. } => of_io(error),
            BundleError::Stopped => return Self::interrupted(),
            _ => Code::BadInput,
        };
        Self::new(code, error.to_string())
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let code = match &error {
            FetchError::Store(error) => of_store(error),
            FetchError::Reference(_)
            | FetchError::Setting { .. }
            | FetchError::FileName { .. }
            | FetchError::Several { .. } => Code::Usage,
            FetchError::Authorities { .. } => Code::BadInput,
            FetchError::NoModel { .. } | FetchError::Status { status: 404 | 410, .. } => {
                Code::NotFound
            }
            FetchError::Stopped => return Self::interrupted(),
            _ => Code::Network,
        };
        Self::new(code, error.to_string())
    }
}

impl From<PackageError> for Failure {
    fn from(error: PackageError) -> Self {
        Self::new(Code::BadInput, error.to_string())
    }
}

impl From<TokenizerError> for Failure {
    fn from(error: TokenizerError) -> Self {
        Self::new(Code::BadInput, format!("tokenizer: {error}"))
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let code = match &error {
            LoadError::Isa(_) => Code::Usage,
            LoadError::Thread(_) | LoadError::Layers { .. } => Code::Failed,
            _ => Code::BadInput,
        };
        Self::new(code, error.to_string())
    }
}

impl From<IsaError> for Failure {
    fn from(error: IsaError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<GenerateError> for Failure {
    fn from(error: GenerateError) -> Self {
        let code = match (&error, error.blame()) {
            (GenerateError::Overloaded { .. }, _) => Code::NoRoom,
            (_, Blame::Caller) => Code::Usage,
            (_, Blame::Peer) => Code::Network,
            (_, Blame::Local) => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let code = match &error {
            ExportError::Write(GgufWriteError::Io(error)) => of_io(error),
            ExportError::Stopped => return Self::interrupted(),
            _ => Code::BadInput,
        };
        Self::new(code, error.to_string())
    }
}

impl From<PerplexityError> for Failure {
    fn from(error: PerplexityError) -> Self {
        match error {
            PerplexityError::Load(error) => error.into(),
            PerplexityError::Fault(error) => error.into(),
            _ => Self::usage(error.to_string()),
        }
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self::bad_input(error.to_string())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self::bad_input(error.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Source(error) => error.into(),
            _ => Self::bad_input(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn code(error: impl Into<Failure>) -> Code {
        error.into().code
    }

    #[test]
    fn each_kind_of_error_has_its_code() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let path = PathBuf::from("x");
        assert_eq!(code(StoreError::NotFound { what: "m".into() }), Code::NotFound);
        assert_eq!(code(StoreError::Io { path: path.clone(), source: full() }), Code::NoRoom);
        assert_eq!(code(SourceError::Unrecognised { path: path.clone() }), Code::BadInput);
        assert_eq!(code(SourceError::Io { file: path, source: missing() }), Code::NotFound);
        assert_eq!(code(ImportError::Stopped), Code::Interrupted);
        assert_eq!(code(ImportError::Mismatch { tokens: 1, rows: 2 }), Code::BadInput);
        let status = |status| FetchError::Status { url: "u".into(), status, wait_s: None };
        assert_eq!(code(status(404)), Code::NotFound);
        assert_eq!(code(status(500)), Code::Network);
        assert_eq!(code(GenerateError::NoChatTemplate), Code::Usage);
        assert_eq!(code(GenerateError::Overloaded { retry_after_ms: 1 }), Code::NoRoom);
        assert_eq!(code(ExportError::Write(GgufWriteError::Io(full()))), Code::NoRoom);
        let json = Failure::interrupted().to_json();
        assert_eq!(json["error"]["exit_code"], 130);
    }
}
