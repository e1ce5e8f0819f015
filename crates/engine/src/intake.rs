//! What becomes of a request before and after its rows are computed: checks, tokens, grammar, the
//! answer. The same for one machine and for the head of a ring.

use std::sync::Arc;

use shoal_base::{GenerateError, Grammar, ModelCard, Prompt, Request, TokenId};
use shoal_model::package::{BlobKind, Package};
use shoal_model::tokenizer::{ControlTokens, DecodeFrom, Tokenizer, TokenizerSpec};

use crate::LoadError;
use crate::answer::Answer;
use crate::check::{check, check_prompt};
use crate::grammar::Grammars;
use crate::prompt::Prompts;

/// Takes requests for one package.
#[derive(Debug)]
pub struct Intake {
    card: ModelCard,
    tokenizer: Arc<Tokenizer>,
    prompts: Prompts,
    grammars: Grammars,
}

/// A request that can be computed.
#[derive(Debug)]
pub struct Accepted {
    /// The prompt; at least one token.
    pub tokens: Vec<TokenId>,
    /// The answer, which has no token yet.
    pub answer: Box<Answer>,
}

impl Intake {
    /// Reads tokenizer and template of `package`, to be served under `name` where sequences have
    /// at most `positions_max` tokens.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn new(package: &Package, name: &str, positions_max: u32) -> Result<Self, LoadError> {
        let architecture = &package.manifest().architecture;
        let tokenizer = Arc::new(load_tokenizer(package)?);
        let prompts = Prompts::new(package, Arc::clone(&tokenizer))?;
        let card = ModelCard {
            name: name.to_owned(),
            package: package.id(),
            vocab_count: architecture.vocab_count,
            context_tokens: architecture.context_tokens.min(positions_max),
            embedding_width: architecture.model_width,
            chat: package.manifest().chat_template.is_some(),
            tool_calls: prompts.tool_calls(),
        };
        Ok(Self { card, grammars: Grammars::new(Arc::clone(&tokenizer)), tokenizer, prompts })
    }

    /// The model.
    #[must_use]
    pub const fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Its tokenizer.
    #[must_use]
    pub const fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Checks a request and makes tokens of its prompt.
    ///
    /// # Errors
    /// A parameter is out of range, the grammar does not compile, or prompt and answer do not fit.
    pub fn accept(&self, request: &Request) -> Result<Accepted, GenerateError> {
        check(request, self.card.vocab_count)?;
        let asked = request.stop.tokens_max;
        let tokens = self.prompt(&request.prompt, asked.unwrap_or(1))?;
        let constraint = request.sampling.grammar.as_ref();
        let constraint = constraint.map(|grammar| self.grammars.compile(grammar)).transpose()?;
        let limit = asked.unwrap_or(self.card.context_tokens - tokens.len() as u32);
        let tokenizer = Arc::clone(&self.tokenizer);
        let answer = Box::new(Answer::new(tokenizer, request, constraint, &tokens, limit));
        Ok(Accepted { tokens, answer })
    }

    /// Tokens of a prompt, of which there is at least one and room for an answer of so many.
    pub(crate) fn prompt(
        &self,
        prompt: &Prompt,
        answer_tokens: u32,
    ) -> Result<Vec<TokenId>, GenerateError> {
        let tokens = self.prompts.tokens(prompt)?;
        if tokens.is_empty() {
            let rule = "has at least one token".to_owned();
            return Err(GenerateError::Parameter { name: "prompt", rule });
        }
        let (prompt_tokens, answer_tokens) = (tokens.len() as u64, u64::from(answer_tokens));
        let limit_tokens = u64::from(self.card.context_tokens);
        match prompt_tokens + answer_tokens > limit_tokens {
            true => {
                Err(GenerateError::ContextLength { prompt_tokens, answer_tokens, limit_tokens })
            }
            false => Ok(tokens),
        }
    }

    /// The ids of a prompt.
    ///
    /// # Errors
    /// The tokenizer or the template refuses it.
    pub fn tokenize(&self, prompt: &Prompt) -> Result<Vec<TokenId>, GenerateError> {
        check_prompt(prompt, self.card.vocab_count)?;
        self.prompts.tokens(prompt)
    }

    /// The text of ids.
    ///
    /// # Errors
    /// An id is beyond the vocabulary.
    pub fn detokenize(&self, ids: &[TokenId]) -> Result<String, GenerateError> {
        self.tokenizer.decode(ids, DecodeFrom::Start, ControlTokens::Show).map_err(|_| {
            let rule = "are in the vocabulary".to_owned();
            GenerateError::Parameter { name: "tokens", rule }
        })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// It does not compile.
    pub fn check_grammar(&self, grammar: &Grammar) -> Result<(), GenerateError> {
        self.grammars.compile(grammar).map(drop)
    }
}

fn load_tokenizer(package: &Package) -> Result<Tokenizer, LoadError> {
    let refuse = |reason: String| LoadError::Tokenizer { reason };
    let bytes = package.bytes(BlobKind::Tokenizer)?;
    let spec = TokenizerSpec::from_bytes(&bytes).map_err(|e| refuse(e.to_string()))?;
    let tokenizer = Tokenizer::new(spec).map_err(|e| refuse(e.to_string()))?;
    let (tokens, rows) = (tokenizer.vocab_count(), package.manifest().architecture.vocab_count);
    match tokens == rows {
        true => Ok(tokenizer),
        false => Err(refuse(format!("{tokens} tokens for an embedding of {rows} rows"))),
    }
}
