//! How much later than it should each packet was handed over.

use std::time::Duration;

use serde::Serialize;

/// Steps of one microsecond, the last one for everything above.
const STEPS: usize = 4096;

/// Counted by the router as it delivers.
#[derive(Clone, Debug)]
pub struct Lateness {
    steps: Vec<u64>,
    count: u64,
    max: Duration,
}

/// The numbers people ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LatenessSummary {
    /// Packets.
    pub count: u64,
    /// Half of them were not later.
    pub p50_us: u64,
    /// 99 of 100 were not later.
    pub p99_us: u64,
    /// The worst.
    pub max_us: u64,
}

impl Default for Lateness {
    fn default() -> Self {
        Self { steps: vec![0; STEPS], count: 0, max: Duration::ZERO }
    }
}

impl Lateness {
    pub(crate) fn note(&mut self, late: Duration) {
        let step = usize::try_from(late.as_micros()).unwrap_or(STEPS).min(STEPS - 1);
        self.steps[step] += 1;
        self.count += 1;
        self.max = self.max.max(late);
    }

    /// The lateness that a share of all packets did not exceed; at most 4095 us are told apart.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = self.steps.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        Duration::from_micros(found.unwrap_or(0) as u64)
    }

    /// Median, 99th percentile and maximum.
    #[must_use]
    pub fn summary(&self) -> LatenessSummary {
        let micros = |time: Duration| time.as_micros() as u64;
        LatenessSummary {
            count: self.count,
            p50_us: micros(self.quantile(0.5)),
            p99_us: micros(self.quantile(0.99)),
            max_us: micros(self.max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_noted() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.summary().p99_us, 0);
        for micros in 1..=100 {
            lateness.note(Duration::from_micros(micros));
        }
        lateness.note(Duration::from_secs(1));
        let summary = lateness.summary();
        assert_eq!((summary.p50_us, summary.p99_us, summary.max_us), (51, 100, 1_000_000));
    }
}
