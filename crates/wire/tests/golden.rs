//! The committed bytes of `vectors/wire/v1` are those of the examples.

use std::path::{Path, PathBuf};

use shoal_wire::{Frame, Kind, Message, Version, examples};

fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("this crate lies two folders deep").join("vectors/wire/v1")
}

/// The bytes of a commented hex file.
fn read(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).expect("the vectors are part of the repository");
    let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words = code.flat_map(str::split_whitespace);
    words.map(|word| u8::from_str_radix(word, 16).expect("two digits")).collect()
}

#[test]
fn messages_have_their_golden_bytes() {
    let examples = examples::messages();
    let kinds: Vec<Kind> = examples.iter().map(Message::kind).collect();
    assert_eq!(kinds, Kind::ALL, "one example of each kind");
    for message in examples {
        let name = message.kind().name();
        let golden = read(name);
        assert_eq!(message.encode(Version(1)).unwrap(), golden, "{name}");
        assert_eq!(Message::decode(&golden, Version(1)).unwrap(), message, "{name}");
    }
}

#[test]
fn frames_have_their_golden_bytes() {
    for (name, frame) in examples::frames() {
        let golden = read(&format!("frame-{name}"));
        assert_eq!(frame.to_bytes(), golden, "{name}");
        let read = Frame::from_bytes(&golden).unwrap();
        assert_eq!((read.header, read.root), (frame.header, frame.root), "{name}");
        assert_eq!(read.rows[..], frame.rows[..], "{name}");
    }
}

#[test]
fn every_golden_file_has_its_example() {
    let count = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(count, Kind::ALL.len() + examples::frames().len());
}
