//! The row-wise operations of training have the same bits on every instruction set and team.

use shoal_arith::reference::float::{AdamStep, chain, lane_dot, softmax};
use shoal_kernels::float::{
    AttentionBackward, AttentionForward, AttentionShape, LossRows, Rotation, Teacher,
};
use shoal_kernels::{Isa, Kernels};

const ROWS: usize = 150;
const WIDTH: usize = 136;
const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const HEAD_WIDTH: usize = 20;

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        ((state >> 33) as f32 / (1_u64 << 31) as f32 - 0.5) * 4.0
    };
    (0..len).map(|_| next()).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Runs `job` on every instruction set with one and with three threads; all agree with the first,
/// which is the portable one.
fn agree(name: &str, job: impl Fn(&Kernels) -> Vec<f32>) {
    let mut first = None;
    for isa in Isa::available() {
        for threads in [1, 3] {
            let kernels = Kernels::new(isa, threads).expect("available");
            let result = bits(&job(&kernels));
            let expected = first.get_or_insert_with(|| result.clone());
            assert_eq!(&result, expected, "{name}: {isa}, {threads} threads");
        }
    }
}

#[test]
fn norms_agree() {
    let (x, dy) = (numbers(ROWS * WIDTH, 1), numbers(ROWS * WIDTH, 2));
    let weight = numbers(WIDTH, 3);
    agree("norm", |kernels| {
        let (mut y, mut inverse) = (vec![0.0; x.len()], vec![0.0; ROWS]);
        kernels.norm_forward(&x, &weight, 1e-5, &mut y, &mut inverse);
        let (mut dx, mut dw) = (numbers(x.len(), 4), numbers(WIDTH, 5));
        kernels.norm_backward(&dy, &x, &weight, &inverse, &mut dx, Some(&mut dw));
        [y, inverse, dx, dw].concat()
    });
}

#[test]
fn element_operations_agree() {
    let (gate, up, dh) =
        (numbers(ROWS * WIDTH + 7, 1), numbers(ROWS * WIDTH + 7, 2), numbers(ROWS * WIDTH + 7, 3));
    agree("gated unit", |kernels| {
        let (mut h, mut d_gate, mut d_up) = (vec![0.0; gate.len()], gate.clone(), up.clone());
        kernels.swiglu_forward(&gate, &up, &mut h);
        kernels.swiglu_backward(&dh, &mut d_gate, &mut d_up);
        kernels.add_rows(&mut h, &dh);
        [h, d_gate, d_up].concat()
    });
    let x = numbers(ROWS * WIDTH, 4);
    agree("bias", |kernels| {
        let (mut y, mut sums) = (x.clone(), numbers(WIDTH, 5));
        kernels.add_bias(&mut y, &numbers(WIDTH, 6));
        kernels.bias_backward(&y, &mut sums);
        [y, sums].concat()
    });
    let tokens: Vec<u32> = (0..ROWS as u32).map(|t| t * t % 31).collect();
    agree("embedding", |kernels| {
        let (mut y, mut table) = (vec![0.0; x.len()], numbers(31 * WIDTH, 7));
        kernels.embed_forward(&table, &tokens, &mut y);
        kernels.embed_backward(&x, &tokens, &mut table);
        [y, table].concat()
    });
}

#[test]
fn rotations_agree_and_turn_back() {
    let pairs = 8;
    let angles = numbers(ROWS * pairs, 1);
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
    let positions: Vec<u32> = (0..ROWS as u32).map(|t| t % 50).collect();
    let x = numbers(ROWS * HEADS * HEAD_WIDTH, 2);
    for interleaved in [false, true] {
        let rotation = |direction| Rotation {
            cos: &cos,
            sin: &sin,
            pairs,
            head_width: HEAD_WIDTH,
            direction,
            interleaved,
        };
        agree("rotation", |kernels| {
            let mut y = x.clone();
            kernels.rotate(&mut y, &positions, rotation(1.0));
            let mut back = y.clone();
            kernels.rotate(&mut back, &positions, rotation(-1.0));
            assert!(back.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-5));
            y
        });
    }
}

/// Forward results, then all gradients.
fn attention(kernels: &Kernels, shape: AttentionShape<'_>) -> Vec<f32> {
    let (q, kv) = (ROWS * HEADS * HEAD_WIDTH, ROWS * KV_HEADS * HEAD_WIDTH);
    let (queries, keys, values) = (numbers(q, 1), numbers(kv, 2), numbers(kv, 3));
    let d_out = numbers(q, 4);
    let (mut out, mut softmax) = (vec![0.0; q], vec![(0.0, 0.0); ROWS * HEADS]);
    kernels.attention_forward(
        shape,
        AttentionForward {
            q: &queries,
            k: &keys,
            v: &values,
            out: &mut out,
            softmax: &mut softmax,
        },
    );
    let (mut dq, mut dk, mut dv) = (vec![0.0; q], vec![0.0; kv], vec![0.0; kv]);
    kernels.attention_backward(
        shape,
        AttentionBackward {
            q: &queries,
            k: &keys,
            v: &values,
            softmax: &softmax,
            d_out: &d_out,
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        },
    );
    [out, dq, dk, dv].concat()
}

