//! The folder of a run: checkpoints, what each step did, what the run is.
//!
//! A checkpoint has its name only once it is whole and on disk, so a kill at any moment leaves the
//! ones before it. What each step did is appended; lines after the last checkpoint are dropped when
//! the run goes on, since these steps are taken again.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shoal_base::Digest;
use shoal_train::{Run, StepReport};

use super::data::read_file;
use crate::failure::{Failure, at_path};
use crate::whole_file::{PART_PREFIX, replace_whole};

const CHECKPOINTS: &str = "checkpoints";
const EXTENSION: &str = "ckpt";
const STEPS: &str = "steps.jsonl";
const DEFINITION: &str = "run.json";
const LOCK: &str = "lock";
const CHECKPOINT_BYTES_MAX: u64 = 64 << 30;
const DEFINITION_BYTES_MAX: u64 = 1 << 20;

/// What a step did, as a line of `steps.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepRecord {
    pub(crate) step: u64,
    pub(crate) loss: f64,
    pub(crate) gradient_norm: f64,
    pub(crate) rate: f32,
    pub(crate) tokens: usize,
    /// Hash of the state after the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<Digest>,
}

impl StepRecord {
    pub(crate) fn new(report: &StepReport, state: Option<Digest>) -> Self {
        let StepReport { step, loss, gradient_norm, rate, rows } = *report;
        Self { step, loss, gradient_norm, rate, tokens: rows, state }
    }

    /// The record as it would be read back: reading a number may move its last bit.
    pub(crate) fn as_read(&self) -> Self {
        serde_json::from_str(&line_of(self)).expect("a record is read as it was written")
    }
}

/// The folder of a run, used by this process alone.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// Held as long as the folder is in use.
    _lock: File,
}

impl RunFolder {
    /// Takes a folder for this process.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let checkpoints = path.join(CHECKPOINTS);
        std::fs::create_dir_all(&checkpoints).map_err(|error| at_path(&checkpoints, &error))?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|error| at_path(&lock_path, &error))?;
        if lock.try_lock().is_err() {
            let path = path.display();
            return Err(Failure::usage(format!("{path}: another process works on this run")));
        }
        // What a killed process was writing has no name yet and is of no use.
        for folder in [path, &checkpoints] {
            for name in names(folder)?.iter().filter(|name| name.starts_with(PART_PREFIX)) {
                let _ = std::fs::remove_file(folder.join(name));
            }
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Notes what the run is, or says what changed since it was noted.
    pub(crate) fn pin(&self, run: &Run) -> Result<(), Failure> {
        let path = self.file(DEFINITION);
        let text = serde_json::to_string_pretty(run.definition()).expect("plain data is JSON");
        if !path.exists() {
            return replace_whole(&path, text.as_bytes());
        }
        let bytes = read_file(&path, DEFINITION_BYTES_MAX)?;
        if bytes == text.as_bytes() {
            return Ok(());
        }
        let bad = || Failure::bad_input(format!("{}: not what it was", path.display()));
        let object = |bytes: &[u8]| serde_json::from_slice::<Map<String, Value>>(bytes).ok();
        let then = object(&bytes).ok_or_else(bad)?;
        let now = object(text.as_bytes()).expect("a definition is an object");
        let changed = now.iter().find(|(key, value)| then.get(*key) != Some(value));
        let (key, value) = changed.ok_or_else(bad)?;
        let before = then.get(key).unwrap_or(&Value::Null);
        Err(Failure::bad_input(format!(
            "{key} changed since the run began: it was {before}, it is {value}; restore it, or \
             begin another run"
        )))
    }

    /// Steps of the checkpoints there are, ascending.
    pub(crate) fn checkpoints(&self) -> Result<Vec<u64>, Failure> {
        let names = names(&self.file(CHECKPOINTS))?;
        let step = |name: &String| name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok();
        let mut steps: Vec<u64> = names.iter().filter_map(step).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.file(CHECKPOINTS).join(format!("{step:010}.{EXTENSION}"))
    }

    /// Saves the run as it is, then drops all but the newest `keep` checkpoints.
    pub(crate) fn save(&self, run: &Run, keep: usize) -> Result<(), Failure> {
        let path = self.checkpoint_path(run.trainer().step_count());
        replace_whole(&path, &run.checkpoint())?;
        let steps = self.checkpoints()?;
        for &step in steps.iter().rev().skip(keep) {
            // One too many does no harm.
            let _ = std::fs::remove_file(self.checkpoint_path(step));
        }
        Ok(())
    }

    /// Goes on from the checkpoint of `step`.
    pub(crate) fn restore(&self, run: &mut Run, step: u64) -> Result<(), Failure> {
        let path = self.checkpoint_path(step);
        let bytes = read_file(&path, CHECKPOINT_BYTES_MAX)?;
        run.restore(&bytes).map_err(|error| {
            let path = path.display();
            Failure::bad_input(format!("{path}: {error}; remove it to go on from one before"))
        })
    }

    /// What the steps did so far. A last line that was cut by a kill is dropped.
    pub(crate) fn records(&self) -> Result<Vec<StepRecord>, Failure> {
        Ok(self.lines()?.into_iter().map(|(record, _)| record).collect())
    }

    /// Records with the lines they were read from.
    fn lines(&self) -> Result<Vec<(StepRecord, String)>, Failure> {
        let path = self.file(STEPS);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| at_path(&path, &error))?,
        };
        let mut lines: Vec<(StepRecord, String)> = Vec::new();
        for line in BufReader::new(file).lines() {
            let line = line.map_err(|error| at_path(&path, &error))?;
            match serde_json::from_str::<StepRecord>(&line) {
                Ok(record) if record.step == lines.len() as u64 => lines.push((record, line)),
                _ => break,
            }
        }
        Ok(lines)
    }

    /// Keeps the records before `step` as they were written, and returns the file to append to.
    pub(crate) fn continue_records(&self, step: u64) -> Result<Records, Failure> {
        let path = self.file(STEPS);
        let kept = self.lines()?.into_iter().take_while(|(record, _)| record.step < step);
        let text: String = kept.map(|(_, line)| line + "\n").collect();
        replace_whole(&path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|error| at_path(&path, &error))?;
        Ok(Records { path, file })
    }
}

/// What the steps do, being written.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    file: File,
}

impl Records {
    pub(crate) fn push(&mut self, record: &StepRecord) -> Result<(), Failure> {
        let written = self.file.write_all(line_of(record).as_bytes());
        written.map_err(|error| at_path(&self.path, &error))
    }
}

fn line_of(record: &StepRecord) -> String {
    let line = serde_json::to_string(record).expect("a record is plain data");
    format!("{line}\n")
}

fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| at_path(folder, &error))?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        Some(entry.ok()?.file_name().to_string_lossy().into_owned())
    };
    Ok(entries.filter_map(name).collect())
}
