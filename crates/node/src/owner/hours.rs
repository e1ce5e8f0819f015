//! Hours of a day, as owners write them: `22:00-07:00`, in the time of this machine, or with a `Z`
//! at the end in UTC, which knows no summer time.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// From a minute of the day until another one, that not included; over midnight if the second comes
/// before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: u16,
    until: u16,
    is_utc: bool,
}

/// A text that is no [`Hours`], or a machine that does not know its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoursError {
    /// Not two times of a day.
    #[error("hours are two times of the day such as 22:00-07:00, or 22:00-07:00Z for UTC")]
    Form,
    /// Nothing lies between the two.
    #[error("hours that begin and end at the same minute")]
    Empty,
    /// The system has no time zone.
    #[error("the time zone of this machine is not known; give the hours in UTC, such as {0}Z")]
    NoZone(Hours),
}

impl Hours {
    /// Whether a minute of the day is among them.
    #[must_use]
    pub fn contains(self, minute: u16) -> bool {
        match self.from < self.until {
            true => (self.from..self.until).contains(&minute),
            false => minute >= self.from || minute < self.until,
        }
    }
}

/// The minute of the day at a moment in seconds since 1970, in the zone of these hours; that of UTC
/// where there are none.
///
/// # Errors
/// The hours are in the time of this machine, and it does not know its zone.
pub fn minute_of_day(hours: Option<Hours>, at_s: u64) -> Result<u16, HoursError> {
    let Some(hours) = hours.filter(|hours| !hours.is_utc) else {
        return Ok(utc_minute(at_s));
    };
    let zone = TimeZone::try_system().map_err(|_| HoursError::NoZone(hours))?;
    Ok(local_minute(&zone, at_s))
}

fn utc_minute(at_s: u64) -> u16 {
    u16::try_from(at_s / 60 % u64::from(DAY)).unwrap_or(0)
}

fn local_minute(zone: &TimeZone, at_s: u64) -> u16 {
    let at = i64::try_from(at_s).ok().and_then(|at_s| Timestamp::from_second(at_s).ok());
    let Some(at) = at else {
        return utc_minute(at_s);
    };
    let time = zone.to_datetime(at);
    let part = |value: i8| u16::try_from(value).unwrap_or(0);
    part(time.hour()) * 60 + part(time.minute())
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until, is_utc } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)?;
        f.write_str(if *is_utc { " UTC" } else { "" })
    }
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let local = text.strip_suffix('Z').or(text.strip_suffix(" UTC"));
        let (from, until) = local.unwrap_or(text).split_once('-').ok_or(HoursError::Form)?;
        let (from, until) = (time(from)?, time(until)?);
        match from == until {
            true => Err(HoursError::Empty),
            false => Ok(Self { from, until, is_utc: local.is_some() }),
        }
    }
}

/// A time of the day as a minute. 24:00 is its end.
fn time(text: &str) -> Result<u16, HoursError> {
    let (hour, minute) = text.split_once(':').ok_or(HoursError::Form)?;
    let number = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        let is_number = lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse::<u16>().ok()).flatten()
    };
    let hour = number(hour, 1..=2).ok_or(HoursError::Form)?;
    let minute = number(minute, 2..=2).filter(|minute| *minute < 60).ok_or(HoursError::Form)?;
    match hour * 60 + minute {
        DAY => Ok(0),
        time if time < DAY => Ok(time),
        _ => Err(HoursError::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_read_and_shown_and_other_texts_are_refused() {
        for (text, shown) in [
            ("22:00-07:00", "22:00-07:00"),
            ("9:30-17:05", "09:30-17:05"),
            ("22:00-07:00Z", "22:00-07:00 UTC"),
            ("18:00-24:00", "18:00-00:00"),
        ] {
            let hours: Hours = text.parse().unwrap();
            assert_eq!(hours.to_string(), shown);
            assert_eq!(shown.parse(), Ok(hours), "what is shown can be typed");
        }
        for text in ["", "22-7", "22:00", "25:00-1:00", "1:60-2:00", "1:5-2:00", "+1:00-2:00"] {
            assert_eq!(text.parse::<Hours>(), Err(HoursError::Form), "{text}");
        }
        for text in ["7:00-7:00", "0:00-24:00"] {
            assert_eq!(text.parse::<Hours>(), Err(HoursError::Empty), "{text}");
        }
    }

    #[test]
    fn the_first_minute_is_among_them_and_the_last_is_not() {
        let minutes = |text: &str| {
            let hours: Hours = text.parse().unwrap();
            (0..DAY).filter(|minute| hours.contains(*minute)).count()
        };
        assert_eq!(minutes("22:00-07:00"), 9 * 60, "over midnight");
        assert_eq!(minutes("07:00-22:00"), 15 * 60);
        assert_eq!(minutes("18:00-24:00"), 6 * 60);
        let night: Hours = "22:00-07:00".parse().unwrap();
        assert!(night.contains(22 * 60) && night.contains(0) && night.contains(7 * 60 - 1));
        assert!(!night.contains(22 * 60 - 1) && !night.contains(7 * 60));
    }

    #[test]
    fn local_hours_follow_summer_time_and_those_of_utc_do_not() {
        // The rules of Central Europe, so that no database is needed: 28 March 2027, 01:00 UTC.
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let change = 1_806_195_600;
        assert_eq!(local_minute(&zone, change - 60), 60 + 59);
        assert_eq!(local_minute(&zone, change), 3 * 60, "an hour is left out");
        assert_eq!((utc_minute(change - 60), utc_minute(change)), (59, 60));
        let utc: Hours = "22:00-07:00Z".parse().unwrap();
        assert_eq!(minute_of_day(Some(utc), change), Ok(60), "whatever this machine's zone is");
        assert_eq!(minute_of_day(None, 86_400 * 7 + 61), Ok(1));
    }
}
