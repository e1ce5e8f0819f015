//! A model with other weights: what a test changes, and nothing else.

use shoal_model::source::{CodeBlock, SourceError, TensorInfo, TokenizerFiles, WeightSource};
use shoal_model::{Architecture, TensorRole};

/// Told the tensor, the first row and the rows, which it changes.
type Alter = dyn Fn(TensorRole, usize, &mut [f32]) + Send + Sync;

/// A source whose rows are changed as they are read.
pub struct Altered {
    inner: Box<dyn WeightSource>,
    alter: Box<Alter>,
}

impl Altered {
    /// `inner`, with `alter` told the tensor, the first row and the rows, which it changes.
    pub fn new(
        inner: Box<dyn WeightSource>,
        alter: impl Fn(TensorRole, usize, &mut [f32]) + Send + Sync + 'static,
    ) -> Self {
        Self { inner, alter: Box::new(alter) }
    }
}

impl std::fmt::Debug for Altered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Altered").field("name", &self.inner.name()).finish_non_exhaustive()
    }
}

impl WeightSource for Altered {
    fn architecture(&self) -> &Architecture {
        self.inner.architecture()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn tokenizer_files(&self) -> Result<TokenizerFiles, SourceError> {
        self.inner.tokenizer_files()
    }

    fn chat_template(&self) -> Option<&str> {
        self.inner.chat_template()
    }

    fn ignored_tensors(&self) -> &[String] {
        self.inner.ignored_tensors()
    }

    fn tensor(&self, role: TensorRole) -> Option<&TensorInfo> {
        self.inner.tensor(role)
    }

    fn read_rows(
        &self,
        role: TensorRole,
        first_row: usize,
        out: &mut [f32],
    ) -> Result<(), SourceError> {
        self.inner.read_rows(role, first_row, out)?;
        (self.alter)(role, first_row, out);
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
