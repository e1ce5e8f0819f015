//! The open network as options: nothing is published or looked up without `--public`.

use std::net::SocketAddr;

use shoal_node::Discovery;

use crate::session::Session;

/// The options.
#[derive(Debug, clap::Args)]
pub(crate) struct Public {
    /// Look nodes up by their keys in the mainline DHT, and publish this node's addresses there
    /// under its own. Everybody can read them; nothing of it happens unless this is given
    #[arg(long)]
    public: bool,

    /// Where to enter the DHT, as often as wanted; the configuration or where everybody does unless
    /// given
    #[arg(long, value_name = "ADDRESS", requires = "public")]
    dht: Vec<SocketAddr>,
}

impl Public {
    /// Whether it was given with the command.
    pub(crate) fn is_given(&self) -> bool {
        self.public
    }

    /// For a node that others find.
    pub(crate) fn published(&self, session: &Session) -> Option<Discovery> {
        let discovery = self.looked_up(session)?;
        Some(Discovery { is_published: true, ..discovery })
    }

    /// For one that only looks for others.
    pub(crate) fn looked_up(&self, session: &Session) -> Option<Discovery> {
        let configured = &session.config.dht;
        let bootstrap = if self.dht.is_empty() { configured } else { &self.dht };
        self.public.then(|| Discovery { bootstrap: bootstrap.clone(), is_published: false })
    }
}
