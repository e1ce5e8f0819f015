//! What the commands that run nodes share: keys, ranges of layers, addresses of stages.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use shoal_base::Digest;
use shoal_model::package::Package;
use shoal_node::{LayerRange, NodeError, PairingError, PeerAddress, PlannedStage};

use crate::failure::{Code, Failure, at_path};
use crate::whole_file::write_whole;

/// Digits and a line end; what is longer is no key.
const KEY_BYTES_MAX: u64 = 80;

/// A key that outlives the run.
#[derive(Debug, clap::Args)]
pub(crate) struct Key {
    /// File with this node's key, made when there is none; a key for this run only unless given
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Key {
    /// Whether it is kept in a file.
    pub(crate) fn is_given(&self) -> bool {
        self.key.is_some()
    }

    /// The secret half.
    pub(crate) fn secret(&self) -> Result<[u8; 32], Failure> {
        self.key.as_deref().map_or_else(secret, kept_secret)
    }
}

/// A key for this run only.
pub(crate) fn secret() -> Result<[u8; 32], Failure> {
    let mut secret = [0; 32];
    let filled = getrandom::fill(&mut secret);
    filled.map_err(|error| Failure::new(Code::Failed, format!("no random numbers: {error}")))?;
    Ok(secret)
}

/// The key in a file, in 64 hex digits. The file is made, for its owner only, when there is none.
pub(crate) fn kept_secret(path: &Path) -> Result<[u8; 32], Failure> {
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return new_secret(path),
        Err(error) => return Err(at_path(path, &error)),
    };
    let wrong = || Failure::bad_input(format!("{}: a key is 64 hex digits", path.display()));
    if length > KEY_BYTES_MAX {
        return Err(wrong());
    }
    let text = std::fs::read_to_string(path).map_err(|error| at_path(path, &error))?;
    let digits: Digest = text.trim_end().parse().map_err(|_| wrong())?;
    Ok(digits.0)
}

fn new_secret(path: &Path) -> Result<[u8; 32], Failure> {
    let secret = secret()?;
    write_whole(path, false, |mut part| {
        use std::os::unix::fs::PermissionsExt as _;
        let owner_only = std::fs::Permissions::from_mode(0o600);
        let failed = |error: &std::io::Error| at_path(path, error);
        let file = part.get_ref().as_file();
        file.set_permissions(owner_only).map_err(|error| failed(&error))?;
        writeln!(part, "{}", Digest(secret)).map_err(|error| failed(&error))?;
        Ok(part)
    })?;
    Ok(secret)
}

/// The first and the last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl Span {
    /// These layers, if a package of `layer_count` has them.
    pub(crate) fn range(self, layer_count: u16) -> Result<LayerRange, Failure> {
        let Self { first, last } = self;
        if last >= layer_count {
            let message = format!("layers {first}-{last}, the package has 0-{}", layer_count - 1);
            return Err(Failure::usage(message));
        }
        range(first, last + 1)
    }
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let span = text.split_once('-').and_then(|(first, last)| {
            Some(Self { first: first.parse().ok()?, last: last.parse().ok()? })
        });
        span.filter(|span| span.first <= span.last)
            .ok_or("two numbers like 0-11, the smaller first")
    }
}

/// Which layers are where: `NODE@ADDRESS=A-B`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageAt {
    peer: PeerAddress,
    span: Span,
}

impl StageAt {
    /// The stage, if a package of `layer_count` has its layers.
    pub(crate) fn planned(&self, layer_count: u16) -> Result<PlannedStage, Failure> {
        Ok(PlannedStage { peer: self.peer.clone(), layers: self.span.range(layer_count)? })
    }
}

impl FromStr for StageAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (peer, span) = text
            .rsplit_once('=')
            .ok_or("NODE@ADDRESS=A-B, as `shoal serve` prints them: no '=' before the layers")?;
        let peer = peer.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { peer, span: span.parse()? })
    }
}

/// How many layers a package has.
pub(crate) fn layer_count(package: &Package) -> Result<u16, Failure> {
    let count = package.manifest().architecture.layer_count;
    u16::try_from(count).map_err(|_| Failure::bad_input(format!("a package of {count} layers")))
}

