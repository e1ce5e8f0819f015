//! Direct preference optimisation: which of two answers is better. Spec 05 §5.3.

use shoal_arith::reference::float::sigmoid;
use shoal_arith::scalar::ln;

use crate::data::{Document, Piece, fill_sample};
use crate::model::{Keep, TrainModel, Workspace};
use crate::sample::Sample;
use crate::trainer::{StepError, StepReport, Trainer};

/// Two answers to one prompt; the weights of both leave the prompt out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preference {
    /// Prompt and the better answer.
    pub chosen: Document,
    /// Prompt and the worse answer.
    pub rejected: Document,
}

/// The model whose distribution the answers must stay close to.
#[derive(Debug)]
pub struct Reference {
    model: TrainModel,
    /// How strongly: 0.1 is usual.
    beta: f64,
    space: Workspace,
}

impl Reference {
    /// The model as it is now, without its adapter.
    #[must_use]
    pub fn new(model: &TrainModel, beta: f64) -> Self {
        let model = model.without_adapter();
        Self { model, beta, space: Workspace::default() }
    }
}

impl Trainer {
    /// One step on pairs: the mean of `-ln sigmoid(margin)`, where the margin is beta times how
    /// much more than the reference the model prefers the chosen answer.
    ///
    /// # Errors
    /// A document does not fit the model, or a number overflowed; nothing has changed then.
    pub fn preference_step(
        &mut self,
        reference: &mut Reference,
        pairs: &[Preference],
    ) -> Result<StepReport, StepError> {
        let samples: Vec<[Sample; 2]> = pairs.iter().map(Preference::samples).collect();
        for (index, pair) in samples.iter().enumerate() {
            for sample in pair {
                self.check(index, sample)?;
                if sample.weight() <= 0.0 {
                    return Err(StepError::NothingToLearn { step: self.step });
                }
            }
        }
        if pairs.is_empty() {
            return Err(StepError::NothingToLearn { step: self.step });
        }
        self.gradients.all_mut().fill(0.0);
        let mut loss = 0.0;
        for pair in &samples {
            let [chosen, rejected] = [0, 1].map(|i| {
                let own = self.log_probability(&pair[i]);
                own - reference.log_probability(self, &pair[i])
            });
            let margin = (reference.beta * (chosen - rejected)) as f32;
            loss -= ln(f64::from(sigmoid(margin)));
            let pull = reference.beta * f64::from(sigmoid(-margin)) / pairs.len() as f64;
            for (sample, sign) in pair.iter().zip([1.0, -1.0]) {
                let mut sample = sample.clone();
                for weight in &mut sample.weights {
                    *weight = (f64::from(*weight) * pull * sign) as f32;
                }
                self.sample_gradient(&sample);
            }
        }
        self.finish(loss / pairs.len() as f64, samples.as_flattened())
    }

    /// Weighted sum of the log-probabilities of a sample's targets.
    fn log_probability(&mut self, sample: &Sample) -> f64 {
        let (kernels, space) = (&self.kernels, &mut self.space);
        self.model.forward(kernels, sample, Keep::Nothing, space);
        weighted(sample, &self.model.losses(kernels, sample, space))
    }
}

impl Reference {
    fn log_probability(&mut self, trainer: &Trainer, sample: &Sample) -> f64 {
        let kernels = trainer.kernels();
        self.model.forward(kernels, sample, Keep::Nothing, &mut self.space);
        weighted(sample, &self.model.losses(kernels, sample, &mut self.space))
    }
}

fn weighted(sample: &Sample, losses: &[f64]) -> f64 {
    sample.weights.iter().zip(losses).map(|(&weight, loss)| -f64::from(weight) * loss).sum()
}

impl Preference {
    fn samples(&self) -> [Sample; 2] {
        [&self.chosen, &self.rejected].map(|document| {
            let piece = Piece { document: 0, rows: 0..document.rows() };
            fill_sample(std::slice::from_ref(document), &[piece])
        })
    }
}
