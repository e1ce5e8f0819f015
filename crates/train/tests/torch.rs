//! Gradients and AdamW steps against PyTorch: `bench/fixtures/train_steps.py` made the numbers.

mod support;

use serde::Deserialize;
use shoal_model::TensorRole;
use shoal_train::{Decay, OptimizerSettings, Sample, Schedule, Tensor, TrainModel, Trainer};
use support::{full, kernels};

#[derive(Deserialize)]
struct Fixture {
    /// Per tensor: sum, sum of magnitudes, first element.
    gradients: Vec<[f64; 3]>,
    losses: Vec<f64>,
    norms: Vec<f64>,
    /// Per tensor after the last step: sum, sum of magnitudes.
    after: Vec<[f64; 2]>,
}

fn model() -> TrainModel {
    let mut model = TrainModel::try_new(full()).expect("the rules hold");
    let layout = model.parameters().layout().clone();
    for (i, place) in layout.places().iter().enumerate() {
        let is_norm =
            matches!(place.tensor, Tensor::Model(TensorRole::Norm(..) | TensorRole::FinalNorm));
        let data = &mut model.parameters_mut().all_mut()[place.range()];
        for (j, x) in data.iter_mut().enumerate() {
            let number = (i * 7919 + j * 104_729 + j * j * 31) % 2003;
            let unit = number as f64 / 2003.0 - 0.5;
            *x = (if is_norm { 1.0 + 0.4 * unit } else { 0.8 * unit }) as f32;
        }
    }
    model
}

fn batch(step: u32, vocab: u32) -> Sample {
    let mut sample = Sample::default();
    for (index, rows) in [9_u32, 7].into_iter().enumerate() {
        let token = |t: u32| (step * 5 + index as u32 * 3 + t * t + 2 * t) % vocab;
        let start = sample.tokens.len();
        sample.tokens.extend((0..rows).map(token));
        sample.targets.extend((1..=rows).map(token));
        sample.weights.extend((0..rows).map(|t| if t % 3 == 1 { 0.0 } else { 1.0 }));
        sample.documents.push(start..sample.tokens.len());
    }
    sample
}

fn close(got: f64, expected: f64, scale: f64, what: &str) {
    assert!((got - expected).abs() <= 2e-5 * scale.max(1e-3), "{what}: {got} for {expected}");
}

#[test]
fn gradients_and_steps_are_those_of_pytorch() {
    let text = include_str!("fixtures/torch.json");
    let fixture: Fixture = serde_json::from_str(text).expect("the fixture is JSON");
    let schedule = Schedule {
        rate: 1e-2,
        final_share: 1.0,
        warmup_steps: 0,
        steps: 10,
        decay: Decay::Constant,
        decay_steps: 0,
    };
    let settings = OptimizerSettings {
        schedule,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: 1.0,
    };
    let mut trainer = Trainer::new(kernels(2), model(), settings);
    let vocab = full().vocab_count;
    for (step, (&loss, &norm)) in fixture.losses.iter().zip(&fixture.norms).enumerate() {
        let report = trainer.step(&[batch(step as u32, vocab)]).expect("the step is taken");
        close(report.loss, loss, loss, &format!("loss of step {step}"));
        close(report.gradient_norm, norm, 10.0 * norm, &format!("norm of step {step}"));
        if step == 0 {
            let gradients = trainer.gradients();
            assert_eq!(gradients.layout().places().len(), fixture.gradients.len());
            for (place, expected) in gradients.layout().places().iter().zip(&fixture.gradients) {
                let g = &gradients.all()[place.range()];
                let sum = |x: &mut dyn Iterator<Item = f64>| x.sum::<f64>();
                let total = sum(&mut g.iter().map(|&x| f64::from(x)));
                let magnitude = sum(&mut g.iter().map(|&x| f64::from(x.abs())));
                let name = place.tensor.to_string();
                close(total, expected[0], expected[1], &name);
                close(magnitude, expected[1], expected[1], &name);
                close(f64::from(g[0]), expected[2], expected[1], &name);
            }
        }
    }
    let parameters = trainer.model().parameters();
    for (place, expected) in parameters.layout().places().iter().zip(&fixture.after) {
        let p = &parameters.all()[place.range()];
        let magnitude: f64 = p.iter().map(|&x| f64::from(x.abs())).sum();
        let total: f64 = p.iter().map(|&x| f64::from(x)).sum();
        let name = format!("{} after the steps", place.tensor);
        close(total, expected[0], 10.0 * expected[1], &name);
        close(magnitude, expected[1], 10.0 * expected[1], &name);
    }
}
