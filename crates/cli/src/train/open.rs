//! From settings on disk to a run before its first step.

use std::path::Path;

use shoal_base::Digest;
use shoal_kernels::{Isa, Kernels};
use shoal_model::import::{import_tokenizer, read_tokenizer};
use shoal_model::source::open_tokenizer;
use shoal_model::template::BuiltinTemplate;
use shoal_model::tokenizer::{TokenKind, Tokenizer, TokenizerSpec};
use shoal_train::checkpoint::floats_digest;
use shoal_train::data::Document;
use shoal_train::{Objective, Run, RunDefinition, RunModels, TrainModel};

use super::config::{ModelPlace, TeacherConfig, TrainConfig};
use super::data::{self, beside};
use crate::failure::Failure;
use crate::import::open_source;
use crate::session::Session;

/// A run and what belongs to it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) config: TrainConfig,
    pub(crate) tokenizer: TokenizerSpec,
    /// How conversations are written; the exported model takes it along.
    pub(crate) chat_template: Option<String>,
    pub(crate) run: Run,
    /// Documents to measure with.
    pub(crate) held_out: Vec<Document>,
}

/// Reads settings, models and data of the run in `folder`.
pub(crate) fn open(session: &Session, folder: &Path) -> Result<Opened, Failure> {
    let config = TrainConfig::read(folder)?;
    let First { model, spec, chat_template } = first_model(folder, &config)?;
    let tokenizer = Tokenizer::new(spec.clone())?;
    let teacher = config.teacher.as_ref();
    let teacher = teacher.map(|t| read_teacher(folder, t, &config, &spec)).transpose()?;
    let template = config.chat_template.map(|builtin| builtin.template().source().to_owned());
    let template = template.or(chat_template);
    let usual = usual_template(&spec).source();
    let loaded =
        data::load(session, folder, &config, &tokenizer, template.as_deref().unwrap_or(usual))?;
    let chat_template = template.or_else(|| loaded.converses.then(|| usual.to_owned()));
    let digest = |model: &TrainModel| floats_digest(model.parameters().all());
    let objective = match (&config.teacher, config.preference) {
        (Some(teacher), _) => Objective::Distill { share: teacher.share },
        (None, Some(preference)) => Objective::Preference { beta: preference.beta },
        (None, None) => Objective::NextToken,
    };
    let definition = RunDefinition {
        seed: config.seed.clone(),
        architecture: model.architecture().clone(),
        adapter: config.adapter.clone(),
        objective,
        step: config.step,
        data: loaded.examples.root(),
        base: config.base.as_ref().map(|_| digest(&model)),
        teacher: teacher.as_ref().map(digest),
        tokenizer: Digest::of(&spec.to_bytes()?),
    };
    let kernels = Kernels::new(Isa::choose()?, session.threads)?;
    let models = RunModels { model, teacher };
    let run = Run::try_new(kernels, definition, models, loaded.examples)?;
    Ok(Opened { config, tokenizer: spec, chat_template, run, held_out: loaded.held_out })
}

/// What a run begins with.
struct First {
    model: TrainModel,
    spec: TokenizerSpec,
    chat_template: Option<String>,
}

fn first_model(folder: &Path, config: &TrainConfig) -> Result<First, Failure> {
    if let Some(base) = &config.base {
        return read_model(folder, base);
    }
    let (Some(settings), Some(place)) = (&config.model, &config.tokenizer) else {
        return Err(Failure::bad_input("give [model] and [tokenizer], or [base]"));
    };
    let (spec, chat_template) = first_tokenizer(folder, place)?;
    let vocab_count = spec.vocabulary.len() as u32;
    let bad = |error| Failure::bad_input(format!("[model]: {error}"));
    let architecture = settings.architecture(vocab_count).map_err(bad)?;
    let model = TrainModel::try_new(architecture).map_err(bad)?;
    Ok(First { model, spec, chat_template })
}

/// A tokenizer of its own, or that of a model.
fn first_tokenizer(
    folder: &Path,
    place: &ModelPlace,
) -> Result<(TokenizerSpec, Option<String>), Failure> {
    let (path, tokenizer) = beside(folder, place);
    let lone = if tokenizer.is_none() { open_tokenizer(&path)? } else { None };
    if let Some(lone) = lone {
        return Ok((read_tokenizer(lone.files)?, lone.chat_template));
    }
    let source = open_source(&path, tokenizer.as_deref())?;
    Ok((import_tokenizer(&*source)?, source.chat_template().map(str::to_owned)))
}

/// What conversations are written in when neither model nor settings say: the form whose control
/// tokens the vocabulary has, else plain lines.
fn usual_template(spec: &TokenizerSpec) -> BuiltinTemplate {
    let has = |name: &str| {
        let found = |(_, bytes, kind): (_, &[u8], _)| {
            kind == TokenKind::Control && bytes == name.as_bytes()
        };
        spec.vocabulary.iter().any(found)
    };
    let fits = |template: &BuiltinTemplate| template.end_of_turn().iter().all(|name| has(name));
    BuiltinTemplate::ALL.into_iter().find(fits).unwrap_or(BuiltinTemplate::Plain)
}

fn read_model(folder: &Path, place: &ModelPlace) -> Result<First, Failure> {
    let (path, tokenizer) = beside(folder, place);
    let source = open_source(&path, tokenizer.as_deref())?;
    let spec = import_tokenizer(&*source)?;
    let chat_template = source.chat_template().map(str::to_owned);
    Ok(First { model: TrainModel::read(&*source)?, spec, chat_template })
}

/// A teacher, made fit for the samples of the run and its end of documents.
fn read_teacher(
    folder: &Path,
    teacher: &TeacherConfig,
    config: &TrainConfig,
    spec: &TokenizerSpec,
) -> Result<TrainModel, Failure> {
    let place = ModelPlace { path: teacher.path.clone(), tokenizer: teacher.tokenizer.clone() };
    let First { mut model, spec: its_spec, .. } = read_model(folder, &place)?;
    let bad = |rule: &str| Failure::bad_input(format!("{}: {rule}", teacher.path.display()));
    if its_spec != *spec {
        return Err(bad("the teacher has another tokenizer"));
    }
    if let Some(theirs) = teacher.end_token {
        let ours = spec.special.eos.ok_or_else(|| bad("the tokenizer has no end token"))?;
        if theirs >= model.architecture().vocab_count {
            return Err(bad("end_token is in the vocabulary"));
        }
        let exchanged = model.with_exchanged_logits(theirs, ours.0);
        model = exchanged.map_err(|error| bad(&error.to_string()))?;
    }
    if model.architecture().context_tokens < config.step.sample_tokens {
        let rule = "the teacher's context is shorter than sample_tokens";
        return Err(bad(rule));
    }
    Ok(model)
}
