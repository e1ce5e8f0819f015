//! `run` and `tokenize`.

use std::io::Read as _;
use std::process::Stdio;

use shoal_testkit::{gguf_file, tiny_architecture};

use crate::support::{Home, keys, tiny};

const ANSWER: [&str; 9] =
    ["run", "-m", "tiny", "-n", "20", "--seed", "7", "--ignore-end", "once upon a time"];

#[test]
fn json_has_exactly_the_documented_shape() {
    let home = Home::with_tiny();
    let args = [&ANSWER[..], &["--json"]].concat();
    let answer = home.run(&args).succeeded().json();
    let fields = ["text", "token_ids", "finish_reason", "usage", "timings"];
    assert_eq!(keys(&answer), fields);
    assert_eq!(keys(&answer["usage"]), ["prompt_tokens", "cached_tokens", "completion_tokens"]);
    assert_eq!(keys(&answer["timings"]), ["prefill_tokens_per_s", "decode_tokens_per_s"]);
    assert_eq!(answer["token_ids"].as_array().unwrap().len(), 20);
    assert_eq!(answer["finish_reason"], "length");
    assert!(answer["timings"]["decode_tokens_per_s"].as_f64().unwrap() > 0.0);

    let args = [&ANSWER[..], &["--json", "--top-logprobs", "2"]].concat();
    let reported = home.run(&args).succeeded().json();
    assert_eq!(reported["token_ids"], answer["token_ids"]);
    let logprobs = reported["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), 20);
    assert_eq!(keys(&logprobs[0]), ["token_id", "bytes", "logprob", "top"]);
    assert_eq!(logprobs[0]["top"].as_array().unwrap().len(), 2);
}

#[test]
fn the_answer_depends_on_the_seed_and_not_on_threads_or_a_draft() {
    let home = Home::with_tiny();
    let run = |more: &[&str]| home.run(&[&ANSWER[..], more].concat()).succeeded().stdout;
    let text = run(&[]);
    assert!(text.ends_with('\n'));
    assert_eq!(run(&["--threads", "1"]), text);
    assert_eq!(run(&["--draft", "tiny"]), text);
    let json = home.run(&[&ANSWER[..], &["--json"]].concat()).json();
    assert_eq!(json["text"].as_str().unwrap(), text.strip_suffix('\n').unwrap());
    let mut other = ANSWER;
    other[6] = "8";
    assert_ne!(home.run(&other).succeeded().stdout, text);
}

#[test]
fn a_path_is_imported_once() {
    let home = Home::new();
    let path = home.write("some model.gguf", &gguf_file(&tiny()));
    let args = ["run", "-m", path.to_str().unwrap(), "-n", "3", "hello"];
    let first = home.run(&args).succeeded();
    assert!(first.stderr.contains("imported"), "{first:?}");
    let second = home.run(&args).succeeded();
    assert_eq!(second.stderr, "");
    assert_eq!(second.stdout, first.stdout);
    let listed = home.run(&["model", "list", "--json"]).succeeded().json();
    let packages = listed["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 1);
    let name = packages[0]["names"][0].as_str().unwrap();
    assert!(name.starts_with("some-model-"), "{name}");
}

#[test]
fn prompts_come_from_arguments_files_and_pipes() {
    let home = Home::with_tiny();
    let text = home.run(&ANSWER).succeeded().stdout;
    let file = home.write("prompt.txt", b"once upon a time\n");
    let file = [&ANSWER[..8], &["--file", file.to_str().unwrap()]].concat();
    assert_eq!(home.run(&file).succeeded().stdout, text);
    let piped = home.run_with_input(&ANSWER[..8], b"once upon a time\r\n");
    assert_eq!(piped.succeeded().stdout, text);
}

#[test]
fn prompts_that_cannot_be_are_refused() {
    let home = Home::with_tiny();
    let run = ["run", "-m", "tiny"];
    home.run_with_input(&run, b"a\xffb").failed(4, "byte 1 is not UTF-8");
    home.run_with_input(&run, &vec![b'a'; 10_000_000]).failed(2, "at most 8388608 bytes");
    let long = vec![b'a'; 1000];
    let refused = home.run_with_input(&[&run[..], &["--json"]].concat(), &long);
    refused.failed(2, "1002 of the prompt and 1 of the answer");
    let error: serde_json::Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(keys(&error["error"]), ["code", "exit_code", "message"]);
    assert_eq!(
        (&error["error"]["code"], &error["error"]["exit_code"]),
        (&"usage".into(), &2.into())
    );
    home.run(&["run", "-m", "tiny", "-n", "600", "x"]).failed(2, "context length is 512");
    home.run(&["run", "-m", "tiny", "--file", "/no/such/file"]).failed(3, "/no/such/file");
    home.run(&["run", "-m", "tiny", "--kv-cache-mib", "1", "-n", "500", "x"]).succeeded();
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let home = Home::with_tiny();
    let refused = |more: &[&str], message: &str| {
        home.run(&[&["run", "-m", "tiny", "-n", "2"], more].concat()).failed(2, message);
    };
    refused(&["--frobnicate", "x"], "--frobnicate");
    refused(&["--temperature", "-1", "x"], "parameter temperature");
    refused(&["--top-p", "0", "x"], "top_p");
    refused(&["--logit-bias", "999=1", "x"], "logit_bias");
    refused(&["--logit-bias", "nonsense", "x"], "ID=X");
    refused(&["--logprobs", "x"], "--json");
    refused(&["--top-logprobs", "21", "--json", "x"], "top_logprobs");
    refused(&["--regex", "(", "x"], "grammar");
    refused(&["--json-schema", "{", "x"], "--json-schema");
    refused(&["--regex", "a", "--json-object", "x"], "cannot be used with");
    refused(&["--system", "be brief", "x"], "no chat template");
    refused(&["--threads", "0", "x"], "--threads");
    refused(&["--threads", "100000", "x"], "limit 1024");
    refused(&["--stop", "", "x"], "stop");
    home.run(&["run", "-m", "no-such-model", "x"]).failed(3, "no-such-model");
    home.run(&["frobnicate"]).failed(2, "frobnicate");
    let json = home.run(&["run", "--json", "--frobnicate"]);
    let error: serde_json::Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!(error["error"]["code"], "usage");
    let isa = home.command(&["run", "-m", "tiny", "x"]).env("SHOAL_ISA", "mmx").output().unwrap();
    crate::support::Ended::of(isa).failed(2, "SHOAL_ISA");
}

#[test]
fn unknown_keys_of_the_configuration_are_refused() {
    let home = Home::with_tiny();
    std::fs::write(home.data("config.toml"), "kv_cache_mib = 8\nthreads = 1\n").unwrap();
    home.run(&["run", "-m", "tiny", "-n", "2", "x"]).succeeded();
    std::fs::write(home.data("config.toml"), "kv_cache = 8\n").unwrap();
    home.run(&["run", "-m", "tiny", "x"]).failed(2, "unknown field `kv_cache`");
    home.run(&["model", "list"]).failed(2, "config.toml");
}

#[test]
fn answers_follow_expressions_and_schemas() {
    let home = Home::with_tiny();
    let run = |more: &[&str]| {
        let args = [&["run", "-m", "tiny", "-n", "200", "--json"], more].concat();
        home.run(&args).succeeded().json()
    };
    let answer = run(&["--regex", "[0-9]{4}-[a-c]x", "x"]);
    let text = answer["text"].as_str().unwrap();
    assert_eq!((text.len(), &answer["finish_reason"]), (7, &"stop".into()), "{text}");
    assert!(text.as_bytes()[..4].iter().all(u8::is_ascii_digit), "{text}");
    let schema = r#"{"type": "object", "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"], "additionalProperties": false}"#;
    let file = home.write("schema.json", schema.as_bytes());
    for schema in [schema, file.to_str().unwrap()] {
        let answer = run(&["--json-schema", schema, "x"]);
        if answer["finish_reason"] == "stop" {
            let value: serde_json::Value =
                serde_json::from_str(answer["text"].as_str().unwrap()).unwrap();
            assert!(value["ok"].is_boolean());
        }
    }
    let grammar = home.write("g.lark", b"start: \"yes\" | \"no\"\n");
    let answer = run(&["--grammar", grammar.to_str().unwrap(), "x"]);
    assert!(["yes", "no"].contains(&answer["text"].as_str().unwrap()), "{answer}");
}

#[test]
fn chat_templates_are_used_unless_the_prompt_is_raw() {
    let home = Home::new();
    let template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    let model = tiny().with_template(template);
    let path = home.write("chatty.gguf", &gguf_file(&model));
    home.run(&["model", "import", path.to_str().unwrap()]).succeeded();
    let prompt_tokens = |more: &[&str]| {
        let args = [&["run", "-m", "chatty", "-n", "1", "--json", "hello"], more].concat();
        home.run(&args).succeeded().json()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let raw = prompt_tokens(&["--raw"]);
    assert_eq!(prompt_tokens(&[]), raw + "[user]".len() as u64);
    let system = prompt_tokens(&["--system", "brief"]);
    assert_eq!(system, raw + "[system]brief[user]".len() as u64);
}

#[test]
fn text_becomes_ids_and_ids_become_text() {
    let home = Home::with_tiny();
    let ids = home.run(&["tokenize", "-m", "tiny", "--json", "hä"]).succeeded().json();
    assert_eq!(keys(&ids), ["token_ids", "pieces"]);
    // Beginning, word mark, three bytes.
    assert_eq!(ids["token_ids"], serde_json::json!([1, 259, 107, 198, 167]));
    let text = home.run(&["tokenize", "-m", "tiny", "--decode", "259, 107 198 167"]).succeeded();
    assert_eq!(text.stdout, "hä\n");
    let bare = home.run_with_input(&["tokenize", "-m", "tiny", "--bare"], b"h").succeeded();
    assert_eq!(bare.stdout.lines().count(), 2);
    home.run(&["tokenize", "-m", "tiny", "--decode", "1 999"]).failed(2, "999");
    home.run(&["tokenize", "-m", "tiny", "--decode", "x"]).failed(2, "no token id");
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let home = Home::with_tiny();
    let args = ["run", "-m", "tiny", "--ignore-end", "-n", "400", "--kv-cache-mib", "64", "x"];
    let mut command = home.command(&args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 1];
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]));
}

