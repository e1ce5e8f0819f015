//! A stage goes in the middle of answers; nobody notices.

use shoal_base::TokenEvent;

use crate::support::{collect, expected, package, requests, ring, start, together};

#[test]
fn a_stage_that_dies_is_replaced_and_no_answer_changes() {
    let package = package(1);
    let expected = expected(&package);
    for (victim, tokens) in [(0, 3), (1, 7), (2, 12)] {
        let mut ring = ring(&package, &[1, 3, 5], &[0, 1, 2]);
        let first = start(&ring.head, requests().remove(0));
        let mut seen = Vec::new();
        while seen.len() < tokens {
            match first.recv().expect("tokens come") {
                event @ TokenEvent::Token { .. } => seen.push(event),
                TokenEvent::Started { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        drop(ring.stages.remove(victim));
        let rest = collect(&first).expect("it goes on");
        seen.extend(rest.tokens);
        assert_eq!(seen, expected[0].tokens, "stage {victim} died after {tokens} tokens");
        assert_eq!(together(&ring.head), expected, "and everything after it");
        let status = ring.head.status();
        assert_eq!(status.replaced, 1, "{status:?}");
        assert_eq!(status.stages[victim].node, ring.spares[victim].address().node);
    }
}

#[test]
fn without_a_spare_requests_fail_and_name_who_is_gone() {
    let package = package(1);
    let mut short = ring(&package, &[2, 5], &[]);
    assert_eq!(together(&short.head).len(), requests().len());
    let gone = short.stages.remove(1);
    let name = gone.address().node.to_string();
    drop(gone);
    let mut request = requests().remove(0);
    request.stop.tokens_max = Some(400);
    let error = collect(&start(&short.head, request)).expect_err("nobody has its layers");
    assert!(error.to_string().contains(&name), "{error}");
}
