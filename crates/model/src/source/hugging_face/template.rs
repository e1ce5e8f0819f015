//! The chat template of a Hugging Face folder.

use serde::Deserialize;

use super::super::{SourceError, limits};
use super::Folder;

const FILE: &str = "chat_template.jinja";
const CONFIG: &str = "tokenizer_config.json";
/// The one of several that is used unless another is asked for.
const DEFAULT_NAME: &str = "default";

#[derive(Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Templates>,
}

/// One template, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

/// The file of its own wins over the tokenizer's settings.
pub(super) fn read(folder: &Folder) -> Result<Option<String>, SourceError> {
    if let Some(input) = folder.open(FILE)? {
        let bytes = input.read_all(limits::TEMPLATE_BYTES_MAX)?;
        let text = String::from_utf8(bytes);
        return text.map(Some).map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            input.malformed(offset as u64, "text is UTF-8")
        });
    }
    let Some(input) = folder.open(CONFIG)? else {
        return Ok(None);
    };
    let bytes = input.read_all(limits::TOKENIZER_BYTES_MAX)?;
    let config: TokenizerConfig =
        serde_json::from_slice(&bytes).map_err(|source| SourceError::Json {
            file: input.file().to_path_buf(),
            source,
        })?;
    Ok(match config.chat_template {
        None => None,
        Some(Templates::One(template)) => Some(template),
        Some(Templates::Named(named)) => {
            let mut named = named.into_iter();
            named.find(|t| t.name == DEFAULT_NAME).map(|t| t.template)
        }
    })
}
