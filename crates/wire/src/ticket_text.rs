//! Tickets as text, for a chat or a piece of paper. Spec 03, 10.

use crate::{Field, Signed, Ticket, WireError};

const PREFIX: &str = "shoal1";
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const DIGIT_BITS: u32 = 5;

/// The text of a ticket.
#[must_use]
pub fn ticket_to_text(ticket: &Signed<Ticket>) -> String {
    let mut text = PREFIX.to_owned();
    let (mut bits, mut held) = (0_u32, 0);
    for byte in ticket.to_bytes() {
        bits = bits << 8 | u32::from(byte);
        held += 8;
        while held >= DIGIT_BITS {
            held -= DIGIT_BITS;
            text.push(digit(bits >> held));
        }
    }
    if held > 0 {
        text.push(digit(bits << (DIGIT_BITS - held)));
    }
    text
}

/// The digit of the lowest five bits.
fn digit(bits: u32) -> char {
    char::from(DIGITS[(bits & 31) as usize])
}

/// Reads the text of a ticket, with white space around it or not.
///
/// # Errors
/// Whatever is not the one text of a ticket.
pub fn ticket_from_text(text: &str) -> Result<Signed<Ticket>, WireError> {
    let broken = |rule| WireError::Rule { field: "ticket", rule };
    let digits = text.trim().strip_prefix(PREFIX).ok_or(broken("starts with shoal1"))?;
    let mut bytes = Vec::with_capacity(digits.len());
    let (mut bits, mut held) = (0_u32, 0);
    for character in digits.bytes() {
        let value = DIGITS.iter().position(|digit| *digit == character);
        let value = value.ok_or(broken("letters a to z and digits 2 to 7"))?;
        bits = bits << DIGIT_BITS | value as u32;
        held += DIGIT_BITS;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 255) as u8);
        }
    }
    if held >= DIGIT_BITS || bits & ((1 << held) - 1) != 0 {
        return Err(broken("the last digit is filled with zero bits"));
    }
    Signed::from_bytes(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, examples};

    fn ticket() -> Signed<Ticket> {
        let all = examples::messages().into_iter();
        let mut tickets = all.filter_map(|message| match message {
            Message::JoinRequest(request) => Some(request.ticket),
            _ => None,
        });
        tickets.next().expect("there is an example")
    }

    #[test]
    fn a_ticket_has_one_text() {
        let text = ticket_to_text(&ticket());
        assert_eq!(ticket_from_text(&format!(" {text}\n")), Ok(ticket()));
        assert!(ticket_from_text(&text.to_uppercase()).is_err());
        assert!(ticket_from_text(&text[..text.len() - 1]).is_err());
        assert!(ticket_from_text(&format!("{text}a")).is_err());
        assert!(ticket_from_text(&text.replacen("shoal1", "shoal2", 1)).is_err());
        assert!(ticket_from_text("shoal1").is_err());
    }
}
