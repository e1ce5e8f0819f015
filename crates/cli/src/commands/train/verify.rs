//! `shoal train verify`: computes steps again and compares their states with those noted.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::json;

use super::run::check_folder;
use crate::failure::Failure;
use crate::session::Session;
use crate::train::{RunFolder, StepRecord, open};
use crate::{interrupt, output, progress};

/// Arguments of `shoal train verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the run
    #[arg(value_name = "RUN")]
    folder: PathBuf,

    /// Steps to compute again, the second not included; all unless given
    #[arg(long, value_name = "A..B")]
    steps: Option<StepRange>,
}

/// `A..B`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StepRange {
    first: u64,
    end: u64,
}

impl FromStr for StepRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "a range is A..B with A below B, such as 100..200";
        let (first, end) = text.split_once("..").ok_or(rule)?;
        let range = Self { first: first.parse().or(Err(rule))?, end: end.parse().or(Err(rule))? };
        if range.first < range.end { Ok(range) } else { Err(rule) }
    }
}

pub(super) fn verify(session: &Session, args: &Args) -> Result<(), Failure> {
    check_folder(&args.folder)?;
    interrupt::watch();
    let folder = RunFolder::open(&args.folder)?;
    let records = folder.records()?;
    let taken = records.len() as u64;
    let range = args.steps.unwrap_or(StepRange { first: 0, end: taken });
    if range.end > taken || range.first >= range.end {
        return Err(Failure::usage(format!("the run has steps 0..{taken}")));
    }
    let hashed = |record: &&StepRecord| record.state.is_some();
    let in_range = &records[range.first as usize..range.end as usize];
    let Some(last) = in_range.iter().rfind(hashed) else {
        return Err(Failure::usage("no state was noted in these steps; see hash_every_steps"));
    };
    let mut opened = open(session, &args.folder)?;
    folder.pin(&opened.run)?;
    // The newest checkpoint before the range; without one, from the first step.
    let from = folder.checkpoints()?.into_iter().rfind(|&step| step > 0 && step <= range.first);
    if let Some(step) = from {
        folder.restore(&mut opened.run, step)?;
    }
    let start = from.unwrap_or(0);
    let bar = progress::parts("computing again", session.json);
    bar.set_length(last.step + 1 - start);
    let mut compared = 0;
    for record in &records[start as usize..=last.step as usize] {
        interrupt::check()?;
        let report = opened.run.step()?;
        let state = opened.run.state_digest();
        let expected = record.state.filter(|_| record.step >= range.first);
        compared += usize::from(expected.is_some());
        let loss_differs = StepRecord::new(&report, None).as_read().loss != record.loss;
        if loss_differs || expected.is_some_and(|expected| expected != state) {
            bar.finish_and_clear();
            let noted = expected.map_or_else(|| record.loss.to_string(), |d| d.to_string());
            let got = expected.map_or_else(|| report.loss.to_string(), |_| state.to_string());
            return Err(Failure::bad_input(format!(
                "step {}: computed {got}, noted {noted}; it is the first that differs",
                record.step
            )));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (first, end) = (range.first, last.step + 1);
    if session.json {
        return output::json(&json!({
            "first": first, "end": end, "computed_from": start, "states_compared": compared,
        }));
    }
    output::line(&format!("steps {first}..{end}: all {compared} states are equal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_as_documented() {
        assert_eq!("3..10".parse(), Ok(StepRange { first: 3, end: 10 }));
        for bad in ["", "3", "3..", "..4", "4..4", "5..4", "a..b", "-1..2"] {
            assert!(bad.parse::<StepRange>().is_err(), "{bad}");
        }
    }
}
