//! `shoal up`: the endpoint in front of the real engine.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};
use shoal_testkit::gguf_file;

use crate::running::{Running, WAIT_MAX};
use crate::support::{Home, tiny};

/// The program while it serves.
struct Up {
    process: Running,
}

impl Up {
    fn start(home: &Home, args: &[&str]) -> Self {
        let base = ["up", "-m", "tiny", "--listen", "127.0.0.1:0", "--json", "--threads", "1"];
        let mut command = home.command(&[&base, args].concat());
        Self { process: Running::start(command.stderr(Stdio::piped())) }
    }

    fn connect(&self, request: &str) -> TcpStream {
        self.process.connect(request)
    }

    fn get(&self, path: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        self.connect(&request).read_to_string(&mut text).unwrap();
        text
    }

    fn ask(&self, path: &str, body: &Value) -> TcpStream {
        self.process.ask(path, body)
    }

    fn post(&self, path: &str, body: &Value) -> String {
        let mut text = String::new();
        self.ask(path, body).read_to_string(&mut text).unwrap();
        text
    }

    /// Everything it has said, once it has ended.
    fn said(mut self) -> String {
        self.process.signal("-TERM");
        assert_eq!(self.process.child.wait().unwrap().code(), Some(0));
        let mut text = String::new();
        self.process.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.process.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

/// The body of a whole response.
fn body(text: &str) -> Value {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{text}");
    serde_json::from_str(body).unwrap()
}

fn endless() -> Value {
    json!({ "prompt": "x", "max_tokens": 500, "ignore_eos": true, "stream": true, "seed": 1 })
}

#[test]
fn answers_are_those_of_the_program() {
    let home = Home::with_tiny();
    let up = Up::start(&home, &[]);
    let ask = json!({ "model": "tiny", "prompt": "once", "max_tokens": 8, "seed": 3 });
    let text = up.post("/v1/completions", &ask);
    assert!(text.to_lowercase().contains("x-shoal-package: "), "{text}");
    let whole = body(&text);
    let args = ["run", "-m", "tiny", "--raw", "once", "--max-tokens", "8", "--seed", "3", "--json"];
    let ran = home.run(&args).succeeded().json();
    assert_eq!(whole["choices"][0]["text"], ran["text"]);
    assert_eq!(whole["choices"][0]["finish_reason"], ran["finish_reason"]);
    assert_eq!(whole["usage"]["prompt_tokens"], ran["usage"]["prompt_tokens"]);
    assert!(up.get("/metrics").contains("vllm:generation_tokens_total{model_name=\"tiny\"} 8"));
    assert_eq!(body(&up.get("/health/generate"))["status"], "ok");
    let text = up.post("/v1/chat/completions", &json!({ "messages": [] }));
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    let long = up.post("/v1/completions", &json!({ "prompt": "x".repeat(600) }));
    assert!(long.contains(r#""code":"context_length_exceeded""#), "{long}");
    assert!(long.contains(r#""param":null"#), "{long}");
}

#[test]
fn a_client_that_goes_away_frees_its_slot() {
    let home = Home::with_tiny();
    let up = Up::start(&home, &[]);
    let client = up.ask("/v1/completions", &endless());
    let mut lines = BufReader::new(&client).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("data: ")));
    drop(client);
    let begun = Instant::now();
    while !up.get("/metrics").contains("vllm:num_requests_running{model_name=\"tiny\"} 0") {
        assert!(begun.elapsed() < WAIT_MAX, "the slot is not freed");
    }
}

#[test]
fn signals_end_streams_truthfully() {
    for signal in ["-INT", "-TERM"] {
        ends_streams_truthfully(signal);
    }
}

fn ends_streams_truthfully(signal: &str) {
    let home = Home::with_tiny();
    let mut up = Up::start(&home, &["--drain-s", "0"]);
    let client = up.ask("/v1/completions", &endless());
    let mut lines = BufReader::new(&client).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("data: ")));
    up.process.signal(signal);
    let text: String = lines.map_while(Result::ok).collect();
    assert!(!text.contains("\"finish_reason\":\"stop\""), "{text}");
    // A machine fast enough may have finished; else the client has been told.
    let is_whole = text.contains("[DONE]") && text.contains("\"finish_reason\":\"length\"");
    assert!(is_whole || text.contains("\"code\":\"shutting_down\""), "{text}");
    assert_eq!(up.process.child.wait().unwrap().code(), Some(0));
}

#[test]
fn further_models_are_loaded_when_asked_for() {
    let home = Home::with_tiny();
    let file = home.write("other.gguf", &gguf_file(&tiny()));
    let up = Up::start(&home, &["-m", file.to_str().unwrap()]);
    assert_eq!(up.process.screen["models"], json!(["tiny", "other"]));
    let loaded = || -> Vec<Value> {
        let list = body(&up.get("/v1/models"));
        list["data"].as_array().unwrap().iter().map(|model| model["loaded"].clone()).collect()
    };
    assert_eq!(loaded(), [true, false]);
    let ask = json!({ "model": "other", "prompt": "x", "max_tokens": 1 });
    assert_eq!(body(&up.post("/v1/completions", &ask))["model"], "other");
    assert_eq!(loaded(), [true, true]);
}

#[test]
fn what_cannot_be_served_is_refused_before_it_starts() {
    let home = Home::with_tiny();
    let up = Up::start(&home, &[]);
    let address = up.process.screen["address"].as_str().unwrap();
    let taken = home.run(&["up", "-m", "tiny", "--listen", address]);
    taken.failed(1, "cannot listen on");
    home.run(&["up", "-m", "tiny", "--listen", "0.0.0.0:0"]).failed(2, "--api-keys");
    home.run(&["up", "-m", "tiny", "-m", "tiny"]).failed(2, "two models are called");
    let keys = home.write("keys", b"secret\n");
    let keys = keys.to_str().unwrap();
    home.run(&["up", "-m", "tiny", "--api-keys", keys]).failed(2, "line 1 is not a BLAKE3 hash");
    home.run(&["up", "-m", "none"]).failed(3, "neither a package nor a file");
}

/// Templates that tell, in a few words, how each family calls tools.
const TEMPLATES: [(&str, &str); 4] = [
    ("hermes", "<tool_call></tool_call>"),
    ("llama", "{\"name\": function name, \"parameters\": x}"),
    ("mistral", "[TOOL_CALLS]"),
    ("ministral", "[TOOL_CALLS][ARGS]"),
];

#[test]
fn tools_are_called_in_the_form_of_the_model() {
    let home = Home::with_tiny();
    let mut args = Vec::new();
    for (name, form) in TEMPLATES {
        let template = format!(
            "{{% if tools %}}{form}{{% endif %}}\
             {{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}"
        );
        let file =
            home.write(&format!("{name}.gguf"), &gguf_file(&tiny().with_template(&template)));
        args.extend(["-m".to_owned(), file.to_str().unwrap().to_owned()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let up = Up::start(&home, &args);
    let schema = json!({
        "type": "object", "properties": { "city": { "enum": ["Paris", "Rome"] } },
        "required": ["city"], "additionalProperties": false,
    });
    let tool = |name: &str| {
        json!({ "type": "function", "function": {
        "name": name, "parameters": schema, "strict": true,
    } })
    };
    let tools = json!([tool("weather"), tool("time")]);
    let messages = json!([{ "role": "user", "content": "hi" }]);
    for (name, _) in TEMPLATES {
        let mut whole_calls = 0;
        for seed in 0..6 {
            let ask = json!({
                "model": name, "messages": messages, "tools": tools, "tool_choice": "required",
                "parallel_tool_calls": seed % 2 == 0, "max_tokens": 300, "seed": seed,
            });
            let answer = body(&up.post("/v1/chat/completions", &ask));
            let choice = &answer["choices"][0];
            // A model of random numbers may go on with further calls.
            if choice["finish_reason"] == "length" {
                continue;
            }
            assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
            assert_eq!(choice["message"]["content"], Value::Null, "{choice}");
            for call in choice["message"]["tool_calls"].as_array().unwrap() {
                let arguments = call["function"]["arguments"].as_str().unwrap();
                let arguments: Value = serde_json::from_str(arguments).unwrap();
                assert!(["Paris", "Rome"].contains(&arguments["city"].as_str().unwrap()));
                whole_calls += 1;
            }
        }
        assert!(whole_calls > 0, "{name}");
        // What is free may be text, and the grammar of it compiles.
        for changes in [json!({}), json!({ "parallel_tool_calls": false })] {
            let mut ask = json!({
                "model": name, "messages": messages, "tools": tools, "max_tokens": 20, "seed": 1,
            });
            for (key, value) in changes.as_object().unwrap() {
                ask[key] = value.clone();
            }
            let answer = body(&up.post("/v1/chat/completions", &ask));
            assert!(answer["choices"][0]["finish_reason"].is_string(), "{answer}");
        }
    }
    let format = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } });
    for name in ["hermes", "mistral", "ministral"] {
        let ask = json!({
            "model": name, "messages": messages, "tools": tools, "response_format": format,
            "max_tokens": 60, "seed": 2,
        });
        body(&up.post("/v1/chat/completions", &ask));
    }
    let ask = json!({ "model": "tiny", "messages": messages, "tools": tools });
    let text = up.post("/v1/chat/completions", &ask);
    assert!(text.contains("400 Bad Request") && text.contains("\"tools\""), "{text}");
}

/// Files below a folder, with their bytes.
fn files(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), std::fs::read(&path).unwrap_or_default())),
        }
    }
    found
}

