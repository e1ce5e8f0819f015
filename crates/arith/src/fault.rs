//! Faults: numbers with which the computation does not continue. Spec 01 §8.

/// An operation met NaN, an infinity, or a magnitude of at least its limit.
///
/// A fault is a result like any other: every implementation reports it at the same operation, layer
/// and position, and the sequence ends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a number is not finite or too large")]
pub struct Fault;