#[test]
fn a_context_larger_than_the_memory_for_it_is_cut_and_said() {
    let mut architecture = tiny_architecture();
    architecture.context_tokens = 100_000;
    let home = Home::new();
    let model = shoal_testkit::TinyModel::new(architecture, 1);
    let path = home.write("long.gguf", &gguf_file(&model));
    home.run(&["model", "import", path.to_str().unwrap()]).succeeded();
    let args = ["run", "-m", "long", "--kv-cache-mib", "1", "-n", "90000", "x"];
    home.run(&args).failed(2, "maximum context length is 2368");
    let args = ["run", "-m", "long", "--kv-cache-mib", "4000000000", "x"];
    home.run(&args).failed(5, "this machine has");
}

#[test]
fn without_a_model_the_program_tells_stories() {
    let home = Home::new();
    let prompt = "Once upon a time, there was a little";
    let args = ["run", "-n", "24", "--temperature", "0", prompt];
    let answer = home.run(&args).succeeded();
    assert!(answer.stderr.contains("part of this program"), "{answer:?}");
    // The same bytes on every machine.
    let story = " girl named Lily. She loved to play outside in the sun. One day, she saw a big, \
                 scary monster in";
    assert_eq!(answer.stdout, format!("{story}\n"));
    // It is a package like any other now.
    let shown = home.run(&["model", "show", "shoal-tiny", "--json"]).succeeded().json();
    assert_eq!(shown["architecture"]["context_tokens"], 512);
    home.run(&["model", "verify", "--all"]).succeeded();
    let again = home.run(&args).succeeded();
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), (answer.stdout.as_str(), ""));
    home.run(&["model", "remove", "shoal-tiny"]).succeeded();
    assert_eq!(home.run(&args).succeeded().stdout, answer.stdout);
}

#[test]
fn the_draft_inside_guesses_well_and_changes_nothing() {
    let home = Home::new();
    let per_pass = |temperature: &str| {
        let beginnings = ["Once upon a time", "One day, a boy named Tim", "Lily and her mom"];
        let each = beginnings.map(|prompt| {
            let args = ["run", "-n", "100", "--json", "--temperature", temperature, prompt];
            let plain = home.run(&args).succeeded().json();
            let drafted = home.run(&[&args[..], &["--draft", "shoal-draft"]].concat());
            let drafted = drafted.succeeded().json();
            assert_eq!(drafted["token_ids"], plain["token_ids"]);
            drafted["timings"]["tokens_per_pass"].as_f64().unwrap()
        });
        each.iter().sum::<f64>() / each.len() as f64
    };
    let (greedy, sampled) = (per_pass("0"), per_pass("0.8"));
    assert!(greedy >= 2.5 && sampled >= 2.0, "{greedy} and {sampled} tokens per pass");
}