#[test]
fn nothing_of_prompts_and_answers_is_logged_or_left() {
    const WORDS: &str = "xylophone-4711";
    let home = Home::with_tiny();
    let up = Up::start(&home, &[]);
    let schema = json!({ "type": "string", "enum": ["answer-0815"] });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } });
    let ask = json!({
        "prompt": WORDS, "max_tokens": 40, "response_format": format, "user": WORDS, "seed": 1,
    });
    let whole = body(&up.post("/v1/completions", &ask));
    assert!(whole["choices"][0]["text"].as_str().unwrap().contains("answer-0815"), "{whole}");
    for wrong in [json!({ "prompt": WORDS, "max_tokens": -1 }), json!({ WORDS: WORDS })] {
        assert!(up.post("/v1/completions", &wrong).starts_with("HTTP/1.1 400"));
    }
    let metrics = up.get("/metrics");
    let said = up.said();
    for words in [WORDS, "answer-0815"] {
        assert!(!said.contains(words) && !metrics.contains(words), "{said}");
        for (path, bytes) in files(&home.data("")) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(words), "{}", path.display());
        }
    }
}

#[test]
fn an_answer_is_given_again_after_a_restart() {
    let home = Home::with_tiny();
    let ask = json!({ "prompt": "x", "max_tokens": 20, "ignore_eos": true }).to_string();
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Idempotency-Key: key-1\r\nContent-Length: {}\r\n\r\n{ask}",
        ask.len()
    );
    let post = |up: &Up| {
        let mut text = String::new();
        up.connect(&request).read_to_string(&mut text).unwrap();
        text
    };
    let up = Up::start(&home, &[]);
    let first = post(&up);
    drop(up.said());
    let [(path, _)] = &files(&home.data("answers"))[..] else { panic!("one answer is kept") };
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let up = Up::start(&home, &[]);
    let again = post(&up);
    assert!(again.contains("idempotency-replayed: true"), "{again}");
    assert_eq!(body(&again), body(&first));
    // A damaged file is no reason to compute a second answer.
    let mut bytes = std::fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(path, bytes).unwrap();
    let refused = post(&up);
    assert!(refused.starts_with("HTTP/1.1 500"), "{refused}");
    assert!(refused.contains("kept_answer_damaged"), "{refused}");
}

