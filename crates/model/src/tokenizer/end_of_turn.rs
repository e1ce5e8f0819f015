//! Which tokens end an answer.

use shoal_base::TokenId;

use super::spec::SpecialIds;
use super::vocabulary::{TokenKind, Vocabulary};

/// Control tokens that end a turn wherever they exist. Files often name only one of them as the end
/// of text, and models then run on after their turn.
const NAMES: [&str; 11] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|EOT|>",
    "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>",
];

/// Makes user-defined tokens with such a name control tokens; some files have them wrong.
pub(super) fn correct_kinds(vocabulary: &mut Vocabulary) {
    let wrong: Vec<TokenId> = vocabulary
        .iter()
        .filter(|(_, bytes, kind)| *kind == TokenKind::UserDefined && is_name(bytes))
        .map(|(id, _, _)| id)
        .collect();
    for id in wrong {
        vocabulary.set_kind(id, TokenKind::Control);
    }
}

/// Sets `special.end_of_turn` to `declared`, the end of text, and the control tokens with a known
/// name.
pub(super) fn collect(
    special: &mut SpecialIds,
    vocabulary: &Vocabulary,
    declared: impl IntoIterator<Item = TokenId>,
) {
    let named = vocabulary
        .iter()
        .filter(|(_, bytes, kind)| *kind == TokenKind::Control && is_name(bytes))
        .map(|(id, _, _)| id);
    special.end_of_turn = declared.into_iter().chain(special.eos).chain(named).collect();
    special.end_of_turn.sort_unstable();
    special.end_of_turn.dedup();
}

fn is_name(bytes: &[u8]) -> bool {
    NAMES.iter().any(|name| name.as_bytes() == bytes)
}
