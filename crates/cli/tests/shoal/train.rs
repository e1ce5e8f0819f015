//! `shoal train`: runs that are cut anywhere, computed again, changed behind their back.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shoal_testkit::{gguf_file, tiny_architecture};
use shoal_train::data::{Document, encode_shard};
use shoal_train::{Purpose, Random, seed_digest};

use crate::support::{Ended, Home, names, tiny};

const STEPS: u64 = 30;
/// Runs that are killed, each at a random moment of the time that one takes.
const KILLS: u64 = 50;
const WAIT_MAX: Duration = Duration::from_secs(120);

/// A home with the folder of a run that learns a few made stories.
struct Training {
    home: Home,
    folder: PathBuf,
}

fn stories(count: usize) -> String {
    let names = ["Tom", "Lily", "Ben", "Sue", "Max"];
    let things = ["a red ball", "an old boat", "a big dog", "the moon"];
    let mut text = String::new();
    for i in 0..count {
        let (name, thing) = (names[i % names.len()], things[i * 7 % things.len()]);
        let _ = write!(text, "{name} saw {thing} and went home {i} times.<|end|>");
    }
    text
}

impl Training {
    fn new(steps: u64) -> Self {
        let home = Home::new();
        home.write("tokenizer.gguf", &gguf_file(&tiny()));
        let folder = home.file("run");
        home.run(&["train", "init", folder.to_str().unwrap()]).succeeded();
        std::fs::write(folder.join("stories.txt"), stories(40)).unwrap();
        let training = Self { home, folder };
        training.edit("<|endoftext|>", "<|end|>");
        training.edit("path = \"tokenizer.gguf\"", "path = \"../tokenizer.gguf\"");
        training.edit("steps = 1000", &format!("steps = {steps}"));
        training.edit("warmup_steps = 50", "warmup_steps = 5");
        training.edit("decay_steps = 400", "decay_steps = 5");
        training.edit("samples = 8", "samples = 2");
        training.edit("sample_tokens = 256", "sample_tokens = 64");
        training.edit("width = 64\n", "width = 16\n");
        training.edit("head_width = 16", "head_width = 4");
        training.edit("mlp_width = 160", "mlp_width = 24");
        training.edit("every_steps = 50", "every_steps = 4");
        training.edit("hash_every_steps = 10", "hash_every_steps = 3");
        training
    }

