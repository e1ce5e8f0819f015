//! When the owner lets this node compute for others: at which hours, and with which power.
//!
//! Owns: the rules, and a state machine from what was seen to what changes. Does not own: looking
//! at clocks and power supplies at the right moments, and what becomes of leases.
//!
//! Whoever may not compute says why, and comes back only after nothing has stood in its way for a
//! while: each change moves the rings of others.

mod hours;
mod power;

use std::fmt;
use std::time::Duration;

pub use hours::{Hours, HoursError, minute_of_day};
pub use power::{POWER_SUPPLIES, Power, power};

/// How long nothing has to stand in the way before a node that rested computes again.
const REST_MIN: Duration = Duration::from_secs(30);

/// What the owner allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerRules {
    /// When to compute; always unless given.
    pub hours: Option<Hours>,
    /// Not while a battery is what feeds this machine.
    pub not_on_battery: bool,
}

/// Why a node does not compute for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestReason {
    /// It is not one of these hours.
    Hours(Hours),
    /// A battery feeds this machine.
    Battery,
    /// Nothing any more, but not for long yet.
    Settling,
}

impl fmt::Display for RestReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hours(hours) => write!(f, "its owner lets it compute at {hours} only"),
            Self::Battery => f.write_str("it runs on battery"),
            Self::Settling => f.write_str("it may compute again, and begins in a moment"),
        }
    }
}

/// What was seen at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// Time since some moment, on a clock that only goes forward.
    pub since: Duration,
    /// Minutes since midnight, in the zone of the hours.
    pub minute: u16,
    /// What feeds this machine.
    pub power: Power,
}

/// Whether a node rests.
#[derive(Clone, Debug)]
pub struct Rest {
    rules: OwnerRules,
    reasons: Vec<RestReason>,
    /// Since when nothing has stood in the way.
    free_since: Option<Duration>,
}

impl OwnerRules {
    /// What stands in the way now.
    #[must_use]
    pub fn reasons(&self, minute: u16, power: Power) -> Vec<RestReason> {
        let hours = self.hours.filter(|hours| !hours.contains(minute)).map(RestReason::Hours);
        let is_on_battery = self.not_on_battery && power == Power::Battery;
        hours.into_iter().chain(is_on_battery.then_some(RestReason::Battery)).collect()
    }
}

impl Rest {
    /// A node that computes, until it is seen that it may not.
    #[must_use]
    pub fn new(rules: OwnerRules) -> Self {
        Self { rules, reasons: Vec::new(), free_since: None }
    }

    /// Takes what was seen. Gives back why the node rests from now on, nothing if it computes
    /// again; `None` when nothing has changed.
    pub fn look(&mut self, sight: Sight) -> Option<&[RestReason]> {
        let mut reasons = self.rules.reasons(sight.minute, sight.power);
        if reasons.is_empty() && !self.reasons.is_empty() {
            let since = *self.free_since.get_or_insert(sight.since);
            if sight.since.saturating_sub(since) < REST_MIN {
                reasons.push(RestReason::Settling);
            }
        } else {
            self.free_since = None;
        }
        let is_new = reasons != self.reasons;
        self.reasons = reasons;
        is_new.then_some(&self.reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(seconds: u64, minute: u16, power: Power) -> Sight {
        Sight { since: Duration::from_secs(seconds), minute, power }
    }

    #[test]
    fn a_node_rests_outside_its_hours_and_comes_back_after_a_pause() {
        let hours: Hours = "22:00-07:00".parse().unwrap();
        let mut rest = Rest::new(OwnerRules { hours: Some(hours), not_on_battery: false });
        assert_eq!(rest.look(sight(0, 23 * 60, Power::Mains)), None, "it computes from the start");
        assert_eq!(rest.look(sight(3600, 0, Power::Mains)), None, "over midnight");
        assert_eq!(rest.look(sight(28_799, 7 * 60 - 1, Power::Battery)), None, "not asked for");
        let why = [RestReason::Hours(hours)];
        assert_eq!(rest.look(sight(28_800, 7 * 60, Power::Mains)), Some(&why[..]));
        assert_eq!(rest.look(sight(28_801, 12 * 60, Power::Mains)), None, "said once");
        let settling = [RestReason::Settling];
        assert_eq!(rest.look(sight(82_800, 22 * 60, Power::Mains)), Some(&settling[..]));
        assert_eq!(rest.look(sight(82_829, 22 * 60, Power::Mains)), None);
        assert_eq!(rest.look(sight(82_830, 22 * 60, Power::Mains)), Some(&[][..]));
    }

    #[test]
    fn a_loose_plug_does_not_move_rings_each_time() {
        let mut rest = Rest::new(OwnerRules { hours: None, not_on_battery: true });
        assert_eq!(rest.look(sight(0, 0, Power::Unknown)), None, "unknown counts as mains");
        assert_eq!(rest.look(sight(1, 0, Power::Battery)), Some(&[RestReason::Battery][..]));
        assert_eq!(rest.look(sight(2, 0, Power::Mains)), Some(&[RestReason::Settling][..]));
        assert_eq!(rest.look(sight(20, 0, Power::Battery)), Some(&[RestReason::Battery][..]));
        assert_eq!(rest.look(sight(25, 0, Power::Mains)), Some(&[RestReason::Settling][..]));
        assert_eq!(rest.look(sight(54, 0, Power::Mains)), None, "the pause begins anew");
        assert_eq!(rest.look(sight(55, 0, Power::Mains)), Some(&[][..]));
    }

    #[test]
    fn all_reasons_are_said() {
        let hours: Hours = "1:00-2:00Z".parse().unwrap();
        let rules = OwnerRules { hours: Some(hours), not_on_battery: true };
        let said: Vec<String> =
            rules.reasons(600, Power::Battery).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            ["its owner lets it compute at 01:00-02:00 UTC only", "it runs on battery"]
        );
        assert_eq!(rules.reasons(90, Power::Mains), []);
    }
}
