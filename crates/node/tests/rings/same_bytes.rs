//! The same bytes for one process and for any cut.

use std::sync::mpsc::channel;

use shoal_base::{FinishReason, Flow, Generate as _, GenerateError, Prompt, Request, TokenEvent};

use crate::support::{answer, collect, engine, expected, package, requests, ring, start, together};

#[test]
fn answers_are_the_same_however_the_layers_are_cut() {
    let package = package(1);
    let expected = expected(&package);
    for cuts in [&[5][..], &[2, 5], &[4, 5], &[1, 3, 5], &[1, 2, 3, 4, 5]] {
        let ring = ring(&package, cuts, &[]);
        assert_eq!(together(&ring.head), expected, "cut after {cuts:?}");
        let status = ring.head.status();
        assert!(status.is_ready && status.stages.len() == cuts.len(), "{status:?}");
        assert_eq!((status.generation, status.replaced), (1, 0), "nothing went wrong");
    }
}

#[test]
fn one_request_at_a_time_gives_the_same_as_all_at_once() {
    let package = package(2);
    let ring = ring(&package, &[3, 5], &[]);
    for (request, expected) in requests().into_iter().zip(expected(&package)) {
        assert_eq!(answer(&ring.head, request), Ok(expected));
    }
}

#[test]
fn a_cancelled_answer_ends_and_leaves_room() {
    let package = package(1);
    let ring = ring(&package, &[2, 5], &[]);
    let mut long = requests()[1].clone();
    long.stop.tokens_max = Some(400);
    let (sender, events) = channel();
    let sink = move |event| {
        let _ = sender.send(event);
        Flow::Continue
    };
    let generation = ring.head.submit(long.clone(), Box::new(sink)).expect("accepted");
    assert!(matches!(events.recv(), Ok(TokenEvent::Started { .. })));
    generation.cancel();
    let mut tokens = 0;
    loop {
        match events.recv().expect("it ends") {
            TokenEvent::Token { .. } => tokens += 1,
            TokenEvent::Finished { reason, .. } => {
                break assert_eq!(reason, FinishReason::Cancelled);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(tokens < 400);
    // A client that goes away ends its request as well. More than fit at once would wait for ever
    // if these did not leave.
    for _ in 0..10 {
        drop(start(&ring.head, long.clone()));
    }
    let after = answer(&ring.head, requests()[0].clone()).expect("there is room");
    assert_eq!(after.completion_tokens, 20);
}

#[test]
fn what_the_ring_cannot_do_is_refused_before_it_starts() {
    let package = package(1);
    let ring = ring(&package, &[5], &[]);
    let refused = |request: Request| match ring.head.submit(request, Box::new(|_| Flow::Continue)) {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    };
    let mut long = requests()[0].clone();
    long.stop.tokens_max = Some(600);
    assert!(matches!(refused(long), GenerateError::ContextLength { limit_tokens: 512, .. }));
    let hot = Request {
        sampling: shoal_base::Sampling { temperature: -1.0, ..Default::default() },
        ..requests()[0].clone()
    };
    assert!(matches!(refused(hot), GenerateError::Parameter { name: "temperature", .. }));
    let text = [Prompt::Text("x".to_owned())];
    assert!(matches!(ring.head.embed(&text), Err(GenerateError::Parameter { .. })));
    let local = engine(&package);
    assert_eq!(ring.head.tokenize(&text[0]), local.tokenize(&text[0]));
    assert_eq!(ring.head.card().package, local.card().package);
}

#[test]
fn stopping_the_head_ends_every_request() {
    let package = package(1);
    let ring = ring(&package, &[2, 5], &[]);
    let running: Vec<_> = requests()
        .into_iter()
        .map(|mut request| {
            request.stop.tokens_max = Some(300);
            start(&ring.head, request)
        })
        .collect();
    drop(ring);
    for events in running {
        let end = collect(&events);
        assert!(end == Err(GenerateError::ShuttingDown) || end.is_ok(), "{end:?}");
    }
}
