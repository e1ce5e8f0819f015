//! The chat template of a Hugging Face folder.

use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::super::{SourceError, limits};
use super::Folder;
use super::bounded::Bounded;

const FILE: &str = "chat_template.jinja";
const CONFIG: &str = "tokenizer_config.json";
/// The one of several that is used unless another is asked for.
const DEFAULT_NAME: &str = "default";
/// Models have up to five.
const TEMPLATE_COUNT_MAX: usize = 64;

#[derive(Deserialize)]
struct TokenizerConfig {
    chat_template: Option<DefaultTemplate>,
}

/// One template, or the default of several with names.
struct DefaultTemplate(Option<String>);

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

/// The file of its own wins over the tokenizer's settings.
pub(crate) fn read(folder: &Folder) -> Result<Option<String>, SourceError> {
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
    let config: TokenizerConfig = serde_json::from_slice(&bytes)
        .map_err(|source| SourceError::Json { file: input.file().to_path_buf(), source })?;
    Ok(config.chat_template.and_then(|template| template.0))
}

/// By hand, because `untagged` would hold any hostile value in memory before it looks at it.
impl<'de> Deserialize<'de> for DefaultTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrArray;

        impl<'de> Visitor<'de> for TextOrArray {
            type Value = DefaultTemplate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a template or an array of named ones")
            }

            fn visit_str<E: Error>(self, template: &str) -> Result<Self::Value, E> {
                if template.len() as u64 > limits::TEMPLATE_BYTES_MAX {
                    return Err(E::invalid_length(template.len(), &"at most 1 MiB of template"));
                }
                Ok(DefaultTemplate(Some(template.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<Self::Value, A::Error> {
                let array = SeqAccessDeserializer::new(array);
                let named = Bounded::<Named, TEMPLATE_COUNT_MAX>::deserialize(array)?.0;
                let default = named.into_iter().find(|named| named.name == DEFAULT_NAME);
                match default {
                    Some(named) => self.visit_str(&named.template),
                    None => Ok(DefaultTemplate(None)),
                }
            }
        }

        deserializer.deserialize_any(TextOrArray)
    }
}
