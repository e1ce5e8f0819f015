//! Attention equals the reference for every head shape, window, page order, chain and tree.

use std::sync::atomic::AtomicBool;

use shoal_arith::limits::CHUNK;
use shoal_arith::reference::attention::{KeyValue, attend, quantize_head};
use shoal_arith::reference::norm::rms_norm;
use shoal_arith::reference::rope::{Pairing, rotate};
use shoal_kernels::attention::{
    AttentionRow, HeadNorms, HeadsShape, KvPool, KvSlot, PageId, Projections, Queries, RopeRows,
    Span, TreePage,
};
use shoal_kernels::{Isa, Kernels};

const SCORE_SCALE: f32 = 0.37;

/// Projections of one position: what the layer's linear maps would give.
struct Token {
    position: usize,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
}

struct Case {
    shape: HeadsShape,
    pairs: usize,
    pairing: Pairing,
    norms: Option<(Vec<f32>, Vec<f32>)>,
    window: usize,
}

fn numbers(seed: usize, len: usize, size: f32) -> Vec<f32> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 40) as f32 / 8_388_608.0 - 1.0) * size
        })
        .collect()
}

impl Case {
    fn token(&self, position: usize, seed: usize) -> Token {
        let kv = self.shape.kv_head_count * self.shape.head_width;
        // Sizes differ between positions, so that chunks have different exponents.
        let size = 0.1 + (seed % 7) as f32;
        Token {
            position,
            query: numbers(seed * 3, self.shape.head_count * self.shape.head_width, 2.0),
            key: numbers(seed * 3 + 1, kv, size),
            value: numbers(seed * 3 + 2, kv, size * 3.0),
        }
    }

    fn angles(&self, position: usize) -> (Vec<f32>, Vec<f32>) {
        let angle = |i: usize| position as f32 * 0.9_f32.powi(i as i32);
        (
            (0..self.pairs).map(|i| angle(i).cos()).collect(),
            (0..self.pairs).map(|i| angle(i).sin()).collect(),
        )
    }

    fn rotated(&self, head: &[f32], norm: Option<&[f32]>, position: usize) -> Vec<f32> {
        let mut head = head.to_vec();
        if let Some(weight) = norm {
            let mut normed = vec![0.0; head.len()];
            rms_norm(&head, weight, 1e-5, &mut normed).expect("sound");
            head = normed;
        }
        let (cos, sin) = self.angles(position);
        rotate(&mut head, &cos, &sin, self.pairing);
        head
    }

    /// What the definition gives for `token` when it sees `seen`.
    fn expected(&self, token: &Token, seen: &[&Token]) -> Vec<f32> {
        let width = self.shape.head_width;
        let norms = self.norms.as_ref();
        (0..self.shape.head_count)
            .flat_map(|h| {
                let g = h / self.shape.ratio();
                let query = &token.query[h * width..(h + 1) * width];
                let query = self.rotated(query, norms.map(|n| &n.0[..]), token.position);
                let kv: Vec<KeyValue> = seen
                    .iter()
                    .map(|t| {
                        let key = &t.key[g * width..(g + 1) * width];
                        let key = self.rotated(key, norms.map(|n| &n.1[..]), t.position);
                        KeyValue {
                            position: t.position,
                            key: quantize_head(&key).expect("sound"),
                            value: quantize_head(&t.value[g * width..(g + 1) * width])
                                .expect("sound"),
                        }
                    })
                    .collect();
                attend(&quantize_head(&query).expect("sound"), &kv, SCORE_SCALE)
            })
            .collect()
    }

