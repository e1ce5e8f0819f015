//! What a user types to name a model on the network.

use std::fmt;
use std::str::FromStr;

use super::url::Url;
use crate::PackageName;

/// Longest part of a name on a hub.
const PART_BYTES_MAX: usize = 256;
const SYNTAX: &str = "hf:OWNER/REPO[@REVISION][/FILE] or https://HOST/FILE";

/// A model on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelReference {
    /// In a repository of the hub.
    Hub(Repository),
    /// A file.
    Url(Url),
}

/// A repository, or a file or folder in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Who publishes it.
    pub owner: String,
    /// What it is called.
    pub name: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// A file or folder in it; empty means all of it.
    pub path: String,
}

/// Text that is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {rule}; expected {SYNTAX}")]
pub struct ReferenceError {
    /// The text, shortened.
    pub text: String,
    /// What it breaks.
    pub rule: &'static str,
}

impl ModelReference {
    /// The name to suggest for the package.
    #[must_use]
    pub fn name(&self) -> PackageName {
        let stem = |file: &str| {
            let endings = [".gguf", ".bin", ".safetensors"];
            let ending = endings.into_iter().find_map(|ending| file.strip_suffix(ending));
            PackageName::like(ending.unwrap_or(file))
        };
        match self {
            Self::Url(url) => stem(url.file_name().as_deref().unwrap_or("model")),
            Self::Hub(repository) => match repository.path.rsplit('/').next() {
                Some(file) if !file.is_empty() => stem(file),
                _ => PackageName::like(&repository.name),
            },
        }
    }
}

impl FromStr for ModelReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refused = |rule| ReferenceError { text: text.chars().take(256).collect(), rule };
        match text.strip_prefix("hf:") {
            Some(rest) => Repository::parse(rest).map(Self::Hub).map_err(refused),
            None => Url::parse(text).map(Self::Url).map_err(refused),
        }
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Hub(r) => {
                write!(f, "hf:{}/{}@{}", r.owner, r.name, r.revision)?;
                if r.path.is_empty() { Ok(()) } else { write!(f, "/{}", r.path) }
            }
        }
    }
}

impl Repository {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.splitn(3, '/');
        let (owner, name) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let path = parts.next().unwrap_or("").trim_end_matches('/');
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        for part in [owner, name, revision] {
            if !is_plain(part) {
                return Err("owner, repository and revision are plain words");
            }
        }
        if !path.is_empty() && !path.split('/').all(is_file_name) {
            return Err("the file is a plain path");
        }
        Ok(Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            revision: revision.to_owned(),
            path: path.to_owned(),
        })
    }
}

fn is_plain(part: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    is_file_name(part) && part.chars().all(allowed)
}

/// Whether a name is one file in one folder, and not a hidden one.
pub(super) fn is_file_name(name: &str) -> bool {
    let bad = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
    !name.is_empty()
        && name.len() <= PART_BYTES_MAX
        && !name.starts_with('.')
        && !name.contains(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_written() {
        let cases = [
            ("hf:a/b", "hf:a/b@main", "b"),
            ("hf:a/b@v1.0", "hf:a/b@v1.0", "b"),
            ("hf:a/b@main/c/d-Q4_0.gguf", "hf:a/b@main/c/d-Q4_0.gguf", "d-Q4_0"),
            ("hf:a/b/sub/", "hf:a/b@main/sub", "sub"),
            ("https://h/x/m%20y.gguf?a=b", "https://h/x/m%20y.gguf?a=b", "m-y"),
        ];
        for (text, written, name) in cases {
            let reference: ModelReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), written);
            assert_eq!(reference.name().as_str(), name);
            assert_eq!(written.parse::<ModelReference>().unwrap(), reference);
        }
    }

    #[test]
    fn other_text_is_refused() {
        let bad = [
            "",
            "a/b",
            "hf:",
            "hf:a",
            "hf:a/",
            "hf:/b",
            "hf:a/b@",
            "hf:a/../b",
            "hf:../b",
            "hf:a/b/../c",
            "hf:a/b/.git",
            "hf:a/b//c",
            "hf:a b/c",
            "ftp://h/f",
            "https://",
            "file:///etc/passwd",
            "https:///x",
        ];
        for text in bad {
            assert!(text.parse::<ModelReference>().is_err(), "{text}");
        }
    }
}
