//! What becomes of numbers that go out of range: the request that used them ends and says where.

use std::sync::mpsc::channel;

use shoal_base::{Flow, Generate, GenerateError, Prompt, Request, TokenEvent, TokenId};
use shoal_engine::{EngineOptions, LocalEngine};
use shoal_model::package::{InputFormat, Package, StoredFormat};
use shoal_model::{Architecture, LinearPart, TensorRole};
use shoal_testkit::{Altered, TinyModel, import, tiny_architecture};

/// Tokens from here on are faulty, and never the best choice of the model.
const FAULTY: usize = 128;
/// The channel that faulty tokens alone have, and that the queries of layer 0 blow up.
const CHANNEL: usize = 40;

/// A model in which a query overflows for some tokens.
fn faulty_tokens() -> Altered {
    Altered::new(Box::new(TinyModel::new(architecture(), 1)), |role, first_row, out| {
        let columns = architecture().model_width as usize;
        for (i, row) in out.chunks_mut(columns).enumerate() {
            let faulty = first_row + i >= FAULTY;
            match role {
                TensorRole::Embedding => row[CHANNEL] = if faulty { 10.0 } else { 0.0 },
                TensorRole::OutputHead if faulty => row.fill(0.0),
                TensorRole::Linear(0, LinearPart::Query) => row[CHANNEL] = 1e13,
                _ => {}
            }
        }
    })
}

fn architecture() -> Architecture {
    Architecture { tied_embeddings: false, ..tiny_architecture() }
}

fn engine(draft: Option<&Package>) -> LocalEngine {
    let package = import(&faulty_tokens(), StoredFormat::I8, InputFormat::A8);
    let options = EngineOptions { threads: 2, kv_bytes: 16 << 20, ..EngineOptions::default() };
    LocalEngine::open(&package, "faulty", draft, options).expect("it opens")
}

fn answer(engine: &LocalEngine, prompt: Vec<TokenId>) -> Result<Vec<TokenId>, GenerateError> {
    let mut request = Request::new(Prompt::Tokens(prompt));
    request.sampling.temperature = 0.0;
    request.stop.tokens_max = Some(40);
    request.stop.ignore_end_of_turn = true;
    let (sender, events) = channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => Flow::Continue,
        Err(_) => Flow::Stop,
    };
    engine.submit(request, Box::new(sink)).expect("the request is accepted");
    let mut ids = Vec::new();
    for event in events {
        match event {
            TokenEvent::Token { id, .. } => ids.push(id),
            TokenEvent::Failed(error) => return Err(error),
            _ => {}
        }
    }
    Ok(ids)
}

fn prompt(count: u32) -> Vec<TokenId> {
    (0..count).map(|i| TokenId(i * 7 % 100)).collect()
}

#[test]
fn a_fault_names_its_layer_and_its_first_position() {
    let engine = engine(None);
    for position in [0, 5, 100] {
        let mut tokens = prompt(130);
        tokens[position] = TokenId(200);
        tokens[120] = TokenId(201);
        let expected = GenerateError::Fault { layer_index: 0, position: position as u32 };
        assert_eq!(answer(&engine, tokens), Err(expected));
    }
    let embedded = engine.embed(&[Prompt::Tokens(vec![TokenId(1), TokenId(200)])]);
    assert_eq!(embedded, Err(GenerateError::Fault { layer_index: 0, position: 1 }));
    assert_eq!(engine.stats().kv_pages_held, 0);
}

#[test]
fn faults_of_wrong_guesses_are_no_faults_of_the_answer() {
    let expected = answer(&engine(None), prompt(20)).expect("it has an answer");
    assert_eq!(expected.len(), 40);
    // Guesses faulty tokens about every other time; the model never chooses one.
    let draft = import(&TinyModel::new(architecture(), 2), StoredFormat::I8, InputFormat::A8);
    let drafted = engine(Some(&draft));
    assert_eq!(answer(&drafted, prompt(20)), Ok(expected));
    assert!(drafted.stats().guess_passes > 0, "guesses were verified");
}
