//! From settings on disk to a run before its first step.

use std::path::Path;

use shoal_base::Digest;
use shoal_kernels::{Isa, Kernels};
use shoal_model::import::import_tokenizer;
use shoal_model::tokenizer::{Tokenizer, TokenizerSpec};
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
    pub(crate) run: Run,
    /// Documents to measure with.
    pub(crate) held_out: Vec<Document>,
}

/// Reads settings, models and data of the run in `folder`.
pub(crate) fn open(session: &Session, folder: &Path) -> Result<Opened, Failure> {
    let config = TrainConfig::read(folder)?;
    let (model, spec) = first_model(folder, &config)?;
    let tokenizer = Tokenizer::new(spec.clone())?;
    let teacher = config.teacher.as_ref();
    let teacher = teacher.map(|t| read_teacher(folder, t, &config, &spec)).transpose()?;
    let loaded = data::load(session, folder, &config, &tokenizer)?;
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
    Ok(Opened { config, tokenizer: spec, run, held_out: loaded.held_out })
}

fn first_model(
    folder: &Path,
    config: &TrainConfig,
) -> Result<(TrainModel, TokenizerSpec), Failure> {
    if let Some(base) = &config.base {
        return read_model(folder, base);
    }
    let (Some(settings), Some(place)) = (&config.model, &config.tokenizer) else {
        return Err(Failure::bad_input("give [model] and [tokenizer], or [base]"));
    };
    let (path, tokenizer) = beside(folder, place);
    let spec = import_tokenizer(&*open_source(&path, tokenizer.as_deref())?)?;
    let vocab_count = spec.vocabulary.len() as u32;
    let bad = |error| Failure::bad_input(format!("[model]: {error}"));
    let architecture = settings.architecture(vocab_count).map_err(bad)?;
    Ok((TrainModel::try_new(architecture).map_err(bad)?, spec))
}

fn read_model(folder: &Path, place: &ModelPlace) -> Result<(TrainModel, TokenizerSpec), Failure> {
    let (path, tokenizer) = beside(folder, place);
    let source = open_source(&path, tokenizer.as_deref())?;
    let spec = import_tokenizer(&*source)?;
    Ok((TrainModel::read(&*source)?, spec))
}

/// A teacher, made fit for the samples of the run and its end of documents.
fn read_teacher(
    folder: &Path,
    teacher: &TeacherConfig,
    config: &TrainConfig,
    spec: &TokenizerSpec,
) -> Result<TrainModel, Failure> {
    let place = ModelPlace { path: teacher.path.clone(), tokenizer: teacher.tokenizer.clone() };
    let (mut model, its_spec) = read_model(folder, &place)?;
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
