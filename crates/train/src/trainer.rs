//! One training step: gradients of a batch, their norm, the AdamW step. Spec 05 §6.

use serde::{Deserialize, Serialize};
use shoal_arith::reference::float::AdamStep;
use shoal_kernels::Kernels;

use crate::model::{Activation, Keep, TeacherPass, TrainModel, Workspace};
use crate::parameters::{Parameters, Tensor};
use crate::sample::Sample;
use crate::schedule::{Schedule, power};

/// AdamW, clipping and the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSettings {
    /// Learning rate over the run.
    pub schedule: Schedule,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decay of matrices; norms and biases do not decay.
    pub weight_decay: f64,
    /// Longest gradient; longer ones are scaled down to it.
    pub clip_norm: f64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The step, the first being 0.
    pub step: u64,
    /// Weighted mean of the losses in nats.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub rate: f32,
    /// Rows computed.
    pub rows: usize,
}

/// Why a step was not taken. The parameters are as before it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The loss or a gradient overflowed.
    #[error("step {step}: the {what} is no finite number; lower the learning rate")]
    NotFinite {
        /// The step.
        step: u64,
        /// What: the loss, or the first tensor whose gradient is not finite.
        what: NotFinite,
    },
    /// No target of the batch counts.
    #[error("step {step}: no target has a weight, the mask leaves nothing to learn")]
    NothingToLearn {
        /// The step.
        step: u64,
    },
    /// A sample the model cannot take.
    #[error("sample {index}: {rule}")]
    Sample {
        /// Which of the batch.
        index: usize,
        /// What must hold.
        rule: &'static str,
    },
}

/// What is no finite number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFinite {
    /// The loss, and the first tensor of the forward pass that is not finite, if one is.
    Loss {
        /// The tensor.
        from: Option<Activation>,
    },
    /// The gradient of a tensor.
    Gradient(Tensor),
    /// The norm of gradients that are finite each.
    Norm,
}

impl std::fmt::Display for NotFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loss { from: None } => f.write_str("loss"),
            Self::Loss { from: Some(tensor) } => write!(f, "loss (from {tensor} on)"),
            Self::Gradient(tensor) => write!(f, "gradient of {tensor}"),
            Self::Norm => f.write_str("norm of the gradient"),
        }
    }
}

/// A model whose distribution is learned besides the targets.
#[derive(Debug)]
pub struct TeacherModel {
    /// The model; it has the student's vocabulary.
    pub model: TrainModel,
    /// Share of its distribution, 0 to 1; the rest is the target's.
    pub share: f32,
}

/// A model, its moments, and the memory of a step.
#[derive(Debug)]
pub struct Trainer {
    pub(crate) kernels: Kernels,
    pub(crate) model: TrainModel,
    pub(crate) settings: OptimizerSettings,
    pub(crate) first_moments: Parameters,
    pub(crate) second_moments: Parameters,
    pub(crate) step: u64,
    pub(crate) gradients: Parameters,
    pub(crate) space: Workspace,
    teacher: Option<(TeacherModel, Workspace)>,
}

impl Trainer {
    /// Starts at step 0 with moments of zero.
    #[must_use]
    pub fn new(kernels: Kernels, model: TrainModel, settings: OptimizerSettings) -> Self {
        let zeros = Parameters::zeros(model.trainable().layout().clone());
        Self {
            kernels,
            settings,
            first_moments: zeros.clone(),
            second_moments: zeros.clone(),
            gradients: zeros,
            step: 0,
            space: Workspace::default(),
            teacher: None,
            model,
        }
    }

    /// Learns from `teacher` too.
    ///
    /// # Panics
    /// When it has another vocabulary.
    #[must_use]
    pub fn with_teacher(mut self, teacher: TeacherModel) -> Self {
        let vocab = |model: &TrainModel| model.architecture().vocab_count;
        assert_eq!(vocab(&teacher.model), vocab(&self.model), "teacher and student share tokens");
        self.teacher = Some((teacher, Workspace::default()));
        self
    }

    /// The model as it is.
    #[must_use]
    pub const fn model(&self) -> &TrainModel {
        &self.model
    }

    /// Ends training.
    #[must_use]
    pub fn into_model(self) -> TrainModel {
        self.model
    }

    /// Steps taken.
    #[must_use]
    pub const fn step_count(&self) -> u64 {
        self.step
    }

    /// Gradients of the last step, before clipping.
    #[must_use]
    pub const fn gradients(&self) -> &Parameters {
        &self.gradients
    }

