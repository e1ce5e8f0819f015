//! Embedding, final norm and output head: what the owner of an answer computes alone.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use shoal_base::TokenId;
use shoal_kernels::{Kernels, Quantized, Team};
use shoal_model::package::{BlobKind, LinearSlot, Package};

use crate::LoadError;
use crate::calibrate::Probe;
use crate::weights::Map;

/// Tokens to rows, rows to logits.
#[derive(Debug)]
pub struct Head {
    kernels: Arc<Kernels>,
    embedding: Map,
    /// `None`: the embedding serves as output head.
    output: Option<Map>,
    norm: Vec<f32>,
    epsilon: f32,
    x: Vec<f32>,
    h: Vec<f32>,
    quantized: Quantized,
}

impl Head {
    /// Loads the head of a package.
    ///
    /// # Errors
    /// The package is damaged.
    pub fn load(kernels: Arc<Kernels>, package: &Package) -> Result<Self, LoadError> {
        let embedding = package.embedding()?;
        let embedding = Map::load(&kernels, BlobKind::Embedding, LinearSlot::Embedding, embedding)?;
        let (norm, output) = package.head()?;
        let output = output.map(|w| Map::load(&kernels, BlobKind::Head, LinearSlot::OutputHead, w));
        Ok(Self {
            output: output.transpose()?,
            kernels,
            embedding,
            norm,
            epsilon: package.manifest().architecture.norm_epsilon,
            x: Vec::new(),
            h: Vec::new(),
            quantized: Quantized::default(),
        })
    }

    /// Entries of the vocabulary.
    #[must_use]
    pub fn vocab_count(&self) -> usize {
        self.embedding.linear.shape().rows
    }

    /// `D`
    #[must_use]
    pub fn width(&self) -> usize {
        self.norm.len()
    }

    /// The threads it computes on.
    pub(crate) fn team(&self) -> &Team {
        self.kernels.team()
    }

    /// Bytes of weights read for logits.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.output_map().linear.bytes()
    }

    /// The first rows of `tokens`, `[T, D]` bf16.
    ///
    /// # Panics
    /// When a token is beyond the vocabulary.
    #[must_use]
    pub fn embed(&self, tokens: &[TokenId]) -> Vec<u16> {
        let mut rows = vec![0; tokens.len() * self.width()];
        let tokens: Vec<usize> = tokens.iter().map(|token| token.index()).collect();
        self.kernels.embed(&self.embedding.linear, &tokens, &mut rows);
        rows
    }

    /// Final states of `rows`, `[T, D]`, after the final norm; a row with an unsound number gives
    /// `None`.
    pub fn states(&mut self, rows: &[u16]) -> Vec<Option<Vec<f32>>> {
        let faults = self.norm(rows);
        let states = self.x.chunks_exact(self.norm.len());
        states.zip(faults).map(|(x, fault)| (!fault.into_inner()).then(|| x.to_vec())).collect()
    }

    /// Logits of `rows`, written to `logits`, `[T, V]`. A row that meets an unsound number is
    /// reported.
    pub fn logits(&mut self, rows: &[u16], logits: &mut Vec<f32>) -> Vec<bool> {
        let faults = self.norm(rows);
        let map = self.output.as_ref().unwrap_or(&self.embedding);
        let shape = map.linear.shape();
        let needs = map.needs(&self.kernels);
        self.kernels.quantize(
            &self.x,
            shape.columns,
            map.inputs,
            needs,
            &mut self.quantized,
            &faults,
        );
        logits.resize(faults.len() * shape.rows, 0.0);
        self.kernels.matmul(&map.linear, &self.quantized, logits);
        self.kernels.check_rows(logits, shape.rows, &faults);
        faults.into_iter().map(AtomicBool::into_inner).collect()
    }

    /// Shows the product for the logits of `rows` to `probe`.
    pub(crate) fn probe(&mut self, rows: &[u16], probe: &Probe) {
        self.norm(rows);
        let name = match self.output {
            Some(_) => (BlobKind::Head, LinearSlot::OutputHead),
            None => (BlobKind::Embedding, LinearSlot::Embedding),
        };
        probe.compare(&self.kernels, name, self.output_map(), &self.x);
    }

    fn output_map(&self) -> &Map {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// Normed rows into `x`.
    fn norm(&mut self, rows: &[u16]) -> Vec<AtomicBool> {
        let width = self.norm.len();
        let faults: Vec<AtomicBool> =
            (0..rows.len() / width).map(|_| AtomicBool::new(false)).collect();
        self.h.resize(rows.len(), 0.0);
        self.x.resize(rows.len(), 0.0);
        self.kernels.widen(rows, &mut self.h);
        self.kernels.rms_norm(&self.h, &self.norm, self.epsilon, &mut self.x, &faults);
        faults
    }
}
