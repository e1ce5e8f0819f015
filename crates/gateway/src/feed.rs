//! From answers to a stream of events for a client, whatever words its API has for them.

use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, stream};
use shoal_base::TokenEvent;

use crate::answer::Answers;
use crate::error::ApiError;

/// The words of one API.
pub(crate) trait Feed: Send + 'static {
    /// Takes an event of an answer. Says whether more is to come.
    fn add(&mut self, index: usize, event: TokenEvent) -> bool;

    /// Takes the error that ended everything.
    fn fail(&mut self, error: &ApiError);

    /// The next event of what was taken so far.
    fn ready(&mut self) -> Option<Event>;
}

/// A response that streams `answers`, whose first event has been read already.
pub(crate) fn respond(feed: impl Feed, answers: Answers, first: (usize, TokenEvent)) -> Response {
    Sse::new(events(feed, answers, first)).keep_alive(KeepAlive::default()).into_response()
}

fn events(
    mut feed: impl Feed,
    answers: Answers,
    (index, first): (usize, TokenEvent),
) -> impl Stream<Item = Result<Event, Infallible>> {
    let answers = feed.add(index, first).then_some(answers);
    stream::unfold((feed, answers), |(mut feed, mut answers)| async move {
        loop {
            if let Some(event) = feed.ready() {
                return Some((Ok(event), (feed, answers)));
            }
            let goes_on = match answers.as_mut()?.next().await {
                Ok((index, event)) => feed.add(index, event),
                Err(error) => {
                    feed.fail(&error);
                    false
                }
            };
            if !goes_on {
                answers = None;
            }
        }
    })
}
