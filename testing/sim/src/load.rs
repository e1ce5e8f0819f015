//! How long prompts and answers are: those of a trace when the shared data is there.

use crate::links::shared;
use crate::random::Seeded;

const TRACES: [&str; 2] = [
    "load-traces/Azure+AzurePublicDataset/data/AzureLLMInferenceTrace_conv.csv",
    "load-traces/Azure+AzurePublicDataset/data/AzureLLMInferenceTrace_code.csv",
];

/// Pairs of prompt and answer lengths.
#[derive(Clone, Debug)]
pub struct Lengths {
    pairs: Vec<(u32, u32)>,
    /// Whether they are those of a trace.
    pub is_trace: bool,
}

impl Lengths {
    /// Those of the trace, else drawn with the same means.
    #[must_use]
    pub fn new(context: u32, random: &mut Seeded) -> Self {
        let lines = TRACES.iter().filter_map(|path| shared(path));
        let mut pairs: Vec<(u32, u32)> = lines
            .flat_map(|text| text.lines().skip(1).filter_map(parse).collect::<Vec<_>>())
            .collect();
        let is_trace = !pairs.is_empty();
        if !is_trace {
            let draw = |random: &mut Seeded, mean: f64| 1 + random.exponential(mean) as u32;
            pairs = (0..4096).map(|_| (draw(random, 1400.0), draw(random, 150.0))).collect();
        }
        // What does not fit a context is refused by a gateway; here it is cut.
        let fit = |(prompt, answer): (u32, u32)| {
            let answer = answer.clamp(1, context / 2);
            (prompt.clamp(1, context - answer), answer)
        };
        Self { pairs: pairs.into_iter().map(fit).collect(), is_trace }
    }

    /// Always the same pair.
    #[must_use]
    pub fn fixed(prompt: u32, answer: u32) -> Self {
        Self { pairs: vec![(prompt, answer)], is_trace: false }
    }

    /// One of them.
    pub fn draw(&self, random: &mut Seeded) -> (u32, u32) {
        self.pairs[(random.unit() * self.pairs.len() as f64) as usize]
    }
}

/// A line of the trace: time, tokens of the prompt, tokens of the answer.
fn parse(line: &str) -> Option<(u32, u32)> {
    let mut fields = line.trim().split(',').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
