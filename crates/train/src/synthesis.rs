//! Documents sampled from a model: inference feeding training. Spec 05 §8.4.
//!
//! Document `i` has a seed of its own, so the result does not depend on how many are computed at a
//! time or in which order they finish.

use std::sync::mpsc::channel;

use shoal_base::{
    Digest, Flow, Generate, GenerateError, Lane, Prompt, Request, TokenEvent, TokenId,
};

use crate::random::{Purpose, Random};

/// What to sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthesis {
    /// Tokens every document begins with, such as the beginning token.
    pub prompt: Vec<TokenId>,
    /// Tokens at which a document ends; they are dropped.
    pub ends: Vec<TokenId>,
    /// Longest document, the prompt not counted.
    pub tokens_max: u32,
    /// 1 samples the model's own distribution.
    pub temperature: f32,
    /// Documents computed at a time.
    pub concurrent: usize,
}

/// Samples documents `first .. first + count`; each is its tokens without prompt and end.
///
/// # Errors
/// What the model answers.
pub fn synthesize(
    model: &dyn Generate,
    run: Digest,
    settings: &Synthesis,
    first: u64,
    count: usize,
) -> Result<Vec<Vec<TokenId>>, GenerateError> {
    let mut documents: Vec<Vec<TokenId>> = vec![Vec::new(); count];
    let (sender, events) = channel();
    let submit = |index: usize| -> Result<(), GenerateError> {
        let mut request = Request::new(Prompt::Tokens(settings.prompt.clone()));
        let seed = Random::new(run, Purpose::Synthesis, 0, first + index as u64).long();
        request.sampling.seed = seed;
        request.sampling.temperature = settings.temperature;
        request.stop.ids = settings.ends.clone();
        request.stop.tokens_max = Some(settings.tokens_max);
        request.lane = Lane::Batch;
        let sender = sender.clone();
        let sink = move |event| match sender.send((index, event)) {
            Ok(()) => Flow::Continue,
            Err(_) => Flow::Stop,
        };
        // The handle only serves to cancel; events keep coming without it.
        model.submit(request, Box::new(sink)).map(drop)
    };
    let mut submitted = count.min(settings.concurrent.max(1));
    (0..submitted).try_for_each(submit)?;
    let mut finished = 0;
    while finished < count {
        let (index, event) = events.recv().map_err(|_| GenerateError::ShuttingDown)?;
        match event {
            TokenEvent::Started { .. } => {}
            TokenEvent::Token { id, .. } => documents[index].push(id),
            TokenEvent::Failed(error) => return Err(error),
            TokenEvent::Finished { .. } => {
                while documents[index].last().is_some_and(|id| settings.ends.contains(id)) {
                    documents[index].pop();
                }
                finished += 1;
                if submitted < count {
                    submit(submitted)?;
                    submitted += 1;
                }
            }
        }
    }
    Ok(documents)
}
