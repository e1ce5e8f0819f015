//! Requests through the trait: what an answer is made of, alone and beside others.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use shoal_base::{
    FinishReason, Flow, Generate, GenerateError, Grammar, Lane, LogprobsRequest, Prompt, Request,
    Sampling, StopCause, StopRules, TokenEvent, TokenId, ToolCalls, ToolFormat, Usage,
};
use shoal_engine::{EngineOptions, LocalEngine};
use shoal_model::package::{InputFormat, Package, StoredFormat};
use shoal_testkit::{TinyModel, import, tiny_architecture};

const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}\
                        {% if add_generation_prompt %}[assistant]{% endif %}";

fn package(seed: u64) -> Package {
    let model = TinyModel::new(tiny_architecture(), seed).with_template(TEMPLATE);
    import(&model, StoredFormat::I8, InputFormat::A8)
}

fn options() -> EngineOptions {
    EngineOptions { threads: 2, kv_bytes: 16 << 20, ..EngineOptions::default() }
}

fn engine(options: EngineOptions) -> LocalEngine {
    LocalEngine::open(&package(1), "tiny", None, options).expect("it opens")
}

fn text(prompt: &str) -> Prompt {
    Prompt::Text(prompt.to_owned())
}

/// A request for `count` tokens at temperature 1.
fn request(prompt: &str, seed: u64, count: u32) -> Request {
    let mut request = Request::new(text(prompt));
    request.sampling.seed = seed;
    request.stop.tokens_max = Some(count);
    request.stop.ignore_end_of_turn = true;
    request
}

/// Starts a request; its events arrive in the receiver.
fn start(engine: &LocalEngine, request: Request) -> Receiver<TokenEvent> {
    let (sender, events) = channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => Flow::Continue,
        Err(_) => Flow::Stop,
    };
    engine.submit(request, Box::new(sink)).expect("the request is accepted");
    events
}

/// A whole answer.
#[derive(Debug, PartialEq)]
struct Whole {
    ids: Vec<u32>,
    text: String,
    reason: FinishReason,
    usage: Usage,
}

fn collect(events: &Receiver<TokenEvent>) -> Whole {
    let mut whole = Whole {
        ids: vec![],
        text: String::new(),
        reason: FinishReason::Cancelled,
        usage: Usage::default(),
    };
    loop {
        match events.recv_timeout(Duration::from_secs(60)).expect("events arrive") {
            TokenEvent::Started { .. } => {}
            TokenEvent::Token { id, text, .. } => {
                whole.ids.push(id.0);
                whole.text += &text;
            }
            TokenEvent::Finished { reason, text, usage, .. } => {
                whole.text += &text;
                return Whole { reason, usage, ..whole };
            }
            TokenEvent::Failed(error) => panic!("{error}"),
        }
    }
}

fn answer(engine: &LocalEngine, request: Request) -> Whole {
    collect(&start(engine, request))
}

#[test]
fn answers_are_the_same_alone_and_beside_others() {
    let requests: Vec<Request> = (0..24)
        .map(|i| {
            let prompt = "a shared beginning ".repeat(i % 5) + &"x".repeat(i * 7);
            let mut request = request(&prompt, i as u64, 20 + i as u32);
            request.sampling.temperature = [0.0, 0.7, 1.3][i % 3];
            request.lane = if i % 2 == 0 { Lane::Interactive } else { Lane::Batch };
            request
        })
        .collect();
    let fresh = |request: &Request| {
        let small = EngineOptions { step_rows: 5, ..options() };
        answer(&engine(small), request.clone())
    };
    let alone: Vec<Whole> = requests.iter().map(fresh).collect();
    let together = engine(options());
    for round in 0..2 {
        let running: Vec<_> = requests.iter().map(|r| start(&together, r.clone())).collect();
        for (events, alone) in running.iter().zip(&alone) {
            let mut whole = collect(events);
            if round == 1 && alone.usage.prompt_tokens > 64 {
                assert!(whole.usage.cached_tokens > 0, "the second round finds cached pages");
            }
            whole.usage.cached_tokens = alone.usage.cached_tokens;
            assert_eq!(&whole, alone);
        }
    }
    let stats = together.stats();
    assert_eq!((stats.running, stats.waiting, stats.kv_pages_held), (0, 0, 0));
    assert_eq!(stats.ended[1], 48);
}

