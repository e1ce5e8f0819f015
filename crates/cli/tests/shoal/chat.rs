//! `chat` through a pipe.

use shoal_testkit::gguf_file;

use crate::support::{Home, tiny};

fn home() -> Home {
    let home = Home::new();
    let template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}\
                    {% if add_generation_prompt %}[assistant]{% endif %}";
    let path = home.write("chatty.gguf", &gguf_file(&tiny().with_template(template)));
    home.run(&["model", "import", path.to_str().unwrap()]).succeeded();
    home
}

const CHAT: [&str; 6] = ["chat", "-m", "chatty", "-n", "4", "--ignore-end"];

#[test]
fn each_line_is_answered_in_its_conversation() {
    let home = home();
    let args = [&CHAT[..], &["--json", "--system", "brief"]].concat();
    let ended = home.run_with_input(&args, b"hello\nagain\n/reset\nhello\n/exit\nnever\n");
    let answers: Vec<serde_json::Value> =
        ended.succeeded().stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 3);
    let prompt = |i: usize| answers[i]["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(prompt(1) > prompt(0) + 20, "the second prompt holds the first answer");
    assert_eq!(answers[0]["token_ids"], answers[2]["token_ids"]);
    assert_eq!(prompt(0), prompt(2));
}

#[test]
fn conversations_are_saved_and_never_overwrite() {
    let home = home();
    let path = home.file("talk.json");
    let lines = format!("/system be brief\nhello\n/save {}\n", path.display());
    home.run_with_input(&CHAT, lines.as_bytes()).succeeded();
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let roles: Vec<&str> =
        saved.as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(saved[1]["content"], "hello");
    home.run_with_input(&CHAT, lines.as_bytes()).failed(1, "talk.json");
}

#[test]
fn what_is_wrong_ends_a_piped_conversation() {
    let home = home();
    home.run_with_input(&CHAT, b"/frobnicate\n").failed(2, "/frobnicate is no command");
    home.run_with_input(&CHAT, b"/save\n").failed(2, "/save");
    home.run_with_input(&CHAT, b"\xff\n").failed(4, "UTF-8");
    home.run_with_input(&CHAT, &[&[b'a'; 2000][..], b"\n"].concat()).failed(2, "context");
    home.import_tiny();
    home.run(&["chat", "-m", "tiny"]).failed(2, "no chat template");
    home.run(&CHAT).succeeded();
}
