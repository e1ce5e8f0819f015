//! What the measures of quality measure.

use std::sync::Arc;

use shoal_base::TokenId;
use shoal_engine::{
    Calibration, ERROR_MAX, Head, PerplexityError, Segment, SegmentKind, SequenceId, Stage,
    perplexity,
};
use shoal_kernels::{Isa, Kernels};
use shoal_model::package::{BlobKind, InputFormat, LinearSlot, Package, StoredFormat};
use shoal_model::{Architecture, LinearPart, Rope, TensorRole};
use shoal_testkit::{Altered, TinyModel, import, stressed, tiny_architecture};

fn kernels() -> Arc<Kernels> {
    let isa = Isa::choose().expect("an instruction set");
    Arc::new(Kernels::new(isa, 2).expect("available"))
}

/// Wide enough for several blocks and groups in a row.
fn architecture() -> Architecture {
    let rope = Rope { dims: 64, ..tiny_architecture().rope };
    let wide =
        Architecture { model_width: 320, head_width: 64, mlp_width: 640, ..tiny_architecture() };
    Architecture { rope, ..wide }
}

fn tokens(count: usize) -> Vec<TokenId> {
    (0..count).map(|i| TokenId(((i * i * 7 + i * 3) % 256) as u32)).collect()
}

/// `-ln p` of each token after the first.
fn surprises(package: &Package, tokens: &[TokenId]) -> Vec<f64> {
    let kernels = kernels();
    let layers = 0..package.manifest().architecture.layer_count;
    let mut stage = Stage::load(Arc::clone(&kernels), package, layers, 16).expect("it loads");
    let mut head = Head::load(kernels, package).expect("it loads");
    stage.cache_mut().begin(SequenceId(3), &[]);
    stage.cache_mut().reserve(SequenceId(3), tokens.len()).expect("room");
    let step = |(position, token): (usize, &TokenId)| {
        let mut rows = head.embed(&[*token]);
        let kind = SegmentKind::Chain { rows: 1 };
        let segment = Segment { sequence: SequenceId(3), position, kind };
        stage.forward(&[segment], &mut rows).expect("room");
        let mut logits = Vec::new();
        head.logits(&rows, &mut logits);
        let sum: f64 = logits.iter().map(|&y| f64::from(y).exp()).sum();
        let next = tokens[position + 1];
        sum.ln() - f64::from(logits[next.index()])
    };
    tokens[..tokens.len() - 1].iter().enumerate().map(step).collect()
}

#[test]
fn the_second_half_of_every_window_is_scored() {
    let model = TinyModel::new(tiny_architecture(), 3);
    let package = import(&model, StoredFormat::I8, InputFormat::A8);
    let text = tokens(130);
    let first = TokenId(256);
    let score = perplexity(&package, &kernels(), &text, 50, Some(first), &|_| true);
    let score = score.expect("it has a score").expect("nobody stopped it");
    assert_eq!(score.windows.len(), 2);
    for (i, window) in score.windows.iter().enumerate() {
        let mut text = text[i * 50..][..50].to_vec();
        text[0] = first;
        let expected: f64 = surprises(&package, &text)[25..].iter().sum();
        assert_eq!((window.tokens, window.first), (24, i * 50 + 26));
        assert!((window.nats - expected).abs() < 1e-6 * expected, "{} {expected}", window.nats);
    }
    let mean = score.nats() / 48.0;
    assert!((score.perplexity() - mean.exp()).abs() < 1e-9);
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let model = TinyModel::new(tiny_architecture(), 3);
    let package = import(&model, StoredFormat::I8, InputFormat::A8);
    let score =
        |count, context| perplexity(&package, &kernels(), &tokens(count), context, None, &|_| true);
    assert!(matches!(score(600, 513), Err(PerplexityError::Context { got: 513, limit: 512 })));
    assert!(matches!(score(600, 3), Err(PerplexityError::Context { .. })));
    assert!(matches!(score(49, 50), Err(PerplexityError::TooShort { got: 49, need: 50 })));
    let stopped = perplexity(&package, &kernels(), &tokens(50), 50, None, &|_| false);
    assert!(stopped.expect("no error").is_none());
}

/// `inner` with outliers that no import can level: one row of every map reads all channels alike.
fn outliers(inner: TinyModel) -> Altered {
    Altered::new(Box::new(stressed(Box::new(inner), 50.0)), |role, first_row, out| {
        if let (TensorRole::Linear(_, part), 0) = (role, first_row) {
            let (_, columns) = architecture().linear_shape(part);
            out[..columns].fill(0.1);
        }
    })
}

fn measure(package: &Package) -> Calibration {
    let measured = Calibration::measure(package, &kernels(), &tokens(150), &|_| true);
    measured.expect("the package is whole").expect("nobody stopped it")
}

/// Twelve bits for what the first layer reads and for nothing else.
fn usual(kind: BlobKind, slot: LinearSlot) -> InputFormat {
    use LinearPart::{Key, Query, Value};
    match (kind, slot) {
        (BlobKind::Layer(0), LinearSlot::Part(Query | Key | Value)) => InputFormat::A12,
        _ => InputFormat::A8,
    }
}

#[test]
fn outliers_and_what_the_first_layer_reads_get_twelve_bits_and_nothing_else_does() {
    let plain = || TinyModel::new(architecture(), 4);
    let package = import(&plain(), StoredFormat::I8, InputFormat::A8);
    let calibration = measure(&package);
    // Seven maps of two layers and the embedding, which is the output head.
    assert_eq!(calibration.errors().count(), 15);
    for (kind, slot, error) in calibration.errors() {
        assert!(error > 1e-4 && error < ERROR_MAX, "{kind} {} {error}", slot.name());
        assert_eq!(calibration.choose(kind, slot), usual(kind, slot), "{kind} {}", slot.name());
    }
    let calibration = measure(&import(&outliers(plain()), StoredFormat::I8, InputFormat::A8));
    for layer in 0..2 {
        for part in LinearPart::ALL {
            let chosen = calibration.choose(BlobKind::Layer(layer), LinearSlot::Part(part));
            assert_eq!(chosen, InputFormat::A12, "{layer} {part:?}");
        }
    }
    let head = calibration.choose(BlobKind::Embedding, LinearSlot::Embedding);
    assert_eq!(head, InputFormat::A8, "nothing is scaled there");
    let stopped = Calibration::measure(&package, &kernels(), &tokens(150), &|_| false);
    assert!(stopped.expect("no error").is_none());
}

#[test]
fn outliers_that_an_import_levels_need_no_more_bits() {
    let outliers = stressed(Box::new(TinyModel::new(architecture(), 4)), 50.0);
    let calibration = measure(&import(&outliers, StoredFormat::I8, InputFormat::A8));
    for (kind, slot, error) in calibration.errors() {
        assert_eq!(calibration.choose(kind, slot), usual(kind, slot), "{kind} {error}");
    }
}

#[test]
fn a_stressed_model_computes_the_same_function() {
    let text = tokens(60);
    let plain = TinyModel::new(architecture(), 5);
    let expected = surprises(&import(&plain, StoredFormat::I8, InputFormat::A12), &text);
    let outliers = stressed(Box::new(plain), 8.0);
    let package = import(&outliers, StoredFormat::I8, InputFormat::A12);
    let got = surprises(&package, &text);
    assert_ne!(got, expected);
    let difference =
        expected.iter().zip(&got).map(|(a, b)| (a - b).abs()).sum::<f64>() / got.len() as f64;
    assert!(difference < 0.02, "{difference}");
}