    /// Runs `tokens` as one step; `slots` says where each goes.
    fn prepare(
        &self,
        kernels: &Kernels,
        pool: &mut KvPool,
        tokens: &[&Token],
        slots: &[KvSlot],
    ) -> Queries {
        let concat = |part: fn(&Token) -> &Vec<f32>| -> Vec<f32> {
            tokens.iter().flat_map(|t| part(t)).copied().collect()
        };
        let (mut q, mut k, mut v) =
            (concat(|t| &t.query), concat(|t| &t.key), concat(|t| &t.value));
        let (cos, sin): (Vec<_>, Vec<_>) = tokens.iter().map(|t| self.angles(t.position)).unzip();
        let (cos, sin) = (cos.concat(), sin.concat());
        let mut queries = Queries::default();
        let faults: Vec<AtomicBool> = tokens.iter().map(|_| AtomicBool::new(false)).collect();
        kernels.prepare_heads(
            Projections { query: &mut q, key: &mut k, value: &mut v },
            self.norms.as_ref().map(|n| HeadNorms { query: &n.0, key: &n.1, epsilon: 1e-5 }),
            RopeRows { cos: &cos, sin: &sin, pairs: self.pairs, pairing: self.pairing },
            SCORE_SCALE,
            slots,
            1,
            pool,
            &mut queries,
            &faults,
        );
        assert!(faults.into_iter().all(|fault| !fault.into_inner()));
        queries
    }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 1, 8), (8, 4, 8), (6, 2, 32), (4, 1, 64), (5, 5, 80), (8, 2, 128), (2, 1, 2)];
    let mut cases = Vec::new();
    for (i, (head_count, kv_head_count, head_width)) in shapes.into_iter().enumerate() {
        let shape = HeadsShape { head_count, kv_head_count, head_width };
        cases.push(Case {
            shape,
            pairs: if i == 4 { head_width / 4 } else { head_width / 2 },
            pairing: if i % 2 == 0 { Pairing::Half } else { Pairing::Interleaved },
            norms: (i % 3 == 2)
                .then(|| (numbers(i, head_width, 1.5), numbers(i + 9, head_width, 1.5))),
            window: if i % 2 == 1 { 70 } else { usize::MAX },
        });
    }
    cases
}

/// Pages in an order unlike the chunks'.
fn page_of(chunk: usize) -> PageId {
    PageId([4, 1, 3, 0, 2][chunk])
}

fn slot_of(position: usize) -> KvSlot {
    KvSlot { page: page_of(position / CHUNK), slot: (position % CHUNK) as u32 }
}

