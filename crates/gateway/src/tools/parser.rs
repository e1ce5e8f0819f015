//! Calls of tools in the text of an answer, as it comes.
//!
//! What is no call is text. A call counts from the moment its head is whole: `{"name": "…",` and
//! the key of its arguments, or `name[ARGS]`, with the name of a tool that was offered. From there
//! on its arguments are passed on as they come.
//!
//! Invariants: the pieces do not depend on how the text was cut; what is held back is bounded by
//! [`HEAD_BYTES_MAX`] and what comes at once; the work grows with the text.

use shoal_base::ToolFormat;

/// From a marker to the arguments: white space, a name, perhaps an id.
const HEAD_BYTES_MAX: usize = 1 << 10;
/// White space before a marker belongs to the call; of a longer run, this much.
const SPACE_BYTES_MAX: usize = 64;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text for the reader.
    Text(String),
    /// A call begins.
    Begin {
        /// The tool.
        name: String,
    },
    /// A part of the arguments of the call, JSON text.
    Arguments(String),
    /// The call is whole.
    End,
}

/// Finds calls.
#[derive(Clone, Debug)]
pub(crate) struct CallParser {
    format: ToolFormat,
    names: Vec<String>,
    state: State,
    /// Text that is not yet certain to be anything.
    held: String,
    /// Bytes of `held` in which no marker begins.
    searched: usize,
    after_call: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Text, in which a marker may appear.
    Text,
    /// `held` begins where a call may.
    Head,
    /// Inside arguments.
    Arguments(Json),
    /// Behind the arguments of a call, before its end.
    Tail(Json, usize),
    /// Behind a call: another one, the end of calls, or text.
    Between,
    /// Text to the end.
    Rest,
}

/// How deep in JSON the text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Json {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Json {
    /// Takes a byte; whether it closes what was open at depth 1.
    fn push(&mut self, byte: u8) -> bool {
        match (self.in_string, byte) {
            (true, _) if self.escaped => self.escaped = false,
            (true, b'\\') => self.escaped = true,
            (true, b'"') => self.in_string = false,
            (true, _) => {}
            (false, b'"') => self.in_string = true,
            (false, b'{' | b'[') => self.depth = self.depth.saturating_add(1),
            (false, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            (false, _) => {}
        }
        false
    }
}

/// What the beginning of a text is.
enum Found<T> {
    Yes(T),
    No,
    /// More text decides.
    Open,
}

impl CallParser {
    /// A parser for calls of the tools with these names.
    pub(crate) fn new(format: ToolFormat, names: Vec<String>) -> Self {
        let state = match format {
            ToolFormat::Llama => State::Head,
            ToolFormat::Hermes | ToolFormat::Mistral | ToolFormat::MistralArgs => State::Text,
        };
        Self { format, names, state, held: String::new(), searched: 0, after_call: false }
    }