#[test]
fn a_draft_model_changes_no_answer() {
    let plain = engine(options());
    for (draft_seed, least) in [(1, 4.0), (2, 1.0)] {
        // The same weights guess right; other weights hardly ever.
        let draft = package(draft_seed);
        let drafted =
            LocalEngine::open(&package(1), "tiny", Some(&draft), options()).expect("it opens");
        for (i, temperature) in [0.0, 0.8, 1.5].into_iter().enumerate() {
            let mut request = request("once upon a time", i as u64, 60);
            request.sampling.temperature = temperature;
            request.sampling.frequency_penalty = 0.5;
            let expected = answer(&plain, request.clone());
            let mut whole = answer(&drafted, request);
            whole.usage.cached_tokens = expected.usage.cached_tokens;
            assert_eq!(whole, expected, "draft {draft_seed}, temperature {temperature}");
        }
        let stats = drafted.stats();
        let per_pass = stats.guess_tokens as f64 / stats.guess_passes as f64;
        assert!(per_pass >= least, "{per_pass} tokens per pass");
        assert_eq!(stats.kv_pages_held, 0);
    }
}

#[test]
fn stop_rules_end_answers_where_they_say() {
    let engine = engine(options());
    let whole = answer(&engine, request("seed", 3, 40));
    assert_eq!((whole.reason, whole.ids.len()), (FinishReason::Length, 40));
    assert_eq!(whole.usage.completion_tokens, 40);

    let id = whole.ids[10];
    let first = whole.ids.iter().position(|&i| i == id).expect("it is there");
    let mut by_id = request("seed", 3, 40);
    by_id.stop.ids = vec![TokenId(id)];
    let stopped = answer(&engine, by_id);
    let reason = FinishReason::Stop(StopCause::Token(TokenId(id)));
    assert_eq!((stopped.reason, &stopped.ids[..]), (reason, &whole.ids[..first]));

    let characters: Vec<char> = whole.text.chars().filter(|c| c.is_ascii_graphic()).collect();
    if let Some(&character) = characters.first() {
        let mut by_string = request("seed", 3, 40);
        by_string.stop.strings = vec!["no such text".to_owned(), character.to_string()];
        let stopped = answer(&engine, by_string);
        assert_eq!(stopped.reason, FinishReason::Stop(StopCause::String { index: 1 }));
        assert_eq!(stopped.text, whole.text.split(character).next().expect("split gives a part"));
    }
}

#[test]
fn the_card_tells_how_tools_are_called() {
    let card = |template: &str| {
        let model = TinyModel::new(tiny_architecture(), 1).with_template(template);
        let package = import(&model, StoredFormat::I8, InputFormat::A8);
        let engine = LocalEngine::open(&package, "m", None, options()).expect("it loads");
        engine.card().tool_calls
    };
    assert_eq!(card(TEMPLATE), None);
    let hermes = Some(ToolCalls { format: ToolFormat::Hermes, marker: None, separator: None });
    assert_eq!(card("{{ tools }}<tool_call>"), hermes);
}

#[test]
fn a_cancelled_answer_ends_soon_and_says_so() {
    let engine = engine(options());
    let (sender, events) = channel();
    let generation = engine
        .submit(
            request("long", 1, 400),
            Box::new(move |event| {
                let _ = sender.send(event);
                Flow::Continue
            }),
        )
        .expect("accepted");
    assert!(matches!(events.recv(), Ok(TokenEvent::Started { .. })));
    generation.cancel();
    let whole = collect(&events);
    assert_eq!(whole.reason, FinishReason::Cancelled);
    assert!(whole.ids.len() < 400);

    // A sink that wants no more ends its request as well.
    let events = start(&engine, request("long", 2, 400));
    drop(events);
    let after = answer(&engine, request("next", 3, 5));
    assert_eq!(after.ids.len(), 5);
    assert_eq!(engine.stats().kv_pages_held, 0);
}

#[test]
fn grammars_hold_for_every_answer() {
    let engine = engine(options());
    let schema = serde_json::json!({
        "type": "object",
        "properties": { "n": { "type": "integer" }, "ok": { "type": "boolean" } },
        "required": ["n", "ok"],
        "additionalProperties": false
    });
    for seed in 0..5 {
        let mut request = request("give me json", seed, 200);
        request.stop.ignore_end_of_turn = false;
        request.sampling.grammar = Some(Grammar::JsonSchema(schema.clone()));
        let whole = answer(&engine, request);
        if whole.reason != FinishReason::Length {
            let value: serde_json::Value = serde_json::from_str(&whole.text).expect("it is JSON");
            assert!(value["n"].is_number() && value["ok"].is_boolean(), "{value}");
        }
    }
    let mut request = request("digits", 1, 50);
    request.sampling.grammar = Some(Grammar::Regex("[0-9]{4}-[a-c]+x".to_owned()));
    let whole = answer(&engine, request);
    assert!(whole.text.starts_with(|c: char| c.is_ascii_digit()), "{}", whole.text);
    assert!(engine.check_grammar(&Grammar::Regex("(".to_owned())).is_err());
    assert!(engine.check_grammar(&Grammar::Lark("start: nothing_here".to_owned())).is_err());
}

