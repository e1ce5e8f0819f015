//! Every instruction set gives what the golden vectors say.

use std::sync::atomic::{AtomicBool, Ordering};

use shoal_arith::limits::CHUNK;
use shoal_arith::{ActivationFormat, WeightFormat};
use shoal_base::SharedBytes;
use shoal_kernels::attention::{
    AttentionRow, HeadNorms, HeadsShape, KvPool, KvSlot, PageId, Projections, Queries, RopeRows,
    Span, TreePage,
};
use shoal_kernels::{Isa, Kernels, Linear, QuantizeNeeds, Quantized};
use shoal_testkit::skip;
use shoal_vectors::attention::AttentionCase;
use shoal_vectors::element::ElementCase;
use shoal_vectors::hex::bits;
use shoal_vectors::linear::LinearCase;
use shoal_vectors::norm::NormCase;
use shoal_vectors::read;
use shoal_vectors::rope::pairing;

/// The page of a tree; those of the sequence come before it.
const TREE: PageId = PageId(7);

/// Kernels of every instruction set, for 1 and 3 threads. Those the machine lacks are named.
fn kernels() -> Vec<Kernels> {
    let mut kernels = Vec::new();
    for isa in Isa::ALL {
        if isa.is_available() {
            kernels.extend([1, 3].map(|n| Kernels::new(isa, n).expect("it is available")));
        } else {
            skip(&format!("no {isa} on this machine"));
        }
    }
    kernels
}

fn flags(count: usize) -> Vec<AtomicBool> {
    (0..count).map(|_| AtomicBool::new(false)).collect()
}

fn values(flags: &[AtomicBool]) -> Vec<bool> {
    flags.iter().map(|flag| flag.load(Ordering::Relaxed)).collect()
}

#[test]
fn linear_maps() {
    let cases: Vec<LinearCase> = read("linear.json");
    for kernels in kernels() {
        for case in &cases {
            let shape = case.shape();
            let bytes = case.section_bytes();
            if let Some(section) = &case.section {
                assert_eq!(bits(&bytes), bits(&section.0), "{}", case.name);
            }
            let bias = (!case.bias.0.is_empty()).then_some(&case.bias.0[..]);
            let linear = Linear::new(shape, SharedBytes::aligned(&bytes), bias).expect("sound");
            assert_eq!(linear.check_tiles(kernels.team()), Ok(()));
            let (format, count) = (ActivationFormat::from(case.inputs), case.accumulators.len());
            let needs = QuantizeNeeds::of(kernels.isa(), WeightFormat::from(case.weights), format);
            let (mut x, faults) = (Quantized::default(), flags(count));
            kernels.quantize(&case.x.0, case.columns, format, needs, &mut x, &faults);
            assert_eq!(values(&faults), vec![false; count]);
            let mut y = vec![f32::NAN; count * shape.rows];
            kernels.matmul(&linear, &x, &mut y);
            let what = (kernels.isa(), &case.name, case.weights, case.inputs);
            assert_eq!(bits(&y), bits(&case.y.0), "{what:?}");
        }
    }
}

#[test]
fn norms() {
    let cases: Vec<NormCase> = read("norm.json");
    for kernels in kernels() {
        for case in &cases {
            let (mut y, faults) = (vec![f32::NAN; case.x.0.len()], flags(1));
            kernels.rms_norm(&case.x.0, &case.weight.0, case.epsilon.0[0], &mut y, &faults);
            assert_eq!(values(&faults), [case.y.is_none()], "{}", case.name);
            if let Some(expected) = &case.y {
                assert_eq!(bits(&y), bits(&expected.0), "{} {}", kernels.isa(), case.name);
            }
        }
    }
}

#[test]
fn elements() {
    let cases: Vec<ElementCase> = read("element.json");
    for kernels in kernels() {
        for case in &cases {
            match case {
                ElementCase::SiluMul { gate, up, y } => {
                    let (mut gate, faults) = (gate.0.clone(), flags(1));
                    kernels.silu_mul(&mut gate, &up.0, up.0.len(), &faults);
                    assert_eq!(values(&faults), [y.is_none()], "{case:?}");
                    if let Some(y) = y {
                        assert_eq!(bits(&gate), bits(&y.0), "{} {case:?}", kernels.isa());
                    }
                }
                ElementCase::Add { h, x, y } => {
                    let mut h = h.0.clone();
                    kernels.add(&mut h, &x.0);
                    assert_eq!(bits(&h), bits(&y.0), "{} {case:?}", kernels.isa());
                }
                ElementCase::AddToBf16 { h, x, y } => {
                    let mut rows = vec![1; y.0.len()];
                    kernels.add_to_bf16(&h.0, &x.0, &mut rows);
                    assert_eq!(rows, y.0, "{} {case:?}", kernels.isa());
                }
                // One implementation for all instruction sets: the reference's own.
                ElementCase::Embed { .. } | ElementCase::Pool { .. } => {}
            }
        }
    }
}

/// One row of an attention case: a token of its tree, or a position before it.
struct Place<'a> {
    query: &'a [f32],
    place: usize,
    slot: KvSlot,
}

