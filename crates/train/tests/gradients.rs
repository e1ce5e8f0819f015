//! Gradients against central differences of a second implementation in f64.

mod support;

use shoal_base::Digest;
use shoal_model::{Architecture, LinearPart};
use shoal_train::{Parameters, Sample, TeacherModel, Tensor, TrainModel, Trainer};
use support::{Wide, differences, full, log_softmax, plain, random_model, sample, trainer};

/// Largest difference between a gradient and its f64 value, relative to the largest of its tensor.
const TOLERANCE: f64 = 2e-5;

fn wide(parameters: &Parameters) -> Vec<f64> {
    parameters.all().iter().map(|&x| f64::from(x)).collect()
}

fn part(parameters: &Parameters, flat: &[f64], tensor: Tensor) -> Option<Vec<f64>> {
    parameters.layout().find(tensor).map(|place| flat[place.range()].to_vec())
}

/// Compares tensor by tensor, and asks that no tensor's gradient is zero throughout.
fn compare(gradients: &Parameters, expected: &[f64]) {
    for place in gradients.layout().places() {
        let expected = &expected[place.range()];
        let got = &gradients.all()[place.range()];
        let largest = expected.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
        assert!(largest > 1e-6, "{} receives a gradient", place.tensor);
        for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
            let error = (f64::from(got) - expected).abs() / largest;
            assert!(error < TOLERANCE, "{} [{i}]: {got} for {expected}", place.tensor);
        }
    }
}

/// `loss(flat)` with the flat parameters in place of the trainable ones.
fn with_model<T>(model: &TrainModel, flat: &[f64], job: impl Fn(&Wide<'_>) -> T) -> T {
    let frozen = wide(model.parameters());
    let adapter = model.adapter();
    let tensor = |tensor: Tensor| match (tensor, adapter) {
        (Tensor::Model(_), None) => part(model.parameters(), flat, tensor),
        (Tensor::Model(_), Some(_)) => part(model.parameters(), &frozen, tensor),
        (_, Some(adapter)) => part(&adapter.parameters, flat, tensor),
        (_, None) => None,
    };
    job(&Wide {
        architecture: model.architecture(),
        tensor: &tensor,
        adapter_scale: adapter.map_or(0.0, |a| f64::from(a.scale)),
    })
}

fn check_cross_entropy(model: TrainModel, samples: &[Sample]) {
    let mut trainer = trainer(model, 2);
    let loss = trainer.accumulate(samples).expect("the samples fit");
    let model = trainer.model();
    let value = |flat: &[f64]| with_model(model, flat, |wide| wide.loss(samples));
    let flat = wide(model.trainable());
    assert!((loss - value(&flat)).abs() < 1e-5, "{loss} for {}", value(&flat));
    compare(trainer.gradients(), &differences(&flat, &value));
}

fn samples(architecture: &Architecture) -> Vec<Sample> {
    vec![sample(architecture.vocab_count, 9, 1), sample(architecture.vocab_count, 12, 2)]
}

#[test]
fn every_tensor_of_a_full_architecture_receives_the_right_gradient() {
    check_cross_entropy(random_model(full(), "full"), &samples(&full()));
}

#[test]
fn a_tied_embedding_receives_both_of_its_gradients() {
    check_cross_entropy(random_model(plain(), "plain"), &samples(&plain()));
}

fn adapted() -> TrainModel {
    let mut model = random_model(plain(), "adapted");
    model.adapt(Digest::of(b"adapter"), &LinearPart::ALL, 3, 0.7);
    // The second map begins at 0, where the first receives no gradient.
    for (i, x) in model.trainable_mut().all_mut().iter_mut().enumerate() {
        *x += ((i * 37 % 101) as f32 - 50.0) * 4e-3;
    }
    model
}

#[test]
fn adapters_of_every_map_receive_the_right_gradient() {
    check_cross_entropy(adapted(), &samples(&plain()));
}

#[test]
fn a_merged_adapter_computes_the_same() {
    let samples = samples(&plain());
    let mut model = adapted();
    let before = with_model(&model, &wide(model.trainable()), |wide| wide.loss(&samples));
    model.merge(&support::kernels(1));
    let after = with_model(&model, &wide(model.parameters()), |wide| wide.loss(&samples));
    assert!((before - after).abs() < 1e-6, "{before} and {after}");
}

#[test]
fn distillation_follows_the_mixture_of_target_and_teacher() {
    let share = 0.6_f32;
    let samples = samples(&plain());
    let teacher = random_model(full(), "teacher");
    let teacher_rows: Vec<Vec<f64>> = with_model(&teacher, &wide(teacher.parameters()), |wide| {
        samples.iter().flat_map(|sample| wide.log_probabilities(sample)).collect()
    });
    let student = trainer(random_model(plain(), "student"), 1);
    let mut trainer: Trainer = student.with_teacher(TeacherModel { model: teacher, share });
    trainer.accumulate(&samples).expect("the samples fit");
    let model = trainer.model();
    let total: f64 = samples.iter().map(Sample::weight).sum();
    let value = |flat: &[f64]| {
        let rows: Vec<Vec<f64>> = with_model(model, flat, |wide| {
            samples.iter().flat_map(|sample| wide.log_probabilities(sample)).collect()
        });
        let targets = samples.iter().flat_map(|s| s.targets.iter().zip(&s.weights));
        let mut sum = 0.0;
        for ((row, teacher), (&target, &weight)) in rows.iter().zip(&teacher_rows).zip(targets) {
            let cross: f64 = row.iter().zip(log_softmax(teacher)).map(|(p, t)| t.exp() * p).sum();
            let own = f64::from(1.0 - share) * row[target as usize];
            sum -= f64::from(weight) * (own + f64::from(share) * cross);
        }
        sum / total
    };
    compare(trainer.gradients(), &differences(&wide(model.trainable()), &value));
}
