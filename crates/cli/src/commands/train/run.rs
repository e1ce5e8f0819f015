//! `shoal train run` and `resume`.

use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::json;
use shoal_train::data::{Document, Piece, fill_sample};
use shoal_train::{Run, Workspace, evaluate};

use crate::failure::{Failure, at_path};
use crate::session::Session;
use crate::train::folder::Records;
use crate::train::{Opened, RunFolder, StepRecord, curve, open};
use crate::whole_file::replace_whole;
use crate::{interrupt, output, progress};

/// Width of the line of blocks at the end.
const LINE_WIDTH: usize = 60;
const CURVE: &str = "loss.svg";
const PICTURE: &str = "loss.png";

/// Begins a run that has no checkpoint yet.
pub(super) fn begin(session: &Session, path: &Path) -> Result<(), Failure> {
    check_folder(path)?;
    let folder = RunFolder::open(path)?;
    if !folder.checkpoints()?.is_empty() {
        let path = path.display();
        let rule = format!("{path} has checkpoints: `shoal train resume {path}` goes on");
        return Err(Failure::usage(rule));
    }
    train(session, path, &folder)
}

/// Goes on from the newest checkpoint.
pub(super) fn resume(session: &Session, path: &Path) -> Result<(), Failure> {
    check_folder(path)?;
    train(session, path, &RunFolder::open(path)?)
}

/// A folder without settings is no run; nothing is made in it.
pub(super) fn check_folder(path: &Path) -> Result<(), Failure> {
    let config = path.join(crate::train::config::FILE_NAME);
    std::fs::metadata(&config).map(drop).map_err(|error| at_path(&config, &error))
}

fn train(session: &Session, path: &Path, folder: &RunFolder) -> Result<(), Failure> {
    interrupt::watch();
    let mut opened = open(session, path)?;
    folder.pin(&opened.run)?;
    match folder.checkpoints()?.last() {
        Some(&step) => folder.restore(&mut opened.run, step)?,
        None => folder.save(&opened.run, opened.config.save.keep)?,
    }
    let records = folder.continue_records(opened.run.trainer().step_count())?;
    let stopped = steps(session, folder, &mut opened, records);
    // The picture is drawn whatever ended the run; the reason it ended comes first.
    let drawn = draw(session, folder, &opened.run);
    stopped?;
    drawn?;
    finish(session, folder, &opened)
}

/// Takes the steps that are left. What was computed is saved also when somebody asks to end.
fn steps(
    session: &Session,
    folder: &RunFolder,
    opened: &mut Opened,
    mut records: Records,
) -> Result<(), Failure> {
    let (run, save) = (&mut opened.run, opened.config.save);
    let steps = run.definition().step.steps;
    let bar = progress::parts("training", session.json);
    bar.set_length(steps);
    bar.set_position(run.trainer().step_count());
    let (start, mut tokens) = (Instant::now(), 0);
    while !run.is_finished() {
        let report = run.step()?;
        let done = report.step + 1;
        let hashed = save.hash_every_steps > 0 && done.is_multiple_of(save.hash_every_steps);
        let last = run.is_finished() || interrupt::is_asked();
        let state = (hashed || run.is_finished()).then(|| run.state_digest());
        let record = StepRecord::new(&report, state);
        records.push(&record)?;
        tokens += record.tokens;
        let rate = tokens as f64 / start.elapsed().as_secs_f64();
        tell(session, &bar, &record, rate)?;
        if last || done.is_multiple_of(save.every_steps) {
            folder.save(run, save.keep)?;
            if session.json {
                output::json(&json!({ "event": "checkpoint", "step": done }))?;
            }
        }
        if interrupt::is_asked() && !run.is_finished() {
            bar.finish_and_clear();
            let rule = format!("interrupted; everything up to step {done} is saved");
            return Err(Failure::new(crate::failure::Code::Interrupted, rule));
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn tell(
    session: &Session,
    bar: &ProgressBar,
    record: &StepRecord,
    tokens_per_s: f64,
) -> Result<(), Failure> {
    if session.json {
        return output::json(&json!({
            "event": "step", "step": record.step, "loss": record.loss,
            "gradient_norm": record.gradient_norm, "rate": record.rate,
            "tokens": record.tokens, "tokens_per_s": tokens_per_s, "state": record.state,
        }));
    }
    bar.set_position(record.step + 1);
    bar.set_message(format!("loss {:.4}, {tokens_per_s:.0} tokens/s", record.loss));
    Ok(())
}

fn draw(session: &Session, folder: &RunFolder, run: &Run) -> Result<(), Failure> {
    let records = folder.records()?;
    let title = format!("loss of run {:.12} in nats per token", run.id());
    let svg = curve::svg(&title, &records);
    replace_whole(&folder.file(CURVE), svg.as_bytes())?;
    replace_whole(&folder.file(PICTURE), &curve::png(&title, &records))?;
    if session.json || records.is_empty() {
        return Ok(());
    }
    output::line(&curve::line(&records, LINE_WIDTH))
}

fn finish(session: &Session, folder: &RunFolder, opened: &Opened) -> Result<(), Failure> {
    let run = &opened.run;
    let held_out = held_out_loss(run, &opened.held_out)?;
    let state = run.state_digest();
    if session.json {
        return output::json(&json!({
            "event": "finished", "run": run.id(), "steps": run.trainer().step_count(),
            "state": state, "held_out_loss": held_out,
        }));
    }
    output::line(&format!("run    {}", run.id()))?;
    output::line(&format!("steps  {}", run.trainer().step_count()))?;
    if let Some(loss) = held_out {
        let count = opened.held_out.len();
        output::line(&format!("loss   {loss:.4} nats per token on {count} held-out documents"))?;
    }
    output::line(&format!("state  {state}"))?;
    output::line(&format!("curve  {}", folder.file(CURVE).display()))
}

/// The mean loss over documents that were set aside.
fn held_out_loss(run: &Run, documents: &[Document]) -> Result<Option<f64>, Failure> {
    let trainer = run.trainer();
    let context = trainer.model().architecture().context_tokens as usize;
    let mut space = Workspace::default();
    let (mut nats, mut weight) = (0.0, 0.0);
    for document in documents.iter().filter(|document| document.rows() > 0) {
        interrupt::check()?;
        let rows = 0..document.rows().min(context);
        let sample = fill_sample(std::slice::from_ref(document), &[Piece { document: 0, rows }]);
        let (more, counted) = evaluate(trainer.kernels(), trainer.model(), &sample, &mut space)?;
        nats += more;
        weight += counted;
    }
    Ok((weight > 0.0).then(|| nats / weight))
}
