//! JSON lines: texts, prompts with completions, conversations, preferences. Spec 05 §8.2.

use serde::Deserialize;
use shoal_model::template::ChatTemplate;
use shoal_model::tokenizer::{EncodeError, EncodeOptions, Tokenizer};

use super::Document;
use super::messages::{Message, MessagesError, conversation};
use crate::preference::Preference;

/// Why a line was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// Not one of the known objects.
    #[error(
        "line {line}: expected {{\"text\"}}, {{\"prompt\", \"completion\"}}, {{\"prompt\", \
         \"chosen\", \"rejected\"}} with texts, or {{\"messages\": [{{\"role\", \
         \"content\"}}, …]}}, and nothing else"
    )]
    Shape {
        /// Its number, the first being 1.
        line: usize,
    },
    /// A preference where documents are learned, or the reverse.
    #[error("line {line}: preferences and documents do not mix in one run")]
    Mixed {
        /// Its number.
        line: usize,
    },
    /// A text the tokenizer refuses.
    #[error("line {line}: {source}")]
    Encode {
        /// Its number.
        line: usize,
        /// Why.
        source: EncodeError,
    },
    /// A conversation that cannot be learned.
    #[error("line {line}: {source}")]
    Messages {
        /// Its number.
        line: usize,
        /// Why.
        source: MessagesError,
    },
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Text(Text),
    Completion(Completion),
    Choice(Choice),
    Conversation(Conversation),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Completion {
    prompt: String,
    completion: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    prompt: String,
    chosen: String,
    rejected: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conversation {
    messages: Vec<Message>,
}

/// What a file of lines holds.
#[derive(Debug, Default, PartialEq)]
pub struct Lines {
    /// Texts, completions and conversations; of these only the completion and the turns of the
    /// assistant count.
    pub documents: Vec<Document>,
    /// Preferences.
    pub preferences: Vec<Preference>,
    /// Whether some of the documents are conversations.
    pub converses: bool,
}

/// A text as a document: beginning token if the tokenizer adds one, end token if it has one.
///
/// # Errors
/// The tokenizer refuses the text.
pub fn text_document(tokenizer: &Tokenizer, text: &str) -> Result<Document, EncodeError> {
    let tokens = encode(tokenizer, text, true, true)?;
    Ok(Document { tokens, weights: Vec::new() })
}

fn encode(
    tokenizer: &Tokenizer,
    text: &str,
    begins: bool,
    ends: bool,
) -> Result<Vec<u32>, EncodeError> {
    let add_bos = if begins { None } else { Some(false) };
    let options = EncodeOptions { add_bos, add_eos: Some(false), ..EncodeOptions::default() };
    let mut ids: Vec<u32> = tokenizer.encode(text, options)?.iter().map(|id| id.0).collect();
    ids.extend(tokenizer.spec().special.eos.filter(|_| ends).map(|id| id.0));
    Ok(ids)
}

/// A prompt that does not count and an answer that does.
fn answered(tokenizer: &Tokenizer, prompt: &str, answer: &str) -> Result<Document, EncodeError> {
    let mut tokens = encode(tokenizer, prompt, true, false)?;
    let mut weights = vec![0.0; tokens.len()];
    tokens.extend(encode(tokenizer, answer, false, true)?);
    weights.resize(tokens.len(), 1.0);
    Ok(Document { tokens, weights })
}

/// Reads a file of JSON lines; empty lines are skipped. Conversations are rendered by `template`.
///
/// # Errors
/// The first line that is not understood.
pub fn read_lines(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    text: &str,
) -> Result<Lines, LineError> {
    let mut lines = Lines::default();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim().is_empty() {
            continue;
        }
        let parsed = serde_json::from_str(line).map_err(|_| LineError::Shape { line: number })?;
        let refuse = |source| LineError::Encode { line: number, source };
        match parsed {
            Line::Text(Text { text }) => {
                lines.documents.push(text_document(tokenizer, &text).map_err(refuse)?);
            }
            Line::Completion(Completion { prompt, completion }) => {
                let document = answered(tokenizer, &prompt, &completion).map_err(refuse)?;
                lines.documents.push(document);
            }
            Line::Conversation(Conversation { messages }) => {
                let refuse = |source| LineError::Messages { line: number, source };
                let document = conversation(tokenizer, template, &messages).map_err(refuse)?;
                lines.documents.push(document);
                lines.converses = true;
            }
            Line::Choice(Choice { prompt, chosen, rejected }) => {
                let chosen = answered(tokenizer, &prompt, &chosen).map_err(refuse)?;
                let rejected = answered(tokenizer, &prompt, &rejected).map_err(refuse)?;
                lines.preferences.push(Preference { chosen, rejected });
            }
        }
        if !lines.documents.is_empty() && !lines.preferences.is_empty() {
            return Err(LineError::Mixed { line: number });
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_model::template::BuiltinTemplate;
    use shoal_testkit::byte_tokenizer;

    fn tokenizer() -> Tokenizer {
        Tokenizer::new(byte_tokenizer()).expect("the specification is valid")
    }

    fn read_lines(tokenizer: &Tokenizer, text: &str) -> Result<Lines, LineError> {
        let template = ChatTemplate::parse(BuiltinTemplate::Plain.source()).expect("ours");
        super::read_lines(tokenizer, &template, text)
    }

    #[test]
    fn prompts_do_not_count_and_answers_end() {
        let tokenizer = tokenizer();
        let lines = "{\"text\": \"ab\"}\n\n{\"prompt\": \"ab\", \"completion\": \"c\"}\n";
        let lines = read_lines(&tokenizer, lines).expect("good lines");
        let [text, answer] = lines.documents.as_slice() else { panic!("two documents") };
        assert!(text.weights.is_empty());
        assert_eq!(answer.tokens.len(), answer.weights.len());
        let counted = answer.weights.iter().filter(|&&weight| weight == 1.0).count();
        let end = tokenizer.spec().special.eos.expect("it has one").0;
        assert_eq!(answer.tokens.last(), Some(&end));
        assert_eq!(counted, 2, "the answer's byte and the end");
    }

    #[test]
    fn preferences_share_their_prompt() {
        let line = r#"{"prompt": "ab", "chosen": "good", "rejected": "bad"}"#;
        let lines = read_lines(&tokenizer(), line).expect("a good line");
        let [pair] = lines.preferences.as_slice() else { panic!("one pair") };
        let prompt = pair.chosen.weights.iter().take_while(|&&w| w == 0.0).count();
        assert_eq!(pair.chosen.tokens[..prompt], pair.rejected.tokens[..prompt]);
    }

    #[test]
    fn other_lines_are_refused_with_their_number() {
        let bad = [
            "{}",
            "[1]",
            "{\"text\": 1}",
            "{\"text\": \"a\", \"other\": 1}",
            "{\"prompt\": \"a\"}",
            "{\"text\": \"a\"",
            "{\"messages\": [{\"role\": \"assistant\"}]}",
            "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\", \"name\": \"b\"}]}",
        ];
        for bad in bad {
            let error = read_lines(&tokenizer(), &format!("{{\"text\": \"a\"}}\n{bad}"));
            assert!(matches!(error, Err(LineError::Shape { line: 2 })), "{bad}: {error:?}");
        }
        let unanswered = "\n{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}";
        let error = read_lines(&tokenizer(), unanswered);
        assert!(matches!(error, Err(LineError::Messages { line: 2, .. })), "{error:?}");
        let mixed = "{\"text\":\"a\"}\n{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}";
        let error = read_lines(&tokenizer(), mixed);
        assert!(matches!(error, Err(LineError::Mixed { line: 2 })), "{error:?}");
    }
}
