//! Conversations: the text that a chat template makes of them, and which of it is learned.
//!
//! Each turn of the assistant is what the template writes after the prompt that opens it, so that
//! what is learned stands where it will stand when the model answers.

use serde::Deserialize;
use serde_json::Value;
use shoal_base::TokenId;
use shoal_model::template::{ChatTemplate, TemplateDate, TemplateError, TemplateInput};
use shoal_model::tokenizer::{EncodeError, EncodeOptions, Tokenizer};

use super::Document;

/// The role whose turns are learned.
const LEARNED: &str = "assistant";

/// `{"role", "content"}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    role: String,
    content: String,
}

/// Why a conversation was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessagesError {
    /// It does not end with an answer.
    #[error("the last message is the assistant's")]
    Unanswered,
    /// The template refuses it.
    #[error("chat template: {0}")]
    Template(#[from] TemplateError),
    /// The template writes earlier turns differently once later ones follow.
    #[error("the chat template changes what it wrote before message {index}; give one turn a line")]
    Rewritten {
        /// Which message, from 0.
        index: usize,
    },
    /// The tokenizer refuses its text.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A conversation as a document in which the turns of the assistant count, each up to its end.
pub(super) fn conversation(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
) -> Result<Document, MessagesError> {
    if messages.last().is_none_or(|message| message.role != LEARNED) {
        return Err(MessagesError::Unanswered);
    }
    let values: Vec<Value> = messages.iter().map(Message::value).collect();
    let mut document = Document::default();
    let mut written = String::new();
    for (index, _) in messages.iter().enumerate().filter(|(_, message)| message.role == LEARNED) {
        let rewritten = MessagesError::Rewritten { index };
        let opened = render(tokenizer, template, &values[..index], true)?;
        let closed = render(tokenizer, template, &values[..=index], false)?;
        let Some(prompt) = opened.strip_prefix(&written) else { return Err(rewritten) };
        let Some(answer) = closed.strip_prefix(&opened) else { return Err(rewritten) };
        let prompt = encode(tokenizer, prompt, written.is_empty())?;
        let answer = encode(tokenizer, answer, false)?;
        let counted = 1 + turn_end(tokenizer, &answer).unwrap_or(answer.len());
        let weight = |i| if i < counted { 1.0 } else { 0.0 };
        document.weights.extend(prompt.iter().map(|_| 0.0));
        document.weights.extend((0..answer.len()).map(weight));
        // A template without ends of turns: the last one ends with the document.
        let ends = closed_by_document(tokenizer, &answer, index + 1 == messages.len());
        document.tokens.extend(prompt.iter().chain(&answer).chain(&ends).map(|id| id.0));
        document.weights.extend(ends.map(|_| 1.0));
        written = closed;
    }
    Ok(document)
}

fn turn_end(tokenizer: &Tokenizer, ids: &[TokenId]) -> Option<usize> {
    let ends = &tokenizer.spec().special.end_of_turn;
    ids.iter().position(|id| ends.contains(id))
}

fn closed_by_document(tokenizer: &Tokenizer, answer: &[TokenId], last: bool) -> Option<TokenId> {
    let open = last && turn_end(tokenizer, answer).is_none();
    tokenizer.spec().special.eos.filter(|_| open)
}

impl Message {
    fn value(&self) -> Value {
        serde_json::json!({ "role": self.role, "content": self.content })
    }
}

fn render(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Value],
    add_generation_prompt: bool,
) -> Result<String, TemplateError> {
    let (bos, eos) = (bos_name(tokenizer), name(tokenizer, tokenizer.spec().special.eos));
    template.render(&TemplateInput {
        messages,
        add_generation_prompt,
        bos_token: bos.as_deref(),
        eos_token: eos.as_deref(),
        date: TemplateDate::default(),
        ..TemplateInput::default()
    })
}

fn bos_name(tokenizer: &Tokenizer) -> Option<String> {
    name(tokenizer, tokenizer.spec().special.bos)
}

fn name(tokenizer: &Tokenizer, id: Option<TokenId>) -> Option<String> {
    Some(String::from_utf8_lossy(tokenizer.token_name(id?)?).into_owned())
}

