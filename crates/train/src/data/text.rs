//! Texts: cutting a file into documents, setting some aside, dropping what was set aside twice.

use std::collections::HashSet;

use shoal_base::Digest;

const HOLDOUT_DOMAIN: &str = "shoal/train/holdout/v1";
/// Words of a shingle: long enough that two stories rarely share one by chance.
const SHINGLE_WORDS: usize = 8;

/// What stands between two documents of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Separator {
    /// A text such as `<|endoftext|>`.
    Marker(String),
    /// The end of a line that no empty line follows or precedes.
    SingleNewline,
}

/// The documents of a text, trimmed, without empty ones.
#[must_use]
pub fn documents(text: &str, separator: &Separator) -> Vec<String> {
    let text = text.replace("\r\n", "\n");
    let parts: Vec<String> = match separator {
        Separator::Marker(marker) => text.split(marker.as_str()).map(str::to_owned).collect(),
        // Empty lines are hidden while single ends of lines are cut at.
        Separator::SingleNewline => {
            let hidden = text.replace("\n\n", "\0");
            hidden.split('\n').map(|part| part.replace('\0', "\n\n")).collect()
        }
    };
    let trimmed = parts.iter().map(|part| part.trim().to_owned());
    trimmed.filter(|part| !part.is_empty()).collect()
}

/// The words of a text in lower case, without punctuation.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Whether a document is set aside: a share of all, chosen by the digest of its words.
#[must_use]
pub fn is_held_out(text: &str, share: f64) -> bool {
    let digest = Digest::tagged(HOLDOUT_DOMAIN, words(text).join(" ").as_bytes());
    let number = u32::from_le_bytes(digest.0[..4].try_into().expect("four bytes"));
    f64::from(number) < share * 4_294_967_296.0
}

/// Runs of words of the documents that were set aside.
#[derive(Debug, Default)]
pub struct Shingles {
    seen: HashSet<[u8; 16]>,
}

impl Shingles {
    /// Those of `documents`.
    #[must_use]
    pub fn of<'a>(documents: impl IntoIterator<Item = &'a String>) -> Self {
        let seen = documents.into_iter().flat_map(|text| shingles(text)).collect();
        Self { seen }
    }

    /// The share of a text's shingles that are among these.
    #[must_use]
    pub fn overlap(&self, text: &str) -> f64 {
        let own = shingles(text);
        let shared = own.iter().filter(|&shingle| self.seen.contains(shingle)).count();
        shared as f64 / own.len().max(1) as f64
    }
}

fn shingles(text: &str) -> Vec<[u8; 16]> {
    let words = words(text);
    let digest = |run: &[String]| {
        Digest::of(run.join(" ").as_bytes()).0[..16].try_into().expect("16 of 32 bytes")
    };
    match words.len() {
        0 => Vec::new(),
        count if count < SHINGLE_WORDS => vec![digest(&words)],
        _ => words.windows(SHINGLE_WORDS).map(digest).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_cut_where_they_say() {
        let marker = Separator::Marker("<|end|>".to_owned());
        assert_eq!(documents("\na b\n\nc<|end|>\n <|end|>d", &marker), ["a b\n\nc", "d"]);
        let lines = "One.\n\nTwo.\nThree.\r\n\r\nFour.\n";
        let expected = ["One.\n\nTwo.", "Three.\n\nFour."];
        assert_eq!(documents(lines, &Separator::SingleNewline), expected);
    }

    #[test]
    fn a_share_is_held_out_whatever_the_punctuation() {
        let texts: Vec<String> = (0..4000).map(|i| format!("story {i} of a cat")).collect();
        let held = texts.iter().filter(|text| is_held_out(text, 0.1)).count();
        assert!((300..500).contains(&held), "{held}");
        let same = |a, b| is_held_out(a, 0.5) == is_held_out(b, 0.5);
        assert!(same("A cat, a dog.", "a cat a dog"));
    }

    #[test]
    fn overlap_counts_runs_of_words() {
        let held = vec!["one two three four five six seven eight nine ten".to_owned()];
        let shingles = Shingles::of(&held);
        assert_eq!(shingles.overlap("One, two three four five six seven eight nine ten!"), 1.0);
        assert_eq!(shingles.overlap("nothing here is the same as in the other text"), 0.0);
        assert_eq!(shingles.overlap(""), 0.0);
    }
}
