//! The printable stand-ins for bytes in which GPT-2's files, and all that follow it, write tokens.
//!
//! Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, for U+0100 and
//! on.

const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

const CHARACTERS: [char; 256] = {
    let mut table = ['\0'; 256];
    let mut next = 0x100;
    let mut byte = 0;
    while byte < 256 {
        table[byte] = if is_printable(byte as u8) {
            byte as u8 as char
        } else {
            next += 1;
            match char::from_u32(next - 1) {
                Some(character) => character,
                None => panic!("68 characters from U+0100 exist"),
            }
        };
        byte += 1;
    }
    table
};

/// Bytes of U+0000 to U+0143 as stand-ins; 256 where a character stands for nothing.
const BYTES: [u16; 0x144] = {
    let mut table = [256; 0x144];
    let mut byte = 0;
    while byte < 256 {
        table[CHARACTERS[byte] as usize] = byte as u16;
        byte += 1;
    }
    table
};

/// `bytes` as a file writes them.
pub(super) fn to_text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| CHARACTERS[byte as usize]).collect()
}

/// Appends the bytes that `text` stands for; `None` if a character stands for no byte.
pub(super) fn append_bytes(out: &mut Vec<u8>, text: &str) -> Option<()> {
    for character in text.chars() {
        let byte = *BYTES.get(character as usize)?;
        out.push(u8::try_from(byte).ok()?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character_and_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let text = to_text(&all);
        assert_eq!(text.chars().count(), 256);
        let mut back = Vec::new();
        assert_eq!(append_bytes(&mut back, &text), Some(()));
        assert_eq!(back, all);
    }

    #[test]
    fn known_stand_ins_are_those_of_gpt2() {
        assert_eq!(to_text(b" \n\ta\xad\xff"), "ĠĊĉaŃÿ");
    }

    #[test]
    fn a_character_that_stands_for_nothing_is_refused() {
        for text in [" ", "\u{144}", "▁", "\u{ad}"] {
            assert_eq!(append_bytes(&mut Vec::new(), text), None, "{text:?}");
        }
    }
}