#[test]
fn attention_agrees_and_is_that_of_the_definition() {
    let documents = [0..70, 70..71, 71..ROWS];
    for window in [usize::MAX, 9] {
        let shape = AttentionShape {
            heads: HEADS,
            kv_heads: KV_HEADS,
            head_width: HEAD_WIDTH,
            window,
            documents: &documents,
        };
        agree("attention", |kernels| attention(kernels, shape));
        let kernels = Kernels::new(Isa::Portable, 1).expect("available");
        let got = attention(&kernels, shape);
        let (q, k) =
            (numbers(ROWS * HEADS * HEAD_WIDTH, 1), numbers(ROWS * KV_HEADS * HEAD_WIDTH, 2));
        let v = numbers(ROWS * KV_HEADS * HEAD_WIDTH, 3);
        let scale = 1.0 / (HEAD_WIDTH as f32).sqrt();
        for document in &documents {
            for t in document.clone() {
                for head in 0..HEADS {
                    let kv = head / (HEADS / KV_HEADS);
                    let query = &q[(t * HEADS + head) * HEAD_WIDTH..][..HEAD_WIDTH];
                    let row = |x: &'_ [f32], j: usize| {
                        x[(j * KV_HEADS + kv) * HEAD_WIDTH..][..HEAD_WIDTH].to_vec()
                    };
                    let first = document.start.max((t + 1).saturating_sub(window));
                    let score = |j: usize| {
                        let key = row(&k, j);
                        chain(0.0, query.iter().copied().zip(key)) * scale
                    };
                    let mut p: Vec<f32> = (first..=t).map(score).collect();
                    softmax(&mut p);
                    for i in 0..HEAD_WIDTH {
                        let terms = p.iter().zip(first..=t).map(|(&p, j)| (p, row(&v, j)[i]));
                        let expected = chain(0.0, terms);
                        let at = (t * HEADS + head) * HEAD_WIDTH + i;
                        assert_eq!(got[at].to_bits(), expected.to_bits(), "{t} {head} {i}");
                    }
                }
            }
        }
    }
}

#[test]
fn losses_agree() {
    let logits = numbers(ROWS * WIDTH, 1);
    let teacher = numbers(ROWS * WIDTH, 2);
    let targets: Vec<u32> = (0..ROWS as u32).map(|t| t % WIDTH as u32).collect();
    let weights: Vec<f32> = (0..ROWS).map(|t| (t % 3) as f32 * 0.5).collect();
    for teacher in [None, Some(Teacher { logits: &teacher, share: 0.3 })] {
        agree("loss", |kernels| {
            let (mut rows, mut losses) = (logits.clone(), vec![0.0; ROWS]);
            kernels.loss_backward(LossRows {
                logits: &mut rows,
                targets: &targets,
                weights: &weights,
                losses: &mut losses,
                teacher,
            });
            assert!(losses.iter().zip(&weights).all(|(&l, &w)| (l > 0.0) == (w > 0.0)));
            // Halves of an f64 keep all its bits.
            let halves = losses.iter().flat_map(|x| {
                let bits = x.to_bits();
                [f32::from_bits((bits >> 32) as u32), f32::from_bits(bits as u32)]
            });
            rows.into_iter().chain(halves).collect()
        });
    }
}

#[test]
fn steps_and_norms_of_gradients_agree() {
    let (g, p) = (numbers(10_000, 1), numbers(10_000, 2));
    let step = AdamStep {
        gradient_scale: 0.7,
        beta1: 0.9,
        beta2: 0.95,
        correction1: 1.3,
        correction2: 1.7,
        epsilon: 1e-8,
        rate: 1e-3,
        weight_decay: 0.1,
    };
    agree("adam", |kernels| {
        let (mut m, mut v, mut p) = (numbers(10_000, 3), vec![0.25; 10_000], p.clone());
        kernels.adam_step(step, &g, &mut m, &mut v, &mut p);
        let squares = kernels.sum_of_squares(&g).to_bits();
        let halves = vec![f32::from_bits((squares >> 32) as u32), f32::from_bits(squares as u32)];
        [m, v, p, halves].concat()
    });
    let exact: f64 = g.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let kernels = Kernels::new(Isa::Portable, 1).expect("available");
    assert!((kernels.sum_of_squares(&g) / exact - 1.0).abs() < 1e-12);
    assert!((f64::from(lane_dot(&g, &g)) / exact - 1.0).abs() < 1e-5);
}
