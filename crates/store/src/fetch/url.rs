//! URLs, as far as downloads need them.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ureq::http::Uri;

use super::error::FetchError;
use super::limits;
use super::reference::is_file_name;

/// What needs no encoding in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An absolute HTTP or HTTPS URL with a host.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > limits::URL_BYTES_MAX {
            return Err("a URL has at most 8 KiB");
        }
        let uri: Uri = text.parse().map_err(|_| "not a URL")?;
        let authority = uri.authority().ok_or("a URL has a host")?;
        if authority.as_str().contains('@') {
            return Err("a URL with a password is not accepted");
        }
        match uri.scheme_str() {
            Some("http" | "https") => Ok(Self(uri)),
            _ => Err("a URL begins with https://"),
        }
    }

    /// Where a redirect leads.
    pub(super) fn join(&self, location: &str) -> Result<Self, &'static str> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let scheme = self.0.scheme_str().unwrap_or("https");
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let authority = self.0.authority().ok_or("a URL has a host")?;
        let path = self.0.path();
        let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
        let folder = if location.starts_with('/') { "" } else { folder };
        Self::parse(&format!("{scheme}://{authority}{folder}{location}"))
    }

    /// This URL with segments of a path behind it.
    pub(super) fn with(&self, segments: &[&str], query: &str) -> Result<Self, &'static str> {
        let mut text = self.to_string().trim_end_matches('/').to_owned();
        for segment in segments {
            text.push('/');
            text.extend(utf8_percent_encode(segment, SEGMENT));
        }
        Self::parse(&(text + query))
    }

    /// The name of the file it leads to.
    pub(super) fn file_name(&self) -> Result<String, FetchError> {
        let last = self.0.path().rsplit('/').next().unwrap_or("");
        let name = percent_decode_str(last).decode_utf8_lossy().into_owned();
        match is_file_name(&name) {
            true => Ok(name),
            false => Err(FetchError::FileName { name }),
        }
    }

    pub(super) fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Whether it leads to this machine, so that nobody can change what is sent.
    pub(super) fn is_local(&self) -> bool {
        let host = self.0.host().unwrap_or("").trim_matches(['[', ']']);
        let address = host.parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Whether scheme, host and port are the same.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        let port = |url: &Self| url.0.port_u16().unwrap_or(if url.is_https() { 443 } else { 80 });
        self.0.scheme() == other.0.scheme()
            && self.0.host() == other.0.host()
            && port(self) == port(other)
    }

    pub(super) const fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn redirects_lead_where_a_browser_would_go() {
        let base = url("https://h:8443/a/b?c");
        let cases = [
            ("https://other/x", "https://other/x"),
            ("//other/x", "https://other/x"),
            ("/x?y", "https://h:8443/x?y"),
            ("x", "https://h:8443/a/x"),
        ];
        for (location, expected) in cases {
            assert_eq!(base.join(location).unwrap(), url(expected));
        }
        assert!(base.join("ftp://h/x").is_err());
    }

    #[test]
    fn origins_and_this_machine_are_told_apart() {
        assert!(url("https://h/a").same_origin(&url("https://h:443/b")));
        for other in ["http://h/a", "https://g/a", "https://h:1/a"] {
            assert!(!url("https://h/a").same_origin(&url(other)), "{other}");
        }
        for local in ["http://localhost:80/", "http://127.0.0.1/", "http://[::1]:9/"] {
            assert!(url(local).is_local(), "{local}");
        }
        for other in ["http://10.0.0.1/", "http://localhost.example/", "http://127.0.0.1.nip.io/"] {
            assert!(!url(other).is_local(), "{other}");
        }
    }

    #[test]
    fn segments_are_encoded_and_file_names_are_plain() {
        let hub = url("https://h/base/");
        let made = hub.with(&["a b", "c?d", "..%2f"], "?x=1").unwrap();
        assert_eq!(made.to_string(), "https://h/base/a%20b/c%3Fd/..%252f?x=1");
        assert_eq!(url("https://h/a/m%20x.gguf?y").file_name().unwrap(), "m x.gguf");
        for bad in ["https://h/", "https://h/a/", "https://h/..%2f..%2fx", "https://h/%2e%2e"] {
            assert!(url(bad).file_name().is_err(), "{bad}");
        }
        assert!(Url::parse("https://user:word@h/x").is_err());
    }
}
