//! The merge loop: of all neighbours the most urgent pair becomes one symbol, the left-most first
//! among equals, until no pair has a rule.
//!
//! A heap of pairs and a linked list of symbols make it `O(n log n)` for `n` symbols whatever the
//! text: each merge adds two pairs at most.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use shoal_base::TokenId;

use super::error::TokenizerError;
use super::index::TextIndex;
use super::vocabulary::Vocabulary;

/// No neighbour, no token, no rule.
pub(super) const NONE: u32 = u32::MAX;

/// A stretch of the text that is one token, or one character without a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    /// Where it begins; it ends where the next begins.
    start: u32,
    /// Its token, or [`NONE`].
    id: u32,
    previous: u32,
    next: u32,
    /// Urgency of the pair with the next symbol, or [`NONE`]. What the heap says is valid only
    /// while it says the same.
    urgency: u32,
}

/// Two neighbours, as rules see them.
pub(super) struct Pair<'a> {
    left: u32,
    right: u32,
    /// Their text.
    text: &'a [u8],
}

/// Says which pairs are merged.
pub(super) trait Rules {
    /// How urgent the merge is, smallest first; `None` if there is no rule. Below [`NONE`].
    fn urgency(&self, pair: &Pair<'_>) -> Option<u32>;

    /// The token that a pair with a rule becomes.
    fn result(&self, pair: &Pair<'_>, urgency: u32) -> u32;
}

/// Rules from a list of pairs; a pair's urgency is its place in the list.
pub(super) struct PairRules {
    /// Where the rules of each left neighbour begin in `entries`.
    begins: Vec<u32>,
    /// Right neighbour and urgency, ascending for each left neighbour.
    entries: Vec<(u32, u32)>,
    /// The token that each pair becomes.
    results: Vec<u32>,
}

impl PairRules {
    /// Refuses a pair that makes no token and a pair that is listed twice.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        index: &TextIndex,
        pairs: &[(TokenId, TokenId)],
    ) -> Result<Self, TokenizerError> {
        let refuse = |rank: usize, rule| TokenizerError::Merge { index: rank as u32, rule };
        let mut begins = vec![0u32; vocabulary.len() + 1];
        let mut results = Vec::with_capacity(pairs.len());
        let mut text = Vec::new();
        for (rank, &(left, right)) in pairs.iter().enumerate() {
            text.clear();
            for id in [left, right] {
                let bytes = vocabulary.get(id);
                text.extend_from_slice(bytes.ok_or_else(|| refuse(rank, "unknown token"))?);
            }
            let result = index.get(vocabulary, &text);
            results.push(result.ok_or_else(|| refuse(rank, "makes no token"))?.0);
            begins[left.index() + 1] += 1;
        }
        for at in 1..begins.len() {
            begins[at] += begins[at - 1];
        }
        let mut free = begins.clone();
        let mut entries = vec![(0, 0); pairs.len()];
        for (rank, &(left, right)) in pairs.iter().enumerate() {
            let slot = &mut free[left.index()];
            entries[*slot as usize] = (right.0, rank as u32);
            *slot += 1;
        }
        for bounds in begins.windows(2) {
            let group = &mut entries[bounds[0] as usize..bounds[1] as usize];
            group.sort_unstable();
            if let Some(twice) = group.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(refuse(twice[1].1 as usize, "listed before"));
            }
        }
        Ok(Self { begins, entries, results })
    }

    /// The tokens that some pair becomes.
    pub(super) fn results(&self) -> impl Iterator<Item = TokenId> {
        self.results.iter().copied().map(TokenId)
    }
}

impl Rules for PairRules {
    fn urgency(&self, pair: &Pair<'_>) -> Option<u32> {
        if pair.left == NONE || pair.right == NONE {
            return None;
        }
        let left = pair.left as usize;
        let group = &self.entries[self.begins[left] as usize..self.begins[left + 1] as usize];
        let at = group.binary_search_by_key(&pair.right, |entry| entry.0).ok()?;
        Some(group[at].1)
    }

    fn result(&self, _: &Pair<'_>, urgency: u32) -> u32 {
        self.results[urgency as usize]
    }
}

/// Rules from scores: any two neighbours whose text is a token, highest score first.
pub(super) struct ScoreRules {
    /// Place of each token's score among all different scores, highest first.
    places: Vec<u32>,
}

impl ScoreRules {
    pub(super) fn new(scores: &[f32]) -> Self {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        let score = |id: u32| scores[id as usize];
        order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)));
        let mut places = vec![0; scores.len()];
        let mut place = 0;
        for (rank, &id) in order.iter().enumerate() {
            if rank > 0 && score(id) != score(order[rank - 1]) {
                place += 1;
            }
            places[id as usize] = place;
        }
        Self { places }
    }

    /// The rules over one vocabulary.
    pub(super) fn with<'a>(
        &'a self,
        vocabulary: &'a Vocabulary,
        index: &'a TextIndex,
    ) -> impl Rules + 'a {
        ScoreLookup { places: &self.places, vocabulary, index }
    }
}

