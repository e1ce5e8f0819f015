//! The same bytes whatever computes them: instruction set, threads, batch, chunks, cuts between
//! stages, prefix cache, tree or chain.

use std::ops::Range;
use std::sync::Arc;

use shoal_base::{Digest, TokenId};
use shoal_engine::{Head, Segment, SegmentKind, SequenceId, Stage};
use shoal_kernels::{Isa, Kernels};
use shoal_model::package::{InputFormat, Package, StoredFormat};
use shoal_model::{Architecture, RopeLayout, RopeScaling};
use shoal_testkit::{TinyModel, import, tiny_architecture};

const TOKENS: usize = 150;
/// Both layers on one stage; one layer on each of two.
const CUTS: [Range<u32>; 3] = [0..2, 0..1, 1..2];

/// Architectures with one difference each.
fn architectures() -> Vec<Architecture> {
    let changes: [fn(&mut Architecture); 6] = [
        |_| (),
        |a| {
            a.tied_embeddings = false;
            a.qkv_bias = true;
            a.rope.layout = RopeLayout::Half;
        },
        |a| {
            a.qk_norm = true;
            a.rope.layout = RopeLayout::Half;
            a.kv_head_count = 1;
        },
        |a| a.sliding_window = Some(40),
        |a| {
            a.rope.dims = 8;
            a.mlp_bias = true;
            a.output_bias = true;
        },
        |a| a.rope.scaling = RopeScaling::Linear { factor: 4.0 },
    ];
    changes
        .into_iter()
        .map(|change| {
            let mut architecture = tiny_architecture();
            change(&mut architecture);
            architecture
        })
        .collect()
}

fn formats() -> [(StoredFormat, InputFormat); 4] {
    [
        (StoredFormat::I8, InputFormat::A8),
        (StoredFormat::I4, InputFormat::A8),
        (StoredFormat::I4Offset, InputFormat::A8),
        (StoredFormat::I4, InputFormat::A12),
    ]
}

/// The token of sequence `s` at position `p`.
fn token(s: usize, p: usize) -> TokenId {
    TokenId(((s * 31 + p * 7 + p * p) % 256) as u32)
}

/// Stages and head of a package.
struct Machine {
    stages: Vec<Stage>,
    head: Head,
}

impl Machine {
    fn new(package: &Package, isa: Isa, threads: usize, cuts: &[Range<u32>]) -> Self {
        let kernels = Arc::new(Kernels::new(isa, threads).expect("available"));
        let stages = cuts.iter().map(|range| {
            Stage::load(Arc::clone(&kernels), package, range.clone(), 256).expect("it loads")
        });
        let stages = stages.collect();
        Self { stages, head: Head::load(kernels, package).expect("it loads") }
    }

    fn begin(&mut self, s: usize) -> usize {
        let sequence = SequenceId(s as u64);
        for stage in &mut self.stages {
            stage.cache_mut().begin(sequence, &[]);
            stage.cache_mut().reserve(sequence, TOKENS + 64).expect("room");
        }
        0
    }

    /// Logits of every row of a step.
    fn step(&mut self, segments: &[Segment], tokens: &[TokenId]) -> Vec<Vec<f32>> {
        let mut rows = self.head.embed(tokens);
        for stage in &mut self.stages {
            let faults = stage.forward(segments, &mut rows).expect("room");
            assert!(faults.iter().all(Option::is_none));
        }
        let mut logits = Vec::new();
        assert!(self.head.logits(&rows, &mut logits).iter().all(|unsound| !unsound));
        logits.chunks_exact(self.head.vocab_count()).map(<[f32]>::to_vec).collect()
    }

    /// A digest over all logits of `sequences` sequences, computed `rows` positions at a time, all
    /// sequences together; one digest per sequence.
    fn digests(&mut self, sequences: &[usize], rows: usize) -> Vec<Digest> {
        let mut logits = vec![Vec::new(); sequences.len()];
        for &s in sequences {
            self.begin(s);
        }
        for position in (0..TOKENS).step_by(rows) {
            let rows = rows.min(TOKENS - position);
            let segments: Vec<Segment> = sequences
                .iter()
                .map(|&s| Segment {
                    sequence: SequenceId(s as u64),
                    position,
                    kind: SegmentKind::Chain { rows },
                })
                .collect();
            let tokens: Vec<TokenId> = sequences
                .iter()
                .flat_map(|&s| (position..position + rows).map(move |p| token(s, p)))
                .collect();
            let step = self.step(&segments, &tokens);
            for (logits, rows) in logits.iter_mut().zip(step.chunks_exact(rows)) {
                logits.extend_from_slice(rows);
            }
        }
        for &s in sequences {
            for stage in &mut self.stages {
                stage.cache_mut().end(SequenceId(s as u64));
            }
        }
        logits.iter().map(|rows| digest(rows)).collect()
    }
}

fn digest(rows: &[Vec<f32>]) -> Digest {
    let bytes: Vec<u8> = rows.concat().iter().flat_map(|y| y.to_le_bytes()).collect();
    Digest::of(&bytes)
}

