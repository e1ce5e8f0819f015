//! `config.toml` of a run. Paths are relative to the folder of the run.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use shoal_model::template::BuiltinTemplate;
use shoal_train::{AdapterSettings, ModelSettings, StepSettings};

use crate::failure::{Failure, at_path};

/// The name of the file.
pub(crate) const FILE_NAME: &str = "config.toml";
/// A settings file of more is none.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What `shoal train init` writes.
pub(crate) const TEMPLATE: &str = include_str!("template.toml");

/// A run as its user describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainConfig {
    /// Names the randomness.
    pub(crate) seed: String,
    /// The shape of a new model.
    pub(crate) model: Option<ModelSettings>,
    /// A model to train further.
    pub(crate) base: Option<ModelPlace>,
    /// The tokenizer of a new model: a folder of it or a model that has it.
    pub(crate) tokenizer: Option<ModelPlace>,
    /// Low-rank maps instead of the whole model.
    pub(crate) adapter: Option<AdapterSettings>,
    /// A model to learn from besides the data.
    pub(crate) teacher: Option<TeacherConfig>,
    /// Learn from pairs of answers.
    pub(crate) preference: Option<PreferenceConfig>,
    /// How conversations are written, unless the model or tokenizer says.
    pub(crate) chat_template: Option<ChatForm>,
    /// What is learned, in this order.
    pub(crate) data: Vec<DataConfig>,
    /// What is left out of the data.
    #[serde(default)]
    pub(crate) selection: SelectionConfig,
    /// Steps and rates.
    pub(crate) step: StepSettings,
    /// What is kept on disk.
    #[serde(default)]
    pub(crate) save: SaveConfig,
}

/// A built-in chat template by its name.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChatForm {
    ChatMl,
    Llama3,
    Plain,
}

impl ChatForm {
    pub(crate) const fn template(self) -> BuiltinTemplate {
        match self {
            Self::ChatMl => BuiltinTemplate::ChatMl,
            Self::Llama3 => BuiltinTemplate::Llama3,
            Self::Plain => BuiltinTemplate::Plain,
        }
    }
}

/// A model file or folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelPlace {
    pub(crate) path: PathBuf,
    /// Its tokenizer, when that is a file of its own.
    pub(crate) tokenizer: Option<PathBuf>,
}

/// A teacher.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeacherConfig {
    pub(crate) path: PathBuf,
    pub(crate) tokenizer: Option<PathBuf>,
    /// Share of its distribution, 0 to 1.
    pub(crate) share: f32,
    /// The token with which it ends a document, if that is not the student's.
    pub(crate) end_token: Option<u32>,
}

/// Pairs of answers.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreferenceConfig {
    /// How strongly the answers stay close to the first model's.
    pub(crate) beta: f64,
}

/// One source of data.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "format")]
pub(crate) enum DataConfig {
    /// A text file.
    Text {
        path: PathBuf,
        /// What stands between documents; an end of line without an empty line beside it unless
        /// given.
        separator: Option<String>,
    },
    /// JSON lines.
    Jsonl { path: PathBuf },
    /// Packed tokens.
    Tokens { path: PathBuf },
    /// Documents sampled from a model when the run begins, kept in the folder of the run.
    Synthetic {
        path: PathBuf,
        tokenizer: Option<PathBuf>,
        /// How many.
        documents: u64,
        /// Longest.
        tokens_max: u32,
        /// 1 samples the model's own distribution.
        temperature: f32,
        /// The token with which it ends a document, if that is not the student's.
        end_token: Option<u32>,
    },
}

/// What is left out. Only texts are looked at.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SelectionConfig {
    /// Share of the documents set aside to measure with, chosen by their digest.
    pub(crate) held_out_share: f64,
    /// Documents that share more than this with those set aside are dropped.
    pub(crate) overlap_max: f64,
}

impl Default for SelectionConfig {
    fn default() -> Self {
        Self { held_out_share: 0.05, overlap_max: 0.2 }
    }
}

/// What is kept on disk.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SaveConfig {
    /// Steps between two checkpoints.
    pub(crate) every_steps: u64,
    /// Checkpoints kept.
    pub(crate) keep: usize,
    /// Steps between two state hashes; 0 for none.
    pub(crate) hash_every_steps: u64,
}

impl Default for SaveConfig {
    fn default() -> Self {
        Self { every_steps: 50, keep: 3, hash_every_steps: 10 }
    }
}

impl TrainConfig {
    /// Reads the settings in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(FILE_NAME);
        let bytes = super::data::read_file(&path, FILE_BYTES_MAX)?;
        let bad = |error: String| Failure::bad_input(format!("{}: {error}", path.display()));
        let text = String::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
        let config: Self = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        config.check().map_err(|rule| bad(rule.to_owned()))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), &'static str> {
        let selection = self.selection;
        let temperature = |data: &DataConfig| match data {
            DataConfig::Synthetic { temperature, .. } => (0.0..=100.0).contains(temperature),
            _ => true,
        };
        let rules = [
            (self.model.is_some() != self.base.is_some(), "give either [model] or [base]"),
            (self.model.is_none() || self.tokenizer.is_some(), "[model] needs [tokenizer]"),
            (self.base.is_none() || self.tokenizer.is_none(), "[base] has its own tokenizer"),
            (self.teacher.is_none() || self.preference.is_none(), "[teacher] or [preference]"),
            (!self.data.is_empty(), "[[data]] is missing"),
            (self.data.iter().all(temperature), "temperature is in 0..=100"),
            ((0.0..1.0).contains(&selection.held_out_share), "held_out_share is in 0..1"),
            ((0.0..=1.0).contains(&selection.overlap_max), "overlap_max is in 0..=1"),
            (self.save.every_steps > 0, "every_steps is at least 1"),
            (self.save.keep > 0, "keep is at least 1"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
    }
}

/// Writes the template into a new folder.
pub(crate) fn init(folder: &Path) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(folder).map_err(|error| at_path(folder, &error))?;
    let path = folder.join(FILE_NAME);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = file.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already", path.display()))
        }
        _ => at_path(&path, &error),
    })?;
    let written = std::io::Write::write_all(&mut file, TEMPLATE.as_bytes());
    written.map_err(|error| at_path(&path, &error))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TrainConfig, String> {
        let config: TrainConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map(|()| config).map_err(str::to_owned)
    }

    #[test]
    fn the_template_is_valid() {
        let config = parse(TEMPLATE).unwrap();
        let architecture = config.model.unwrap().architecture(512).unwrap();
        assert!(config.step.sample_tokens <= architecture.context_tokens);
    }

    #[test]
    fn unknown_keys_and_contradictions_are_refused() {
        let cases = [
            ("seed = ", "sed = ", "sed"),
            ("\n[model]", "\n[base]\npath = \"m\"\n[model]", "either"),
            ("held_out_share = 0.05", "held_out_share = 1.0", "held_out_share"),
            ("keep = 3", "keep = 0", "keep"),
            ("format = \"text\"", "format = \"pdf\"", "pdf"),
            ("width = 64", "width = 64\nwidht = 1", "widht"),
        ];
        for (from, to, named) in cases {
            assert!(TEMPLATE.contains(from), "{from}");
            let error = parse(&TEMPLATE.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(named), "{to}: {error}");
        }
    }
}
