//! What a run came to.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use shoal_swarm::Failure;

use crate::invariants::{Invariants, Violation};
use crate::links::Sites;
use crate::load::Lengths;
use crate::setup::Config;

/// The result of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The seed it can be repeated with.
    pub seed: u64,
    /// Nodes that hold layers.
    pub nodes: usize,
    /// Nodes that ask.
    pub heads: usize,
    /// Whether round trips are measured ones.
    pub links_measured: bool,
    /// Whether lengths are those of a trace.
    pub lengths_traced: bool,
    /// Simulated hours in which requests came.
    pub hours: f64,
    /// Requests.
    pub submitted: u64,
    /// Those with a whole answer.
    pub finished: u64,
    /// Those refused at once.
    pub refused: u64,
    /// Those that found no route for too long.
    pub failed_no_route: u64,
    /// Those that failed otherwise.
    pub failed_other: u64,
    /// Tokens given to clients.
    pub tokens: u64,
    /// Things that happened to nodes.
    pub faults: u64,
    /// Stages that were replaced.
    pub replaced: u64,
    /// Positions that were computed again.
    pub replayed_tokens: u64,
    /// Pauses in answers that went on after a change of the ring: count, median, 99 %, longest.
    pub pauses: Pauses,
    /// The most frames one ring had queued on one stage.
    pub stage_queue_max: usize,
    /// Events under way at the end.
    pub queue_max: usize,
    /// Steps.
    pub events: u64,
    /// How often an invariant did not hold.
    pub violations: u64,
    /// The first of them.
    #[serde(skip)]
    pub violated: Vec<Violation>,
    /// How long it took.
    pub wall_s: f64,
    #[serde(skip)]
    gaps: Vec<f64>,
}

/// Seconds between two tokens of an answer whose ring changed in between.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Pauses {
    /// How many.
    pub count: usize,
    /// Half are shorter.
    pub p50_s: f64,
    /// 99 % are shorter.
    pub p99_s: f64,
    /// The longest.
    pub max_s: f64,
}

impl Report {
    pub(crate) fn new(config: &Config, sites: &Sites, lengths: &Lengths) -> Self {
        Self {
            seed: config.seed,
            nodes: config.nodes,
            heads: config.heads,
            links_measured: sites.is_measured,
            lengths_traced: lengths.is_trace,
            hours: config.time.as_secs_f64() / 3600.0,
            ..Self::default()
        }
    }

    /// Requests that are over.
    pub(crate) fn ended(&self) -> u64 {
        self.finished + self.refused + self.failed_no_route + self.failed_other
    }

    /// Share of the requests with a whole answer.
    #[must_use]
    pub fn finished_share(&self) -> f64 {
        self.finished as f64 / (self.submitted.max(1)) as f64
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        match failure {
            Failure::NoRoute => self.failed_no_route += 1,
            Failure::Arithmetic | Failure::NoRoom => self.failed_other += 1,
        }
    }

    pub(crate) fn gap(&mut self, gap_s: f64, ring_changed: bool) {
        if ring_changed {
            self.gaps.push(gap_s);
        }
    }

    pub(crate) fn close(mut self, invariants: Invariants, wall: Duration) -> Self {
        self.violations = invariants.violation_count;
        self.violated = invariants.violations;
        self.wall_s = wall.as_secs_f64();
        self.gaps.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (self.gaps.len() as f64 * share) as usize;
            self.gaps.get(index.min(self.gaps.len().saturating_sub(1))).copied().unwrap_or(0.0)
        };
        self.pauses =
            Pauses { count: self.gaps.len(), p50_s: at(0.5), p99_s: at(0.99), max_s: at(1.0) };
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measured = |is: bool| if is { "measured" } else { "drawn" };
        let rows: [(&str, String); 15] = [
            ("seed", self.seed.to_string()),
            ("nodes, heads", format!("{}, {}", self.nodes, self.heads)),
            ("links", measured(self.links_measured).to_owned()),
            ("lengths", measured(self.lengths_traced).to_owned()),
            ("simulated", format!("{:.2} h", self.hours)),
            ("requests", self.submitted.to_string()),
            ("finished", format!("{} ({:.3} %)", self.finished, 100.0 * self.finished_share())),
            ("refused at once", self.refused.to_string()),
            ("failed", format!("{} no route, {} other", self.failed_no_route, self.failed_other)),
            ("tokens", self.tokens.to_string()),
            ("faults, replaced", format!("{}, {}", self.faults, self.replaced)),
            ("computed again", format!("{} positions", self.replayed_tokens)),
            (
                "pauses",
                format!(
                    "{}: p50 {:.2} s, p99 {:.2} s, max {:.2} s",
                    self.pauses.count, self.pauses.p50_s, self.pauses.p99_s, self.pauses.max_s
                ),
            ),
            ("violations", self.violations.to_string()),
            ("wall", format!("{:.1} s, {} events", self.wall_s, self.events)),
        ];
        for (name, value) in rows {
            writeln!(f, "{name:<18}{value}")?;
        }
        self.violated.iter().try_for_each(|violation| writeln!(f, "violated: {violation:?}"))
    }
}