struct ScoreLookup<'a> {
    places: &'a [u32],
    vocabulary: &'a Vocabulary,
    index: &'a TextIndex,
}

impl Rules for ScoreLookup<'_> {
    fn urgency(&self, pair: &Pair<'_>) -> Option<u32> {
        let id = self.index.get(self.vocabulary, pair.text)?;
        Some(self.places[id.index()])
    }

    fn result(&self, pair: &Pair<'_>, _: u32) -> u32 {
        let id = self.index.get(self.vocabulary, pair.text);
        id.map_or(NONE, |id| id.0)
    }
}

/// Working memory of the merge loop, reused from piece to piece.
#[derive(Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    /// Urgency in the high half, position of the left symbol in the low half.
    heap: BinaryHeap<Reverse<u64>>,
    /// Pairs looked up so far; the measure of work.
    pairs_tried: u64,
}

impl Merger {
    /// Merges `text`, whose first symbols are given by `initial` as (start, token or [`NONE`]), the
    /// first of them at 0.
    pub(super) fn run(
        &mut self,
        text: &[u8],
        initial: impl Iterator<Item = (usize, u32)>,
        rules: &impl Rules,
    ) {
        self.symbols.clear();
        for (start, id) in initial {
            let position = self.symbols.len() as u32;
            if let Some(last) = self.symbols.last_mut() {
                last.next = position;
            }
            self.symbols.push(Symbol {
                start: start as u32,
                id,
                previous: position.checked_sub(1).unwrap_or(NONE),
                next: NONE,
                urgency: NONE,
            });
        }
        let mut queue = std::mem::take(&mut self.heap).into_vec();
        queue.clear();
        for position in 0..self.symbols.len() as u32 {
            if let Some(entry) = self.examine(text, position, rules) {
                queue.push(entry);
            }
        }
        self.heap = BinaryHeap::from(queue);
        while let Some(Reverse(entry)) = self.heap.pop() {
            let (urgency, position) = ((entry >> 32) as u32, entry as u32);
            if self.symbols[position as usize].urgency == urgency {
                self.merge(text, position, urgency, rules);
            }
        }
    }

    /// Looks at the pair that begins at `position`.
    fn examine(&mut self, text: &[u8], position: u32, rules: &impl Rules) -> Option<Reverse<u64>> {
        self.pairs_tried += 1;
        let urgency = self.pair(text, position).and_then(|pair| rules.urgency(&pair));
        self.symbols[position as usize].urgency = urgency.unwrap_or(NONE);
        urgency.map(|urgency| Reverse(u64::from(urgency) << 32 | u64::from(position)))
    }

