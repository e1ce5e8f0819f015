//! `shoal train prove` and `check-proof`: a document has its place in the data of a run, shown by
//! the document, some hashes and the root of the data. Spec 05 §8.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;
use shoal_base::Digest;
use shoal_train::data::{Document, Inclusion};

use super::run::check_folder;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::train::data::read_file;
use crate::train::open;
use crate::whole_file::replace_whole;

/// A proof holds one document and at most 64 hashes.
const PROOF_BYTES_MAX: u64 = 256 << 20;

/// Arguments of `shoal train prove`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProveArgs {
    /// The folder of the run
    #[arg(value_name = "RUN")]
    folder: PathBuf,

    /// Which document, from 0; of pairs of answers the chosen ones are even, the rejected odd
    #[arg(long, value_name = "N")]
    document: usize,

    /// File to write; the terminal unless given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Arguments of `shoal train check-proof`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// A file that `shoal train prove` wrote
    #[arg(value_name = "FILE")]
    proof: PathBuf,

    /// Root of the data: `data` in the run's `run.json`
    #[arg(long, value_name = "DIGEST")]
    root: Digest,
}

/// A proof as a file. What it proves is the root that the reader has from elsewhere.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    index: u64,
    count: u64,
    path: Vec<Digest>,
    tokens: Vec<u32>,
    /// Numbers of 32 bits, written with 64 so that none changes on the way.
    weights: Vec<f64>,
}

pub(super) fn prove(session: &Session, args: &ProveArgs) -> Result<(), Failure> {
    check_folder(&args.folder)?;
    let opened = open(session, &args.folder)?;
    let documents = opened.run.examples().documents();
    let proof = Inclusion::prove(documents.iter().copied(), args.document).ok_or_else(|| {
        Failure::usage(format!("--document is below {}, the documents there are", documents.len()))
    })?;
    let document = documents[args.document];
    let proof = Proof {
        index: proof.index,
        count: proof.count,
        path: proof.path,
        tokens: document.tokens.clone(),
        weights: document.weights.iter().copied().map(f64::from).collect(),
    };
    let Some(path) = &args.out else { return output::json(&json!(proof)) };
    let text = serde_json::to_vec(&proof).expect("plain data has a JSON form");
    replace_whole(path, &text)?;
    let root = opened.run.definition().data;
    if session.json {
        return output::json(&json!({ "path": path, "root": root }));
    }
    let (path, index) = (path.display(), args.document);
    output::line(&format!("{path}: document {index} of {}, root {root}", proof.count))
}

pub(super) fn check(session: &Session, args: &CheckArgs) -> Result<(), Failure> {
    let path = args.proof.display();
    let bytes = read_file(&args.proof, PROOF_BYTES_MAX)?;
    let proof: Proof = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::bad_input(format!("{path}: no proof: {error}")))?;
    let Proof { index, count, path: hashes, tokens, weights } = proof;
    let weights = weights.into_iter().map(|weight| weight as f32).collect();
    let (tokens, document) = (tokens.len(), Document { tokens, weights });
    if !(Inclusion { index, count, path: hashes }).holds(args.root, &document) {
        let root = args.root;
        return Err(Failure::bad_input(format!("{path}: not part of the data with root {root}")));
    }
    if session.json {
        return output::json(&json!({ "index": index, "count": count, "tokens": tokens }));
    }
    output::line(&format!("document {index} of {count}, {tokens} tokens: part of the data"))
}
