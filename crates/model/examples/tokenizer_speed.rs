//! Times loading and use of a tokenizer: `tokenizer_speed SPEC TEXT`, where `SPEC` holds the bytes
//! of a description and `TEXT` is any text. Without a text, pathological ones are used.
#![expect(clippy::print_stdout, reason = "a program that prints")]

use std::time::Instant;

use shoal_model::tokenizer::{ControlTokens, DecodeFrom, EncodeOptions, Tokenizer, TokenizerSpec};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bytes = std::fs::read(arguments.next().ok_or("a tokenizer is needed")?)?;
    let mut tokenizer = None;
    let load_ms: Vec<f64> = (0..5)
        .map(|_| {
            let begin = Instant::now();
            tokenizer = Some(Tokenizer::new(TokenizerSpec::from_bytes(&bytes)?)?);
            Ok(begin.elapsed().as_secs_f64() * 1e3)
        })
        .collect::<Result<_, shoal_model::tokenizer::TokenizerError>>()?;
    println!("load_ms {load_ms:.1?} of {} bytes", bytes.len());
    let tokenizer = tokenizer.ok_or("five loads leave one")?;
    let texts = match arguments.next() {
        Some(path) => vec![(path.clone(), std::fs::read_to_string(path)?)],
        None => [
            "a",
            " ",
            "ab",
            "\n",
            " a",
            "é",
            "1",
            "'",
            "\u{301}",
            "\u{315}\u{300}",
            "a\u{315}\u{300}",
        ]
        .into_iter()
        .flat_map(|unit| {
            [1 << 20, 8 << 20]
                .map(|size| (format!("{unit:?} x {size} bytes"), unit.repeat(size / unit.len())))
        })
        .collect(),
    };
    for (name, text) in texts {
        let begin = Instant::now();
        let ids = tokenizer.encode(&text, EncodeOptions::default())?;
        let encode_s = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let back = tokenizer.decode(&ids, DecodeFrom::Start, ControlTokens::Skip)?;
        let decode_s = begin.elapsed().as_secs_f64();
        let mib = text.len() as f64 / f64::from(1 << 20);
        println!(
            "{name}: {} ids, encode {:.1} MiB/s, decode {:.1} MiB/s, same {}",
            ids.len(),
            mib / encode_s,
            mib / decode_s,
            back == text
        );
    }
    Ok(())
}
