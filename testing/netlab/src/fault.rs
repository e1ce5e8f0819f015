//! What goes wrong in a lab, as people write it.

use std::str::FromStr;
use std::time::Duration;

/// Something that happens to a lab. Nodes count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// `kill:N`: the processes of a node end at once.
    Kill(usize),
    /// `freeze:N`: they stop, and their connections stay open.
    Freeze(usize),
    /// `thaw:N`: they go on.
    Thaw(usize),
    /// `cut:N`: no packet to or from a node.
    CutNode(usize),
    /// `cut:N-M`: no packet between two nodes.
    CutLink(usize, usize),
    /// `heal:N`: packets to and from a node again.
    HealNode(usize),
    /// `heal:N-M`: packets between two nodes again.
    HealLink(usize, usize),
    /// `heal`: no cuts any more.
    HealAll,
}

/// Something that happens so long after the start: `SECONDS=FAULT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedFault {
    /// When.
    pub after: Duration,
    /// What.
    pub fault: Fault,
}

/// A text that is no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// Neither of the known words, or the wrong number of nodes for it.
    #[error("kill:N, freeze:N, thaw:N, cut:N, cut:N-M, heal:N, heal:N-M or heal")]
    Word,
    /// Not `SECONDS=FAULT`.
    #[error("SECONDS=FAULT, for example 2.5=kill:1")]
    Time,
    /// A link from a node to itself.
    #[error("a link has two ends")]
    SameNode,
}

impl Fault {
    /// The nodes it names.
    pub fn nodes(&self) -> impl Iterator<Item = usize> {
        let (first, second) = match *self {
            Self::CutLink(a, b) | Self::HealLink(a, b) => (Some(a), Some(b)),
            Self::Kill(node)
            | Self::Freeze(node)
            | Self::Thaw(node)
            | Self::CutNode(node)
            | Self::HealNode(node) => (Some(node), None),
            Self::HealAll => (None, None),
        };
        first.into_iter().chain(second)
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "heal" {
            return Ok(Self::HealAll);
        }
        let (word, nodes) = text.split_once(':').ok_or(FaultError::Word)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| FaultError::Word);
        let (first, second) = match nodes.split_once('-') {
            Some((first, second)) => (number(first)?, Some(number(second)?)),
            None => (number(nodes)?, None),
        };
        if second == Some(first) {
            return Err(FaultError::SameNode);
        }
        match (word, second) {
            ("kill", None) => Ok(Self::Kill(first)),
            ("freeze", None) => Ok(Self::Freeze(first)),
            ("thaw", None) => Ok(Self::Thaw(first)),
            ("cut", None) => Ok(Self::CutNode(first)),
            ("cut", Some(second)) => Ok(Self::CutLink(first, second)),
            ("heal", None) => Ok(Self::HealNode(first)),
            ("heal", Some(second)) => Ok(Self::HealLink(first, second)),
            _ => Err(FaultError::Word),
        }
    }
}

impl FromStr for TimedFault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (seconds, fault) = text.split_once('=').ok_or(FaultError::Time)?;
        let seconds: f64 = seconds.parse().map_err(|_| FaultError::Time)?;
        let after = Duration::try_from_secs_f64(seconds).map_err(|_| FaultError::Time)?;
        Ok(Self { after, fault: fault.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_words_and_nodes() {
        let known = [
            ("kill:2", Fault::Kill(2)),
            ("freeze:0", Fault::Freeze(0)),
            ("thaw:0", Fault::Thaw(0)),
            ("cut:1", Fault::CutNode(1)),
            ("cut:1-2", Fault::CutLink(1, 2)),
            ("heal:1", Fault::HealNode(1)),
            ("heal:2-1", Fault::HealLink(2, 1)),
            ("heal", Fault::HealAll),
        ];
        for (text, fault) in known {
            assert_eq!(text.parse(), Ok(fault));
        }
        for text in ["", "kill", "kill:", "kill:a", "kill:1-2", "burn:1", "cut:1-", "cut:1-2-3"] {
            assert_eq!(text.parse::<Fault>(), Err(FaultError::Word), "{text}");
        }
        assert_eq!("cut:1-1".parse::<Fault>(), Err(FaultError::SameNode));
    }

    #[test]
    fn times_are_seconds_that_exist() {
        let timed = TimedFault { after: Duration::from_millis(2500), fault: Fault::Kill(1) };
        assert_eq!("2.5=kill:1".parse(), Ok(timed));
        for text in ["kill:1", "-1=kill:1", "x=kill:1", "inf=kill:1", "=kill:1"] {
            assert_eq!(text.parse::<TimedFault>(), Err(FaultError::Time), "{text}");
        }
    }
}
