//! Answers that follow a grammar, a schema or an expression, by `llguidance`.
//!
//! Compiling is bounded in work and memory by the library's limits; a grammar that needs more is
//! refused.

use std::sync::{Arc, OnceLock};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use shoal_base::{GenerateError, Grammar, RequestLimits, TokenId};
use shoal_model::tokenizer::{TokenKind, Tokenizer};

/// Compiles grammars for one vocabulary. The tables it needs are made when the first grammar comes.
pub(crate) struct Grammars {
    tokenizer: Arc<Tokenizer>,
    factory: OnceLock<Result<ParserFactory, String>>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grammars")
    }
}

impl Grammars {
    pub(crate) const fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, factory: OnceLock::new() }
    }

    /// Compiles a grammar.
    pub(crate) fn compile(&self, grammar: &Grammar) -> Result<Constraint, GenerateError> {
        let refuse = |reason: String| GenerateError::Grammar { reason };
        let factory = self.factory.get_or_init(|| factory(&self.tokenizer));
        let factory = factory.as_ref().map_err(|reason| refuse(reason.clone()))?;
        let source = match grammar {
            Grammar::JsonObject => {
                let schema = serde_json::json!({ "type": "object" });
                TopLevelGrammar::from_json_schema(schema)
            }
            Grammar::JsonSchema(schema) => {
                check_size(schema.to_string().len())?;
                TopLevelGrammar::from_json_schema(schema.clone())
            }
            Grammar::Regex(expression) => {
                check_size(expression.len())?;
                TopLevelGrammar::from_regex(expression)
            }
            Grammar::Lark(text) => {
                check_size(text.len())?;
                TopLevelGrammar::from_lark(text.clone())
            }
        };
        let parser = factory.create_parser(source).map_err(|error| refuse(error.to_string()))?;
        let matcher = Matcher::new(Ok(parser));
        match matcher.get_error() {
            Some(reason) => Err(refuse(reason)),
            None => Ok(Constraint { matcher }),
        }
    }
}

fn check_size(got: usize) -> Result<(), GenerateError> {
    let limit = RequestLimits::GRAMMAR_BYTES_MAX;
    match got > limit {
        true => Err(GenerateError::Grammar { reason: format!("{got} bytes, limit {limit}") }),
        false => Ok(()),
    }
}

/// The state of one answer in its grammar.
pub(crate) struct Constraint {
    matcher: Matcher,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Constraint")
    }
}

impl Constraint {
    /// The tokens allowed next, bit by bit; the end-of-turn tokens when the text may end here.
    pub(crate) fn mask(&mut self) -> Result<Vec<u32>, GenerateError> {
        let mask = self.matcher.compute_mask_or_eos();
        let mask = mask.map_err(|error| GenerateError::Grammar { reason: error.to_string() })?;
        Ok(mask.as_slice().to_vec())
    }

    /// Takes the token that was chosen.
    pub(crate) fn commit(&mut self, id: TokenId) -> Result<(), GenerateError> {
        let taken = self.matcher.consume_token(id.0);
        taken.map_err(|error| GenerateError::Grammar { reason: error.to_string() })
    }

    /// Whether nothing may follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

fn factory(tokenizer: &Tokenizer) -> Result<ParserFactory, String> {
    let special = &tokenizer.spec().special;
    let count = tokenizer.vocab_count();
    let words: Vec<Vec<u8>> = (0..count).map(|id| word(tokenizer, TokenId(id))).collect();
    let end = special.eos.or_else(|| special.end_of_turn.first().copied());
    let end = end.ok_or("the vocabulary has no end token, so no grammar can end")?;
    let info = TokRxInfo::new(count, end.0);
    let ends: Vec<u32> = special.end_of_turn.iter().map(|id| id.0).collect();
    let trie = TokTrie::from(&info, &words);
    let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) };
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory = ParserFactory::new_simple(&environment).map_err(|e| e.to_string())?;
    factory.quiet();
    factory.limits_mut().verbose_errors = false;
    Ok(factory)
}

/// A token as the library wants it: its bytes, or a marker and its name if it is no text.
fn word(tokenizer: &Tokenizer, id: TokenId) -> Vec<u8> {
    match tokenizer.token_kind(id) {
        Some(TokenKind::Control | TokenKind::Unknown | TokenKind::Unused) | None => {
            let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
            word.extend(tokenizer.token_name(id).unwrap_or_default());
            word
        }
        Some(_) => tokenizer.token_bytes(id).unwrap_or_default().to_vec(),
    }
}
