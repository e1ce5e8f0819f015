//! Stop strings in a stream of text.

/// What is certain after more text arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Text that cannot be part of a stop string any more.
    Text(String),
    /// Text before the stop string at this place, which was found: the answer ends here.
    Stopped(String, u8),
}

/// Holds back text that may be the beginning of a stop string.
///
/// Invariant: what was passed on together with what is held is all the text that came, and no stop
/// string begins in what was passed on.
#[derive(Clone, Debug)]
pub(crate) struct StopMatcher {
    /// With their places in the request.
    strings: Vec<(u8, String)>,
    held: String,
}

impl StopMatcher {
    /// A matcher for `strings`; empty ones never match.
    pub(crate) fn new(strings: &[String]) -> Self {
        let places = (0..=u8::MAX).zip(strings.iter().cloned());
        let strings = places.filter(|(_, string)| !string.is_empty()).collect();
        Self { strings, held: String::new() }
    }

    /// Takes more text.
    pub(crate) fn push(&mut self, text: &str) -> Passed {
        self.held.push_str(text);
        let found = |(place, s): &(u8, String)| Some((self.held.find(s.as_str())?, *place));
        if let Some((at, place)) = self.strings.iter().filter_map(found).min() {
            self.held.truncate(at);
            return Passed::Stopped(std::mem::take(&mut self.held), place);
        }
        let keep = self.strings.iter().map(|(_, s)| overlap(&self.held, s)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Passed::Text(std::mem::replace(&mut self.held, rest))
    }

    /// The text held back, at the end of the answer.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that begins `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest)
        .rev()
        .find(|&n| {
            let start = text.len() - n;
            text.is_char_boundary(start) && stop.starts_with(&text[start..])
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_string_cut_over_several_pieces_is_found() {
        let mut matcher = StopMatcher::new(&["END".to_owned(), "###".to_owned()]);
        assert_eq!(matcher.push("one E"), Passed::Text("one ".to_owned()));
        assert_eq!(matcher.push("N"), Passed::Text(String::new()));
        assert_eq!(matcher.push("Dx"), Passed::Stopped(String::new(), 0));
    }

    #[test]
    fn a_false_beginning_is_passed_on() {
        let mut matcher = StopMatcher::new(&["aab".to_owned()]);
        assert_eq!(matcher.push("aaa"), Passed::Text("a".to_owned()));
        assert_eq!(matcher.push("ac"), Passed::Text("aaac".to_owned()));
        assert_eq!(matcher.push("é a"), Passed::Text("é ".to_owned()));
        assert_eq!(matcher.finish(), "a");
    }

    fn text_holds(stops: &[String], place: u8, text: &[char]) -> bool {
        text.iter().collect::<String>().contains(&stops[usize::from(place)])
    }

    #[test]
    fn the_string_that_was_found_is_told() {
        let mut matcher = StopMatcher::new(&["b".to_owned(), "a".to_owned()]);
        assert_eq!(matcher.push("xab"), Passed::Stopped("x".to_owned(), 1));
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            text in "[ab#é]{0,40}",
            stops in prop::collection::vec("[ab#é]{1,4}", 0..3),
            cut in 1usize..5,
        ) {
            let whole = stops.iter().filter_map(|s| text.find(s.as_str())).min();
            let expected = &text[..whole.unwrap_or(text.len())];
            let mut matcher = StopMatcher::new(&stops);
            let mut passed = String::new();
            let mut stopped = false;
            let chars: Vec<char> = text.chars().collect();
            for piece in chars.chunks(cut) {
                match matcher.push(&piece.iter().collect::<String>()) {
                    Passed::Text(text) => passed += &text,
                    Passed::Stopped(text, place) => {
                        prop_assert!(text_holds(&stops, place, &chars));
                        passed += &text;
                        stopped = true;
                        break;
                    }
                }
            }
            passed += &matcher.finish();
            prop_assert_eq!(stopped, whole.is_some());
            if !stopped {
                prop_assert_eq!(passed, expected);
            } else {
                // Cut into pieces, the string that is complete first ends the answer.
                prop_assert!(text.starts_with(&passed));
                prop_assert!(passed.len() >= expected.len());
            }
        }
    }
}
