//! One sequence to learn from.

use std::ops::Range;

/// Tokens of one or more documents, what should follow each, and how much each counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// `[T]`
    pub tokens: Vec<u32>,
    /// `[T]`, the token that follows; any valid one where the weight is 0.
    pub targets: Vec<u32>,
    /// `[T]`, weight of each loss.
    pub weights: Vec<f32>,
    /// Rows of each document: attention and positions begin anew in each.
    pub documents: Vec<Range<usize>>,
}

impl Sample {
    /// The position of every row within its document.
    #[must_use]
    pub fn positions(&self) -> Vec<u32> {
        let mut positions = vec![0; self.tokens.len()];
        for document in &self.documents {
            for (position, t) in document.clone().enumerate() {
                positions[t] = position as u32;
            }
        }
        positions
    }

    /// Sum of the weights, row by row.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.weights.iter().map(|&w| f64::from(w)).sum()
    }
}
