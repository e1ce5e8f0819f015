//! Prompts to token ids.

use std::sync::Arc;

use shoal_base::{GenerateError, Prompt, RequestLimits, TokenId, ToolCalls};
use shoal_model::package::Package;
use shoal_model::template::{ChatTemplate, TemplateDate, TemplateInput};
use shoal_model::tokenizer::{EncodeError, EncodeOptions, TokenKind, Tokenizer};

use crate::LoadError;

/// Tokenizer and chat template of a package.
#[derive(Debug)]
pub(crate) struct Prompts {
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    bos: Option<String>,
    eos: Option<String>,
}

impl Prompts {
    pub(crate) fn new(package: &Package, tokenizer: Arc<Tokenizer>) -> Result<Self, LoadError> {
        let template = package.manifest().chat_template.as_deref().map(ChatTemplate::parse);
        let template =
            template.transpose().map_err(|e| LoadError::Template { reason: e.to_string() })?;
        let special = &tokenizer.spec().special;
        let name = |id: Option<TokenId>| {
            let name = tokenizer.token_name(id?)?;
            Some(String::from_utf8_lossy(name).into_owned())
        };
        let (bos, eos) = (name(special.bos), name(special.eos));
        Ok(Self { tokenizer, template, bos, eos })
    }

    /// How the model calls tools, if its template has a place for them.
    pub(crate) fn tool_calls(&self) -> Option<ToolCalls> {
        let format = self.template.as_ref()?.tool_format()?;
        let control = |name: &str| {
            let is_it = |id: &TokenId| {
                self.tokenizer.token_kind(*id) == Some(TokenKind::Control)
                    && self.tokenizer.token_name(*id) == Some(name.as_bytes())
            };
            (0..self.tokenizer.vocab_count()).map(TokenId).find(is_it)
        };
        let (marker, separator) = (control(format.marker()), format.separator().and_then(control));
        Some(ToolCalls { format, marker, separator })
    }

    /// The ids of a prompt.
    pub(crate) fn tokens(&self, prompt: &Prompt) -> Result<Vec<TokenId>, GenerateError> {
        match prompt {
            Prompt::Tokens(ids) => Ok(ids.clone()),
            Prompt::Text(text) => self.encode(text, EncodeOptions::default()),
            Prompt::Chat { messages, tools, variables, add_generation_prompt } => {
                let template = self.template.as_ref().ok_or(GenerateError::NoChatTemplate)?;
                let input = TemplateInput {
                    messages,
                    tools,
                    variables: Some(variables),
                    add_generation_prompt: *add_generation_prompt,
                    bos_token: self.bos.as_deref(),
                    eos_token: self.eos.as_deref(),
                    date: TemplateDate::default(),
                };
                let text = template.render(&input);
                let text = text.map_err(|e| GenerateError::Template { reason: e.to_string() })?;
                // Templates write the beginning token themselves, where the model wants one.
                let starts = self.bos.as_deref().is_some_and(|bos| text.starts_with(bos));
                let add_bos = starts.then_some(false);
                self.encode(&text, EncodeOptions { parse_special: true, add_bos, add_eos: None })
            }
        }
    }

    fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<TokenId>, GenerateError> {
        let (got, limit) = (text.len(), RequestLimits::PROMPT_BYTES_MAX);
        if got > limit {
            return Err(GenerateError::PromptBytes { got: got as u64, limit: limit as u64 });
        }
        self.tokenizer.encode(text, options).map_err(|error| match error {
            EncodeError::TextBytes { got, limit } => {
                GenerateError::PromptBytes { got: got as u64, limit: limit as u64 }
            }
            other => GenerateError::Parameter { name: "prompt", rule: other.to_string() },
        })
    }
}
