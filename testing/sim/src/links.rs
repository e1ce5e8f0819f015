//! Round trips between nodes: measured ones when the shared data is there, else drawn.

use std::path::PathBuf;

use crate::random::Seeded;

/// Names the folder with real inputs.
const DATA_VARIABLE: &str = "SHOAL_TEST_DATA";
const PLANETLAB: &str = "network/uofa-rzhu3+NetLatency-Data/PlanetLab/PlanetLabData_1";
/// Shortest round trip, in milliseconds: two machines of one site.
const RTT_MS_MIN: f64 = 0.5;
/// Longest that is believed.
const RTT_MS_MAX: f64 = 600.0;

/// A file of the shared data.
pub(crate) fn shared(path: &str) -> Option<String> {
    let folder = std::env::var_os(DATA_VARIABLE)?;
    std::fs::read_to_string(PathBuf::from(folder).join(path)).ok()
}

/// Where nodes are.
#[derive(Debug)]
pub(crate) struct Sites {
    /// Milliseconds, row by row.
    rtt_ms: Vec<f64>,
    count: usize,
    /// The site of each node.
    of_node: Vec<usize>,
    pub(crate) is_measured: bool,
}

impl Sites {
    pub(crate) fn new(nodes: usize, random: &mut Seeded) -> Self {
        let measured = shared(PLANETLAB).and_then(|text| parse(&text));
        let is_measured = measured.is_some();
        let (rtt_ms, count) = measured.unwrap_or_else(|| drawn(random));
        let of_node = (0..nodes).map(|_| (random.unit() * count as f64) as usize).collect();
        Self { rtt_ms, count, of_node, is_measured }
    }

    /// One way, in microseconds.
    pub(crate) fn one_way_us(&self, from: usize, to: usize) -> u64 {
        if from == to {
            return 5;
        }
        let rtt = self.rtt_ms[self.of_node[from] * self.count + self.of_node[to]];
        (rtt.clamp(RTT_MS_MIN, RTT_MS_MAX) * 500.0) as u64
    }
}

/// A square of numbers.
fn parse(text: &str) -> Option<(Vec<f64>, usize)> {
    let numbers: Option<Vec<f64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    let numbers = numbers?;
    let count = (numbers.len() as f64).sqrt() as usize;
    (count > 1 && count * count == numbers.len()).then_some((numbers, count))
}

/// Clusters on a plane, as continents are.
fn drawn(random: &mut Seeded) -> (Vec<f64>, usize) {
    const SITES: usize = 128;
    const CENTRES: [(f64, f64); 4] = [(0.0, 0.0), (90.0, 10.0), (160.0, 70.0), (60.0, 130.0)];
    let places: Vec<(f64, f64)> = (0..SITES)
        .map(|site| {
            let (x, y) = CENTRES[site % CENTRES.len()];
            (x + random.unit() * 30.0, y + random.unit() * 30.0)
        })
        .collect();
    let pair = |a: usize, b: usize| {
        let ((ax, ay), (bx, by)) = (places[a], places[b]);
        2.0 + ((ax - bx).powi(2) + (ay - by).powi(2)).sqrt()
    };
    let all = (0..SITES).flat_map(|a| (0..SITES).map(move |b| (a, b)));
    (all.map(|(a, b)| pair(a, b)).collect(), SITES)
}
