//! What quantization costs in perplexity, with and without outliers in the activations.
//!
//! `cargo bench -p shoal-engine --bench quality -- MODEL OUT CONTEXT TEXT...`
//!
//! For outliers of factor 1 (none), 10 and 50 the model is written to `OUT/xFACTOR.gguf` in F32,
//! for other programs to measure, and scored on every text, one line of JSON each: in every format
//! without outliers, in 8 bits with them. The
//! script `bench/fixtures/perplexity.py` runs the other programs and compares.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::sync::Arc;

use shoal_base::TokenId;
use shoal_engine::{Calibration, perplexity};
use shoal_kernels::{Isa, Kernels};
use shoal_model::export::{export_source, gguf_tokenizer};
use shoal_model::import::{import_blobs, import_tokenizer};
use shoal_model::package::{InputFormat, MemoryBlobs, Package, StoredFormat};
use shoal_model::source::{self, ElementType, WeightSource};
use shoal_model::tokenizer::{EncodeOptions, Tokenizer};
use shoal_testkit::stressed;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [model, out, context, texts @ ..] = args.as_slice() else {
        println!("usage: quality MODEL OUT CONTEXT TEXT...");
        return;
    };
    let context: usize = context.parse().expect("CONTEXT is a number");
    for factor in [1, 10, 50] {
        let source = source::open(model.as_ref()).expect("the model opens");
        let source = stressed(source, factor as f32);
        let spec = import_tokenizer(&source).expect("it has a tokenizer");
        let tokenizer = Tokenizer::new(spec.clone()).expect("valid");
        let path = std::path::Path::new(out).join(format!("x{factor}.gguf"));
        let file = std::fs::File::create(path).expect("OUT can be written");
        let file = std::io::BufWriter::new(file);
        let described = gguf_tokenizer(spec.clone(), source.architecture()).expect("GGUF has it");
        export_source(&source, described, ElementType::F32, file).expect("it can be exported");
        let texts: Vec<(&String, Vec<TokenId>)> = texts
            .iter()
            .map(|path| {
                let text = std::fs::read_to_string(path).expect("the text opens");
                let tokens = tokenizer.encode(&text, EncodeOptions::default());
                (path, tokens.expect("the text is not too long"))
            })
            .collect();
        let first = spec.add_bos.then_some(spec.special.bos).flatten();
        for (weights, inputs) in [
            (StoredFormat::I8, Some(InputFormat::A8)),
            (StoredFormat::I8, None),
            (StoredFormat::I8, Some(InputFormat::A12)),
            (StoredFormat::I4, Some(InputFormat::A8)),
            (StoredFormat::I4Offset, Some(InputFormat::A8)),
            (StoredFormat::I4, Some(InputFormat::A12)),
        ] {
            if factor > 1 && weights != StoredFormat::I8 {
                continue;
            }
            let calibration = texts[0].1.get(..256).expect("256 tokens to calibrate with");
            let package = import(&source, weights, inputs, calibration);
            for (path, tokens) in &texts {
                let score = perplexity(&package, &kernels(), tokens, context, first, &|_| true);
                let score = score.expect("it has a score").expect("nobody stops it");
                let inputs = inputs.map_or("calibrated".to_owned(), |inputs| format!("{inputs:?}"));
                let (nats, tokens) = (score.nats(), score.tokens());
                print!(r#"{{"factor":{factor},"weights":"{weights:?}","inputs":"{inputs}","#);
                println!(r#""text":"{path}","nats":{nats},"tokens":{tokens}}}"#);
            }
        }
    }
}

/// One thread: the numbers are the same, and other work on the machine does no harm.
fn kernels() -> Arc<Kernels> {
    Arc::new(Kernels::new(Isa::choose().expect("an instruction set"), 1).expect("available"))
}

/// `inputs`: `None` calibrates on `tokens`.
fn import(
    source: &dyn WeightSource,
    weights: StoredFormat,
    inputs: Option<InputFormat>,
    tokens: &[TokenId],
) -> Package {
    let blobs = Arc::new(MemoryBlobs::default());
    let imported = import_blobs(source, weights, b"none", 2, &*blobs, &|_| true).expect("imports");
    let open = |manifest: &[u8]| Package::open(manifest, Arc::clone(&blobs) as _).expect("valid");
    let calibration = inputs.is_none().then(|| {
        let package = open(&imported.provisional().to_bytes());
        let measured = Calibration::measure(&package, &kernels(), tokens, &|_| true);
        measured.expect("whole").expect("nobody stops it")
    });
    if std::env::var_os("ERRORS").is_some()
        && let Some(calibration) = &calibration
    {
        for (kind, slot, error) in calibration.errors() {
            println!("# {kind} {} {error:.4}", slot.name());
        }
    }
    let manifest = imported.finish(|kind, slot| {
        let calibrated = || calibration.as_ref().map(|c| c.choose(kind, slot));
        inputs.or_else(calibrated).expect("either is given")
    });
    open(&manifest.to_bytes())
}