    /// Takes more text.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.step(&mut pieces) {}
        pieces
    }

    /// The end of the answer: what is left is text. A call that is not whole has no end.
    pub(crate) fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        match self.state {
            State::Text | State::Head | State::Rest | State::Between => {
                let rest = self.held.len();
                self.pass(rest, &mut pieces);
            }
            State::Arguments(_) | State::Tail(..) => {}
        }
        self.held.clear();
        pieces
    }

    /// Panics when more is held back than may be.
    pub(crate) fn check_bound(&self) {
        let limit = HEAD_BYTES_MAX + SPACE_BYTES_MAX;
        assert!(self.held.len() <= limit, "{} bytes held back, limit {limit}", self.held.len());
    }

    /// Whether there may be more to do.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.state {
            State::Text => self.text(pieces),
            State::Head => self.head(pieces),
            State::Arguments(json) => self.arguments(json, pieces),
            State::Tail(json, seen) => self.tail(json, seen, pieces),
            State::Between => self.between(),
            State::Rest => {
                let rest = self.held.len();
                self.pass(rest, pieces);
                false
            }
        }
    }

    /// Passes the first `count` bytes held as text. Between calls, white space is none.
    fn pass(&mut self, count: usize, pieces: &mut Vec<Piece>) {
        let text: String = self.held.drain(..count).collect();
        self.searched = self.searched.saturating_sub(count);
        let text = match self.after_call {
            true => text.trim_ascii_start(),
            false => &text,
        };
        if !text.is_empty() {
            self.after_call = false;
            match pieces.last_mut() {
                Some(Piece::Text(before)) => before.push_str(text),
                _ => pieces.push(Piece::Text(text.to_owned())),
            }
        }
    }

    fn text(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let marker = self.format.marker();
        if let Some(at) = self.held[self.searched..].find(marker) {
            let at = self.searched + at;
            let before = at - space_before(&self.held[..at]);
            self.pass(before, pieces);
            self.state = State::Head;
            return true;
        }
        let end = self.held.len() - overlap(&self.held, marker);
        let certain = end - space_before(&self.held[..end]);
        self.pass(certain, pieces);
        self.searched = self.held.len() - overlap(&self.held, marker);
        false
    }

    fn head(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let found = head(self.format, self.after_call, &self.held);
        match found {
            Found::Yes((name, length)) if self.names.contains(&name) && is_short(length) => {
                self.held.drain(..length);
                self.searched = 0;
                pieces.push(Piece::Begin { name });
                self.state = State::Arguments(Json::default());
                true
            }
            Found::Open if is_short(self.held.len()) => false,
            _ => {
                self.no_call(pieces);
                true
            }
        }
    }

    /// What looked like a call is text.
    fn no_call(&mut self, pieces: &mut Vec<Piece>) {
        let marker = self.format.marker();
        let space = self.held.len() - self.held.trim_ascii_start().len();
        match self.held[space..].starts_with(marker) && self.format != ToolFormat::Llama {
            true => {
                self.pass(space + marker.len(), pieces);
                self.state = State::Text;
            }
            false if self.format == ToolFormat::Llama => self.state = State::Rest,
            false => self.state = State::Text,
        }
    }

    fn arguments(&mut self, mut json: Json, pieces: &mut Vec<Piece>) -> bool {
        let mut ends = false;
        let length = self.held.bytes().position(|byte| {
            ends = json.push(byte);
            ends
        });
        let length = length.map_or(self.held.len(), |at| at + 1);
        if length > 0 {
            let part = self.held.drain(..length).collect();
            pieces.push(Piece::Arguments(part));
        }
        self.state = State::Arguments(json);
        if ends {
            pieces.push(Piece::End);
            self.after_call = true;
            self.state = match self.format {
                ToolFormat::MistralArgs => State::Text,
                _ => State::Tail(Json { depth: 1, ..Json::default() }, 0),
            };
        }
        ends
    }

    /// Drops what stands between the arguments and the end of the call, such as an id.
    fn tail(&mut self, mut json: Json, seen: usize, pieces: &mut Vec<Piece>) -> bool {
        let limit = HEAD_BYTES_MAX - seen;
        let end = self.held.bytes().take(limit).position(|byte| json.push(byte));
        match end {
            Some(at) => {
                self.held.drain(..=at);
                self.state = State::Between;
                true
            }
            None if self.held.len() < limit => {
                self.state = State::Tail(json, seen + self.held.len());
                self.held.clear();
                false
            }
            None => {
                let mut limit = limit;
                while !self.held.is_char_boundary(limit) {
                    limit -= 1;
                }
                self.held.drain(..limit);
                self.state = State::Rest;
                let rest = self.held.len();
                self.pass(rest, pieces);
                false
            }
        }
    }

    fn between(&mut self) -> bool {
        let space = self.held.len() - self.held.trim_ascii_start().len();
        let close = match self.format {
            ToolFormat::Hermes => "</tool_call>",
            ToolFormat::Mistral => "]",
            ToolFormat::Llama => ";",
            ToolFormat::MistralArgs => unreachable!("its calls end with their arguments"),
        };
        let rest = &self.held[space..];
        if rest.is_empty() && space <= HEAD_BYTES_MAX {
            return false;
        }
        if self.format == ToolFormat::Mistral && rest.starts_with(',') {
            self.state = State::Head;
            return true;
        }
        if rest.starts_with(close) && space <= HEAD_BYTES_MAX {
            self.held.drain(..space + close.len());
            self.state = match self.format {
                ToolFormat::Llama => State::Head,
                _ => State::Text,
            };
            self.searched = 0;
            return true;
        }
        if close.starts_with(rest) && space <= HEAD_BYTES_MAX {
            return false;
        }
        // The end of a call may be missing.
        self.state = match self.format {
            ToolFormat::Llama => State::Rest,
            _ => State::Text,
        };
        true
    }
}

