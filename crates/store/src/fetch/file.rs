//! Downloading files one after another, each over as many requests as it takes.

use std::io::Read as _;

use ureq::http::header;

use super::client::{Answer, Ask, Client, network, text};
use super::error::FetchError;
use super::folder::Folder;
use super::integrity::Integrity;
use super::part::{Part, complete_bytes};
use super::retry::Retries;
use super::url::Url;
use super::{FetchOptions, FetchProgress, Watch};

/// Bytes taken from a connection at a time.
const READ_BYTES: usize = 256 << 10;

/// A file to download.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) url: Url,
    /// What it is called here.
    pub(super) name: String,
    pub(super) bytes: Option<u64>,
    pub(super) integrity: Option<Integrity>,
    /// The user gave the digest, so it does not matter who sends the file.
    pub(super) pinned: bool,
}

/// What one file needs to know about the whole download.
struct Job<'a> {
    client: &'a Client,
    options: &'a FetchOptions,
    watch: &'a dyn Watch,
    wanted: &'a Wanted,
    /// Bytes of the files before this one, and of all files.
    bytes_before: u64,
    bytes_total: Option<u64>,
    /// There are no other files, so what a server says of this one is the total.
    is_alone: bool,
}

/// Downloads all files and returns their bytes.
pub(super) fn all(
    client: &Client,
    wanted: &[Wanted],
    folder: &Folder,
    options: &FetchOptions,
    watch: &dyn Watch,
) -> Result<u64, FetchError> {
    let bytes_total = wanted.iter().map(|wanted| wanted.bytes).sum::<Option<u64>>();
    let wanted_count = wanted.len();
    let mut bytes_before = 0;
    for wanted in wanted {
        let is_alone = wanted_count == 1;
        let job = Job { client, options, watch, wanted, bytes_before, bytes_total, is_alone };
        bytes_before += match complete_bytes(folder, wanted) {
            Some(bytes) => bytes,
            None => job.run(folder)?,
        };
        job.report(bytes_before, Some(bytes_before));
    }
    Ok(bytes_before)
}

impl Job<'_> {
    fn run(&self, folder: &Folder) -> Result<u64, FetchError> {
        let mut part = Part::open(folder, self.wanted)?;
        let mut retries = Retries::new(self.options, self.watch);
        loop {
            let before = part.bytes();
            if !part.is_complete()
                && let Err(error) = self.request(&mut part)
            {
                retries.failed(error, part.bytes().saturating_sub(before))?;
                continue;
            }
            match part.integrity() {
                Some((got, expected)) if got != expected => {
                    // The beginning may be of another version, or may have been damaged here.
                    if part.is_resumed {
                        part.restart()?;
                        continue;
                    }
                    part.restart()?;
                    return Err(FetchError::Damaged {
                        url: self.url(),
                        kind: expected.kind(),
                        got: got.digits(),
                        expected: expected.digits(),
                    });
                }
                _ => return part.keep(),
            }
        }
    }

    /// One request: as much of the rest as the server sends.
    fn request(&self, part: &mut Part) -> Result<(), FetchError> {
        let offset = part.bytes();
        let ask = Ask { offset, validator: part.validator(), pinned: self.wanted.pinned };
        let answer = self.client.get(&self.wanted.url, ask)?;
        let total = match answer.status {
            206 if offset > 0 => {
                let (start, total) = self.content_range(&answer)?;
                if start != offset {
                    return Err(self.broken("the server sends another range than was asked for"));
                }
                part.is_resumed = true;
                total
            }
            200 => {
                part.restart()?;
                answer.body.content_length()
            }
            // The beginning is longer than the file is now.
            416 if offset > 0 => {
                part.restart()?;
                return Err(FetchError::Short { url: self.url(), got: 0, expected: offset });
            }
            _ => return Err(self.broken("the server answers what was not asked")),
        };
        self.check_headers(&answer)?;
        if let (Some(got), Some(expected)) = (total, part.bytes_total())
            && got != expected
        {
            return Err(FetchError::Length { url: self.url(), got, expected });
        }
        if total.is_some_and(|total| total > self.options.bytes_max) {
            return Err(FetchError::Oversize { url: self.url(), limit: self.options.bytes_max });
        }
        part.learn(total, answer.linked, validator(&answer))?;
        self.receive(answer, part)
    }

    fn receive(&self, answer: Answer, part: &mut Part) -> Result<(), FetchError> {
        let mut reader = answer.body.into_reader();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = reader
                .read(&mut buffer)
                .map_err(|error| network(&self.wanted.url, error.into()))?;
            let (got, url) = (part.bytes() + count as u64, self.url());
            match part.bytes_total() {
                Some(expected) if count == 0 && got < expected => {
                    return Err(FetchError::Short { url, got, expected });
                }
                Some(expected) if got > expected => {
                    return Err(FetchError::Length { url, got, expected });
                }
                None if got > self.options.bytes_max => {
                    return Err(FetchError::Oversize { url, limit: self.options.bytes_max });
                }
                _ if count == 0 => return Ok(()),
                _ => part.append(&buffer[..count])?,
            }
            self.report(self.bytes_before + part.bytes(), part.bytes_total());
            if self.watch.stop() {
                return Err(FetchError::Stopped);
            }
        }
    }

    fn check_headers(&self, answer: &Answer) -> Result<(), FetchError> {
        let header = |name: header::HeaderName| text(&answer.headers, name.as_str());
        if header(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(self.broken("the server sends an encoding that was not asked for"));
        }
        let page = |kind: &str| kind.trim_start().to_ascii_lowercase().starts_with("text/html");
        if header(header::CONTENT_TYPE).is_some_and(page) {
            return Err(self.broken("the server sends a web page instead of a file"));
        }
        Ok(())
    }

    /// First byte and total length of a partial answer.
    fn content_range(&self, answer: &Answer) -> Result<(u64, Option<u64>), FetchError> {
        let parse = || {
            let range = text(&answer.headers, header::CONTENT_RANGE.as_str())?;
            let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            let total: Option<u64> = if total == "*" { None } else { Some(total.parse().ok()?) };
            let sound = first <= last && total.is_none_or(|total| last < total);
            sound.then_some((first, total))
        };
        parse().ok_or_else(|| self.broken("the server does not say which range it sends"))
    }

    fn report(&self, bytes: u64, file_total: Option<u64>) {
        let file = self.wanted.name.as_str();
        let bytes_total = self.bytes_total.or(file_total.filter(|_| self.is_alone));
        self.watch.progress(FetchProgress { file, bytes, bytes_total });
    }

    fn broken(&self, rule: &'static str) -> FetchError {
        FetchError::Server { url: self.url(), rule }
    }

    fn url(&self) -> String {
        self.wanted.url.to_string()
    }
}

/// What identifies this version of the file: a strong ETag, else the date of its last change.
fn validator(answer: &Answer) -> Option<String> {
    let etag = text(&answer.headers, header::ETAG.as_str()).filter(|etag| etag.starts_with('"'));
    let date = text(&answer.headers, header::LAST_MODIFIED.as_str());
    etag.or(date).map(str::to_owned)
}