fn kernels() -> impl Iterator<Item = Kernels> {
    Isa::available().flat_map(|isa| [1, 3].map(|n| Kernels::new(isa, n).expect("available")))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn chains_equal_the_reference_in_any_cut() {
    for case in cases() {
        let tokens: Vec<Token> = (0..200).map(|p| case.token(p, p)).collect();
        let first = |p: usize| (p + 1).saturating_sub(case.window);
        let checked = [0, 1, 63, 64, 65, 127, 130, 199];
        let expected = checked.map(|p| {
            let seen: Vec<&Token> = tokens[first(p)..=p].iter().collect();
            bits(&case.expected(&tokens[p], &seen))
        });
        for kernels in kernels() {
            for step in [1, 7, 64, 200] {
                let mut pool = KvPool::new(case.shape, 2, 5);
                let pages: Vec<PageId> = (0..4).map(page_of).collect();
                let mut out = Vec::new();
                for tokens in tokens.chunks(step) {
                    let tokens: Vec<&Token> = tokens.iter().collect();
                    let slots: Vec<KvSlot> = tokens.iter().map(|t| slot_of(t.position)).collect();
                    let queries = case.prepare(&kernels, &mut pool, &tokens, &slots);
                    let rows: Vec<AttentionRow> = tokens
                        .iter()
                        .map(|t| AttentionRow {
                            first: first(t.position),
                            end: t.position + 1,
                            ancestors: 0,
                        })
                        .collect();
                    let spans: Vec<Span> = (0..rows.len())
                        .step_by(8)
                        .map(|i| Span { rows: i..rows.len().min(i + 8), pages: &pages, tree: None })
                        .collect();
                    let mut y = vec![
                        f32::NAN;
                        tokens.len() * case.shape.head_count * case.shape.head_width
                    ];
                    kernels.attend(&pool, 1, &queries, &rows, &spans, &mut y);
                    out.extend(y);
                }
                let width = case.shape.head_count * case.shape.head_width;
                for (p, expected) in checked.iter().zip(&expected) {
                    let y = bits(&out[p * width..(p + 1) * width]);
                    assert!(
                        y == *expected,
                        "{:?} {:?} step {step} position {p}",
                        case.shape,
                        kernels.isa()
                    );
                }
            }
        }
    }
}

/// A draft token of the test tree and its ancestors.
fn path(mut i: usize) -> Vec<usize> {
    const PARENTS: [Option<usize>; 9] =
        [None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(3), Some(6), Some(7)];
    let mut path = vec![i];
    while let Some(parent) = PARENTS[i] {
        path.push(parent);
        i = parent;
    }
    path
}

/// The tree begins just before a chunk's end.
#[test]
fn trees_equal_chains() {
    let base = 125;
    for case in cases().into_iter().filter(|case| case.window == usize::MAX) {
        let prefix: Vec<Token> = (0..base).map(|p| case.token(p, p)).collect();
        let drafts: Vec<Token> =
            (0..9).map(|i| case.token(base + path(i).len() - 1, 300 + i)).collect();
        let expected: Vec<u32> = (0..9)
            .flat_map(|i| {
                let seen: Vec<&Token> =
                    prefix.iter().chain(path(i).into_iter().map(|j| &drafts[j])).collect();
                bits(&case.expected(&drafts[i], &seen))
            })
            .collect();
        for kernels in kernels() {
            let mut pool = KvPool::new(case.shape, 2, 5);
            let slots: Vec<KvSlot> = (0..base).map(slot_of).collect();
            case.prepare(&kernels, &mut pool, &prefix.iter().collect::<Vec<_>>(), &slots);
            let tree = PageId(2);
            let slots: Vec<KvSlot> = (0..9).map(|slot| KvSlot { page: tree, slot }).collect();
            let queries =
                case.prepare(&kernels, &mut pool, &drafts.iter().collect::<Vec<_>>(), &slots);
            let rows: Vec<AttentionRow> = (0..9)
                .map(|i| AttentionRow {
                    first: 0,
                    end: base,
                    ancestors: path(i).into_iter().map(|j| 1 << j).sum(),
                })
                .collect();
            let positions: Vec<usize> = drafts.iter().map(|t| t.position).collect();
            let pages: Vec<PageId> = (0..2).map(page_of).collect();
            let span = Span {
                rows: 0..9,
                pages: &pages,
                tree: Some(TreePage { page: tree, positions: &positions }),
            };
            let mut y = vec![f32::NAN; 9 * case.shape.head_count * case.shape.head_width];
            kernels.attend(&pool, 1, &queries, &rows, &[span], &mut y);
            assert!(bits(&y) == expected, "{:?} {:?}", case.shape, kernels.isa());
        }
    }
}

#[test]
fn copied_slots_and_pages_hold_the_same() {
    let case = &cases()[2];
    let tokens: Vec<Token> = (0..10).map(|p| case.token(p, p)).collect();
    let kernels = Kernels::new(Isa::Portable, 1).expect("available");
    let mut pool = KvPool::new(case.shape, 2, 5);
    let slots: Vec<KvSlot> = (0..10).map(|slot| KvSlot { page: PageId(0), slot }).collect();
    let all: Vec<&Token> = tokens.iter().collect();
    case.prepare(&kernels, &mut pool, &all, &slots);
    let run = |pool: &KvPool, page: PageId, queries: &Queries| {
        let row = AttentionRow { first: 0, end: 10, ancestors: 0 };
        let mut y = vec![0.0; case.shape.head_count * case.shape.head_width];
        let span = Span { rows: 0..1, pages: &[page], tree: None };
        kernels.attend(pool, 1, queries, &[row], &[span], &mut y);
        bits(&y)
    };
    let slot = KvSlot { page: PageId(4), slot: 0 };
    let queries = case.prepare(&kernels, &mut pool, &all[9..], &[slot]);
    let expected = run(&pool, PageId(0), &queries);
    pool.copy(PageId(0), PageId(1));
    assert_eq!(run(&pool, PageId(1), &queries), expected);
    for slot in 0..10 {
        let (from, to) = (KvSlot { page: PageId(0), slot }, KvSlot { page: PageId(2), slot });
        pool.copy_slot(from, to);
    }
    assert_eq!(run(&pool, PageId(2), &queries), expected);
}
