//! A relay as people write it: `http://ADDRESS:PORT`. ADR 0008.

use std::fmt;
use std::str::FromStr;

/// Longest text of a relay; one has to fit into an address beside its sockets.
const TEXT_BYTES_MAX: usize = 100;

/// Where a relay is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayUrl(iroh::RelayUrl);

/// A text that is no [`RelayUrl`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a relay is written http://ADDRESS:PORT, in at most {TEXT_BYTES_MAX} characters")]
pub struct RelayUrlError;

impl RelayUrl {
    pub(crate) fn inner(&self) -> &iroh::RelayUrl {
        &self.0
    }

    /// The host as it stands in the text.
    pub(crate) fn host(&self) -> &str {
        self.0.host_str().expect("parsing asks for one")
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.0.port_or_known_default().expect("both schemes have one")
    }

    /// Whether nobody vouches for it with a certificate.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl FromStr for RelayUrl {
    type Err = RelayUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > TEXT_BYTES_MAX || text.contains([',', '@', '?', '#', '%', '\\']) {
            return Err(RelayUrlError);
        }
        let url: iroh::RelayUrl = text.parse().map_err(|_| RelayUrlError)?;
        let is_known = matches!(url.scheme(), "http" | "https");
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        if !is_known || !has_host || url.path() != "/" || url.port() == Some(0) {
            return Err(RelayUrlError);
        }
        Ok(Self(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_a_scheme_a_host_and_a_port() {
        for (text, host, port) in [
            ("http://192.0.2.1:11410", "192.0.2.1", 11410),
            ("http://[2001:db8::1]:7", "[2001:db8::1]", 7),
            ("https://relay.example", "relay.example", 443),
        ] {
            let relay: RelayUrl = text.parse().unwrap();
            assert_eq!(relay.to_string(), text);
            assert_eq!((relay.host(), relay.port()), (host, port));
            assert_eq!(format!("{text}/").parse(), Ok(relay), "one form");
        }
        let long = format!("http://{}.example:1", "a".repeat(TEXT_BYTES_MAX));
        let refused = [
            "",
            "192.0.2.1:7",
            "ftp://192.0.2.1:7",
            "http://",
            "http://192.0.2.1:0",
            "http://192.0.2.1:7/x",
            "http://192.0.2.1:7?x",
            "http://192.0.2.1:7#x",
            "http://a@192.0.2.1:7",
            "http://192.0.2.1:7,http://192.0.2.1:8",
            "http://192.0.2.1:99999",
            &long,
        ];
        for text in refused {
            assert_eq!(text.parse::<RelayUrl>(), Err(RelayUrlError), "{text}");
        }
    }
}