const fn is_short(length: usize) -> bool {
    length <= HEAD_BYTES_MAX
}

/// White space at the end of a text that a call may swallow.
fn space_before(text: &str) -> usize {
    (text.len() - text.trim_ascii_end().len()).min(SPACE_BYTES_MAX)
}

/// Length of the longest end of `text` that begins `marker` and is not all of it.
fn overlap(text: &str, marker: &str) -> usize {
    let longest = text.len().min(marker.len() - 1);
    let begins = |n: &usize| marker.as_bytes().starts_with(&text.as_bytes()[text.len() - n..]);
    (1..=longest).rev().find(begins).unwrap_or(0)
}

/// A name and the bytes before the arguments.
fn head(format: ToolFormat, after_call: bool, text: &str) -> Found<(String, usize)> {
    let mut cursor = Cursor { text, at: 0 };
    let opened = match format {
        ToolFormat::Hermes | ToolFormat::MistralArgs => cursor.word(format.marker()),
        ToolFormat::Mistral if after_call && text.trim_ascii_start().starts_with(',') => {
            cursor.word(",")
        }
        ToolFormat::Mistral => match cursor.word(format.marker()) {
            Found::Yes(()) => cursor.word("["),
            other => other,
        },
        ToolFormat::Llama => match cursor.word(format.marker()) {
            Found::No => Found::Yes(()),
            other => other,
        },
    };
    match opened {
        Found::Yes(()) => {}
        Found::No => return Found::No,
        Found::Open => return Found::Open,
    }
    match format.separator() {
        Some(separator) => cursor.name(separator),
        None => cursor.members(),
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_ascii_start().len();
    }

    /// Takes a word after white space.
    fn word(&mut self, word: &str) -> Found<()> {
        self.skip_space();
        if self.rest().starts_with(word) {
            self.at += word.len();
            return Found::Yes(());
        }
        if word.starts_with(self.rest()) { Found::Open } else { Found::No }
    }

    /// Takes a string after white space.
    fn string(&mut self) -> Found<String> {
        match self.word("\"") {
            Found::Yes(()) => {}
            Found::No => return Found::No,
            Found::Open => return Found::Open,
        }
        let mut json = Json { depth: 0, in_string: true, escaped: false };
        let end = self.rest().bytes().position(|byte| {
            json.push(byte);
            !json.in_string
        });
        let Some(end) = end else { return Found::Open };
        let quoted = &self.text[self.at - 1..=self.at + end];
        let string = serde_json::from_str(quoted);
        self.at += end + 1;
        string.map_or(Found::No, Found::Yes)
    }

    /// Takes a name and a separator up to the arguments.
    fn name(&mut self, separator: &str) -> Found<(String, usize)> {
        self.skip_space();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let length = self.rest().find(|c| !is_plain(c)).unwrap_or(self.rest().len());
        let name = self.rest()[..length].to_owned();
        self.at += length;
        match self.word(separator) {
            Found::Yes(()) => self.object(name),
            Found::No => Found::No,
            Found::Open => Found::Open,
        }
    }

    /// Looks for the beginning of an object.
    fn object(&mut self, name: String) -> Found<(String, usize)> {
        self.skip_space();
        match self.rest().bytes().next() {
            Some(b'{') => Found::Yes((name, self.at)),
            Some(_) => Found::No,
            None => Found::Open,
        }
    }

    /// Takes the members of a call up to its arguments, which are an object.
    fn members(&mut self) -> Found<(String, usize)> {
        let mut name = None;
        let mut opening = "{";
        loop {
            match self.word(opening) {
                Found::Yes(()) => {}
                Found::No => return Found::No,
                Found::Open => return Found::Open,
            }
            opening = ",";
            let key = match self.string() {
                Found::Yes(key) => key,
                Found::No => return Found::No,
                Found::Open => return Found::Open,
            };
            match self.word(":") {
                Found::Yes(()) => {}
                Found::No => return Found::No,
                Found::Open => return Found::Open,
            }
            match (key.as_str(), name.take()) {
                ("arguments" | "parameters", Some(name)) => return self.object(name),
                ("name" | "id" | "type", before) => {
                    let value = match self.string() {
                        Found::Yes(value) => value,
                        Found::No => return Found::No,
                        Found::Open => return Found::Open,
                    };
                    name = if key == "name" { Some(value) } else { before };
                }
                _ => return Found::No,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pieces, neighbours of a kind put together.
    fn parse(format: ToolFormat, parts: &[&str]) -> Vec<Piece> {
        let mut parser = CallParser::new(format, vec!["f".to_owned(), "get_weather".to_owned()]);
        let mut pieces: Vec<Piece> = parts.iter().flat_map(|part| parser.push(part)).collect();
        pieces.extend(parser.finish());
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (joined.last_mut(), piece) {
                (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
                (Some(Piece::Arguments(before)), Piece::Arguments(text)) => before.push_str(&text),
                (_, piece) => joined.push(piece),
            }
        }
        joined
    }

    /// The same however it is cut.
    #[track_caller]
    fn whole_and_cut(format: ToolFormat, text: &str) -> Vec<Piece> {
        let whole = parse(format, &[text]);
        let characters: Vec<String> = text.chars().map(String::from).collect();
        for width in [1, 2, 3, 7] {
            let parts: Vec<String> = characters.chunks(width).map(|part| part.concat()).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            assert_eq!(parse(format, &parts), whole, "{width}");
        }
        whole
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn call(name: &str, arguments: &str) -> [Piece; 3] {
        let (name, arguments) = (name.to_owned(), arguments.to_owned());
        [Piece::Begin { name }, Piece::Arguments(arguments), Piece::End]
    }

    #[test]
    fn calls_between_tags_are_found() {
        let said = "I look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"\"}}\n\
                    </tool_call>\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {}}\n\
                    </tool_call>";
        let expected = [
            vec![text("I look.")],
            call("f", "{\"a\": \"}\\\"\"}").to_vec(),
            call("get_weather", "{}").to_vec(),
        ];
        assert_eq!(whole_and_cut(ToolFormat::Hermes, said), expected.concat());
        let after = whole_and_cut(
            ToolFormat::Hermes,
            "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n\nDone é.",
        );
        assert_eq!(after, [call("f", "{}").to_vec(), vec![text("Done é.")]].concat());
    }

    #[test]
    fn the_whole_answer_of_a_llama_may_be_a_call() {
        let one = call("f", "{\"x\": [1, {\"y\": 2}]}").to_vec();
        for said in [
            "{\"name\": \"f\", \"parameters\": {\"x\": [1, {\"y\": 2}]}}",
            "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"x\": [1, {\"y\": 2}]}}",
            " {\"type\": \"function\", \"name\": \"f\", \
             \"parameters\": {\"x\": [1, {\"y\": 2}]}}\n",
        ] {
            assert_eq!(whole_and_cut(ToolFormat::Llama, said), one, "{said}");
        }
        let two = "{\"name\":\"f\",\"parameters\":{}}; {\"name\":\"f\",\"parameters\":{}}";
        assert_eq!(
            whole_and_cut(ToolFormat::Llama, two),
            [call("f", "{}"), call("f", "{}")].concat()
        );
        for said in
            ["{\"a\": 1}", "Hello {\"name\": \"f\", \"parameters\": {}}", "<|python_tag|>x()"]
        {
            assert_eq!(whole_and_cut(ToolFormat::Llama, said), [text(said)], "{said}");
        }
    }

    #[test]
    fn lists_of_calls_are_found() {
        let said = "Well. [TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}, \
                    \"id\": \"123456789\"}, {\"name\": \"get_weather\", \"arguments\": {}}]";
        let expected = [
            vec![text("Well.")],
            call("f", "{\"a\": 1}").to_vec(),
            call("get_weather", "{}").to_vec(),
        ];
        assert_eq!(whole_and_cut(ToolFormat::Mistral, said), expected.concat());
    }

    #[test]
    fn names_before_their_arguments_are_found() {
        let said = "Well. [TOOL_CALLS]f[ARGS]{\"a\": \"[TOOL_CALLS]\"}[TOOL_CALLS]get_weather\
                    [ARGS]{}\nDone.";
        let expected = [
            vec![text("Well.")],
            call("f", "{\"a\": \"[TOOL_CALLS]\"}").to_vec(),
            call("get_weather", "{}").to_vec(),
            vec![text("Done.")],
        ];
        assert_eq!(whole_and_cut(ToolFormat::MistralArgs, said), expected.concat());
        for said in [
            "[TOOL_CALLS]unknown[ARGS]{}",
            "[TOOL_CALLS]f[ARGS]1",
            "[TOOL_CALLS]f[ARG",
            "[TOOL_CALLS]f{}",
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}]",
            "[TOOL_CALLS][ARGS]{}",
        ] {
            assert_eq!(whole_and_cut(ToolFormat::MistralArgs, said), [text(said)], "{said}");
        }
    }

    #[test]
    fn what_is_no_call_is_text() {
        for said in [
            "<tool_call>",
            "<tool_call>\n{\"name\": \"unknown\", \"arguments\": {}}\n</tool_call>",
            "<tool_call>{\"name\": \"f\", \"arguments\": 1}</tool_call>",
            "<tool_call>{\"arguments\": {}, \"name\": \"f\"}</tool_call>",
            "a <tool_c",
            "  spaces  ",
            "<tool_call><tool_call>x",
            "",
        ] {
            let expected: Vec<Piece> =
                [text(said)].into_iter().filter(|piece| *piece != text("")).collect();
            assert_eq!(whole_and_cut(ToolFormat::Hermes, said), expected, "{said}");
        }
        let long =
            format!("<tool_call>{}{{\"name\": \"f\", \"arguments\": {{}}}}", " ".repeat(2000));
        assert_eq!(whole_and_cut(ToolFormat::Hermes, &long), [text(&long)]);
        let spaces = format!("a{}<tool_call>x", " ".repeat(1000));
        assert_eq!(whole_and_cut(ToolFormat::Hermes, &spaces), [text(&spaces)]);
    }

    #[test]
    fn a_call_that_is_cut_has_no_end() {
        let said = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": ";
        let expected =
            [Piece::Begin { name: "f".to_owned() }, Piece::Arguments("{\"a\": ".to_owned())];
        assert_eq!(whole_and_cut(ToolFormat::Hermes, said), expected);
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        for format in
            [ToolFormat::Hermes, ToolFormat::Llama, ToolFormat::Mistral, ToolFormat::MistralArgs]
        {
            for piece in [
                " ",
                "<tool_call>",
                "{",
                "\"",
                "a",
                "[TOOL_CALLS] [",
                "[TOOL_CALLS]",
                "{\"name\": \"",
            ] {
                let mut parser = CallParser::new(format, vec!["f".to_owned()]);
                for _ in 0..5000 {
                    let _ = parser.push(piece);
                    parser.check_bound();
                }
            }
        }
    }
}
