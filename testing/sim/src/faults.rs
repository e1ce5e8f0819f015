//! What goes wrong: with nodes, as in a real swarm, and with the doubles, to test the invariants.

/// How a node behaves while it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// As the protocol says.
    #[default]
    Honest,
    /// Rows of the right shape that are wrong.
    WrongRows,
    /// Replies and frames at another position.
    WrongPosition,
    /// Agrees to another admission than was asked.
    OtherAdmission,
    /// Answers questions and never passes on a row.
    Silent,
}

impl Behaviour {
    /// The ways to misbehave.
    pub(crate) const BAD: [Self; 4] =
        [Self::WrongRows, Self::WrongPosition, Self::OtherAdmission, Self::Silent];
}

/// A defect of the doubles. Each must make one invariant fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The driver samples from a row of an older generation too.
    OldGeneration,
    /// The driver loses the end of a request.
    LoseAnswer,
    /// The driver ends a request twice.
    AnswerTwice,
    /// The engine does not cut its cache when a frame rewinds.
    KeepCache,
    /// The driver gives a token to the client again.
    RepeatToken,
    /// The driver invents credit.
    FreeCredit,
}
