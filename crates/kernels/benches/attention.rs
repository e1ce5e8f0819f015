//! Attention of one row over a long sequence, all layers, so that keys and values come from memory:
//! bytes of keys and values per second, which compare with the bandwidth that `matmul` reaches.
//!
//! `cargo bench -p shoal-kernels --bench attention -- [threads]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use shoal_arith::reference::rope::Pairing;
use shoal_kernels::attention::{
    AttentionRow, HeadsShape, KvPool, KvSlot, PageId, Projections, Queries, RopeRows, Span,
};
use shoal_kernels::{Isa, Kernels};

const LAYERS: usize = 16;
const PAGE: usize = 64;
const REPEATS: usize = 9;

fn main() {
    let threads = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(2);
    let shape = HeadsShape { head_count: 32, kv_head_count: 8, head_width: 64 };
    for isa in Isa::available().filter(|&isa| isa != Isa::Portable) {
        let kernels = Kernels::new(isa, threads).expect("available");
        for positions in [512, 4096] {
            bench(&kernels, shape, positions);
        }
    }
}

fn bench(kernels: &Kernels, shape: HeadsShape, positions: usize) {
    let mut pool = KvPool::new(shape, LAYERS, positions / PAGE);
    let pages: Vec<PageId> = (0..positions / PAGE).map(|page| PageId(page as u32)).collect();
    let mut queries = Queries::default();
    for layer in 0..LAYERS {
        for &page in &pages {
            write(kernels, &mut pool, layer, page, &mut queries);
        }
    }
    let rows = [AttentionRow { first: 0, end: positions, ancestors: 0 }; PAGE];
    let span = [Span { rows: 0..1, pages: &pages, tree: None }];
    let mut out = vec![0.0; PAGE * shape.head_count * shape.head_width];
    let mut times: Vec<f64> = (0..=REPEATS)
        .map(|_| {
            let start = Instant::now();
            for layer in 0..LAYERS {
                kernels.attend(&pool, layer, &queries, &rows, &span, &mut out);
            }
            start.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();
    times.sort_by(f64::total_cmp);
    let bytes = KvPool::page_bytes(shape, LAYERS) * pages.len();
    println!(
        "{:>10} T={positions}: {:6.2} ms a token, {:5.1} GB/s of {:.0} MB",
        kernels.isa().name(),
        times[REPEATS / 2] * 1e3,
        bytes as f64 / times[REPEATS / 2] / 1e9,
        bytes as f64 / 1e6,
    );
}

/// Fills one page of one layer; the queries are those of its rows.
fn write(kernels: &Kernels, pool: &mut KvPool, layer: usize, page: PageId, queries: &mut Queries) {
    let shape = pool.shape();
    let (width, kv_width) =
        (shape.head_count * shape.head_width, shape.kv_head_count * shape.head_width);
    let fill = |count: usize| -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + layer * 5) % 101) as f32 / 50.0 - 1.0).collect()
    };
    let (mut query, mut key, mut value) =
        (fill(PAGE * width), fill(PAGE * kv_width), fill(PAGE * kv_width));
    let x = Projections { query: &mut query, key: &mut key, value: &mut value };
    let slots: Vec<KvSlot> = (0..PAGE as u32).map(|slot| KvSlot { page, slot }).collect();
    let faults: Vec<AtomicBool> = (0..PAGE).map(|_| AtomicBool::new(false)).collect();
    let rope = RopeRows { cos: &[], sin: &[], pairs: 0, pairing: Pairing::Half };
    kernels.prepare_heads(x, None, rope, 0.2, &slots, layer, pool, queries, &faults);
}
