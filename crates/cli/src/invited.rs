//! A swarm that waits on the local network while `shoal up` runs: it is said, and where somebody
//! sits at a terminal its code is asked for.

use std::io::IsTerminal as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use shoal_node::{Joined, PairingCode, RelayUrl, is_invited, join_swarm, pair};
use shoal_store::NodeFolder;

use crate::failure::{Code, Failure};
use crate::{output, swarming};

/// How long it is looked for an invitation.
const LOOK_FOR: Duration = Duration::from_secs(24 * 3600);
/// Any address of this machine.
const FROM: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// Looks for an invitation.
#[derive(Debug)]
pub(crate) struct Invited {
    home: PathBuf,
    relays: Vec<RelayUrl>,
    has_joined: Arc<AtomicBool>,
}

impl Invited {
    /// For the data folder `home`, whose node would use these relays.
    pub(crate) fn new(home: PathBuf, relays: Vec<RelayUrl>) -> Self {
        Self { home, relays, has_joined: Arc::default() }
    }

    /// Looks from now on. Once somebody has joined, `ended` hears of it.
    pub(crate) fn watch(&self, ended: Sender<()>) {
        let (home, relays) = (self.home.clone(), self.relays.clone());
        let has_joined = Arc::clone(&self.has_joined);
        // Nobody waits for it, so it may end with the process.
        std::thread::spawn(move || {
            if !is_invited(LOOK_FOR) {
                return;
            }
            if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
                return output::note(
                    "\nA swarm on this network waits for a machine. To join it, end this with \
                     Ctrl-C and type `shoal swarm join CODE` with the code that it shows.",
                );
            }
            if let Some(joined) = ask(&home, &relays) {
                let role = swarming::role(joined.role);
                output::note(&format!("joined swarm {}, role {role}\n", joined.swarm));
                has_joined.store(true, Ordering::SeqCst);
                // The command ends already when nobody hears it.
                let _ = ended.send(());
            }
        });
    }

    /// Whether this data folder is in a swarm now, and was not before.
    pub(crate) fn has_joined(&self) -> bool {
        self.has_joined.load(Ordering::SeqCst)
    }
}

/// Asks for the code until it is right, or nobody wants to join.
fn ask(home: &std::path::Path, relays: &[RelayUrl]) -> Option<Joined> {
    output::note(
        "\nA swarm on this network waits for a machine. Type the six digits that it shows to join \
         it, or nothing to stay out of it.",
    );
    loop {
        let mut line = String::new();
        let count = std::io::stdin().read_line(&mut line).ok()?;
        let text = line.trim();
        if count == 0 || text.is_empty() {
            return None;
        }
        match text
            .parse::<PairingCode>()
            .map_err(Failure::usage)
            .and_then(|code| join(home, relays, code))
        {
            Ok(joined) => return Some(joined),
            Err(failure) => output::note(&format!("{}; type it again", failure.message)),
        }
    }
}

fn join(home: &std::path::Path, relays: &[RelayUrl], code: PairingCode) -> Result<Joined, Failure> {
    let folder = NodeFolder::take(home)?;
    let folder = folder.ok_or_else(|| Failure::new(Code::Failed, "its node runs already"))?;
    let ticket = pair(code, None, FROM, None)?;
    Ok(join_swarm(&folder, &ticket, "", FROM, relays, None)?)
}