/// Makes heads ready and writes keys and values; which rows fault.
fn prepare(
    kernels: &Kernels,
    case: &AttentionCase,
    places: &[Place<'_>],
    pool: &mut KvPool,
) -> (Queries, Vec<bool>) {
    let (width, pairs) = (case.head_width, case.pairs);
    let gather = |all: &[f32], size: usize| -> Vec<f32> {
        places.iter().flat_map(|p| &all[p.place * size..(p.place + 1) * size]).copied().collect()
    };
    let mut query: Vec<f32> = places.iter().flat_map(|place| place.query).copied().collect();
    let (mut key, mut value) = (gather(&case.keys.0, width), gather(&case.values.0, width));
    let (cos, sin) = (gather(&case.cos.0, pairs), gather(&case.sin.0, pairs));
    let norms = (!case.query_norm.0.is_empty()).then_some(HeadNorms {
        query: &case.query_norm.0,
        key: &case.key_norm.0,
        epsilon: case.epsilon.0[0],
    });
    let slots: Vec<KvSlot> = places.iter().map(|place| place.slot).collect();
    let (mut queries, faults) = (Queries::default(), flags(places.len()));
    kernels.prepare_heads(
        Projections { query: &mut query, key: &mut key, value: &mut value },
        norms,
        RopeRows { cos: &cos, sin: &sin, pairs, pairing: pairing(case.interleaved) },
        case.score_scale.0[0],
        &slots,
        0,
        pool,
        &mut queries,
        &faults,
    );
    (queries, values(&faults))
}

fn pool_of(case: &AttentionCase) -> KvPool {
    let shape = HeadsShape { head_count: 1, kv_head_count: 1, head_width: case.head_width };
    KvPool::new(shape, 1, 8)
}

/// Where a position lies; pages in an order unlike the chunks'.
fn slot_of(position: usize) -> KvSlot {
    KvSlot { page: page_of(position / CHUNK), slot: (position % CHUNK) as u32 }
}

fn page_of(chunk: usize) -> PageId {
    PageId([3, 0, 4, 1, 2][chunk])
}

fn pages() -> Vec<PageId> {
    (0..5).map(page_of).collect()
}

/// The positions before the tree. Their queries are not looked at.
fn prefix<'a>(case: &AttentionCase, zeros: &'a [f32]) -> Vec<Place<'a>> {
    (0..case.prefix).map(|p| Place { query: zeros, place: p, slot: slot_of(p) }).collect()
}

fn query(case: &AttentionCase, node: usize) -> &[f32] {
    &case.queries.0[node * case.head_width..(node + 1) * case.head_width]
}

/// Compares the output of a token, or its fault, with the case.
fn compare(kernels: &Kernels, case: &AttentionCase, node: usize, fault: bool, y: &[f32]) {
    let expected = case.outputs[node].as_ref();
    assert_eq!(fault, expected.is_none(), "{} {} {node}", kernels.isa(), case.name);
    if let Some(expected) = expected {
        assert_eq!(bits(y), bits(&expected.0), "{} {} {node}", kernels.isa(), case.name);
    }
}

#[test]
fn attention_in_chains() {
    let cases: Vec<AttentionCase> = read("attention.json");
    for kernels in kernels() {
        for case in &cases {
            let zeros = vec![0.0; case.head_width];
            for node in 0..case.parents.len() {
                let mut pool = pool_of(case);
                let mut places = prefix(case, &zeros);
                places.extend(case.path(node).into_iter().map(|node| Place {
                    query: query(case, node),
                    place: case.prefix + node,
                    slot: slot_of(case.position(node)),
                }));
                prepare(&kernels, case, &places[..places.len() - 1], &mut pool);
                let (queries, faults) =
                    prepare(&kernels, case, &places[places.len() - 1..], &mut pool);
                let end = case.position(node) + 1;
                let first = end.saturating_sub(case.window.unwrap_or(usize::MAX));
                let rows = [AttentionRow { first, end, ancestors: 0 }];
                let span = Span { rows: 0..1, pages: &pages(), tree: None };
                let mut y = vec![f32::NAN; case.head_width];
                kernels.attend(&pool, 0, &queries, &rows, &[span], &mut y);
                compare(&kernels, case, node, faults[0], &y);
            }
        }
    }
}

#[test]
fn attention_in_trees() {
    let cases: Vec<AttentionCase> = read("attention.json");
    for kernels in kernels() {
        for case in &cases {
            let zeros = vec![0.0; case.head_width];
            let mut pool = pool_of(case);
            prepare(&kernels, case, &prefix(case, &zeros), &mut pool);
            let count = case.parents.len();
            let tree = |node: usize| Place {
                query: query(case, node),
                place: case.prefix + node,
                slot: KvSlot { page: TREE, slot: node as u32 },
            };
            let places: Vec<Place<'_>> = (0..count).map(tree).collect();
            let (queries, faults) = prepare(&kernels, case, &places, &mut pool);
            let row = |node: usize| {
                let end = case.position(node) + 1;
                let first = end.saturating_sub(case.window.unwrap_or(usize::MAX));
                let seen = case.path(node).into_iter().filter(|&n| case.position(n) >= first);
                let ancestors = seen.map(|n| 1 << n).sum();
                AttentionRow { first: first.min(case.prefix), end: case.prefix, ancestors }
            };
            let rows: Vec<AttentionRow> = (0..count).map(row).collect();
            let positions: Vec<usize> = (0..count).map(|node| case.position(node)).collect();
            let page = Some(TreePage { page: TREE, positions: &positions });
            let span = Span { rows: 0..count, pages: &pages(), tree: page };
            let mut y = vec![f32::NAN; count * case.head_width];
            kernels.attend(&pool, 0, &queries, &rows, &[span], &mut y);
            for (node, y) in y.chunks_exact(case.head_width).enumerate() {
                compare(&kernels, case, node, faults[node], y);
            }
        }
    }
}
