//! Why bytes are refused.

use shoal_base::Blame;

/// Bytes that are not what the specification allows. The sender is to blame for all but
/// [`WireError::NoCommonVersion`], where nobody is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("{field}: {left} bytes left of {needed} needed")]
    Short {
        /// The innermost field that was being read.
        field: &'static str,
        /// What it needs.
        needed: usize,
        /// What there was.
        left: usize,
    },
    /// Bytes follow the last field.
    #[error("{got} bytes after the end")]
    Trailing {
        /// How many.
        got: usize,
    },
    /// A length, count or number above its limit.
    #[error("{field}: {got}, limit {limit}")]
    Limit {
        /// The field.
        field: &'static str,
        /// What it says.
        got: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A number that stands for nothing in this version.
    #[error("{field}: unknown number {got}")]
    Unknown {
        /// The field or type.
        field: &'static str,
        /// The number.
        got: u64,
    },
    /// Fields that contradict each other, or a second form of a value that has one.
    #[error("{field}: {rule}")]
    Rule {
        /// The field or type.
        field: &'static str,
        /// The rule that is broken.
        rule: &'static str,
    },
    /// A message of a version that was not agreed on.
    #[error("version {got}, agreed on {agreed}")]
    Version {
        /// Of the message.
        got: u8,
        /// Of the connection.
        agreed: u8,
    },
    /// Two nodes share no version; update the older one.
    #[error("they speak versions {their_min} to {their_max}, this node {our_min} to {our_max}")]
    NoCommonVersion {
        /// Their oldest.
        their_min: u8,
        /// Their newest.
        their_max: u8,
        /// Our oldest.
        our_min: u8,
        /// Our newest.
        our_max: u8,
    },
}

impl WireError {
    /// Who is responsible.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::NoCommonVersion { .. } => Blame::Caller,
            _ => Blame::Peer,
        }
    }
}
