//! Stages that die in the middle of an answer, on networks that are made up: who takes over, how
//! long the client waits, and that no byte changes.

use std::time::{Duration, Instant};

use shoal_netlab::Fault;
use shoal_testkit::{TinyModel, gguf_file, tiny_architecture};

use crate::netlab::{Ask, Scene, Setup, TOKENS, alone, ask, long_ask};
use crate::support::Home;

/// What a client may wait when a stage dies whose caches a spare has, or has them soon.
const WARM: Duration = Duration::from_secs(2);
/// The same when the spare has to load its layers first.
const COLD: Duration = Duration::from_secs(15);
/// Machines that are busy with other things may be so much slower.
const SLACK: u32 = 3;

/// Two layers of random numbers, and room for long prompts.
fn import_long(home: &Home) {
    let mut architecture = tiny_architecture();
    architecture.context_tokens = 8192;
    let path = home.write("long.gguf", &gguf_file(&TinyModel::new(architecture, 3)));
    home.run(&["model", "import", path.to_str().unwrap()]).succeeded();
}

#[test]
fn a_shadow_takes_over_a_context_of_4096_tokens_and_computes_nothing_again() {
    let home = Home::new();
    import_long(&home);
    let setup = Setup { model: "long", halves: ["0-0", "1-1"], ..Setup::new("lan", 1) };
    let Some(scene) = Scene::of(&home, Setup { shadows: "long", ..setup }) else {
        return;
    };
    for (half, fault) in [(1, Fault::Kill as fn(usize) -> Fault), (0, Fault::Freeze)] {
        let prompt = "a long story ".repeat(4096 / 13 + 1);
        let ask = Ask { model: "long", prompt, ..ask(half as u64) };
        let before = scene.ring();
        let (answer, fault) = scene.hit(&ask, half, 9, fault);
        assert_eq!(answer.text, alone(&home, &ask), "{fault:?}");
        let after = scene.ring();
        println!("{fault:?}: pause {:?}, {after}", answer.pause);
        assert!(answer.pause < WARM * SLACK, "{:?}", answer.pause);
        let grew = |name: &str| after[name].as_u64().unwrap() - before[name].as_u64().unwrap();
        assert_eq!(grew("replaced"), 1, "{after}");
        // What it had not got to when the other one died.
        assert!(grew("replayed_tokens") < 512, "{after}");
    }
}

#[test]
fn a_spare_that_was_asked_to_stand_by_is_warm_and_two_deaths_in_a_row_are_survived() {
    let home = Home::new();
    let setup = Setup { are_cold: true, ..Setup::new("lan", 2) };
    let Some(scene) = Scene::of(&home, setup) else {
        return;
    };
    // The first request makes the ring; then spares are told to load.
    assert_eq!(scene.stream(&ask(1), |_| ()).text, alone(&home, &ask(1)));
    std::thread::sleep(Duration::from_secs(2));
    let ask = long_ask(2, 420);
    let mut hits = Vec::new();
    // The longest after each hit: tokens that were on their way still come.
    let (mut last, mut pauses) = (Instant::now(), Vec::<Duration>::new());
    let answer = scene.stream(&ask, |count| {
        if let Some(longest) = pauses.last_mut() {
            *longest = last.elapsed().max(*longest);
        }
        // The second one as soon as the first is replaced: nobody had the time to load anything.
        let is_time = match hits.len() {
            0 => count == 10,
            1 => scene.replaced() == 1,
            _ => false,
        };
        if is_time {
            let fault = Fault::Kill(scene.holder(1));
            scene.lab.apply(fault);
            hits.push(fault);
            pauses.push(Duration::ZERO);
        }
        last = Instant::now();
    });
    assert_eq!(hits.len(), 2, "the answer ended before the first was replaced");
    println!("{hits:?}: pauses {pauses:?}, {}", scene.ring());
    assert_eq!(answer.text, alone(&home, &ask), "{hits:?}");
    assert!(pauses[0] < WARM * SLACK && pauses[1] < COLD, "{pauses:?}");
    assert_eq!(scene.replaced(), 2);
}

/// Pauses of one kind, in the words of a report.
fn summary(name: &str, mut pauses: Vec<Duration>) -> String {
    pauses.sort();
    let at = |share: usize| pauses[(pauses.len() * share / 100).min(pauses.len() - 1)];
    match pauses.is_empty() {
        true => format!("{name}: none"),
        false => format!(
            "{} x {name}: median {:?}, 99 % {:?}, longest {:?}",
            pauses.len(),
            at(50),
            at(99),
            at(100)
        ),
    }
}

/// Kills and freezes at random tokens, with a context of almost 512 tokens: 200 of them with
/// `SHOAL_SOAK`, or as many as it says. What comes when the last token has been computed already
/// does not count.
#[test]
fn a_long_context_moves_to_a_stand_in_at_any_token() {
    let home = Home::new();
    let soak = std::env::var("SHOAL_SOAK").ok();
    let count = soak.map_or(2, |count| count.parse().ok().filter(|n| *n > 2).unwrap_or(200));
    let spares = if count > 2 { 4 } else { 1 };
    let mut random = 7_u64;
    let mut draw = |below: u64| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let asks: Vec<Ask> = (0..8).map(|seed| long_ask(seed, 420)).collect();
    let expected: Vec<String> = asks.iter().map(|ask| alone(&home, ask)).collect();
    let (mut pauses, mut late, mut answers) = (Vec::new(), 0, 0);
    while pauses.len() < count {
        let Some(scene) = Scene::start(&home, "lan", spares) else {
            return;
        };
        let (mut lost, mut owed, mut victims) = ([0, 0], 0, Vec::new());
        while pauses.len() < count && lost != [spares, spares] {
            let half = draw(2) as usize;
            let half = if lost[half] == spares { 1 - half } else { half };
            lost[half] += 1;
            let (after, is_kill) = (1 + draw(u64::from(TOKENS) - 2) as u32, draw(2) == 0);
            let fault = if is_kill { Fault::Kill } else { Fault::Freeze };
            let which = draw(asks.len() as u64) as usize;
            let before = scene.replaced();
            let (answer, fault) = scene.hit(&asks[which], half, after, fault);
            assert_eq!(answer.text, expected[which], "{fault:?} after {after}");
            answers += 1;
            // A stage that died after an answer is replaced in the next one.
            let victim = fault.nodes().next().unwrap();
            if !victims.contains(&victim) {
                victims.push(victim);
                owed += 1;
            }
            let replaced = scene.replaced() - before;
            println!("{fault:?} after {after}: pause {:?}, {replaced} replaced", answer.pause);
            let ring = scene.ring();
            assert!(replaced <= owed, "false failover: {replaced}, {owed} are due: {ring}");
            owed -= replaced;
            if owed == 0 {
                pauses.push((answer.pause, is_kill));
            } else {
                late += 1;
            }
        }
    }
    println!("{answers} answers, all equal; {late} faults after the last token; 0 false failovers");
    for (name, is_kill) in [("kill", true), ("freeze", false)] {
        let of = pauses.iter().filter(|pause| pause.1 == is_kill).map(|pause| pause.0);
        println!("{}", summary(name, of.collect()));
    }
    println!("{}", summary("both", pauses.into_iter().map(|pause| pause.0).collect()));
}
