//! The same run has the same states: on every instruction set, with any team, cut anywhere.

mod support;

use shoal_base::Digest;
use shoal_kernels::{Isa, Kernels};
use shoal_model::{LinearPart, TensorRole};
use shoal_train::checkpoint::CheckpointError;
use shoal_train::data::Document;
use shoal_train::{
    Activation, AdapterSettings, Decay, Examples, NotFinite, Objective, Preference, Purpose,
    Random, Run, RunDefinition, RunError, RunModels, StepError, StepSettings, Tensor, TrainModel,
    seed_digest,
};
use support::{kernels, plain, random_model, small};

const STEPS: u64 = 200;

fn document(random: &mut Random, len: usize, vocab: u32) -> Document {
    // A pattern that can be learned, with noise.
    let start = random.below(u64::from(vocab)) as u32;
    let noise = |random: &mut Random| (random.below(5) == 0).then(|| random.word() % vocab);
    let tokens =
        (0..len as u32).map(|i| noise(random).unwrap_or((start + 3 * i) % vocab)).collect();
    Document { tokens, weights: Vec::new() }
}

fn documents(vocab: u32) -> Vec<Document> {
    let mut random = Random::new(Digest::of(b"documents"), Purpose::Synthesis, 0, 0);
    (0..40).map(|i| document(&mut random, 5 + i % 30, vocab)).collect()
}

fn preferences(vocab: u32) -> Vec<Preference> {
    let mut random = Random::new(Digest::of(b"pairs"), Purpose::Synthesis, 0, 0);
    let mut answer = |prompt: &[u32]| {
        let mut tokens = prompt.to_vec();
        tokens.extend(document(&mut random, 6, vocab).tokens);
        let weights = (0..tokens.len()).map(|i| f32::from(u8::from(i >= 3))).collect();
        Document { tokens, weights }
    };
    (0..8)
        .map(|i| Preference { chosen: answer(&[i, 1, 2]), rejected: answer(&[i, 1, 2]) })
        .collect()
}

fn definition(examples: &Examples) -> RunDefinition {
    RunDefinition {
        seed: "replay".to_owned(),
        architecture: small(),
        adapter: None,
        objective: Objective::NextToken,
        step: StepSettings {
            steps: STEPS,
            samples: 2,
            sample_tokens: 24,
            rate: 3e-3,
            final_rate_share: 0.1,
            warmup_steps: 10,
            decay: Decay::Wsd,
            decay_steps: 50,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: 1.0,
        },
        data: examples.root(),
        base: None,
        teacher: None,
        tokenizer: Digest::of(b"none"),
    }
}

fn examples() -> Examples {
    Examples::Documents(documents(small().vocab_count))
}

fn start(kernels: Kernels) -> Run {
    let examples = examples();
    let model = TrainModel::try_new(small()).expect("the rules hold");
    let models = RunModels { model, teacher: None };
    Run::try_new(kernels, definition(&examples), models, examples).expect("the run begins")
}

fn go(run: &mut Run, steps: u64) {
    for _ in 0..steps {
        run.step().expect("the step is taken");
    }
}

#[test]
fn states_are_equal_on_every_instruction_set_and_team() {
    let mut first: Option<(Digest, Digest)> = None;
    for isa in Isa::available() {
        for threads in 1..=4 {
            let mut run = start(Kernels::new(isa, threads).expect("available"));
            let early = run.state_digest();
            go(&mut run, STEPS);
            let states = (early, run.state_digest());
            let expected = *first.get_or_insert(states);
            assert_eq!(states, expected, "{isa}, {threads} threads");
        }
    }
    let last = first.expect("the portable one is always there").1;
    assert_eq!(last.to_string(), GOLDEN_LAST);
}

/// The first state and the last, as every machine must compute them. A change of these numbers is a
/// change of the arithmetic of training.
#[test]
fn states_are_those_of_the_definition() {
    let mut run = start(kernels(2));
    let losses: Vec<f64> = (0..20).map(|_| run.step().expect("it is taken").loss).collect();
    assert!(losses[19] < losses[0], "{losses:?}");
    assert_eq!(run.state_digest().to_string(), GOLDEN);
}

/// After [`STEPS`] steps. Programs built with other settings of the compiler compare with it too:
/// `cargo xtask replay`.
const GOLDEN_LAST: &str = "e3ce93d32fff6f6d9972917b69a6dd2dc21a1b577af93d66ab85a0f6ca4c3a25";
const GOLDEN: &str = "6d593cdb654a3034817bcb9a791f7073effe3a1d800e3656da3b2139e6e9d197";

#[test]
fn a_run_cut_anywhere_goes_on_as_if_it_was_not() {
    let mut whole = start(kernels(1));
    let mut saved = Vec::new();
    let mut states = Vec::new();
    for _ in 0..60 {
        saved.push(whole.checkpoint());
        go(&mut whole, 1);
        states.push(whole.state_digest());
    }
    for cut in [0, 1, 7, 23, 24, 59] {
        let mut run = start(kernels(2));
        go(&mut run, 3);
        run.restore(&saved[cut]).expect("its own checkpoint");
        for state in &states[cut..] {
            go(&mut run, 1);
            assert_eq!(run.state_digest(), *state, "cut at {cut}");
        }
    }
}

