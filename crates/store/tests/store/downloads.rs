//! Downloads from servers that are honest, slow, broken or hostile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use shoal_store::fetch::{FetchError, FetchOptions, FetchProgress, Fetched, Watch};
use shoal_testkit::{Asked, HttpServer};

use crate::support::Home;

/// Counts what it is told.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    retries: AtomicUsize,
    last: Mutex<(u64, Option<u64>)>,
}

impl Watch for Told {
    fn progress(&self, progress: FetchProgress<'_>) {
        *self.last.lock().unwrap() = (progress.bytes, progress.bytes_total);
    }

    fn retry(&self, _error: &FetchError, _pause: Duration) {
        self.retries.fetch_add(1, Ordering::SeqCst);
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

fn options() -> FetchOptions {
    let mut options = FetchOptions::default();
    options.attempts_max = 3;
    options.pause_first = Duration::from_millis(1);
    options.idle_max = Duration::from_secs(10);
    options
}

/// Several reads long.
fn content() -> Vec<u8> {
    (0..1_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn fetch_with(
    home: &Home,
    reference: &str,
    options: &FetchOptions,
    told: &Told,
) -> Result<Fetched, FetchError> {
    home.store.fetch(&reference.parse().unwrap(), options, told)
}

fn fetch(home: &Home, reference: &str) -> Result<Fetched, FetchError> {
    fetch_with(home, reference, &options(), &Told::default())
}

fn headers(length: usize) -> [String; 2] {
    [format!("Content-Length: {length}"), "ETag: \"one\"".to_owned()]
}

#[test]
fn a_whole_file_arrives_and_goes() {
    let home = Home::new();
    let server = HttpServer::start(|asked| HttpServer::file(asked, &content()));
    let told = Told::default();
    let url = server.url("/a%20model.gguf?x=1");
    let mut pinned = options();
    pinned.sha256 = Some(Sha256::digest(content()).into());
    let fetched = fetch_with(&home, &url, &pinned, &told).unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), content());
    assert_eq!(fetched.bytes, 1_000_000);
    assert_eq!(*told.last.lock().unwrap(), (1_000_000, Some(1_000_000)));
    assert!(home.store.health().unwrap().download_bytes >= 1_000_000);
    drop(fetched);
    // What is complete and known by its digest is not downloaded again.
    let again = fetch_with(&home, &url, &pinned, &told).unwrap();
    assert_eq!(server.asked().len(), 1);
    again.remove().unwrap();
    assert_eq!(home.names("downloads"), [""; 0]);
}

#[test]
fn every_break_is_resumed() {
    let home = Home::new();
    let server = HttpServer::start(|asked| {
        let mut answer = HttpServer::file(asked, &content());
        answer.truncate(300_000);
        answer
    });
    let told = Told::default();
    let fetched = fetch_with(&home, &server.url("/m.bin"), &options(), &told).unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), content());
    let firsts: Vec<usize> = server.asked().iter().map(Asked::first_byte).collect();
    assert_eq!(firsts.len(), 4);
    assert!(firsts.windows(2).all(|pair| pair[0] < pair[1]), "{firsts:?}");
    assert_eq!(told.retries.load(Ordering::SeqCst), 3);
}

#[test]
fn a_download_that_was_stopped_goes_on_later() {
    let home = Home::new();
    let server = HttpServer::start(|asked| {
        let mut answer = HttpServer::file(asked, &content());
        if asked.index == 0 {
            answer.truncate(600_000);
        }
        answer
    });
    let url = server.url("/m.bin");
    let told = Told::default();
    let mut once = options();
    once.attempts_max = 1;
    told.stop.store(true, Ordering::SeqCst);
    let stopped = fetch_with(&home, &url, &once, &told);
    assert!(matches!(stopped, Err(FetchError::Stopped)), "{stopped:?}");
    let fetched = fetch(&home, &url).unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), content());
}

#[test]
fn a_file_that_changed_meanwhile_is_begun_anew() {
    let home = Home::new();
    let server = HttpServer::start(|asked| {
        if asked.index == 0 {
            let mut answer = HttpServer::response("200 OK", &headers(1_000_000), &content());
            answer.truncate(400_000);
            return answer;
        }
        // Another file: a server that knows the validator sends all of it.
        let other = vec![7; 500_000];
        let headers = [format!("Content-Length: {}", other.len()), "ETag: \"two\"".to_owned()];
        HttpServer::response("200 OK", &headers, &other)
    });
    let fetched = fetch(&home, &server.url("/m.bin")).unwrap();
    assert_eq!(std::fs::read(&fetched.path).unwrap(), vec![7; 500_000]);
}

