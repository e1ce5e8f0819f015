//! Tokenizers that belong to no model, from disk.

use std::path::{Path, PathBuf};

use shoal_model::source::{LoneTokenizer, SourceError, TokenizerFiles, open_tokenizer};

const JSON: &[u8] = br#"{"model": {"type": "BPE"}}"#;
/// A piece "a" with a score of 0: how a `SentencePiece` model begins.
const PIECES: &[u8] = &[0x0a, 0x08, 0x0a, 0x01, b'a', 0x15, 0, 0, 0, 0];
const RANKS: &[u8] = b"IQ== 0\nIg== 1\n";
const SETTINGS: &[u8] = br#"{"chat_template": "{{ messages }}"}"#;

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn lone(path: &Path) -> LoneTokenizer {
    open_tokenizer(path).unwrap().expect("a tokenizer alone")
}

#[test]
fn a_folder_without_a_model_is_a_tokenizer_with_its_settings() {
    let folder = folder(&[
        ("tokenizer.json", JSON),
        ("tokenizer_config.json", SETTINGS),
        ("special_tokens_map.json", b"{}"),
        ("added_tokens.json", b"[]"),
        ("generation_config.json", b"{ }"),
    ]);
    let lone = lone(folder.path());
    assert_eq!(lone.chat_template.as_deref(), Some("{{ messages }}"));
    let TokenizerFiles::HuggingFace { tokenizer, settings } = lone.files else {
        panic!("tokenizer.json is there");
    };
    assert_eq!(tokenizer, JSON);
    assert_eq!(settings.tokenizer_config.as_deref(), Some(SETTINGS));
    assert_eq!(settings.special_tokens_map.as_deref(), Some(&b"{}"[..]));
    assert_eq!(settings.added_tokens.as_deref(), Some(&b"[]"[..]));
    assert_eq!(settings.generation_config.as_deref(), Some(&b"{ }"[..]));
}

#[test]
fn what_tokenizer_model_is_its_bytes_say() {
    let of = |bytes| lone(folder(&[("tokenizer.model", bytes)]).path()).files;
    assert!(matches!(of(PIECES), TokenizerFiles::SentencePiece { model, .. } if model == PIECES));
    assert!(matches!(of(RANKS), TokenizerFiles::Tiktoken { ranks, .. } if ranks == RANKS));
    assert!(matches!(of(JSON), TokenizerFiles::HuggingFace { tokenizer, .. } if tokenizer == JSON));
}

#[test]
fn the_file_that_is_named_is_read_and_not_its_neighbour() {
    // Beside a model too: whoever names the file does not want the model.
    let folder = folder(&[
        ("config.json", b"{}"),
        ("tokenizer.json", JSON),
        ("tokenizer.model", PIECES),
        ("chat_template.jinja", b"a file of its own"),
        ("tokenizer_config.json", SETTINGS),
    ]);
    let of = |name: &str| lone(&folder.path().join(name));
    let json = of("tokenizer.json");
    assert!(
        matches!(json.files, TokenizerFiles::HuggingFace { tokenizer, .. } if tokenizer == JSON)
    );
    assert_eq!(json.chat_template.as_deref(), Some("a file of its own"));
    let pieces = of("tokenizer.model");
    let TokenizerFiles::SentencePiece { model, settings } = pieces.files else {
        panic!("tokenizer.model was named");
    };
    assert_eq!(model, PIECES);
    assert_eq!(settings.tokenizer_config.as_deref(), Some(SETTINGS));
    assert_eq!(pieces.chat_template.as_deref(), Some("a file of its own"));
}

#[test]
fn of_two_files_in_a_folder_the_json_counts() {
    let folder = folder(&[("tokenizer.json", JSON), ("tokenizer.model", PIECES)]);
    assert!(matches!(lone(folder.path()).files, TokenizerFiles::HuggingFace { .. }));
}

#[test]
fn models_and_other_paths_are_no_tokenizers() {
    let folder = folder(&[
        ("config.json", b"{}"),
        ("tokenizer.json", JSON),
        ("tok512.bin", &[4, 0, 0, 0]),
        ("my-tokenizer.json", JSON),
    ]);
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    // A folder that is called like the file is a folder.
    std::fs::create_dir(path("tokenizer.model")).unwrap();
    std::fs::write(path("tokenizer.model/config.json"), b"{}").unwrap();
    for name in ["", "config.json", "tok512.bin", "my-tokenizer.json", "absent", "tokenizer.model"]
    {
        assert!(open_tokenizer(&path(name)).unwrap().is_none(), "{name:?}");
    }
}

#[test]
fn what_is_wrong_with_a_lone_tokenizer_is_named() {
    let refusal = |files: &[(&str, &[u8])]| open_tokenizer(folder(files).path()).unwrap_err();
    let missing = refusal(&[("tokenizer_config.json", b"{}")]);
    assert!(matches!(&missing, SourceError::MissingFile { .. }), "{missing}");
    assert!(missing.to_string().ends_with("tokenizer.json or tokenizer.model is missing"));
    for bytes in [&b""[..], b"\0\0\0\0", b"GGUF\x03\0\0\0", b"no tokenizer"] {
        let unknown = refusal(&[("tokenizer.model", bytes)]);
        assert!(
            matches!(&unknown, SourceError::UnrecognisedTokenizer { file }
                if file.ends_with("tokenizer.model")),
            "{unknown}"
        );
    }
    let settings: &[u8] = br#"{"chat_template": 7}"#;
    let template = refusal(&[("tokenizer.json", JSON), ("tokenizer_config.json", settings)]);
    assert!(
        matches!(&template, SourceError::Json { file, .. }
            if file.ends_with("tokenizer_config.json")),
        "{template}"
    );
    let template = refusal(&[("tokenizer.json", JSON), ("chat_template.jinja", b"ab\xff")]);
    assert!(template.to_string().contains("chat_template.jinja"), "{template}");
}

#[test]
fn published_tokenizers_without_a_model_open() {
    let Some(data) = std::env::var_os("SHOAL_TEST_DATA") else {
        println!("skipped: no shared data");
        return;
    };
    let tokenizers = Path::new(&data).join("tokenizers");
    let llama2 = tokenizers.join("karpathy+llama2.c");
    for path in [llama2.join("tokenizer.model"), llama2] {
        let TokenizerFiles::SentencePiece { model, settings } = lone(&path).files else {
            panic!("{} is a SentencePiece model", path.display());
        };
        assert_eq!((model.len(), settings), (499_723, <_>::default()));
    }
    let llama3 = tokenizers.join("meta-llama+llama-models/models/llama3");
    let TokenizerFiles::Tiktoken { ranks, .. } = lone(&llama3).files else {
        panic!("{} holds ranks", llama3.display());
    };
    assert_eq!(ranks.len(), 2_183_982);
    // A whole model is none, the file in it is.
    let story = Path::new(&data).join("models/LearningInfiniTensor+learning-lm-rs/models/story");
    assert!(open_tokenizer(&story).unwrap().is_none());
    let story = lone(&story.join("tokenizer.json"));
    let TokenizerFiles::HuggingFace { tokenizer, settings } = story.files else {
        panic!("tokenizer.json");
    };
    assert_eq!(tokenizer.len(), 86_434);
    assert_eq!(settings.tokenizer_config.map(|file| file.len()), Some(933));
    assert_eq!(settings.generation_config.map(|file| file.len()), Some(111));
}
