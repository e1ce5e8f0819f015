//! The law of a pipeline: how long a token takes.

/// How guesses are used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Speculation {
    /// None: a token is asked for when the one before it is known.
    #[default]
    Off,
    /// Frames of guesses follow each other without waiting.
    Pipelined {
        /// Probability that the next token is among the guesses in flight.
        accept: f64,
        /// Frames per committed token.
        frames: f64,
    },
}

/// What the time of a token follows from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Law {
    /// The slowest stage's time for one frame, in seconds.
    pub slowest_s: f64,
    /// Once around the ring: all links and all computing, in seconds.
    pub ring_s: f64,
    /// How guesses are used.
    pub speculation: Speculation,
}

impl Law {
    /// Seconds per token. Without guesses the ring's latency; with them
    /// `frames * slowest + (1 - accept) * ring`.
    #[must_use]
    pub fn token_s(&self) -> f64 {
        match self.speculation {
            Speculation::Off => self.ring_s,
            Speculation::Pipelined { accept, frames } => {
                frames * self.slowest_s + (1.0 - accept.clamp(0.0, 1.0)) * self.ring_s
            }
        }
    }

    /// Tokens per second.
    #[must_use]
    pub fn tokens_per_s(&self) -> f64 {
        1.0 / self.token_s().max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_measurements_fit() {
        let speculation = Speculation::Pipelined { accept: 0.74, frames: 1.0 };
        let law = Law { slowest_s: 0.025, ring_s: 0.080, speculation };
        assert!((law.tokens_per_s() - 22.0).abs() < 0.5, "{}", law.tokens_per_s());
        let plain = Law { speculation: Speculation::Off, ..law };
        assert!((plain.tokens_per_s() - 12.5).abs() < 1e-9);
    }
}