#[test]
fn lengths_that_contradict_one_another_are_refused() {
    let home = Home::new();
    let lie = |answer: fn(&Asked) -> Vec<u8>| {
        let server = HttpServer::start(answer);
        fetch(&home, &server.url("/m.bin")).unwrap_err()
    };
    // Announces more than it ever sends.
    let error = lie(|asked| match asked.first_byte() {
        0 => HttpServer::response("200 OK", &headers(2_000_000), &content()),
        first => {
            let range = format!("Content-Range: bytes {first}-1999999/2000000");
            HttpServer::response(
                "206 Partial Content",
                &[range, headers(1_000_000)[0].clone()],
                b"",
            )
        }
    });
    assert!(matches!(error, FetchError::Short { .. } | FetchError::Network { .. }), "{error}");
    // Says another total when it is asked for the rest.
    let error = lie(|asked| match asked.first_byte() {
        0 => HttpServer::response("200 OK", &headers(2_000_000), &content()),
        first => {
            let range = format!("Content-Range: bytes {first}-2999999/3000000");
            HttpServer::response("206 Partial Content", &[range, "ETag: \"one\"".into()], b"x")
        }
    });
    assert!(matches!(error, FetchError::Length { got: 3_000_000, .. }), "{error}");
    // Sends another range than was asked for.
    let error = lie(|asked| match asked.first_byte() {
        0 => HttpServer::response("200 OK", &headers(2_000_000), &content()),
        _ => {
            let range = "Content-Range: bytes 5-1999999/2000000".to_owned();
            HttpServer::response("206 Partial Content", &[range], b"x")
        }
    });
    assert!(matches!(error, FetchError::Server { .. }), "{error}");
    // A range that is none.
    let error = lie(|asked| match asked.first_byte() {
        0 => HttpServer::response("200 OK", &headers(2_000_000), &content()),
        _ => {
            let range = "Content-Range: bytes 9-3/99999999999999999999999".to_owned();
            HttpServer::response("206 Partial Content", &[range], b"x")
        }
    });
    assert!(matches!(error, FetchError::Server { .. }), "{error}");
}

#[test]
fn more_than_was_allowed_is_refused() {
    let home = Home::new();
    let mut small = options();
    small.bytes_max = 300_000;
    let announced = HttpServer::start(|asked| HttpServer::file(asked, &content()));
    let endless = HttpServer::start(|_| HttpServer::response("200 OK", &[], &content()));
    for server in [announced, endless] {
        let refused = fetch_with(&home, &server.url("/m.bin"), &small, &Told::default());
        assert!(matches!(refused, Err(FetchError::Oversize { .. })), "{refused:?}");
    }
}

#[test]
fn a_digest_decides_whoever_answers() {
    let home = Home::new();
    let server = HttpServer::start(|asked| HttpServer::file(asked, &content()));
    let mut pinned = options();
    pinned.sha256 = Some([1; 32]);
    let refused = fetch_with(&home, &server.url("/n.bin"), &pinned, &Told::default());
    assert!(matches!(refused, Err(FetchError::Damaged { .. })), "{refused:?}");
}

#[test]
fn servers_that_refuse_are_asked_again_only_where_it_helps() {
    let home = Home::new();
    let busy = HttpServer::start(|asked| match asked.index {
        0 => {
            let later = ["Retry-After: 0".to_owned(), "Content-Length: 0".to_owned()];
            HttpServer::response("503 Service Unavailable", &later, b"")
        }
        _ => HttpServer::file(asked, &content()),
    });
    fetch(&home, &busy.url("/m.bin")).unwrap();
    let none = HttpServer::start(|_| {
        HttpServer::response("404 Not Found", &["Content-Length: 0".to_owned()], b"")
    });
    let refused = fetch(&home, &none.url("/m.bin"));
    assert!(matches!(refused, Err(FetchError::Status { status: 404, .. })), "{refused:?}");
    assert_eq!(none.asked().len(), 1);
}

#[test]
fn redirects_are_followed_a_few_times() {
    let home = Home::new();
    let server = HttpServer::start(|asked| match asked.path.as_str() {
        "/start.bin" => HttpServer::response("302 Found", &["Location: /real.bin".to_owned()], b""),
        "/real.bin" => HttpServer::file(asked, &content()),
        _ => HttpServer::response("302 Found", &["Location: /round.bin".to_owned()], b""),
    });
    fetch(&home, &server.url("/start.bin")).unwrap();
    let refused = fetch(&home, &server.url("/round.bin"));
    assert!(matches!(refused, Err(FetchError::Server { .. })), "{refused:?}");
    assert!(server.asked().len() < 12);
}

#[test]
fn downloads_are_removed_unless_somebody_works_on_them() {
    let home = Home::new();
    let server = HttpServer::start(|asked| HttpServer::file(asked, &content()));
    let held = fetch(&home, &server.url("/held.bin")).unwrap();
    drop(fetch(&home, &server.url("/old.bin")).unwrap());
    let busy = fetch(&home, &server.url("/held.bin"));
    assert!(matches!(busy, Err(FetchError::Store(_))), "{busy:?}");
    assert!(home.again().remove_downloads().unwrap() >= 1_000_000);
    assert!(held.path.exists());
    assert_eq!(home.names("downloads").len(), 1);
}
