//! Trains the embedded models. Temporary driver.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, missing_docs)]
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use shoal_base::{Digest, TokenId};
use shoal_engine::{EngineOptions, LocalEngine};
use shoal_kernels::{Isa, Kernels};
use shoal_model::source;
use shoal_model::tokenizer::{EncodeOptions, Tokenizer, TokenizerSpec};
use shoal_model::*;
use shoal_train::checkpoint::Cursor;
use shoal_train::data::{Document, EpochPlan, Piece, fill_sample, text};
use shoal_train::*;

const BOS: u32 = 1;
const EOS: u32 = 2;

fn data() -> PathBuf {
    PathBuf::from(std::env::var("SHOAL_TEST_DATA").unwrap_or("/work/shared/data".into()))
}
fn work() -> PathBuf {
    PathBuf::from(std::env::var("STORIES_OUT").unwrap_or("/work/train-out".into()))
}

fn texts() -> (Vec<String>, Vec<String>) {
    let a = std::fs::read_to_string(
        data().join("text/mines-opt-ml+decoding-gpt/data/tinystories_10k.txt"),
    )
    .unwrap();
    let b = std::fs::read_to_string(data().join("text/s-ajaykumar+smallGPT/data/tiny_stories.txt"))
        .unwrap();
    let mut all = text::documents(&a, &text::Separator::Marker("<|endoftext|>".into()));
    all.extend(text::documents(&b, &text::Separator::SingleNewline));
    let mut seen = std::collections::HashSet::new();
    all.retain(|t| seen.insert(t.clone()));
    let (held, train): (Vec<_>, Vec<_>) = all.into_iter().partition(|t| text::is_held_out(t, 0.05));
    let shingles = text::Shingles::of(&held);
    let before = train.len();
    let train: Vec<String> = train.into_iter().filter(|t| shingles.overlap(t) < 0.2).collect();
    let bytes = |v: &[String]| v.iter().map(String::len).sum::<usize>();
    println!(
        "train {} documents {} bytes ({} dropped), held out {} documents {} bytes",
        train.len(),
        bytes(&train),
        before - train.len(),
        held.len(),
        bytes(&held)
    );
    (train, held)
}

fn model_path(name: &str) -> PathBuf {
    data().join("models/doryiii+esp32-llm/spiffs_data").join(name)
}

fn tokenizer(name: &str) -> Tokenizer {
    let spec = TokenizerSpec::from_llama2c(&std::fs::read(model_path(name)).unwrap()).unwrap();
    Tokenizer::new(spec).unwrap()
}

fn encode(tok: &Tokenizer, text: &str, end: u32) -> Document {
    let ids = tok.encode(text, EncodeOptions::default()).unwrap();
    let mut tokens: Vec<u32> = ids.iter().map(|t| t.0).collect();
    tokens.push(end);
    Document { tokens, weights: vec![] }
}

/// Bits per byte over documents, ends included.
fn bits_per_byte(k: &Kernels, m: &TrainModel, tok: &Tokenizer, held: &[String], end: u32) -> f64 {
    let mut space = Workspace::default();
    let (mut nats, mut bytes, mut tokens) = (0.0, 0.0, 0.0);
    for t in held {
        let d = encode(tok, t, end);
        let rows = d.rows().min(m.architecture().context_tokens as usize);
        let s = fill_sample(&[d], &[Piece { document: 0, rows: 0..rows }]);
        let (n, w) = evaluate(k, m, &s, &mut space).unwrap();
        nats += n;
        tokens += w;
        let text: usize =
            s.targets.iter().map(|&id| tok.token_bytes(TokenId(id)).map_or(0, <[u8]>::len)).sum();
        bytes += text as f64;
    }
    println!("  nats/token {:.4}, bytes/token {:.3}", nats / tokens, bytes / tokens);
    nats / std::f64::consts::LN_2 / bytes
}

fn tiny(name: &str) -> Architecture {
    let (d, l, h, g, k, f) = match name {
        "tiny" => (192, 6, 6, 3, 32, 512),
        _ => (96, 3, 3, 3, 32, 256),
    };
    Architecture {
        family: Family::Llama,
        vocab_count: 4096,
        model_width: d,
        layer_count: l,
        head_count: h,
        kv_head_count: g,
        head_width: k,
        mlp_width: f,
        context_tokens: 512,
        norm_epsilon: 1e-5,
        rope: Rope {
            theta: 10_000.0,
            dims: k,
            layout: RopeLayout::Interleaved,
            scaling: RopeScaling::None,
        },
        sliding_window: None,
        tied_embeddings: true,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
    }
}

