//! What must hold after every step, whatever fails.

use std::collections::BTreeMap;

use shoal_base::TokenId;
use shoal_wire::{GenerationId, RequestId};

use crate::engine::reference;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A head took rows of a generation that was not the present one.
    TwoGenerations {
        /// The head.
        head: usize,
    },
    /// A request was not answered in the end.
    Lost {
        /// The head.
        head: usize,
    },
    /// A request was answered twice, or a token came after its end.
    Twice {
        /// The head.
        head: usize,
    },
    /// A token of an answer was given again, or out of order.
    Changed {
        /// The head.
        head: usize,
    },
    /// An answer is not that of a run without faults.
    Different {
        /// The head.
        head: usize,
        /// The first token that differs.
        index: usize,
    },
    /// More was queued than there was credit for.
    Queue {
        /// How much.
        got: usize,
        /// The limit.
        limit: usize,
    },
}

/// A request as its client sees it.
#[derive(Debug)]
struct Client {
    prompt: Vec<TokenId>,
    answer: Vec<TokenId>,
    is_finished: bool,
    /// Rows of a liar may be in it: the tokens are not compared.
    is_tainted: bool,
}

/// Watches everything that clients and heads see.
#[derive(Debug, Default)]
pub struct Invariants {
    clients: BTreeMap<(usize, RequestId), Client>,
    generations: BTreeMap<usize, GenerationId>,
    /// What was violated, at most [`Invariants::KEPT`] of them.
    pub violations: Vec<Violation>,
    /// How many times.
    pub violation_count: u64,
}

impl Invariants {
    /// Violations that are kept.
    pub const KEPT: usize = 20;

    fn violated(&mut self, violation: Violation) {
        self.violation_count += 1;
        if self.violations.len() < Self::KEPT {
            self.violations.push(violation);
        }
    }

    pub(crate) fn submitted(&mut self, head: usize, request: RequestId, prompt: Vec<TokenId>) {
        let client = Client { prompt, answer: Vec::new(), is_finished: false, is_tainted: false };
        self.clients.insert((head, request), client);
    }

    pub(crate) fn sampled(&mut self, head: usize, of: GenerationId, present: GenerationId) {
        let highest = self.generations.entry(head).or_insert(of);
        let falls = of < *highest;
        *highest = of.max(*highest);
        if falls || of != present {
            self.violated(Violation::TwoGenerations { head });
        }
    }

    pub(crate) fn token(&mut self, head: usize, request: RequestId, index: u32, token: TokenId) {
        match self.clients.get_mut(&(head, request)).filter(|client| !client.is_finished) {
            Some(client) if client.answer.len() == index as usize => client.answer.push(token),
            Some(_) => self.violated(Violation::Changed { head }),
            None => self.violated(Violation::Twice { head }),
        }
    }

    pub(crate) fn taint(&mut self, head: usize, request: RequestId) {
        if let Some(client) = self.clients.get_mut(&(head, request)) {
            client.is_tainted = true;
        }
    }

    /// A request is over. Returns how many tokens it got.
    pub(crate) fn finished(&mut self, head: usize, request: RequestId, layers: u16) -> usize {
        let Some(client) = self.clients.get_mut(&(head, request)) else {
            self.violated(Violation::Twice { head });
            return 0;
        };
        if std::mem::replace(&mut client.is_finished, true) {
            self.violated(Violation::Twice { head });
            return 0;
        }
        let answer = std::mem::take(&mut client.answer);
        let prompt = std::mem::take(&mut client.prompt);
        if !client.is_tainted {
            let expected = reference(&prompt, answer.len(), layers);
            let differs = answer.iter().zip(&expected).position(|(a, b)| a != b);
            if let Some(index) = differs {
                self.violated(Violation::Different { head, index });
            }
        }
        answer.len()
    }

    pub(crate) fn queued(&mut self, got: usize, limit: usize) {
        if got > limit {
            self.violated(Violation::Queue { got, limit });
        }
    }

    /// Nothing more will happen.
    pub(crate) fn ended(&mut self) {
        let lost = self.clients.iter().filter(|(_, client)| !client.is_finished);
        let lost: Vec<usize> = lost.map(|((head, _), _)| *head).collect();
        for head in lost {
            self.violated(Violation::Lost { head });
        }
    }
}