/// Layers `first` to `end - 1`.
pub(crate) fn range(first: u16, end: u16) -> Result<LayerRange, Failure> {
    let range = LayerRange::try_new(first, end);
    range.map_err(|error| Failure::usage(format!("layers {first} to {end}: {error}")))
}

/// Where `width` layers of `count` begin that others hold the least; the first of several.
pub(crate) fn least_held(count: u16, width: u16, held: &[LayerRange]) -> u16 {
    let times = |layer: u16| held.iter().filter(|r| r.first <= layer && layer < r.end).count();
    let window = |first: &u16| (*first..*first + width).map(times).sum::<usize>();
    (0..=count.saturating_sub(width)).min_by_key(window).unwrap_or(0)
}

impl From<PairingError> for Failure {
    fn from(error: PairingError) -> Self {
        let code = match &error {
            PairingError::Cancelled => return Self::interrupted(),
            PairingError::NobodyFound | PairingError::TimedOut => Code::NotFound,
            PairingError::Wrong | PairingError::Guessed => Code::Refused,
            PairingError::Net(_) | PairingError::Protocol(_) => Code::Network,
            _ => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let error = match error {
            NodeError::Store(error) => return error.into(),
            NodeError::Cancelled => return Self::interrupted(),
            error => error,
        };
        let code = match &error {
            NodeError::Net(_) | NodeError::Fetch { .. } => Code::Network,
            NodeError::Load(_) => Code::BadInput,
            NodeError::Inviter(_) | NodeError::Silent { .. } | NodeError::Refused { .. } => {
                Code::Network
            }
            NodeError::Plan(_)
            | NodeError::Wire(_)
            | NodeError::Member { .. }
            | NodeError::NoSuchLayer { .. } => Code::Usage,
            NodeError::Join(_) => Code::Refused,
            NodeError::Ticket(_) | NodeError::State => Code::BadInput,
            NodeError::NoMember => Code::NotFound,
            _ => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_others_lack_come_first() {
        let range = |first, end| LayerRange::try_new(first, end).unwrap();
        assert_eq!(least_held(8, 8, &[range(0, 4)]), 0);
        assert_eq!(least_held(8, 4, &[]), 0);
        assert_eq!(least_held(8, 4, &[range(0, 4)]), 4);
        assert_eq!(least_held(8, 4, &[range(0, 4), range(4, 8), range(6, 8)]), 0);
        assert_eq!(least_held(8, 3, &[range(0, 2), range(5, 8)]), 2);
    }

    #[test]
    fn spans_are_two_numbers_in_order() {
        assert_eq!("0-11".parse(), Ok(Span { first: 0, last: 11 }));
        assert_eq!("3-3".parse(), Ok(Span { first: 3, last: 3 }));
        for wrong in ["", "3", "3-", "-3", "4-3", "0-65536", "a-b", "0-1-2"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stage_is_an_address_and_its_layers() {
        let node = "ab".repeat(32);
        let stage: StageAt = format!("{node}@10.0.0.7:9,[::1]:8=2-3").parse().unwrap();
        assert_eq!(stage.peer.sockets.len(), 2);
        assert_eq!(stage.planned(4).unwrap().layers, LayerRange { first: 2, end: 4 });
        assert!(stage.planned(3).unwrap_err().message.contains("the package has 0-2"));
        let by_key: StageAt = format!("{node}=0-1").parse().unwrap();
        assert!(by_key.peer.sockets.is_empty(), "its addresses are looked up");
        for (wrong, why) in [
            (format!("{node}@10.0.0.7:9"), "no '='"),
            (format!("{node}@10.0.0.7:9=3-2"), "the smaller first"),
            (format!("{node}@somewhere:9=0-1"), "no IP address"),
            ("ab@10.0.0.7:9=0-1".to_owned(), "64 lower-case hex digits"),
        ] {
            let error = wrong.parse::<StageAt>().unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_key_is_made_once_and_anything_else_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = kept_secret(&path).unwrap();
        assert_eq!(kept_secret(&path).unwrap(), made);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for wrong in ["", "ab", &"ab".repeat(99)] {
            std::fs::write(&path, wrong).unwrap();
            assert!(kept_secret(&path).unwrap_err().message.contains("64 hex digits"));
        }
    }
}
