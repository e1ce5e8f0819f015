//! A run: a trainer going through its data. Spec 05 §9.
//!
//! Pure: the same definition, data and number of steps give the same state, whatever was saved and
//! restored between.

use shoal_base::Digest;
use shoal_kernels::Kernels;

use crate::checkpoint::{CheckpointError, Cursor, floats_digest};
use crate::data::{Document, EpochPlan, data_root, fill_sample};
use crate::model::TrainModel;
use crate::preference::{Preference, Reference};
use crate::sample::Sample;
use crate::settings::{Objective, RunDefinition, SettingsError};
use crate::trainer::{StepError, StepReport, TeacherModel, Trainer};

/// What a run learns from.
#[derive(Clone, Debug, PartialEq)]
pub enum Examples {
    /// Documents.
    Documents(Vec<Document>),
    /// Pairs of answers.
    Preferences(Vec<Preference>),
}

impl Examples {
    /// The root over all documents; a pair counts as its chosen, then its rejected answer.
    #[must_use]
    pub fn root(&self) -> Digest {
        data_root(self.documents())
    }

    /// All documents, as the root counts them.
    #[must_use]
    pub fn documents(&self) -> Vec<&Document> {
        match self {
            Self::Documents(documents) => documents.iter().collect(),
            Self::Preferences(pairs) => {
                pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect()
            }
        }
    }

    /// Rows that each example fills in a sample. A pair is a sample of its own.
    fn rows(&self) -> Vec<usize> {
        match self {
            Self::Documents(documents) => documents.iter().map(Document::rows).collect(),
            Self::Preferences(pairs) => vec![1; pairs.len()],
        }
    }
}

/// The models of a run.
#[derive(Debug)]
pub struct RunModels {
    /// What is trained: made new by [`Run::try_new`] unless the definition has a base.
    pub model: TrainModel,
    /// For distillation.
    pub teacher: Option<TrainModel>,
}

/// Why a run does not begin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Its settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The data, the base or the teacher is not what the definition names.
    #[error("the {what} changed: it is {got} now, the run was defined with {expected}")]
    Changed {
        /// Which.
        what: &'static str,
        /// Its digest now.
        got: Digest,
        /// Its digest in the definition.
        expected: Digest,
    },
    /// Nothing to learn from, or the wrong kind for the objective.
    #[error("data {rule}")]
    Data {
        /// What must hold.
        rule: &'static str,
    },
}

/// A trainer and its place in the data.
#[derive(Debug)]
pub struct Run {
    id: Digest,
    definition: RunDefinition,
    trainer: Trainer,
    examples: Examples,
    rows: Vec<usize>,
    reference: Option<Reference>,
    cursor: Cursor,
    plan: EpochPlan,
}

impl Run {
    /// A run before its first step.
    ///
    /// # Errors
    /// A setting that cannot be honoured, or models and data that are not those of the definition.
    pub fn try_new(
        kernels: Kernels,
        definition: RunDefinition,
        models: RunModels,
        examples: Examples,
    ) -> Result<Self, RunError> {
        definition.check()?;
        let RunModels { mut model, teacher } = models;
        let weights = |model: &TrainModel| floats_digest(model.parameters().all());
        let expected = [
            ("data", Some(examples.root()), Some(definition.data)),
            ("base model", definition.base.map(|_| weights(&model)), definition.base),
            ("teacher", teacher.as_ref().map(weights), definition.teacher),
        ];
        for (what, got, expected) in expected {
            if let (Some(got), Some(expected)) = (got, expected)
                && got != expected
            {
                return Err(RunError::Changed { what, got, expected });
            }
        }
        check_examples(&definition, &examples, teacher.as_ref())?;
        let seed = definition.seed_digest();
        if definition.base.is_none() {
            model.initialize(seed);
        }
        let reference = match definition.objective {
            Objective::Preference { beta } => Some(Reference::new(&model, beta)),
            _ => None,
        };
        if let Some(adapter) = &definition.adapter {
            model.adapt(seed, &adapter.parts, adapter.rank as usize, adapter.scale);
        }
        let mut trainer = Trainer::new(kernels, model, definition.step.optimizer());
        if let (Objective::Distill { share }, Some(model)) = (definition.objective, teacher) {
            trainer = trainer.with_teacher(TeacherModel { model, share });
        }
        let rows = examples.rows();
        let sample_rows = sample_rows(&definition, &examples);
        let plan = EpochPlan::new(seed, 0, &rows, sample_rows);
        let cursor = Cursor::default();
        let id = definition.digest();
        Ok(Self { id, definition, trainer, examples, rows, reference, cursor, plan })
    }

    /// The digest of its definition.
    #[must_use]
    pub const fn id(&self) -> Digest {
        self.id
    }

    /// What it is.
    #[must_use]
    pub const fn definition(&self) -> &RunDefinition {
        &self.definition
    }