/// The teacher ends a story with the beginning token; the student ends it with the end token.
fn teacher() -> TrainModel {
    let source =
        source::open_with_tokenizer(&model_path("stories3M-q80.bin"), &model_path("tok4096.bin"))
            .unwrap();
    let read = TrainModel::read(&*source).unwrap();
    let mut architecture = source.architecture().clone();
    let d = architecture.model_width as usize;
    let head =
        if architecture.tied_embeddings { TensorRole::Embedding } else { TensorRole::OutputHead };
    architecture.tied_embeddings = false;
    architecture.context_tokens = 512;
    let mut model = TrainModel::try_new(architecture).unwrap();
    for place in model.parameters().layout().clone().places() {
        let from = if place.tensor == Tensor::Model(TensorRole::OutputHead) {
            Tensor::Model(head)
        } else {
            place.tensor
        };
        let values = read.parameters().get(from).unwrap().to_vec();
        model.parameters_mut().get_mut(place.tensor).unwrap().copy_from_slice(&values);
    }
    let out = model.parameters_mut().get_mut(Tensor::Model(TensorRole::OutputHead)).unwrap();
    let (a, b) = out.split_at_mut(EOS as usize * d);
    a[BOS as usize * d..][..d].swap_with_slice(&mut b[..d]);
    model
}

fn write(path: &Path, bytes: &[u8]) {
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).unwrap();
    std::fs::rename(part, path).unwrap();
}

fn train(name: &str, steps: u64, threads: usize) {
    let lr: f64 = std::env::var("LR").map_or(2e-3, |v| v.parse().unwrap());
    let share: f32 = std::env::var("SHARE").map_or(0.7, |v| v.parse().unwrap());
    let rows_per_step: usize = std::env::var("ROWS").map_or(4096, |v| v.parse().unwrap());
    let k = Kernels::new(Isa::choose().unwrap(), threads).unwrap();
    let tok = tokenizer("tok4096.bin");
    let (texts, held) = texts();
    let mut documents: Vec<Document> = texts.iter().map(|t| encode(&tok, t, EOS)).collect();
    let mut synth = vec![];
    if let Ok(bytes) = std::fs::read(work().join("synthetic.bin")) {
        let ids: Vec<u32> =
            bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        for story in ids.split(|&id| id == EOS) {
            if story.len() > 20 {
                let mut tokens = vec![BOS];
                tokens.extend_from_slice(story);
                tokens.push(EOS);
                synth.push(Document { tokens, weights: vec![] });
            }
        }
    }
    let real = documents.len();
    documents.extend(synth);
    let rows: Vec<usize> = documents.iter().map(Document::rows).collect();
    println!(
        "{real} real documents {} rows, all {} documents {} rows",
        rows[..real].iter().sum::<usize>(),
        rows.len(),
        rows.iter().sum::<usize>()
    );
    let architecture = tiny(name);
    let recipe = format!("{name} {steps} {lr} {share} {rows_per_step} {}", rows.len());
    let run = Digest::of(format!("shoal-{name}").as_bytes());
    println!("{recipe}");
    let mut model = TrainModel::try_new(architecture).unwrap();
    model.initialize(run);
    println!("{} parameters", model.parameters().all().len());
    let settings = OptimizerSettings {
        schedule: Schedule {
            rate: lr,
            final_share: 0.02,
            warmup_steps: 60,
            steps,
            decay: Decay::Wsd,
            decay_steps: steps * 2 / 5,
        },
        beta1: 0.9,
        beta2: 0.97,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: 1.0,
    };
    let mut trainer = Trainer::new(k, model, settings);
    if share > 0.0 {
        let t = if name == "draft" { load("tiny") } else { teacher() };
        trainer = trainer.with_teacher(TeacherModel { model: t, share });
    }
    let path = work().join(format!("{name}.ckpt"));
    let mut cursor = Cursor::default();
    if let Ok(bytes) = std::fs::read(&path) {
        match trainer.restore(run, &bytes) {
            Ok(c) => cursor = c,
            Err(e) => println!("fresh start: {e}"),
        }
    }
    let mut plan = EpochPlan::new(run, cursor.epoch, &rows, 512);
    let start = Instant::now();
    let (mut done, mut mean) = (0, f64::NAN);
    let first = trainer.step_count();
    for step in first..steps {
        let mut batch = vec![];
        while batch.len() < rows_per_step / 512 {
            if cursor.sample as usize == plan.len() {
                cursor = Cursor { epoch: cursor.epoch + 1, sample: 0 };
                plan = EpochPlan::new(run, cursor.epoch, &rows, 512);
            }
            batch.push(fill_sample(&documents, plan.sample(cursor.sample as usize).unwrap()));
            cursor.sample += 1;
        }
        let r = trainer.step(&batch).unwrap();
        done += r.rows;
        mean = if mean.is_nan() { r.loss } else { 0.97 * mean + 0.03 * r.loss };
        if step % 20 == 0 {
            let s = start.elapsed().as_secs_f64();
            println!(
                "step {step} epoch {} loss {:.4} mean {mean:.4} norm {:.3} rate {:.2e} {:.0} tok/s left {:.0} min",
                cursor.epoch,
                r.loss,
                r.gradient_norm,
                r.rate,
                done as f64 / s,
                s / (step + 1 - first) as f64 * (steps - step - 1) as f64 / 60.0
            );
            std::io::stdout().flush().unwrap();
        }
        if (step + 1) % 50 == 0 || step + 1 == steps {
            write(&path, &trainer.checkpoint(run, cursor));
        }
        if (step + 1) % 250 == 0 || step + 1 == steps {
            let n = if step + 1 == steps { held.len() } else { 40 };
            let b = bits_per_byte(
                trainer.kernels(),
                trainer.model(),
                &tok,
                &held[..n.min(held.len())],
                EOS,
            );
            println!("step {} held-out bits per byte {b:.4}", step + 1);
            let bytes: Vec<u8> =
                trainer.model().parameters().all().iter().flat_map(|x| x.to_le_bytes()).collect();
            write(&work().join(format!("{name}.f32")), &bytes);
        }
    }
    println!("state {}", trainer.state_digest(run, cursor));
}

