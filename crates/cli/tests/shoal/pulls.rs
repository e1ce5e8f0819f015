//! `model pull` from servers of all kinds.

use std::fs;

use shoal_base::Digest;
use shoal_testkit::{Asked, HttpServer, gguf_file};

use crate::support::{Ended, Home, tiny};

fn pull(home: &Home, url: &str) -> Ended {
    home.run(&["model", "pull", url, "--json"])
}

#[test]
fn a_url_is_downloaded_and_imported() {
    let home = Home::new();
    let file = gguf_file(&tiny());
    let server = HttpServer::start(move |asked| HttpServer::file(asked, &file));
    let pulled = pull(&home, &server.url("/models/tiny.gguf")).succeeded().json();
    assert_eq!(pulled["name"], "tiny");
    home.run(&["run", "-m", "tiny", "-n", "2", "x"]).succeeded();
    assert_eq!(home.names("downloads"), [""; 0]);
}

#[test]
fn a_broken_download_goes_on_where_it_ended() {
    let home = Home::new();
    let file = gguf_file(&tiny());
    let half = file.len() / 2;
    let server = HttpServer::start(move |asked| {
        let mut answer = HttpServer::file(asked, &file);
        if asked.index == 0 {
            answer.truncate(half);
        }
        answer
    });
    pull(&home, &server.url("/tiny.gguf")).succeeded();
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].first_byte() > half / 2, "{asked:?}");
    assert_eq!(asked[1].header("if-range"), Some("\"one\""));
}

#[test]
fn a_server_that_lies_about_the_length_is_refused() {
    let home = Home::new();
    let file = gguf_file(&tiny());
    let server = HttpServer::start(move |asked| match asked.first_byte() {
        0 => {
            // Announces more than it sends.
            let length = format!("Content-Length: {}", file.len() + 5000);
            HttpServer::response("200 OK", &[length, "ETag: \"one\"".into()], &file)
        }
        first => {
            // Then it announces something else.
            let (last, total) = (first + 8999, first + 9000);
            let range = format!("Content-Range: bytes {first}-{last}/{total}");
            let headers = ["Content-Length: 9000".into(), "ETag: \"one\"".into(), range];
            HttpServer::response("206 Partial Content", &headers, &[0; 9000])
        }
    });
    let refused = pull(&home, &server.url("/tiny.gguf"));
    refused.failed(6, "bytes, expected");
    assert_eq!(home.names("packages"), [""; 0]);
}

#[test]
fn what_the_server_sends_instead_is_refused() {
    let home = Home::new();
    let server = HttpServer::start(|asked: &Asked| match asked.path.as_str() {
        "/page.gguf" => {
            let html = "Content-Type: text/html".to_owned();
            HttpServer::response("200 OK", &[html], b"<html>please log in</html>")
        }
        "/moved.gguf" => {
            let place = "Location: http://example.invalid/x.gguf".to_owned();
            HttpServer::response("302 Found", &[place], b"")
        }
        "/text.gguf" => HttpServer::file(asked, b"not a model at all"),
        _ => HttpServer::response("404 Not Found", &["Content-Length: 0".into()], b""),
    });
    pull(&home, &server.url("/page.gguf")).failed(6, "web page");
    pull(&home, &server.url("/moved.gguf")).failed(6, "plain HTTP");
    pull(&home, &server.url("/none.gguf")).failed(3, "404");
    pull(&home, &server.url("/text.gguf")).failed(4, "not a model");
    pull(&home, "http://example.com/x.gguf").failed(6, "plain HTTP");
    pull(&home, "ftp://example.com/x").failed(2, "expected");
    assert_eq!(home.names("packages"), [""; 0]);
}

#[test]
fn a_file_that_is_not_the_one_asked_for_is_refused() {
    let home = Home::new();
    let file = gguf_file(&tiny());
    let server = HttpServer::start(move |asked| HttpServer::file(asked, &file));
    let wrong = Digest([7; 32]).to_string();
    let url = server.url("/tiny.gguf");
    let args = ["model", "pull", &url, "--sha256", &wrong];
    home.run(&args).failed(6, "damaged or was changed");
    assert_eq!(home.names("packages"), [""; 0]);
}

#[test]
fn a_repository_of_the_hub_is_downloaded_with_its_secret() {
    let home = Home::new();
    let file = gguf_file(&tiny());
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let server = HttpServer::start(move |asked| {
        if asked.path.starts_with("/api/models/owner/repo/revision/main") {
            let size = file.len();
            let listing = format!(
                r#"{{"sha": "{commit}", "siblings": [
                    {{"rfilename": "README.md", "size": 10}},
                    {{"rfilename": "tiny-f32.gguf", "size": {size}}}]}}"#
            );
            let length = format!("Content-Length: {}", listing.len());
            return HttpServer::response("200 OK", &[length], listing.as_bytes());
        }
        assert_eq!(asked.path, format!("/owner/repo/resolve/{commit}/tiny-f32.gguf"));
        HttpServer::file(asked, &file)
    });
    fs::create_dir_all(home.data("")).unwrap();
    let token = home.write("token", b"hf_secret\n");
    let config =
        format!("hub_url = \"{}\"\nhub_token = \"file:{}\"\n", server.url(""), token.display());
    fs::write(home.data("config.toml"), config).unwrap();
    let pulled = pull(&home, "hf:owner/repo").succeeded().json();
    assert_eq!(pulled["name"], "repo");
    assert!(server.asked().iter().all(|a| a.header("authorization") == Some("Bearer hf_secret")));
    fs::write(home.data("config.toml"), "hub_token = \"hf_secret\"\n").unwrap();
    pull(&home, "hf:owner/repo").failed(2, "env:NAME or file:PATH");
}