    fn edit(&self, from: &str, to: &str) {
        let path = self.folder.join("config.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn args<'a>(&'a self, verb: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["train", verb, self.folder.to_str().unwrap()];
        args.extend(["--threads", "1"]);
        args.extend(more);
        args
    }

    fn run(&self, verb: &str, more: &[&str]) -> Ended {
        self.home.run(&self.args(verb, more))
    }

    /// Runs to the end and returns the last event.
    fn finished(&self, verb: &str) -> Value {
        last_event(&self.run(verb, &["--json"]).succeeded())
    }

    fn checkpoints(&self) -> Vec<String> {
        names(&self.folder.join("checkpoints"))
    }
}

fn last_event(ended: &Ended) -> Value {
    let line = ended.stdout.lines().last().expect("there are events");
    let event: Value = serde_json::from_str(line).unwrap();
    assert_eq!(event["event"], "finished", "{ended:?}");
    event
}

#[test]
fn a_run_tells_what_it_does_and_can_be_computed_again() {
    let training = Training::new(STEPS);
    let ended = training.run("run", &["--json"]).succeeded();
    let events: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let losses: Vec<f64> = events.iter().filter_map(|event| event["loss"].as_f64()).collect();
    assert_eq!(losses.len() as u64, STEPS);
    assert!(losses[losses.len() - 1] < losses[0] - 0.1, "{losses:?}");
    let last = last_event(&ended);
    assert!(last["held_out_loss"].as_f64().unwrap() > 0.0);
    assert_eq!(training.checkpoints().len(), 3);
    let svg = std::fs::read_to_string(training.folder.join("loss.svg")).unwrap();
    assert!(svg.contains("polyline"));
    let png = std::fs::read(training.folder.join("loss.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let verified = training.run("verify", &["--json"]).succeeded().json();
    assert_eq!(verified["states_compared"], STEPS / 3);
    let verified = training.run("verify", &["--steps", "26..30", "--json"]).succeeded().json();
    assert_eq!(verified["computed_from"], 24);
    training.run("run", &[]).failed(2, "shoal train resume");
    assert_eq!(training.finished("resume")["state"], last["state"]);
}

#[test]
fn a_state_that_was_changed_is_found() {
    let training = Training::new(STEPS);
    training.run("run", &[]).succeeded();
    let path = training.folder.join("steps.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let at = text.match_indices("\"state\":\"").nth(4).unwrap().0 + 9;
    let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
    let changed = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
    std::fs::write(&path, changed).unwrap();
    training.run("verify", &[]).failed(4, "step 14: computed");
    training.run("verify", &["--steps", "0..12"]).succeeded();
    training.run("verify", &["--steps", "0..31"]).failed(2, "0..30");
}

#[test]
fn a_run_killed_at_any_moment_ends_in_the_same_state() {
    let training = Training::new(STEPS);
    let start = Instant::now();
    let whole = training.finished("run");
    let longest = start.elapsed().as_micros() as u64;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = now.unwrap().as_nanos().to_string();
    eprintln!("moments of seed {seed}");
    let mut moments = Random::new(seed_digest(&seed), Purpose::Shuffle, 0, 0);
    let mut kills = 0;
    for _ in 0..KILLS {
        for name in ["run.json", "steps.jsonl"] {
            std::fs::remove_file(training.folder.join(name)).unwrap();
        }
        std::fs::remove_dir_all(training.folder.join("checkpoints")).unwrap();
        let mut command = training.home.command(&training.args("run", &[]));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let wait = Duration::from_micros(moments.below(longest));
        let start = Instant::now();
        while start.elapsed() < wait {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        kills += u64::from(child.wait().unwrap().code().is_none());
        assert_eq!(training.finished("resume")["state"], whole["state"], "after {wait:?}");
    }
    assert!(kills > KILLS / 2, "{} of {KILLS} runs ended before they were killed", KILLS - kills);
    assert_eq!(training.run("verify", &["--json"]).succeeded().json()["states_compared"], 10);
    let parts = names(&training.folder);
    assert!(!parts.iter().any(|name| name.starts_with(".part-")), "{parts:?}");
}

#[test]
fn ctrl_c_saves_what_was_computed() {
    let training = Training::new(100_000);
    let mut command = training.home.command(&training.args("run", &[]));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while training.checkpoints().len() < 3 {
        assert!(start.elapsed() < WAIT_MAX, "no checkpoint is written");
        std::thread::yield_now();
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    Ended::of(child.wait_with_output().unwrap()).failed(130, "is saved");
    let records = std::fs::read_to_string(training.folder.join("steps.jsonl")).unwrap();
    let newest = training.checkpoints().into_iter().rfind(|name| name.ends_with(".ckpt"));
    let step: usize = newest.unwrap().trim_end_matches(".ckpt").parse().unwrap();
    assert_eq!(records.lines().count(), step);
}

#[test]
fn a_model_that_was_trained_answers() {
    let training = Training::new(STEPS);
    training.run("run", &[]).succeeded();
    let gguf = training.home.file("model.gguf");
    let more = ["--name", "made", "--gguf", gguf.to_str().unwrap(), "--gguf-format", "f16"];
    training.run("export", &more).succeeded();
    training.home.run(&["model", "verify", "made"]).succeeded();
    let answer = training.home.run(&["run", "-m", "made", "-n", "5", "--ignore-end", "Tom"]);
    answer.succeeded();
    let path = gguf.to_str().unwrap();
    training.home.run(&["run", "-m", path, "-n", "5", "--ignore-end", "Tom"]).succeeded();
    training.run("export", &["--gguf", path]).failed(2, "--force");
}

#[test]
fn an_adapter_is_trained_beside_a_model() {
    let training = Training::new(12);
    let path = training.folder.join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (start, end) =
        (text.find("\n[model]").unwrap() + 1, text.find("# To learn a teacher").unwrap());
    let base = "[base]\npath = \"../tokenizer.gguf\"\n[adapter]\nrank = 2\nscale = 1.0\n\
                parts = [\"query\", \"down\"]\n";
    std::fs::write(&path, format!("{}{base}{}", &text[..start], &text[end..])).unwrap();
    let lines = "{\"prompt\": \"Tom\", \"completion\": \" went home.\"}\n";
    std::fs::write(training.folder.join("lines.jsonl"), lines).unwrap();
    training.edit(
        "format = \"text\"\npath = \"stories.txt\"",
        "format = \"jsonl\"\npath = \"lines.jsonl\"",
    );
    training.edit("separator = \"<|end|>\"", "");
    let last = training.finished("run");
    assert_eq!(last["steps"], 12);
    training.run("export", &["--name", "adapted"]).succeeded();
}

const TEXT: &str = "format = \"text\"\npath = \"stories.txt\"\nseparator = \"<|end|>\"";

#[test]
fn packed_tokens_are_learned_and_refused_when_cut() {
    let training = Training::new(STEPS);
    training.edit(TEXT, "format = \"tokens\"\npath = \"packed.tokens\"");
    let path = training.folder.join("packed.tokens");
    let document = |i| Document {
        tokens: (0..40_u32).map(|t| 3 + (7 * t + i) % 200).collect(),
        weights: Vec::new(),
    };
    let documents: Vec<Document> = (0..20).map(document).collect();
    let good = encode_shard(tiny_architecture().vocab_count, &documents);
    let refused = |verb: &str, bytes: &[u8], named: &str| {
        std::fs::write(&path, bytes).unwrap();
        training.run(verb, &[]).failed(4, named);
    };
    training.run("run", &[]).failed(3, "packed.tokens");
    refused("run", b"packed", "not packed tokens");
    refused("run", &good[..good.len() / 2], "damaged");
    refused("run", &encode_shard(1000, &documents), "a vocabulary of 1000");
    std::fs::write(&path, &good).unwrap();
    let last = training.finished("run");
    refused("resume", &good[..good.len() - 1], "damaged");
    refused(
        "resume",
        &encode_shard(tiny_architecture().vocab_count, &documents[1..]),
        "data changed",
    );
    std::fs::write(&path, &good).unwrap();
    assert_eq!(training.finished("resume")["state"], last["state"]);
}

#[test]
fn what_a_run_learns_is_packed_and_learned_by_another() {
    let training = Training::new(STEPS);
    let out = training.home.file("packed.tokens");
    let out = out.to_str().unwrap();
    let packed = training.run("pack", &["--out", out, "--json"]).succeeded().json();
    training.run("pack", &["--out", out]).failed(2, "--force");
    training.run("pack", &["--out", out, "--force"]).succeeded();
    let told = training.finished("run");
    let other = Training::new(STEPS);
    other.edit(TEXT, &format!("format = \"tokens\"\npath = \"{out}\""));
    assert_eq!(other.finished("run")["steps"], told["steps"]);
    let root = |training: &Training| {
        let text = std::fs::read(training.folder.join("run.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["data"].clone()
    };
    assert_eq!(root(&other), root(&training));
    assert_eq!(root(&other), packed["root"]);
}

#[test]
fn a_document_is_proved_without_the_data() {
    let training = Training::new(STEPS);
    training.run("run", &[]).succeeded();
    let text = std::fs::read(training.folder.join("run.json")).unwrap();
    let definition: Value = serde_json::from_slice(&text).unwrap();
    let root = definition["data"].as_str().unwrap();
    let proof = training.home.file("proof.json");
    let name = proof.to_str().unwrap();
    training.run("prove", &["--document", "7", "--out", name]).succeeded();
    let check = |root: &str| training.home.run(&["train", "check-proof", name, "--root", root]);
    let checked = check(root).succeeded();
    assert!(checked.stdout.contains("document 7 of"), "{checked:?}");
    check(&"ab".repeat(32)).failed(4, "not part of the data");
    let text = std::fs::read_to_string(&proof).unwrap();
    std::fs::write(&proof, text.replacen("\"tokens\":[", "\"tokens\":[5,", 1)).unwrap();
    check(root).failed(4, "not part of the data");
    std::fs::write(&proof, text.replacen("\"index\":7", "\"index\":8", 1)).unwrap();
    check(root).failed(4, "not part of the data");
    std::fs::write(&proof, "{}").unwrap();
    check(root).failed(4, "no proof");
    training.run("prove", &["--document", "1000"]).failed(2, "--document is below");
}

#[test]
fn families_with_biases_and_norms_on_heads_are_trained() {
    let biased = "attention_bias = true\nmlp_bias = true";
    for keys in ["family = \"qwen2\"", "family = \"qwen3\"", biased] {
        let training = Training::new(8);
        training.edit("tied_embeddings = true", &format!("tied_embeddings = true\n{keys}"));
        training.run("run", &[]).succeeded();
        let gguf = training.home.file("model.gguf");
        let path = gguf.to_str().unwrap();
        training.run("export", &["--gguf", path]).succeeded();
        let answer = ["run", "-m", path, "-n", "5", "--ignore-end", "Tom"];
        training.home.run(&answer).succeeded();
    }
    let training = Training::new(8);
    let refused = |keys: &str, named: &str| {
        let all = format!("tied_embeddings = true\n{keys}");
        training.edit("tied_embeddings = true", &all);
        training.run("run", &[]).failed(4, named);
        training.edit(&all, "tied_embeddings = true");
    };
    refused("family = \"mistral\"", "family llama, qwen2 or qwen3");
    refused("family = \"qwen3\"\nmlp_bias = true", "mlp_bias false unless");
    refused("rope_theta = 0.5", "rope.theta");
}

#[test]
fn a_student_learns_from_a_teacher_and_what_it_tells() {
    let train = || {
        let training = Training::new(12);
        let teacher = "[teacher]\npath = \"../tokenizer.gguf\"\nshare = 0.5\n";
        training.edit("# To learn a teacher's distribution too:\n", teacher);
        let told = "[[data]]\nformat = \"synthetic\"\npath = \"../tokenizer.gguf\"\n\
                    documents = 6\ntokens_max = 40\ntemperature = 1.0\n";
        training.edit("[selection]", &format!("{told}\n[selection]"));
        let state = training.finished("run")["state"].clone();
        let told = std::fs::read(training.folder.join("synthetic-1.tokens")).unwrap();
        (training, state, told)
    };
    let (training, state, told) = train();
    let (_, again, told_again) = train();
    assert_eq!((&state, &told), (&again, &told_again), "the seed names what is told");
    training.run("verify", &[]).succeeded();
    training.edit("share = 0.5", "share = 1.5");
    training.run("resume", &[]).failed(4, "share in 0..=1");
}

#[test]
fn preferences_are_learned() {
    let training = Training::new(20);
    training.edit(TEXT, "format = \"jsonl\"\npath = \"pairs.jsonl\"");
    training.edit("# To learn from pairs of answers:\n", "[preference]\nbeta = 0.5\n");
    let line = r#"{"prompt": "Tom", "chosen": " went home.", "rejected": " saw the moon."}"#;
    std::fs::write(training.folder.join("pairs.jsonl"), line).unwrap();
    let ended = training.run("run", &["--json"]).succeeded();
    let losses: Vec<f64> = ended
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64())
        .collect();
    assert!((losses[0] - std::f64::consts::LN_2).abs() < 1e-6, "{losses:?}");
    assert!(losses[19] < 0.9 * losses[0], "{losses:?}");
    std::fs::write(training.folder.join("pairs.jsonl"), r#"{"prompt": "Tom", "chosen": ""}"#)
        .unwrap();
    training.run("resume", &[]).failed(4, "line 1");
}

#[test]
fn what_changed_since_the_run_began_is_named() {
    let training = Training::new(STEPS);
    training.run("run", &[]).succeeded();
    let path = training.folder.join("stories.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("Tom", "Tim", 1)).unwrap();
    training.run("resume", &[]).failed(4, "data changed since the run began: it was \"");
    training.run("verify", &[]).failed(4, "data changed");
    std::fs::write(&path, &text).unwrap();
    training.edit("rate = 2e-3", "rate = 1e-3");
    training.run("resume", &[]).failed(4, "step changed since the run began");
    training.edit("rate = 1e-3", "rate = 2e-3");
    training.run("resume", &[]).succeeded();
}

#[test]
fn bad_input_is_refused_and_named() {
    let training = Training::new(STEPS);
    training.home.run(&["train", "init", training.folder.to_str().unwrap()]).failed(2, "already");
    training.home.run(&["train", "run", "no-such-folder"]).failed(3, "no-such-folder");
    training.run("export", &["--name", "x"]).failed(2, "no checkpoint");
    training.edit("clip_norm = 1.0", "clip_norm = -1.0");
    training.run("run", &[]).failed(4, "clip_norm is above 0");
    training.edit("clip_norm = -1.0", "clip_norm = 1.0\nclip = 2");
    training.run("run", &[]).failed(4, "clip");
    training.edit("clip_norm = 1.0\nclip = 2", "clip_norm = 1.0");
    let stories = training.folder.join("stories.txt");
    std::fs::write(&stories, b"a story\xff").unwrap();
    training.run("run", &[]).failed(4, "byte 7 is not UTF-8");
    std::fs::write(&stories, "").unwrap();
    training.run("run", &[]).failed(4, "at least one target");
    std::fs::remove_file(&stories).unwrap();
    training.run("run", &[]).failed(3, "stories.txt");
}

#[test]
fn damaged_and_foreign_checkpoints_are_refused() {
    let training = Training::new(STEPS);
    training.run("run", &[]).succeeded();
    let newest = training.folder.join("checkpoints").join(&training.checkpoints()[2]);
    let good = std::fs::read(&newest).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&newest, &bad).unwrap();
    training.run("resume", &[]).failed(4, "damaged");
    std::fs::write(&newest, &good[..good.len() - 9]).unwrap();
    training.run("resume", &[]).failed(4, "bytes");
    let other = Training::new(STEPS);
    other.edit("seed = \"shoal\"", "seed = \"other\"");
    other.run("run", &[]).succeeded();
    let foreign = other.folder.join("checkpoints").join(&other.checkpoints()[2]);
    std::fs::copy(foreign, &newest).unwrap();
    training.run("resume", &[]).failed(4, "checkpoint of run");
    std::fs::remove_file(&newest).unwrap();
    let last = training.finished("resume");
    std::fs::write(&newest, &good).unwrap();
    assert_eq!(training.finished("resume")["state"], last["state"]);
}

/// A tokenizer is made from a text, a model is trained with it on texts and conversations, and what
/// comes out has it.
#[test]
fn a_model_begins_with_a_tokenizer_of_its_own() {
    let training = Training::new(STEPS);
    let text = training.home.write("text.txt", stories(300).as_bytes());
    let out = training.home.file("vocabulary");
    let make = |out: &std::path::Path| {
        let (text, out) = (text.to_str().unwrap(), out.to_str().unwrap());
        training.home.run(&[
            "train",
            "tokenizer",
            "--json",
            "--text",
            text,
            "--vocab",
            "300",
            "--out",
            out,
        ])
    };
    let made = make(&out).succeeded().json();
    assert_eq!(made["tokens"], 300);
    assert_eq!(names(&out), ["tokenizer.json", "tokenizer_config.json"]);
    make(&out).failed(2, "is there already");
    let again = training.home.file("again");
    make(&again).succeeded();
    for name in names(&out) {
        assert_eq!(
            std::fs::read(out.join(&name)).unwrap(),
            std::fs::read(again.join(name)).unwrap()
        );
    }
    let line = r#"{"messages": [{"role": "user", "content": "Who saw a ball?"},
        {"role": "assistant", "content": "Tom saw a red ball."}]}"#;
    let line = line.replace('\n', "");
    std::fs::write(training.folder.join("chats.jsonl"), &line).unwrap();
    let with_chats = "[[data]]\nformat = \"jsonl\"\npath = \"chats.jsonl\"\n[[data]]";
    training.edit("[[data]]\n", &format!("{with_chats}\n"));
    training.edit("path = \"../tokenizer.gguf\"", "path = \"../vocabulary\"");
    let last = training.finished("run");
    assert_eq!(last["steps"], STEPS);
    training.run("export", &["--name", "ours"]).succeeded();
    training.home.run(&["run", "--model", "ours", "--max-tokens", "2", "Tom saw"]).succeeded();
    let listed = training.home.run(&["model", "list", "--json"]).succeeded();
    assert!(listed.stdout.contains("\"chat\":true"), "{listed:?}");
    // The file alone, with the settings beside it, is the same.
    training.edit("path = \"../vocabulary\"", "path = \"../vocabulary/tokenizer.json\"");
    assert_eq!(training.finished("resume")["state"], last["state"]);
    std::fs::write(training.folder.join("chats.jsonl"), format!("{line}\n{{\"messages\": 1}}"))
        .unwrap();
    training.run("resume", &[]).failed(4, "line 2: expected");
}

#[test]
fn texts_that_give_no_tokenizer_are_refused() {
    let home = Home::new();
    let go = |bytes: &[u8], vocab: &str| {
        let text = home.write("text.txt", bytes);
        let (text, out) = (text.to_str().unwrap(), home.file("out"));
        let ended = home.run(&[
            "train",
            "tokenizer",
            "--text",
            text,
            "--vocab",
            vocab,
            "--out",
            out.to_str().unwrap(),
        ]);
        assert!(!out.exists());
        ended
    };
    go(b"", "300").failed(4, "the text is empty");
    go(b"a cat", "300").failed(4, "the text gives 259 tokens, 300 are asked for");
    go(b"a cat", "10").failed(2, "--vocab");
    go(b"a\xff", "300").failed(4, "byte 1 is not UTF-8");
    assert_eq!(names(&home.file("").join(".")), ["text.txt"]);
}

/// A file system of a fixed size, which takes root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, bytes: usize) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_ends_a_run_that_goes_on_when_there_is_room() {
    let roomy = Training::new(STEPS);
    let whole = roomy.finished("run");
    let newest = roomy.folder.join("checkpoints").join(&roomy.checkpoints()[2]);
    let checkpoint = std::fs::metadata(newest).unwrap().len() as usize;
    let training = Training::new(STEPS);
    let disk = training.folder.join("checkpoints");
    // Room for the first checkpoint and not for the second beside it.
    let Some(disk) = SmallDisk::mount(disk, checkpoint * 3 / 2) else {
        shoal_testkit::skip("mounting a small disk takes root");
        return;
    };
    training.run("run", &[]).failed(5, "No space left");
    assert_eq!(training.checkpoints(), ["0000000000.ckpt"]);
    training.run("resume", &[]).failed(5, "No space left");
    let room = Command::new("mount")
        .args(["-o", "remount,size=64m"])
        .arg(&disk.0)
        .status()
        .is_ok_and(|status| status.success());
    assert!(room, "the disk does not grow");
    let last = training.finished("resume");
    assert_eq!(last["state"], whole["state"]);
}
