//! Text from the command line, a file or a pipe.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use shoal_base::RequestLimits;

use crate::failure::{Failure, at_path};

/// Where a text comes from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TextArgs {
    /// The text; standard input unless given
    text: Option<String>,

    /// Read the text from a file; a line break at its end is dropped
    #[arg(long, short, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
}

impl TextArgs {
    /// Reads the text.
    pub(crate) fn read(&self) -> Result<String, Failure> {
        match (&self.text, &self.file) {
            (Some(text), _) => Ok(text.clone()),
            (None, Some(path)) => read_file(path),
            (None, None) if io::stdin().is_terminal() => {
                let rule = "a text is missing: give it as an argument, with --file or piped";
                Err(Failure::usage(rule))
            }
            (None, None) => read(io::stdin().lock(), Path::new("standard input")),
        }
    }
}

/// Reads a text from a file.
pub(crate) fn read_file(path: &Path) -> Result<String, Failure> {
    read(File::open(path).map_err(|error| at_path(path, &error))?, path)
}

/// Text of at most the length of a prompt, without the line break that editors put at its end.
fn read(input: impl Read, path: &Path) -> Result<String, Failure> {
    let limit = RequestLimits::PROMPT_BYTES_MAX as u64;
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes).map_err(|error| at_path(path, &error))?;
    if bytes.len() as u64 > limit {
        let rule = format!("{}: a text has at most {limit} bytes", path.display());
        return Err(Failure::usage(rule));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::bad_input(format!("{}: byte {at} is not UTF-8", path.display()))
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    fn read(bytes: &[u8]) -> Result<String, Failure> {
        super::read(bytes, Path::new("p"))
    }

    #[test]
    fn one_line_break_at_the_end_is_dropped() {
        assert_eq!(read(b"a\n\n").unwrap(), "a\n");
        assert_eq!(read(b"a\r\n").unwrap(), "a");
        assert_eq!(read(b"a\r").unwrap(), "a\r");
        assert_eq!(read(b"").unwrap(), "");
    }

    #[test]
    fn what_is_no_prompt_is_refused() {
        assert_eq!(read(b"ab\xff").unwrap_err().message, "p: byte 2 is not UTF-8");
        let long = vec![b'a'; RequestLimits::PROMPT_BYTES_MAX + 1];
        assert_eq!(read(&long).unwrap_err().code, Code::Usage);
    }
}
