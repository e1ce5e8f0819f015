//! The moment that templates may ask for. Given by the caller, so that rendering stays a pure
//! function.

use std::str::FromStr;

/// A moment in the caller's own time, without a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateDate {
    year: u16,
    month: u8,
    day: u8,
    second: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Default for TemplateDate {
    /// What renderings use that are told no date: a fixed one, the one that the templates of Llama
    /// 3.1 have built in.
    fn default() -> Self {
        Self { year: 2024, month: 7, day: 26, second: 0 }
    }
}

impl TemplateDate {
    /// Midnight of a day; `None` if there is no such day in the years 1 to 9999.
    #[must_use]
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let date = Self { year, month, day, second: 0 };
        let known = (1..=9999).contains(&year) && (1..=12).contains(&month);
        (known && (1..=date.month_days(month)).contains(&day)).then_some(date)
    }

    /// The same day, `second` seconds after midnight; `None` from 86 400 on.
    #[must_use]
    pub fn at_second(self, second: u32) -> Option<Self> {
        (second < 86_400).then_some(Self { second, ..self })
    }

    /// Reads `2026-03-05` or `2026-03-05T14:07:09`.
    fn parse(text: &str) -> Option<Self> {
        let (day, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
        let numbers = |text: &str, mark: char, widths: [usize; 3]| -> Option<[u16; 3]> {
            let mut parts = text.split(mark);
            let mut numbers = [0; 3];
            for (number, width) in numbers.iter_mut().zip(widths) {
                let part = parts.next()?;
                let digits = part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
                *number = digits.then(|| part.parse().ok()).flatten()?;
            }
            parts.next().is_none().then_some(numbers)
        };
        let [year, month, day] = numbers(day, '-', [4, 2, 2])?;
        let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?.map(u32::from);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let date = Self::new(year, u8::try_from(month).ok()?, u8::try_from(day).ok()?)?;
        date.at_second(hour * 3600 + minute * 60 + second)
    }

    const fn is_leap_year(self) -> bool {
        (self.year.is_multiple_of(4) && !self.year.is_multiple_of(100))
            || self.year.is_multiple_of(400)
    }

    const fn month_days(self, month: u8) -> u8 {
        match month {
            2 if self.is_leap_year() => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Days since the first of January, from 1.
    fn day_of_year(self) -> u32 {
        let before: u32 = (1..self.month).map(|month| u32::from(self.month_days(month))).sum();
        before + u32::from(self.day)
    }

    /// 0 is Sunday.
    fn weekday(self) -> usize {
        let years = u32::from(self.year) - 1;
        let days = 365 * years + years / 4 - years / 100 + years / 400 + self.day_of_year();
        (days % 7) as usize
    }

    /// The date in a `strftime` format; `None` for a directive that is not known or depends on a
    /// locale.
    pub(super) fn format(self, format: &str) -> Option<String> {
        let (year, month, day) = (self.year, self.month, self.day);
        let (hour, minute, second) = (self.second / 3600, self.second / 60 % 60, self.second % 60);
        let month_name = MONTHS[usize::from(month) - 1];
        let day_name = DAYS[self.weekday()];
        let hour12 = (hour + 11) % 12 + 1;
        let mut text = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            let mut directive = characters.next()?;
            // `%-d` is `%d` without a leading zero.
            let bare = directive == '-';
            if bare {
                directive = characters.next()?;
            }
            let part = match directive {
                'Y' => format!("{year:04}"),
                'y' => format!("{:02}", year % 100),
                'm' => format!("{month:02}"),
                'B' => month_name.to_owned(),
                'b' | 'h' => month_name[..3].to_owned(),
                'd' => format!("{day:02}"),
                'e' => format!("{day:2}"),
                'A' => day_name.to_owned(),
                'a' => day_name[..3].to_owned(),
                'j' => format!("{:03}", self.day_of_year()),
                'H' => format!("{hour:02}"),
                'I' => format!("{hour12:02}"),
                'M' => format!("{minute:02}"),
                'S' => format!("{second:02}"),
                'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
                'F' => format!("{year:04}-{month:02}-{day:02}"),
                'T' => format!("{hour:02}:{minute:02}:{second:02}"),
                'D' => format!("{month:02}/{day:02}/{:02}", year % 100),
                'R' => format!("{hour:02}:{minute:02}"),
                'n' => "\n".to_owned(),
                't' => "\t".to_owned(),
                '%' => "%".to_owned(),
                _ => return None,
            };
            let short = part.trim_start_matches(['0', ' ']);
            text.push_str(match (bare, short) {
                (false, _) => &part,
                (true, "") => "0",
                (true, short) => short,
            });
        }
        Some(text)
    }
}

/// A text that is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a date is written as 2026-03-05 or 2026-03-05T14:07:09")]
pub struct ParseDateError;

impl FromStr for TemplateDate {
    type Err = ParseDateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or(ParseDateError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_strftime() {
        let date = TemplateDate::new(2026, 3, 5).and_then(|date| date.at_second(50_829)).unwrap();
        for (format, text) in [
            ("%d %b %Y", "05 Mar 2026"),
            ("%-d %B %Y", "5 March 2026"),
            ("%A, %a", "Thursday, Thu"),
            ("%Y-%m-%d %H:%M:%S", "2026-03-05 14:07:09"),
            ("%F %T %y %j %e", "2026-03-05 14:07:09 26 064  5"),
            ("%I:%M %p %%", "02:07 PM %"),
            ("%-I %-M", "2 7"),
        ] {
            assert_eq!(date.format(format).as_deref(), Some(text));
        }
        assert_eq!(date.format("%Z"), None);
        assert_eq!(date.format("%"), None);
        assert_eq!(TemplateDate::default().format("%d %b %Y %a").unwrap(), "26 Jul 2024 Fri");
        let midnight = TemplateDate::new(2000, 12, 31).unwrap();
        assert_eq!(midnight.format("%I %p %j %a %-H").unwrap(), "12 AM 366 Sun 0");
    }

    #[test]
    fn dates_are_read_in_one_form() {
        let day = TemplateDate::new(2026, 3, 5);
        assert_eq!("2026-03-05".parse().ok(), day);
        let moment = day.and_then(|day| day.at_second(50_829));
        assert_eq!("2026-03-05T14:07:09".parse().ok(), moment);
        for text in [
            "",
            "2026-3-5",
            "2026-02-29",
            "2026-03-05T24:00:00",
            "2026-03-05T1:2:3",
            "+026-03-05",
            "2026-03-05T",
            "2026-03-05-01",
        ] {
            assert_eq!(text.parse::<TemplateDate>(), Err(ParseDateError), "{text}");
        }
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for (year, month, day) in
            [(2023, 2, 29), (1900, 2, 29), (2024, 4, 31), (2024, 13, 1), (0, 1, 1)]
        {
            assert_eq!(TemplateDate::new(year, month, day), None);
        }
        assert!(TemplateDate::new(2024, 2, 29).is_some());
        assert_eq!(TemplateDate::default().at_second(86_400), None);
    }
}
