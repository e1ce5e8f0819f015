//! Relays as options and settings, and how they are shown. Nothing is relayed by others than these.

use serde_json::{Value, json};
use shoal_node::{RelayState, RelayUrl};

use crate::output;
use crate::session::Session;

/// The option.
#[derive(Debug, clap::Args)]
pub(crate) struct Relays {
    /// Relay where others meet this node if nothing reaches it directly, twice at most:
    /// http://ADDRESS:PORT, as `shoal relay` prints it; those of the configuration unless given,
    /// and without any nothing is relayed
    #[arg(long, value_name = "URL")]
    relay: Vec<RelayUrl>,
}

impl Relays {
    /// Those that were given, else those of the configuration.
    pub(crate) fn all(&self, session: &Session) -> Vec<RelayUrl> {
        match self.relay.is_empty() {
            true => session.config.relays.iter().map(|relay| relay.0.clone()).collect(),
            false => self.relay.clone(),
        }
    }

    /// Whether any were given with the command.
    pub(crate) fn is_given(&self) -> bool {
        !self.relay.is_empty()
    }
}

/// Says which relays cannot be reached. A node starts without them.
pub(crate) fn warn(relays: &[RelayState]) {
    // Of several a node is met at one.
    if relays.iter().any(|state| state.is_connected) {
        return;
    }
    for RelayState { relay, failure, .. } in relays {
        let why = failure.as_ref().map_or(String::new(), |failure| format!(": {failure}"));
        output::note(&format!("warning: relay {relay} cannot be reached{why}"));
    }
}

/// The same as JSON.
pub(crate) fn json(relays: &[RelayState]) -> Value {
    let state = |state: &RelayState| {
        json!({
            "relay": state.relay.to_string(),
            "is_connected": state.is_connected,
            "failure": state.failure,
        })
    };
    relays.iter().map(state).collect()
}

/// How packets go: a word for JSON and people.
pub(crate) fn way(is_relayed: Option<bool>) -> Option<&'static str> {
    is_relayed.map(|is_relayed| if is_relayed { "relayed" } else { "direct" })
}