/// As a prompt is encoded when the model answers.
fn encode(tokenizer: &Tokenizer, text: &str, begins: bool) -> Result<Vec<TokenId>, EncodeError> {
    let written = bos_name(tokenizer).is_some_and(|bos| text.starts_with(&bos));
    let add_bos = (!begins || written).then_some(false);
    let options = EncodeOptions { parse_special: true, add_bos, add_eos: Some(false) };
    tokenizer.encode(text, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_model::template::BuiltinTemplate;
    use shoal_model::tokenizer::{ControlTokens, DecodeFrom};

    fn tokenizer() -> Tokenizer {
        let text = vec!["a text of which nothing is merged".to_owned()];
        let spec = crate::tokenizer::make_tokenizer(&text, crate::tokenizer::VOCAB_MIN, &|_| true);
        Tokenizer::new(spec.expect("the bytes are enough")).expect("a valid description")
    }

    fn messages(turns: &[(&str, &str)]) -> Vec<Message> {
        let message = |&(role, content): &(&str, &str)| Message {
            role: role.to_owned(),
            content: content.to_owned(),
        };
        turns.iter().map(message).collect()
    }

    fn builtin(template: BuiltinTemplate) -> ChatTemplate {
        ChatTemplate::parse(template.source()).expect("a template of ours")
    }

    /// The text of the tokens that count, or that do not.
    fn text(tokenizer: &Tokenizer, document: &Document, counts: bool) -> String {
        assert_eq!(document.tokens.len(), document.weights.len());
        let wanted = if counts { 1.0 } else { 0.0 };
        let both = document.tokens.iter().zip(&document.weights);
        let ids: Vec<TokenId> =
            both.filter(|&(_, &w)| w == wanted).map(|(&id, _)| TokenId(id)).collect();
        tokenizer.decode(&ids, DecodeFrom::Start, ControlTokens::Show).expect("its own ids")
    }

    #[test]
    fn only_turns_of_the_assistant_count() {
        let tokenizer = tokenizer();
        let turns = [
            ("system", "be brief"),
            ("user", "one?"),
            ("assistant", "1"),
            ("user", "two?"),
            ("assistant", "2"),
        ];
        let template = builtin(BuiltinTemplate::ChatMl);
        let document = conversation(&tokenizer, &template, &messages(&turns)).expect("rendered");
        assert_eq!(text(&tokenizer, &document, true), "1<|im_end|>2<|im_end|>");
        let rest = text(&tokenizer, &document, false);
        assert!(rest.starts_with("<|endoftext|><|im_start|>system\nbe brief<|im_end|>"), "{rest}");
        assert!(rest.contains("user\ntwo?<|im_end|>\n<|im_start|>assistant\n\n"), "{rest}");
    }

    #[test]
    fn a_template_without_ends_of_turns_ends_with_the_document() {
        let tokenizer = tokenizer();
        let turns = [("user", "one?"), ("assistant", "1"), ("user", "two?"), ("assistant", "2")];
        let template = builtin(BuiltinTemplate::Plain);
        let document = conversation(&tokenizer, &template, &messages(&turns)).expect("rendered");
        assert_eq!(text(&tokenizer, &document, true), " 1\n 2\n<|endoftext|>");
    }

    #[test]
    fn what_cannot_be_rendered_turn_by_turn_is_refused() {
        let tokenizer = tokenizer();
        let go = |template: &ChatTemplate, turns: &[(&str, &str)]| {
            conversation(&tokenizer, template, &messages(turns)).expect_err("refused")
        };
        let plain = builtin(BuiltinTemplate::Plain);
        for turns in [&[][..], &[("user", "a")], &[("assistant", "a"), ("user", "b")]] {
            assert!(matches!(go(&plain, turns), MessagesError::Unanswered));
        }
        let error = go(&plain, &[("judge", "a"), ("assistant", "b")]);
        assert!(matches!(error, MessagesError::Template(_)), "{error}");
        // Like templates that drop thoughts of earlier turns.
        let last = "{% for m in messages %}{{ m.role if loop.last else '' }}{% endfor %}";
        let last = ChatTemplate::parse(last).expect("it is a template");
        let turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")];
        assert!(matches!(go(&last, &turns), MessagesError::Rewritten { index: 1 }));
    }
}
