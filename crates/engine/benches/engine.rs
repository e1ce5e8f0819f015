//! Prefill and decode speed of a model file, without tokenizer, scheduler or sampling.
//!
//! `cargo bench -p shoal-engine --bench engine -- FILE i8|i4 [prompt] [decode] [sequences]
//! [threads]`
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::sync::Arc;
use std::time::Instant;

use shoal_base::TokenId;
use shoal_engine::{Head, Segment, SegmentKind, SequenceId, Stage};
use shoal_kernels::{Isa, Kernels};
use shoal_model::import::import_blobs;
use shoal_model::package::{InputFormat, MemoryBlobs, Package, StoredFormat};
use shoal_model::source;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let number = |i: usize, default| args.get(i).map_or(default, |a| a.parse().expect("a number"));
    let format = if args[1] == "i4" { StoredFormat::I4 } else { StoredFormat::I8 };
    let (prompt, decode) = (number(2, 512), number(3, 64));
    let (sequences, threads) = (number(4, 1), number(5, 2));

    let start = Instant::now();
    let blobs = MemoryBlobs::default();
    let source = source::open(args[0].as_ref()).expect("the file opens");
    let imported = import_blobs(&*source, format, b"none", threads, &blobs, &|_| true).expect("ok");
    let manifest = imported.finish(|_, _| InputFormat::A8);
    println!("import {:.1} s", start.elapsed().as_secs_f64());
    let package = Package::open(&manifest.to_bytes(), Arc::new(blobs)).expect("valid");

    let start = Instant::now();
    let isa = Isa::choose().expect("an instruction set");
    let kernels = Arc::new(Kernels::new(isa, threads).expect("available"));
    let layers = package.manifest().architecture.layer_count;
    let pages = sequences * (prompt + decode).div_ceil(64);
    let mut stage = Stage::load(Arc::clone(&kernels), &package, 0..layers, pages).expect("ok");
    let mut head = Head::load(kernels, &package).expect("ok");
    println!("load {:.2} s", start.elapsed().as_secs_f64());

    let start = Instant::now();
    let mut logits = Vec::new();
    for s in 0..sequences {
        let sequence = SequenceId(s as u64);
        stage.cache_mut().begin(sequence, &[]);
        stage.cache_mut().reserve(sequence, prompt + decode).expect("room");
        for position in (0..prompt).step_by(256) {
            let count = (prompt - position).min(256);
            let tokens: Vec<TokenId> =
                (0..count).map(|i| TokenId(((position + i) * 7919 % 32000) as u32)).collect();
            let mut rows = head.embed(&tokens);
            let segment = Segment { sequence, position, kind: SegmentKind::Chain { rows: count } };
            stage.forward(&[segment], &mut rows).expect("room");
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("prefill {:.1} tok/s", (prompt * sequences) as f64 / seconds);

    let start = Instant::now();
    let mut tokens: Vec<TokenId> = (0..sequences).map(|s| TokenId(s as u32)).collect();
    for step in 0..decode {
        let mut rows = head.embed(&tokens);
        let segments: Vec<Segment> = (0..sequences)
            .map(|s| Segment {
                sequence: SequenceId(s as u64),
                position: prompt + step,
                kind: SegmentKind::Chain { rows: 1 },
            })
            .collect();
        stage.forward(&segments, &mut rows).expect("room");
        head.logits(&rows, &mut logits);
        for (token, logits) in tokens.iter_mut().zip(logits.chunks_exact(head.vocab_count())) {
            let best = (0..logits.len()).fold(0, |b, i| if logits[i] > logits[b] { i } else { b });
            *token = TokenId(best as u32);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let bytes = (stage.weight_bytes() + head.weight_bytes()) as f64 * decode as f64;
    println!(
        "decode {:.1} tok/s in all, {:.1} GB/s of weights",
        (decode * sequences) as f64 / seconds,
        bytes / seconds / 1e9
    );
}
