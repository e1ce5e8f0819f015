//! `config.toml` in the data folder. Keys carry units, unknown keys are refused, secrets are
//! references.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shoal_node::{RelayUrl, RelayUrlError};

use crate::failure::{Failure, at_path};
use crate::owner::ServeConfig;

/// The name of the file.
pub(crate) const FILE_NAME: &str = "config.toml";
/// A settings file of more is none.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest secret in a file.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// Settings. What is absent has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Threads that compute.
    pub(crate) threads: Option<NonZeroUsize>,
    /// Memory for keys and values of conversations.
    pub(crate) kv_cache_mib: Option<NonZeroUsize>,
    /// Tokens a draft model guesses at a time.
    pub(crate) draft_window_tokens: Option<NonZeroUsize>,
    /// What `hf:` means.
    pub(crate) hub_url: Option<String>,
    /// Where the token for the hub is: `env:NAME` or `file:PATH`.
    pub(crate) hub_token: Option<SecretPlace>,
    /// PEM file with certificate authorities to trust instead of the usual ones.
    pub(crate) authorities_file: Option<PathBuf>,
    /// Relays where others meet a node of this machine.
    #[serde(default)]
    pub(crate) relays: Vec<Relay>,
    /// Where to enter the DHT with `--public`.
    #[serde(default)]
    pub(crate) dht: Vec<SocketAddr>,
    /// What others get of this machine.
    #[serde(default)]
    pub(crate) serve: ServeConfig,
    /// Largest download.
    pub(crate) download_gib_max: Option<NonZeroUsize>,
    /// Longest silence of a server.
    pub(crate) download_idle_s: Option<NonZeroUsize>,
}

/// Where a secret is. Never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum SecretPlace {
    Environment(String),
    File(PathBuf),
}

/// A relay.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Relay(pub(crate) RelayUrl);

impl TryFrom<String> for Relay {
    type Error = RelayUrlError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl TryFrom<String> for SecretPlace {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Environment(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err("a secret is given as env:NAME or file:PATH"),
        }
    }
}

impl SecretPlace {
    /// Reads the secret; white space around it is dropped.
    pub(crate) fn read(&self) -> Result<String, Failure> {
        let text = match self {
            Self::Environment(name) => std::env::var(name)
                .map_err(|_| Failure::usage(format!("the variable {name} is not set")))?,
            Self::File(path) => {
                let bytes = read_at_most(path, SECRET_BYTES_MAX as u64)?;
                let bytes = bytes.ok_or_else(|| {
                    at_path(path, &std::io::Error::from(std::io::ErrorKind::NotFound))
                })?;
                String::from_utf8(bytes)
                    .map_err(|_| Failure::bad_input(format!("{}: not UTF-8", path.display())))?
            }
        };
        Ok(text.trim().to_owned())
    }
}

impl Config {
    /// The settings of the data folder `home`.
    pub(crate) fn read(home: &Path) -> Result<Self, Failure> {
        let path = home.join(FILE_NAME);
        let Some(bytes) = read_at_most(&path, FILE_BYTES_MAX)? else {
            return Ok(Self::default());
        };
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| Failure::usage(format!("{}: not UTF-8", path.display())))?;
        Self::parse(text).map_err(|error| {
            Failure::usage(format!("{}: {}", path.display(), error.to_string().trim_end()))
        })
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Memory for keys and values, in bytes.
    pub(crate) fn kv_cache_bytes(&self) -> Option<u64> {
        self.kv_cache_mib.map(|mib| (mib.get() as u64).saturating_mul(1 << 20))
    }
}

/// The bytes of a file, if it is there.
fn read_at_most(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
    use std::io::Read as _;

    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| at_path(path, &error))?,
    };
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| at_path(path, &error))?;
    if bytes.len() as u64 > limit {
        return Err(Failure::usage(format!("{}: more than {limit} bytes", path.display())));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_unknown_ones_are_refused() {
        let config = Config::parse(
            "threads = 2\nkv_cache_mib = 512\nhub_token = \"env:HUB\"\ndownload_idle_s = 5",
        )
        .unwrap();
        assert_eq!(config.kv_cache_bytes(), Some(512 << 20));
        assert_eq!(config.hub_token, Some(SecretPlace::Environment("HUB".into())));
        let limits = "[serve]\ncores = 2\nmemory_mib = 9\nupload_kb_per_s = 500\n\
                      hours = \"22:00-07:00\"\nnot_on_battery = true";
        assert_ne!(Config::parse(limits).unwrap().serve, ServeConfig::default());
        for wrong in ["[serve]\nhours = \"nightly\"", "[serve]\ncores = 0", "[serve]\nx = 1"] {
            assert!(Config::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Config::parse("").unwrap(), Config::default());
        let config = Config::parse("relays = [\"http://192.0.2.1:11410\"]").unwrap();
        assert_eq!(config.relays[0].0.to_string(), "http://192.0.2.1:11410");
        assert!(Config::parse("relays = [\"192.0.2.1:11410\"]").is_err());
        for wrong in ["thread = 2", "threads = 0", "threads = \"2\"", "hub_token = \"abc\"", "x"] {
            assert!(Config::parse(wrong).is_err(), "{wrong}");
        }
        let error = Config::parse("kv_cache = 1").unwrap_err().to_string();
        assert!(error.contains("kv_cache_mib"), "the message names the known keys: {error}");
    }

    #[test]
    fn secrets_are_read_from_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let place = SecretPlace::try_from(format!("file:{}", path.display())).unwrap();
        assert!(place.read().is_err());
        std::fs::write(&path, "secret\n").unwrap();
        assert_eq!(place.read().unwrap(), "secret");
        let unset = SecretPlace::try_from("env:SHOAL_NO_SUCH_VARIABLE".to_owned()).unwrap();
        assert!(unset.read().is_err());
    }
}
