//! Ctrl-C and kill -9 at bad moments.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shoal_testkit::{HttpServer, gguf_file};

use crate::support::{Ended, Home, slow_to_import, tiny};

const WAIT_MAX: Duration = Duration::from_secs(30);

fn send(child: &Child, signal: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args([signal, &id]).status().unwrap();
    assert!(sent.success());
}

/// Starts an import and waits until blobs are being written.
fn started(home: &Home, path: &Path) -> Child {
    let args = ["model", "import", path.to_str().unwrap(), "--threads", "1", "--name", "big"];
    let mut command = home.command(&args);
    let is_writing = || {
        let folders = home.names("staging");
        let blobs = folders.iter().flat_map(|f| home.names(&format!("staging/{f}")));
        blobs.filter(|name| name.starts_with("blob-")).count() > 0
    };
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !is_writing() && start.elapsed() < WAIT_MAX {
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

fn model(home: &Home) -> PathBuf {
    home.write("big.gguf", &gguf_file(&slow_to_import()))
}

/// Nothing is there, and the same import succeeds.
fn check_nothing_is_left(home: &Home, path: &Path) {
    let listed = home.run(&["model", "list", "--json"]).succeeded().json();
    assert_eq!(listed, serde_json::json!({ "packages": [], "damaged": [] }));
    assert_eq!(home.names("staging"), [""; 0]);
    assert_eq!(home.names("blobs"), [""; 0]);
    home.run(&["model", "import", path.to_str().unwrap(), "--name", "big"]).succeeded();
    home.run(&["model", "verify", "big"]).succeeded();
}

#[test]
fn an_import_that_is_killed_leaves_nothing() {
    let home = Home::new();
    let path = model(&home);
    let mut child = started(&home, &path);
    send(&child, "-KILL");
    assert_eq!(child.wait().unwrap().code(), None);
    assert_eq!(home.names("packages"), [""; 0]);
    check_nothing_is_left(&home, &path);
}

#[test]
fn an_import_that_is_interrupted_cleans_up() {
    let home = Home::new();
    let path = model(&home);
    let child = started(&home, &path);
    send(&child, "-INT");
    Ended::of(child.wait_with_output().unwrap()).failed(130, "interrupted");
    assert_eq!(home.names("staging"), [""; 0]);
    check_nothing_is_left(&home, &path);
}

#[test]
fn an_answer_that_is_interrupted_says_so() {
    let home = Home::new();
    let path = model(&home);
    home.run(&["model", "import", path.to_str().unwrap(), "--name", "big"]).succeeded();
    let args = ["run", "-m", "big", "--ignore-end", "-n", "500", "--threads", "1", "x"];
    let mut child = home.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 1];
    stdout.read_exact(&mut first).unwrap();
    send(&child, "-INT");
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(rest.last(), Some(&b'\n'));
}

/// Waits until the program handles Ctrl-C itself.
fn wait_for_handler(child: &Child) {
    const INTERRUPT: u64 = 1 << 1;
    let is_handled = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & INTERRUPT != 0
    };
    let start = Instant::now();
    while !is_handled() {
        assert!(start.elapsed() < WAIT_MAX, "Ctrl-C is not handled");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_answer_in_json_that_is_interrupted_says_cancelled() {
    let home = Home::new();
    let path = model(&home);
    home.run(&["model", "import", path.to_str().unwrap(), "--name", "big"]).succeeded();
    let args = ["run", "-m", "big", "--ignore-end", "--threads", "1", "--json", "x"];
    let child = home.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_handler(&child);
    send(&child, "-INT");
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert_eq!(ended.json()["finish_reason"], "cancelled");
}

#[test]
fn a_download_that_is_interrupted_goes_on_later() {
    let home = Home::new();
    let file = gguf_file(&tiny());
    let half = file.len() / 2;
    let honest = Arc::new(AtomicBool::new(false));
    let sends_all = Arc::clone(&honest);
    let server = HttpServer::start(move |asked| {
        let mut answer = HttpServer::file(asked, &file);
        if !sends_all.load(Ordering::SeqCst) {
            answer.truncate(half);
        }
        answer
    });
    let url = server.url("/tiny.gguf");
    let args = ["model", "pull", &url];
    let child = home.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let has_arrived = || {
        let folders = home.names("downloads").into_iter();
        let parts = folders.map(|folder| home.data(&format!("downloads/{folder}/parts/tiny.gguf")));
        parts.filter_map(|part| fs::metadata(part).ok()).any(|part| part.len() > 0)
    };
    let start = Instant::now();
    while !has_arrived() && start.elapsed() < WAIT_MAX {
        std::thread::sleep(Duration::from_millis(1));
    }
    // It handles Ctrl-C since before its first request.
    send(&child, "-INT");
    Ended::of(child.wait_with_output().unwrap()).failed(130, "interrupted");
    let before = server.asked().len();
    honest.store(true, Ordering::SeqCst);
    home.run(&args).succeeded();
    assert!(server.asked()[before].first_byte() > 0, "the beginning was kept");
    home.run(&["model", "verify", "tiny"]).succeeded();
}