    /// What it learns from.
    #[must_use]
    pub const fn examples(&self) -> &Examples {
        &self.examples
    }

    /// Its trainer.
    #[must_use]
    pub const fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Its model, when training is over.
    #[must_use]
    pub fn into_model(self) -> TrainModel {
        self.trainer.into_model()
    }

    /// Whether every step was taken.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.trainer.step_count() >= self.definition.step.steps
    }

    /// Takes the next step.
    ///
    /// # Errors
    /// A document the model cannot take or a number that overflowed; the state is as before.
    pub fn step(&mut self) -> Result<StepReport, StepError> {
        let before = self.cursor;
        let result = match self.definition.objective {
            Objective::Preference { .. } => {
                let pairs = self.next_preferences();
                let reference = self.reference.as_mut().expect("made with the run");
                self.trainer.preference_step(reference, &pairs)
            }
            _ => {
                let samples = self.next_samples();
                self.trainer.step(&samples)
            }
        };
        if result.is_err() {
            self.move_to(before);
        }
        result
    }

    /// The hash of the state, which two who replay the same steps compare.
    #[must_use]
    pub fn state_digest(&self) -> Digest {
        self.trainer.state_digest(self.id, self.cursor)
    }

    /// Everything needed to go on from here.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        self.trainer.checkpoint(self.id, self.cursor)
    }

    /// Goes on from a checkpoint; nothing changes when it is refused.
    ///
    /// # Errors
    /// Bytes that are no whole checkpoint of this run.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let cursor = self.trainer.restore(self.id, bytes)?;
        self.move_to(cursor);
        Ok(())
    }

    fn move_to(&mut self, cursor: Cursor) {
        if cursor.epoch != self.cursor.epoch {
            self.plan = self.plan_of(cursor.epoch);
        }
        self.cursor = cursor;
    }

    fn plan_of(&self, epoch: u64) -> EpochPlan {
        let rows = sample_rows(&self.definition, &self.examples);
        EpochPlan::new(self.definition.seed_digest(), epoch, &self.rows, rows)
    }

    /// Moves over the next samples of the data: their places in the plan.
    fn next_places(&mut self) -> Vec<Vec<crate::data::Piece>> {
        let count = self.definition.step.samples as usize;
        let mut places = Vec::with_capacity(count);
        while places.len() < count {
            match self.plan.sample(self.cursor.sample as usize) {
                Some(pieces) => {
                    places.push(pieces.to_vec());
                    self.cursor.sample += 1;
                }
                None => self.move_to(Cursor { epoch: self.cursor.epoch + 1, sample: 0 }),
            }
        }
        places
    }

    fn next_samples(&mut self) -> Vec<Sample> {
        let places = self.next_places();
        let Examples::Documents(documents) = &self.examples else { return Vec::new() };
        places.iter().map(|pieces| fill_sample(documents, pieces)).collect()
    }

    fn next_preferences(&mut self) -> Vec<Preference> {
        let places = self.next_places();
        let Examples::Preferences(pairs) = &self.examples else { return Vec::new() };
        places.iter().flatten().map(|piece| pairs[piece.document].clone()).collect()
    }
}

fn sample_rows(definition: &RunDefinition, examples: &Examples) -> usize {
    match examples {
        Examples::Documents(_) => definition.step.sample_tokens as usize,
        Examples::Preferences(_) => 1,
    }
}

fn check_examples(
    definition: &RunDefinition,
    examples: &Examples,
    teacher: Option<&TrainModel>,
) -> Result<(), RunError> {
    let architecture = &definition.architecture;
    let preference = matches!(definition.objective, Objective::Preference { .. });
    let pairs = matches!(examples, Examples::Preferences(_));
    let documents = examples.documents();
    let known = |d: &&Document| d.tokens.iter().all(|&id| id < architecture.vocab_count);
    let counts = |d: &&Document| match d.weights.get(1..) {
        None => d.rows() > 0,
        Some(weights) => weights.iter().any(|&w| w > 0.0),
    };
    let context = architecture.context_tokens as usize;
    let fits = |d: &&Document| !pairs || (d.rows() <= context && counts(d));
    let teacher = teacher.map(TrainModel::architecture);
    let shares = |t: &shoal_model::Architecture| {
        t.vocab_count == architecture.vocab_count
            && t.context_tokens >= definition.step.sample_tokens
    };
    let rules = [
        (preference == pairs, "are preferences exactly when the objective is preference"),
        (documents.iter().all(known), "have tokens of the model's vocabulary"),
        (documents.iter().any(counts), "hold at least one target that counts"),
        (documents.iter().all(fits), "of preferences fit the context and have an answer"),
        (teacher.is_none_or(shares), "suit the teacher: its vocabulary and its context"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, rule)) => Err(RunError::Data { rule }),
        None => Ok(()),
    }
}