/// Rows computed at a time: all sizes where `SHOAL_SOAK` is set, else one, so that every size meets
/// every instruction set, cut and format over the cases of a run.
fn chunks(case: usize) -> Vec<usize> {
    let all = [1, 7, 64, 100];
    match std::env::var_os("SHOAL_SOAK") {
        Some(_) => all.to_vec(),
        None => vec![all[case % 4]],
    }
}

#[test]
fn instruction_sets_threads_batches_chunks_and_cuts_change_nothing() {
    for (i, architecture) in architectures().into_iter().enumerate() {
        let (weights, inputs) = formats()[i % 4];
        let package = import(&TinyModel::new(architecture, i as u64), weights, inputs);
        let mut plain = Machine::new(&package, Isa::Portable, 1, &CUTS[..1]);
        let expected: Vec<Digest> =
            [0, 1, 2].iter().flat_map(|&s| plain.digests(&[s], TOKENS)).collect();
        assert_ne!(expected[0], expected[1]);
        for isa in Isa::available() {
            for threads in 1..=4 {
                for (k, cut) in [&CUTS[..1], &CUTS[1..]].into_iter().enumerate() {
                    let mut machine = Machine::new(&package, isa, threads, cut);
                    for rows in chunks(i + threads + k) {
                        let what = format!("{i} {isa} {threads} threads {cut:?} {rows} rows");
                        assert_eq!(machine.digests(&[0, 1, 2], rows), expected, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_batch_of_64_changes_nothing() {
    let package =
        import(&TinyModel::new(tiny_architecture(), 5), StoredFormat::I4, InputFormat::A8);
    let isa = Isa::choose().expect("an instruction set");
    let mut machine = Machine::new(&package, isa, 2, &CUTS[..1]);
    let alone: Vec<Digest> = (0..64).flat_map(|s| machine.digests(&[s], 64)).collect();
    let all: Vec<usize> = (0..64).collect();
    assert_eq!(machine.digests(&all, 3), alone);
}

#[test]
fn rows_of_a_tree_equal_rows_of_chains() {
    // Two roots; the tree begins near the end of a chunk, so that it reaches over it.
    let parents: [Option<u8>; 8] =
        [None, Some(0), Some(0), None, Some(1), Some(4), Some(5), Some(3)];
    let base = 62;
    for (i, architecture) in architectures().into_iter().enumerate() {
        let (weights, inputs) = formats()[i % 4];
        let package = import(&TinyModel::new(architecture, i as u64), weights, inputs);
        for isa in Isa::available() {
            let mut machine = Machine::new(&package, isa, 2, &CUTS[1..]);
            let prefix: Vec<TokenId> = (0..base).map(|p| token(0, p)).collect();
            let draft = |node: usize| token(3 + node, 40);
            let path = |mut node: usize| {
                let mut path = vec![node];
                while let Some(parent) = parents[node] {
                    node = usize::from(parent);
                    path.insert(0, node);
                }
                path
            };
            let chain = |position, rows| Segment {
                sequence: SequenceId(9),
                position,
                kind: SegmentKind::Chain { rows },
            };
            let mut expected = Vec::new();
            for node in 0..parents.len() {
                machine.begin(9);
                let tail = path(node).into_iter().map(draft);
                let tokens: Vec<TokenId> = prefix.iter().copied().chain(tail).collect();
                let logits = machine.step(&[chain(0, tokens.len())], &tokens);
                expected.push(logits.last().expect("a row per token").clone());
                machine.stages.iter_mut().for_each(|s| s.cache_mut().end(SequenceId(9)));
            }
            machine.begin(9);
            machine.step(&[chain(0, base)], &prefix);
            let kind = SegmentKind::Tree { parents: parents.to_vec() };
            let tree = Segment { sequence: SequenceId(9), position: base, kind };
            let drafts: Vec<TokenId> = (0..parents.len()).map(draft).collect();
            let logits = machine.step(&[tree], &drafts);
            assert_eq!(digest(&logits), digest(&expected), "{i} {isa}");

            // What was accepted is as if it had been computed as a chain.
            let accepted: Vec<u8> = path(6).into_iter().map(|node| node as u8).collect();
            for stage in &mut machine.stages {
                stage.accept(SequenceId(9), &accepted).expect("the tree waits");
            }
            let position = base + accepted.len();
            let next = machine.step(&[chain(position, 1)], &[token(0, 99)]);
            machine.stages.iter_mut().for_each(|s| s.cache_mut().end(SequenceId(9)));
            machine.begin(9);
            let tail = accepted.iter().map(|&node| draft(usize::from(node)));
            let tokens: Vec<TokenId> =
                prefix.iter().copied().chain(tail).chain([token(0, 99)]).collect();
            let whole = machine.step(&[chain(0, tokens.len())], &tokens);
            assert_eq!(digest(&next), digest(&whole[whole.len() - 1..]), "{i} {isa}");
            machine.stages.iter_mut().for_each(|s| s.cache_mut().end(SequenceId(9)));
        }
    }
}