#[test]
fn logprobs_are_reported_when_asked_for() {
    let engine = engine(options());
    let mut request = request("p", 1, 5);
    request.logprobs = Some(LogprobsRequest { top_count: 3 });
    let events = start(&engine, request);
    let mut count = 0;
    while let Ok(event) = events.recv() {
        if let TokenEvent::Token { id, logprob, top, .. } = event {
            let logprob = logprob.expect("asked for");
            assert_eq!((logprob.id, top.len()), (id, 3));
            assert!(top.windows(2).all(|pair| pair[0].logprob >= pair[1].logprob));
            assert!(logprob.logprob <= 0.0 && top[0].logprob >= logprob.logprob);
            count += 1;
        }
    }
    assert_eq!(count, 5);
}

#[test]
fn what_does_not_fit_is_refused_before_it_starts() {
    let engine = engine(options());
    let refused = |request: Request| match engine.submit(request, Box::new(|_| Flow::Continue)) {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    };
    let too_long = Prompt::Tokens(vec![TokenId(5); 512]);
    assert_eq!(
        refused(Request::new(too_long)),
        GenerateError::ContextLength { prompt_tokens: 512, answer_tokens: 1, limit_tokens: 512 }
    );
    assert_eq!(
        refused(request("abc", 0, 510)),
        GenerateError::ContextLength { prompt_tokens: 4, answer_tokens: 510, limit_tokens: 512 }
    );
    let empty = Request::new(Prompt::Tokens(Vec::new()));
    assert!(matches!(refused(empty), GenerateError::Parameter { name: "prompt", .. }));
    // A machine with room for two pages of 64 positions says so.
    let page = 16 << 10;
    let small = EngineOptions { kv_bytes: 2 * page, ..options() };
    let small = LocalEngine::open(&package(1), "tiny", None, small).expect("it opens");
    assert!(small.card().context_tokens <= 512);
    let held = small.card().context_tokens;
    assert_eq!(answer(&small, request("ok", 1, 10)).ids.len(), 10);
    assert!(held >= 64);
}

#[test]
fn more_requests_than_may_wait_are_told_to_come_back() {
    let crowded = EngineOptions { sequences: 1, waiting: 2, ..options() };
    let engine = engine(crowded);
    let running: Vec<_> = (0..40).map(|i| start(&engine, request("q", i, 30))).collect();
    let mut overloaded = 0;
    for events in &running {
        let last = events.iter().last().expect("every request gets an end");
        match last {
            TokenEvent::Failed(GenerateError::Overloaded { .. }) => overloaded += 1,
            TokenEvent::Finished { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(overloaded > 0 && overloaded < 40, "{overloaded}");
}

#[test]
fn stopping_the_engine_ends_every_request() {
    let engine = engine(EngineOptions { sequences: 2, ..options() });
    let running: Vec<_> = (0..6).map(|i| start(&engine, request("q", i, 450))).collect();
    drop(engine);
    for events in running {
        let last = events.iter().last().expect("every request gets an end");
        assert!(
            matches!(last, TokenEvent::Failed(GenerateError::ShuttingDown))
                || matches!(last, TokenEvent::Finished { .. }),
            "{last:?}"
        );
    }
}

#[test]
fn chat_prompts_go_through_the_template() {
    let engine = engine(options());
    let chat = Prompt::Chat {
        messages: vec![serde_json::json!({ "role": "user", "content": "hi" })],
        tools: Vec::new(),
        variables: serde_json::Map::new(),
        add_generation_prompt: true,
    };
    let ids = engine.tokenize(&chat).expect("it renders");
    assert_eq!(ids[0], TokenId(256));
    assert_eq!(engine.detokenize(&ids[1..]).expect("ids are known"), "[user]hi[assistant]");
    assert_eq!(answer(&engine, Request { stop: limit(3), ..Request::new(chat) }).ids.len(), 3);
}

fn limit(tokens: u32) -> StopRules {
    StopRules { tokens_max: Some(tokens), ignore_end_of_turn: true, ..StopRules::default() }
}

#[test]
fn embeddings_are_means_of_states_whatever_runs_beside_them() {
    let engine = engine(options());
    let alone = engine.embed(&[text("one"), text("two words")]).expect("it embeds");
    assert_eq!((alone.len(), alone[0].len()), (2, 72));
    assert_ne!(alone[0], alone[1]);
    let busy = start(&engine, request("busy", 1, 100));
    let beside = engine.embed(&[text("two words"), text("one")]).expect("it embeds");
    assert_eq!((&beside[0], &beside[1]), (&alone[1], &alone[0]));
    collect(&busy);
}

#[test]
fn the_seed_decides() {
    let engine = engine(options());
    let sampling = |seed| Request {
        sampling: Sampling { seed, ..Sampling::default() },
        stop: limit(30),
        ..Request::new(text("x"))
    };
    assert_eq!(answer(&engine, sampling(1)).ids, answer(&engine, sampling(1)).ids);
    assert_ne!(answer(&engine, sampling(1)).ids, answer(&engine, sampling(2)).ids);
}