fn load(name: &str) -> TrainModel {
    let mut m = TrainModel::try_new(tiny(name)).unwrap();
    let bytes = std::fs::read(work().join(format!("{name}.f32"))).unwrap();
    for (x, b) in m.parameters_mut().all_mut().iter_mut().zip(bytes.chunks_exact(4)) {
        *x = f32::from_le_bytes(b.try_into().unwrap());
    }
    m
}

fn synth(count: usize, threads: usize) {
    let source =
        source::open_with_tokenizer(&model_path("stories3M-q80.bin"), &model_path("tok4096.bin"))
            .unwrap();
    let blobs = shoal_model::package::MemoryBlobs::default();
    let bytes = std::fs::read(model_path("tok4096.bin")).unwrap();
    let bytes = TokenizerSpec::from_llama2c(&bytes).unwrap().to_bytes().unwrap();
    let imported = shoal_model::import::import_blobs(
        &*source,
        shoal_model::package::StoredFormat::I8,
        &bytes,
        1,
        &blobs,
        &|_| true,
    );
    let manifest = imported.unwrap().finish(|_, _| shoal_model::package::InputFormat::A8);
    let package =
        shoal_model::package::Package::open(&manifest.to_bytes(), std::sync::Arc::new(blobs))
            .unwrap();
    let options =
        EngineOptions { threads, kv_bytes: 1 << 30, sequences: 64, ..EngineOptions::default() };
    let engine = LocalEngine::open(&package, "teacher", None, options).unwrap();
    let settings = Synthesis {
        prompt: vec![TokenId(BOS)],
        ends: vec![TokenId(BOS), TokenId(EOS)],
        tokens_max: 400,
        temperature: 1.0,
        concurrent: 64,
    };
    let path = work().join("synthetic.bin");
    let mut all = std::fs::read(&path).unwrap_or_default();
    let have =
        all.chunks_exact(4).filter(|b| u32::from_le_bytes((*b).try_into().unwrap()) == EOS).count();
    let start = Instant::now();
    let mut tokens = 0;
    for first in (have..count).step_by(512) {
        let docs = synthesize(
            &engine,
            Digest::of(b"shoal-tiny synthetic"),
            &settings,
            first as u64,
            512.min(count - first),
        )
        .unwrap();
        for d in docs {
            tokens += d.len();
            d.iter().for_each(|t| all.extend_from_slice(&t.0.to_le_bytes()));
            all.extend_from_slice(&EOS.to_le_bytes());
        }
        write(&path, &all);
        println!("{first}: {:.0} tok/s", tokens as f64 / start.elapsed().as_secs_f64());
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize| args.get(i).cloned().unwrap_or_default();
    std::fs::create_dir_all(work()).unwrap();
    let threads = std::env::var("THREADS").map_or(2, |v| v.parse().unwrap());
    match arg(0).as_str() {
        "eval" => {
            let (_, held) = texts();
            let k = Kernels::new(Isa::choose().unwrap(), threads).unwrap();
            for (file, t) in
                [("stories260K.bin", "tok512.bin"), ("stories3M-q80.bin", "tok4096.bin")]
            {
                let s = source::open_with_tokenizer(&model_path(file), &model_path(t)).unwrap();
                let mut m = TrainModel::read(&*s).unwrap();
                println!("{file} {:?}", m.architecture());
                if m.architecture().context_tokens < 512 {
                    let mut a = m.architecture().clone();
                    a.context_tokens = 512;
                    let mut n = TrainModel::try_new(a).unwrap();
                    n.parameters_mut().all_mut().copy_from_slice(m.parameters().all());
                    m = n;
                }
                println!(
                    "{file}: {:.4} bits per byte",
                    bits_per_byte(&k, &m, &tokenizer(t), &held, BOS)
                );
            }
        }
        "synth" => synth(arg(1).parse().unwrap(), threads),
        "train" => train(&arg(1), arg(2).parse().unwrap(), threads),
        _ => println!("eval | synth COUNT | train NAME STEPS"),
    }
}
