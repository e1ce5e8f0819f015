//! Whole runs: what must hold does, whatever fails; and each invariant fails when it should.
#![forbid(unsafe_code)]

mod regressions;

use std::time::Duration;

use shoal_sim::{Bug, Config, Lengths, Report, Violation, World};

/// A small swarm in trouble: every node fails about twice an hour, some lie.
fn troubled(seed: u64) -> Config {
    Config {
        nodes: 40,
        heads: 3,
        churn: 2.0,
        liars: 0.05,
        time: Duration::from_secs(400),
        rate: 0.5,
        seed,
        lengths: Some(Lengths::fixed(300, 60)),
        ..Config::default()
    }
}

/// Requests that are not answered for want of nodes are few, and nothing else goes wrong.
fn assert_sound(report: &Report, share: f64) {
    assert_eq!(report.violations, 0, "seed {}: {:?}", report.seed, report.violated);
    assert!(report.submitted > 50, "{report}");
    assert!(report.finished_share() >= share, "{report}");
}

#[test]
fn a_swarm_without_faults_answers_everything() {
    let calm = Config { churn: 0.0, liars: 0.0, ..troubled(1) };
    let report = World::new(calm).run();
    assert_sound(&report, 1.0);
    assert_eq!((report.replaced, report.replayed_tokens), (0, 0), "no false failover");
}

/// What a head did not see while it was not awake is nobody's fault.
#[test]
fn heads_that_oversleep_replace_nobody() {
    for seed in 1..=4 {
        let config = Config { churn: 0.0, liars: 0.0, naps: 1200.0, ..troubled(seed) };
        let report = World::new(config).run();
        assert_sound(&report, 1.0);
        assert_eq!((report.replaced, report.replayed_tokens), (0, 0), "no false failover");
    }
}

/// And what dies meanwhile is noticed all the same.
#[test]
fn heads_that_oversleep_in_a_swarm_in_trouble_keep_their_invariants() {
    let mut replaced = 0;
    for seed in 1..=3 {
        let report = World::new(Config { naps: 240.0, ..troubled(seed) }).run();
        assert_sound(&report, 0.98);
        replaced += report.replaced;
    }
    assert!(replaced > 0);
}

#[test]
fn a_swarm_in_trouble_keeps_its_invariants() {
    for seed in 1..=6 {
        assert_sound(&World::new(troubled(seed)).run(), 0.98);
    }
}

#[test]
fn failing_seeds_of_the_past_pass() {
    for (seed, shadows) in regressions::SEEDS {
        let config = Config { shadows: *shadows, ..troubled(*seed) };
        assert_sound(&World::new(config).run(), 0.98);
    }
}

/// Where nodes are scarce shadows take the spares, and more is computed again than without them.
#[test]
fn where_there_are_spares_shadows_shorten_what_is_computed_again() {
    // Positions computed again for each stage that was replaced, over many runs.
    let per_stage = |shadows| {
        let (mut again, mut replaced) = (0, 0);
        for seed in 1..=20 {
            let config = Config { nodes: 160, shadows, churn: 8.0, liars: 0.0, ..troubled(seed) };
            let report = World::new(config).run();
            assert_sound(&report, 0.98);
            again += report.replayed_tokens;
            replaced += report.replaced;
        }
        assert!(replaced > 100, "{replaced}");
        again as f64 / replaced as f64
    };
    let (without, with) = (per_stage(false), per_stage(true));
    assert!(with < 0.8 * without, "{with} {without}");
}

#[test]
fn answers_do_not_depend_on_the_cut() {
    // The invariant compares each answer with that of one node that holds all layers.
    for layers in [6, 12, 30] {
        let config = Config { layers, churn: 1.0, ..troubled(9) };
        assert_sound(&World::new(config).run(), 0.98);
    }
}

#[test]
fn one_seed_is_one_run() {
    let text = |seed| {
        let config = Config { time: Duration::from_secs(150), ..troubled(seed) };
        let mut report = World::new(config).run();
        report.wall_s = 0.0;
        serde_json::to_string(&report).expect("plain JSON")
    };
    assert_eq!(text(5), text(5));
    assert_ne!(text(5), text(6));
}

/// The violations of the first run in which a planted bug has an effect: some need a failure at the
/// right moment, and when failures come depends on the seed and on the links there are.
fn with_bug(bug: Bug) -> Vec<Violation> {
    let reports = (2..18).map(|seed| {
        let config = Config { bug: Some(bug), liars: 0.0, churn: 6.0, ..troubled(seed) };
        World::new(config).run()
    });
    let found = reports.map(|report| report.violated).find(|violated| !violated.is_empty());
    found.unwrap_or_else(|| panic!("{bug:?} goes unnoticed"))
}

fn all(violations: &[Violation], is_expected: impl Fn(&Violation) -> bool) {
    assert!(violations.iter().all(is_expected), "{violations:?}");
}

#[test]
fn rows_of_an_old_generation_are_noticed() {
    let found = with_bug(Bug::OldGeneration);
    all(&found, |violation| matches!(violation, Violation::TwoGenerations { .. }));
}

#[test]
fn a_lost_answer_is_noticed() {
    let found = with_bug(Bug::LoseAnswer);
    all(&found, |violation| matches!(violation, Violation::Lost { .. }));
}

#[test]
fn a_second_answer_is_noticed() {
    let found = with_bug(Bug::AnswerTwice);
    all(&found, |violation| matches!(violation, Violation::Twice { .. }));
}

#[test]
fn a_repeated_token_is_noticed() {
    let found = with_bug(Bug::RepeatToken);
    let is_expected =
        |v: &Violation| matches!(v, Violation::Changed { .. } | Violation::Twice { .. });
    all(&found, is_expected);
}

#[test]
fn a_cache_that_is_not_cut_is_noticed() {
    let found = with_bug(Bug::KeepCache);
    all(&found, |violation| matches!(violation, Violation::Different { .. }));
}

#[test]
fn a_queue_without_bounds_is_noticed() {
    let slow = Config {
        bug: Some(Bug::FreeCredit),
        churn: 0.0,
        liars: 0.0,
        rate: 12.0,
        heads: 12,
        time: Duration::from_secs(120),
        lengths: Some(Lengths::fixed(3000, 4)),
        ..troubled(2)
    };
    let sound = World::new(Config { bug: None, ..slow.clone() }).run();
    assert_eq!(sound.violations, 0, "{:?}", sound.violated);
    let report = World::new(slow).run();
    assert!(report.violations > 0, "{report}");
    all(&report.violated, |violation| matches!(violation, Violation::Queue { .. }));
}
