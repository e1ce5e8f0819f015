//! `bench`, `eval`, `doctor`, `completions`: the shapes of what they say.

use crate::support::{Home, keys};

#[test]
fn bench_reports_speed_and_its_ceiling() {
    let home = Home::with_tiny();
    let bench = ["bench", "engine", "-m", "tiny", "--prompt-tokens", "70", "--decode-tokens", "5"];
    let args = [&bench[..], &["--sequences", "3", "--repeat", "2", "--json"]].concat();
    let report = home.run(&args).succeeded().json();
    let fields = [
        "prefill_tokens_per_s",
        "decode_tokens_per_s",
        "memory_read_gb_per_s",
        "bytes_per_token",
        "decode_fraction_of_memory_bandwidth",
        "isa",
    ];
    assert_eq!(keys(&report), fields);
    let number = |key: &str| report[key].as_f64().unwrap();
    assert!(fields[..5].iter().all(|key| number(key) > 0.0), "{report}");
    let expected = number("bytes_per_token") * number("decode_tokens_per_s")
        / (number("memory_read_gb_per_s") * 1e9);
    assert!((number("decode_fraction_of_memory_bandwidth") / expected - 1.0).abs() < 1e-9);
    home.run(&["bench", "engine", "-m", "tiny", "--prompt-tokens", "600"]).failed(2, "512");
    home.run(&["bench", "engine", "-m", "tiny", "--repeat", "0"]).failed(2, "--repeat");
}

#[test]
fn perplexity_of_a_text_is_reported() {
    let home = Home::with_tiny();
    let text =
        home.write("text.txt", "ein kleiner Text, größer als ein Fenster ".repeat(9).as_bytes());
    let eval = ["eval", "perplexity", "-m", "tiny", "--json", "--text", text.to_str().unwrap()];
    let report = home.run(&[&eval[..], &["--context", "64"]].concat()).succeeded().json();
    assert_eq!(keys(&report), ["perplexity", "bits_per_byte", "tokens"]);
    // A random model over bytes: one token per byte, and worse than none.
    let (perplexity, bits) =
        (report["perplexity"].as_f64().unwrap(), report["bits_per_byte"].as_f64().unwrap());
    assert!(perplexity > 100.0, "{report}");
    assert!((perplexity.log2() - bits).abs() < 0.2, "{report}");
    home.run(&[&eval[..], &["--context", "5000"]].concat()).failed(2, "4 to 512");
    let short = home.write("short.txt", b"short");
    let args = ["eval", "perplexity", "-m", "tiny", "--text", short.to_str().unwrap()];
    home.run(&args).failed(2, "one window needs");
}

#[test]
fn doctor_describes_machine_and_data_folder() {
    let home = Home::with_tiny();
    let report = home.run(&["doctor", "--quick", "--json"]).succeeded().json();
    assert_eq!((&report["packages"], &report["problems"]), (&1.into(), &serde_json::json!([])));
    assert!(report["isa_available"].as_array().unwrap().contains(&report["isa"]));
    assert!(report["memory_bytes"].as_u64().unwrap() > 0);
    let text = home.run(&["doctor", "--quick", "--sweep"]).succeeded().stdout;
    assert!(text.contains("data folder") && text.contains("0 unfinished imports"), "{text}");
}

#[test]
fn completions_are_there_for_every_shell_and_touch_nothing() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = home.run(&["completions", shell]).succeeded().stdout;
        assert!(script.contains("shoal") && script.contains("tokenize"), "{shell}");
    }
    assert!(!home.data("").exists());
    home.run(&["completions", "tcsh"]).failed(2, "tcsh");
}