    fn pair<'a>(&self, text: &'a [u8], position: u32) -> Option<Pair<'a>> {
        let left = self.symbols[position as usize];
        if left.next == NONE {
            return None;
        }
        let right = self.symbols[left.next as usize];
        let end = self.end(text, &right);
        Some(Pair { left: left.id, right: right.id, text: &text[left.start as usize..end] })
    }

    fn end(&self, text: &[u8], symbol: &Symbol) -> usize {
        match symbol.next {
            NONE => text.len(),
            next => self.symbols[next as usize].start as usize,
        }
    }

    fn merge(&mut self, text: &[u8], position: u32, urgency: u32, rules: &impl Rules) {
        let Some(pair) = self.pair(text, position) else {
            return;
        };
        let result = rules.result(&pair, urgency);
        let right = self.symbols[position as usize].next;
        let after = self.symbols[right as usize].next;
        // A symbol that is gone has no pair, so that heap entries about it are passed over.
        self.symbols[right as usize].urgency = NONE;
        let left = &mut self.symbols[position as usize];
        left.id = result;
        left.next = after;
        let before = left.previous;
        if after != NONE {
            self.symbols[after as usize].previous = position;
        }
        for changed in [before, position] {
            if changed != NONE
                && let Some(entry) = self.examine(text, changed, rules)
            {
                self.heap.push(entry);
            }
        }
    }

    /// The symbols that are left, in order: text and token, or [`NONE`].
    pub(super) fn symbols<'a>(
        &'a self,
        text: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], u32)> + 'a {
        let mut at = if self.symbols.is_empty() { NONE } else { 0 };
        std::iter::from_fn(move || {
            let symbol = self.symbols.get(at as usize)?;
            at = symbol.next;
            Some((&text[symbol.start as usize..self.end(text, symbol)], symbol.id))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vocabulary::TokenKind;
    use super::*;

    /// Merges in the plainest way: all pairs are looked at again after each merge.
    fn plain(text: &[u8], rules: &impl Rules, first: impl Fn(u8) -> u32) -> Vec<(Vec<u8>, u32)> {
        let mut symbols: Vec<(usize, usize, u32)> =
            (text.iter().enumerate()).map(|(at, &byte)| (at, at + 1, first(byte))).collect();
        loop {
            let pair = |at: usize| Pair {
                left: symbols[at].2,
                right: symbols[at + 1].2,
                text: &text[symbols[at].0..symbols[at + 1].1],
            };
            let best = (0..symbols.len().saturating_sub(1))
                .filter_map(|at| rules.urgency(&pair(at)).map(|urgency| (urgency, at)))
                .min();
            let Some((urgency, at)) = best else {
                let part =
                    |&(start, end, id): &(usize, usize, u32)| (text[start..end].to_vec(), id);
                return symbols.iter().map(part).collect();
            };
            let id = rules.result(&pair(at), urgency);
            let end = symbols.remove(at + 1).1;
            (symbols[at].1, symbols[at].2) = (end, id);
        }
    }

    fn run(text: &[u8], rules: &impl Rules, first: impl Fn(u8) -> u32) -> Vec<(Vec<u8>, u32)> {
        let mut merger = Merger::default();
        let initial = text.iter().enumerate().map(|(at, &byte)| (at, first(byte)));
        merger.run(text, initial, rules);
        merger.symbols(text).map(|(part, id)| (part.to_vec(), id)).collect()
    }

    /// Letters `a` to `c` and tokens made of them.
    fn vocabulary(longer: &[Vec<u8>]) -> Vocabulary {
        let mut vocabulary = Vocabulary::default();
        for letter in *b"abc" {
            vocabulary.push(&[letter], TokenKind::Normal);
        }
        for token in longer {
            vocabulary.push(token, TokenKind::Normal);
        }
        vocabulary
    }

    fn letters(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(b'a'..=b'c', count)
    }

    proptest! {
        #[test]
        fn scores_merge_as_the_plain_loop_does(
            longer in proptest::collection::vec(letters(2..6), 0..24),
            scores in proptest::collection::vec(-4i8..4, 27),
            text in letters(0..40),
            known in 1u8..4,
        ) {
            let vocabulary = vocabulary(&longer);
            let index = TextIndex::new(&vocabulary);
            let scores: Vec<f32> = scores.iter().map(|&score| f32::from(score)).collect();
            let rules = ScoreRules::new(&scores[..vocabulary.len()]);
            let rules = rules.with(&vocabulary, &index);
            // Some letters have no token, as unknown characters have.
            let first = |byte: u8| if byte - b'a' < known { u32::from(byte - b'a') } else { NONE };
            prop_assert_eq!(run(&text, &rules, first), plain(&text, &rules, first));
        }

        #[test]
        fn pairs_merge_as_the_plain_loop_does(
            longer in proptest::collection::vec(letters(2..6), 0..24),
            order in proptest::collection::vec(any::<u16>(), 200),
            text in letters(0..40),
        ) {
            let vocabulary = vocabulary(&longer);
            let index = TextIndex::new(&vocabulary);
            let mut pairs = Vec::new();
            for (_, bytes, _) in vocabulary.iter() {
                for at in 1..bytes.len() {
                    let (left, right) = bytes.split_at(at);
                    let left = index.get(&vocabulary, left);
                    pairs.extend(left.zip(index.get(&vocabulary, right)));
                }
            }
            pairs.sort_unstable();
            pairs.dedup();
            let mut order = order.into_iter().cycle();
            pairs.sort_by_cached_key(|_| order.next());
            let rules = PairRules::new(&vocabulary, &index, &pairs).unwrap();
            let first = |byte: u8| u32::from(byte - b'a');
            prop_assert_eq!(run(&text, &rules, first), plain(&text, &rules, first));
        }
    }

    #[test]
    fn work_is_linear_in_the_text() {
        // Tokens of 2, 4, 8, … letters, the worst case for merging: each round halves the symbols.
        let longer: Vec<Vec<u8>> = (1..=10).map(|power| vec![b'a'; 1 << power]).collect();
        let vocabulary = vocabulary(&longer);
        let index = TextIndex::new(&vocabulary);
        let pairs: Vec<_> =
            [TokenId(0)].into_iter().chain((3..12).map(TokenId)).map(|id| (id, id)).collect();
        let rules = PairRules::new(&vocabulary, &index, &pairs).unwrap();
        for power in [10, 14, 18] {
            let text = vec![b'a'; 1 << power];
            let mut merger = Merger::default();
            merger.run(&text, (0..text.len()).map(|at| (at, 0)), &rules);
            let merges = text.len() - merger.symbols(&text).count();
            assert_eq!(merger.symbols(&text).count(), text.len() >> 10);
            // Each pair once, and two new ones per merge.
            assert!(merger.pairs_tried <= (text.len() + 2 * merges) as u64);
        }
    }

    #[test]
    fn pairs_that_make_no_token_or_come_twice_are_refused() {
        let vocabulary = vocabulary(&[b"ab".to_vec()]);
        let index = TextIndex::new(&vocabulary);
        let refusal = |pairs: &[(u32, u32)]| {
            let pairs: Vec<_> = pairs.iter().map(|&(a, b)| (TokenId(a), TokenId(b))).collect();
            PairRules::new(&vocabulary, &index, &pairs).err().map(|error| error.to_string())
        };
        assert_eq!(refusal(&[(0, 1)]), None);
        assert_eq!(refusal(&[(0, 1), (1, 0)]).unwrap(), "merge 1: makes no token");
        assert_eq!(refusal(&[(0, 1), (0, 1)]).unwrap(), "merge 1: listed before");
    }
}