/// The events of a stream, and the seed that its head names.
fn events(text: &str) -> (Vec<&str>, Option<&str>) {
    let seed = text.lines().find_map(|line| line.strip_prefix("x-shoal-seed: "));
    (text.lines().filter(|line| line.starts_with("data: ")).collect(), seed)
}

#[test]
fn what_a_crash_interrupts_is_made_again_as_it_was() {
    let home = Home::with_tiny();
    // Nothing here says which seed. Alternatives make the answer long.
    let ask = json!({
        "prompt": "x", "max_tokens": 500, "ignore_eos": true, "stream": true, "logprobs": 20,
    });
    let ask = ask.to_string();
    // A machine fast enough may have finished before it is killed; then it is tried again.
    for key in 0..20 {
        let request = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Idempotency-Key: key-{key}\r\nContent-Length: {}\r\n\r\n{ask}",
            ask.len()
        );
        let mut up = Up::start(&home, &[]);
        let client = up.connect(&request);
        let mut lines = BufReader::new(&client).lines();
        let mut begun = String::new();
        while begun.matches("data: ").count() < 3 {
            begun += &(lines.next().unwrap().unwrap() + "\n");
        }
        up.process.child.kill().unwrap();
        up.process.child.wait().unwrap();
        // What was under way when the program died; its last line may be cut.
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        begun += &rest[..rest.len().saturating_sub(1)].join("\n");

        let up = Up::start(&home, &[]);
        let post = || {
            let mut text = String::new();
            up.connect(&request).read_to_string(&mut text).unwrap();
            text
        };
        let again = post();
        let ((begun_events, begun_seed), (events, seed)) = (self::events(&begun), events(&again));
        assert!(begun_seed.is_some() && begun_seed == seed, "{begun_seed:?} {seed:?}");
        assert!(events.starts_with(&begun_events), "{begun}\n---\n{again}");
        assert_eq!(events.last(), Some(&"data: [DONE]"));
        let last = post();
        assert!(last.contains("idempotency-replayed: true"));
        assert_eq!(self::events(&last).0, events);
        if !again.contains("idempotency-replayed: true") {
            return;
        }
    }
    panic!("every answer was complete before the program was killed");
}

#[test]
fn the_first_screen_says_how_fast() {
    let home = Home::with_tiny();
    let up = Up::start(&home, &[]);
    assert!(up.process.screen["decode_tokens_per_s"].as_f64().is_some_and(|rate| rate > 0.0));
}