#[test]
fn checkpoints_of_other_runs_and_damaged_ones_are_refused() {
    let mut run = start(kernels(1));
    let state = run.state_digest();
    let good = run.checkpoint();
    let mut other_definition = definition(&examples());
    other_definition.seed = "other".to_owned();
    let model = TrainModel::try_new(small()).expect("the rules hold");
    let models = RunModels { model, teacher: None };
    let other = Run::try_new(kernels(1), other_definition, models, examples());
    let other = other.expect("the run begins").checkpoint();
    let refused = run.restore(&other);
    assert!(matches!(refused, Err(CheckpointError::OtherRun { .. })), "{refused:?}");
    for at in [0, 9, 12, 60, 1000, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(run.restore(&bad).is_err(), "byte {at}");
    }
    for len in [0, 10, 73, good.len() - 1] {
        assert!(run.restore(&good[..len]).is_err(), "{len} bytes");
    }
    assert_eq!(
        run.restore(&[good.clone(), vec![0]].concat()).unwrap_err(),
        CheckpointError::Length { got: good.len() as u64 + 1, expected: good.len() as u64 }
    );
    assert_eq!(run.state_digest(), state);
    run.restore(&good).expect("the good one still fits");
}

#[test]
fn changed_data_is_refused_with_both_digests() {
    let examples = examples();
    let definition = definition(&examples);
    let Examples::Documents(mut documents) = examples else { panic!("documents") };
    documents[3].tokens[1] ^= 1;
    let changed = Examples::Documents(documents);
    let got = changed.root();
    let model = TrainModel::try_new(small()).expect("the rules hold");
    let models = RunModels { model, teacher: None };
    let expected = definition.data;
    let error = Run::try_new(kernels(1), definition, models, changed).expect_err("refused");
    assert_eq!(error, RunError::Changed { what: "data", got, expected });
}

#[test]
fn impossible_settings_are_named() {
    type Break = fn(&mut RunDefinition);
    let cases: [(&str, Break); 9] = [
        ("steps", |d| d.step.steps = 0),
        ("rate", |d| d.step.rate = f64::NAN),
        ("beta2", |d| d.step.beta2 = 1.0),
        ("decay_steps", |d| d.step.decay_steps = STEPS + 1),
        ("clip_norm", |d| d.step.clip_norm = 0.0),
        ("sample_tokens", |d| d.step.sample_tokens = 65),
        ("objective", |d| d.objective = Objective::Preference { beta: 0.0 }),
        ("teacher", |d| d.objective = Objective::Distill { share: 0.5 }),
        ("model_width", |d| d.architecture.model_width = 7),
    ];
    for (field, damage) in cases {
        let mut broken = definition(&examples());
        damage(&mut broken);
        let error = broken.check().expect_err(field).to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
}

#[test]
fn a_number_that_overflows_stops_the_run_and_changes_nothing() {
    let examples = examples();
    let mut definition = definition(&examples);
    let mut model = random_model(small(), "overflow");
    // The logits overflow, so their softmax has no value.
    let norm = Tensor::Model(TensorRole::FinalNorm);
    model.parameters_mut().get_mut(norm).expect("it has one").fill(f32::MAX);
    definition.base = Some(shoal_train::checkpoint::floats_digest(model.parameters().all()));
    let models = RunModels { model, teacher: None };
    let mut run = Run::try_new(kernels(1), definition, models, examples).expect("it begins");
    let before = run.state_digest();
    let error = run.step().expect_err("the logits overflow");
    let what = NotFinite::Loss { from: Some(Activation::Logits) };
    assert_eq!(error, StepError::NotFinite { step: 0, what });
    assert_eq!(run.state_digest(), before);
}

#[test]
fn a_loss_that_overflows_names_the_tensor_where_it_began() {
    let examples = examples();
    let mut definition = definition(&examples);
    let mut model = random_model(small(), "overflow");
    let map = Tensor::Model(TensorRole::Linear(1, LinearPart::Up));
    model.parameters_mut().get_mut(map).expect("it has one").fill(f32::MAX);
    definition.base = Some(shoal_train::checkpoint::floats_digest(model.parameters().all()));
    let models = RunModels { model, teacher: None };
    let mut run = Run::try_new(kernels(1), definition, models, examples).expect("it begins");
    let error = run.step().expect_err("the map overflows").to_string();
    assert!(error.starts_with("step 0: the loss (from the up of layer 1 on)"), "{error}");
}

#[test]
fn preferences_move_the_model_towards_what_was_chosen() {
    let pairs = preferences(plain().vocab_count);
    let examples = Examples::Preferences(pairs);
    let model = random_model(plain(), "preference");
    let mut definition = definition(&examples);
    definition.architecture = plain();
    definition.objective = Objective::Preference { beta: 0.2 };
    definition.step.rate = 1e-2;
    definition.base = Some(shoal_train::checkpoint::floats_digest(model.parameters().all()));
    definition.adapter =
        Some(AdapterSettings { rank: 2, scale: 1.0, parts: LinearPart::ALL.to_vec() });
    let models = RunModels { model, teacher: None };
    let mut run = Run::try_new(kernels(2), definition, models, examples).expect("it begins");
    let first = run.step().expect("taken").loss;
    assert!((first - std::f64::consts::LN_2).abs() < 1e-6, "no preference yet: {first}");
    let mut last = first;
    for _ in 0..40 {
        last = run.step().expect("taken").loss;
    }
    assert!(last < 0.6 * first, "{last}");
}

#[test]
fn the_kind_of_data_must_suit_the_objective() {
    let pairs = Examples::Preferences(preferences(small().vocab_count));
    let definition = definition(&pairs);
    let model = TrainModel::try_new(small()).expect("the rules hold");
    let models = RunModels { model, teacher: None };
    let error = Run::try_new(kernels(1), definition, models, pairs).expect_err("refused");
    assert!(matches!(error, RunError::Data { .. }), "{error}");
}

#[test]
fn a_seed_names_the_randomness() {
    assert_eq!(seed_digest("a"), Digest::of(b"a"));
    assert_ne!(definition(&examples()).digest(), {
        let mut other = definition(&examples());
        other.step.rate = 2e-3;
        other.digest()
    });
}