    /// What it computes with.
    #[must_use]
    pub const fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Bytes of parameters, gradients, moments and of the memory of a pass.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let trainable = self.gradients.all().len();
        let frozen = match self.model.adapter() {
            Some(_) => self.model.parameters().all().len(),
            None => 0,
        };
        (frozen + 4 * trainable) * 4 + self.space.bytes()
    }

    /// One step on `samples`, in their order.
    ///
    /// # Errors
    /// A sample does not fit the model, or a number overflowed; nothing has changed then.
    pub fn step(&mut self, samples: &[Sample]) -> Result<StepReport, StepError> {
        let loss = self.accumulate(samples)?;
        self.finish(loss, samples)
    }

    /// Clips what was accumulated over `samples` and changes the parameters, if every number is
    /// finite.
    pub(crate) fn finish(
        &mut self,
        loss: f64,
        samples: &[Sample],
    ) -> Result<StepReport, StepError> {
        let step = self.step;
        let refuse = |what| Err(StepError::NotFinite { step, what });
        if !loss.is_finite() {
            let (kernels, space) = (&self.kernels, &mut self.space);
            let mut passes = samples.iter();
            let from =
                passes.find_map(|sample| self.model.first_not_finite(kernels, sample, space));
            return refuse(NotFinite::Loss { from });
        }
        let gradient_norm = self.kernels.sum_of_squares(self.gradients.all()).sqrt();
        if !gradient_norm.is_finite() {
            let tensor = self.gradients.first_not_finite();
            return refuse(tensor.map_or(NotFinite::Norm, NotFinite::Gradient));
        }
        let rate = self.settings.schedule.rate(step);
        self.apply(gradient_norm, rate);
        self.step += 1;
        let rows = samples.iter().map(|sample| sample.tokens.len()).sum();
        Ok(StepReport { step, loss, gradient_norm, rate, rows })
    }

    /// Gradients of the weighted mean loss over `samples`; returns that loss.
    ///
    /// # Errors
    /// A sample does not fit the model or nothing counts.
    pub fn accumulate(&mut self, samples: &[Sample]) -> Result<f64, StepError> {
        samples.iter().enumerate().try_for_each(|(i, sample)| self.check(i, sample))?;
        let total: f64 = samples.iter().map(Sample::weight).sum();
        if total <= 0.0 {
            return Err(StepError::NothingToLearn { step: self.step });
        }
        self.gradients.all_mut().fill(0.0);
        let mut loss = 0.0;
        for sample in samples {
            let mut scaled = sample.clone();
            for weight in &mut scaled.weights {
                *weight = (f64::from(*weight) / total) as f32;
            }
            let losses = self.sample_gradient(&scaled);
            for (&weight, value) in sample.weights.iter().zip(losses) {
                loss += f64::from(weight) * value;
            }
        }
        Ok(loss / total)
    }

    /// Adds the gradient of one sample, whose weights are final, and returns its losses.
    pub(crate) fn sample_gradient(&mut self, sample: &Sample) -> Vec<f64> {
        let (kernels, space) = (&self.kernels, &mut self.space);
        self.model.forward(kernels, sample, Keep::Everything, space);
        let teacher = self.teacher.as_mut().map(|(teacher, teacher_space)| {
            teacher.model.forward(kernels, sample, Keep::Nothing, teacher_space);
            TeacherPass { model: &teacher.model, space: teacher_space, share: teacher.share }
        });
        let gradients = &mut self.gradients;
        let losses = self.model.head_backward(kernels, sample, teacher, space, gradients);
        self.model.backward(kernels, sample, space, gradients);
        losses
    }

    pub(crate) fn check(&self, index: usize, sample: &Sample) -> Result<(), StepError> {
        check_sample(&self.model, index, sample)
    }

    fn apply(&mut self, gradient_norm: f64, rate: f32) {
        let s = self.settings;
        let scale = if gradient_norm > s.clip_norm { s.clip_norm / gradient_norm } else { 1.0 };
        let taken = self.step + 1;
        let mut adam = AdamStep {
            gradient_scale: scale as f32,
            beta1: s.beta1 as f32,
            beta2: s.beta2 as f32,
            correction1: (1.0 / (1.0 - power(s.beta1, taken))) as f32,
            correction2: (1.0 / (1.0 - power(s.beta2, taken))) as f32,
            epsilon: s.epsilon as f32,
            rate,
            weight_decay: 0.0,
        };
        let layout = self.gradients.layout().clone();
        for place in layout.places() {
            adam.weight_decay = if place.rows > 1 { s.weight_decay as f32 } else { 0.0 };
            let range = place.range();
            self.kernels.adam_step(
                adam,
                &self.gradients.all()[range.clone()],
                &mut self.first_moments.all_mut()[range.clone()],
                &mut self.second_moments.all_mut()[range.clone()],
                &mut self.model.trainable_mut().all_mut()[range],
            );
        }
    }
}

/// Sum of weighted losses in nats and sum of the weights of one sample.
///
/// # Errors
/// The sample does not fit the model.
pub fn evaluate(
    kernels: &Kernels,
    model: &TrainModel,
    sample: &Sample,
    space: &mut Workspace,
) -> Result<(f64, f64), StepError> {
    check_sample(model, 0, sample)?;
    model.forward(kernels, sample, Keep::Nothing, space);
    let losses = model.losses(kernels, sample, space);
    let weighted = sample.weights.iter().zip(losses);
    Ok((weighted.map(|(&w, loss)| f64::from(w) * loss).sum(), sample.weight()))
}

/// Checks that a model can take a sample.
fn check_sample(model: &TrainModel, index: usize, sample: &Sample) -> Result<(), StepError> {
    let rows = sample.tokens.len();
    let a = model.architecture();
    let known = |ids: &[u32]| ids.iter().all(|&id| id < a.vocab_count);
    let mut end = 0;
    let documents_fit = sample.documents.iter().all(|document| {
        let follows = document.start == end && document.end > end;
        end = document.end;
        follows && document.len() <= a.context_tokens as usize
    });
    let rules = [
        (rows > 0, "has at least one row"),
        (sample.targets.len() == rows && sample.weights.len() == rows, "one target per token"),
        (known(&sample.tokens) && known(&sample.targets), "tokens are in the vocabulary"),
        (sample.weights.iter().all(|w| w.is_finite()), "weights are finite"),
        (documents_fit && end == rows, "documents follow each other and fit the context"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, rule)) => Err(StepError::Sample { index, rule }),
        None => Ok(()),
    }
}
